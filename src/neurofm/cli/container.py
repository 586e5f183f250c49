"""`neurofm container`: images that stages and tools run in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from neurofm.containers import find_engine, find_image
from neurofm.containers.image import short
from neurofm.operations import images
from neurofm.operations.sbom import write_bill
from neurofm.operations.tables import console
from neurofm.params import load_site

app = typer.Typer(no_args_is_help=True, help="Images that stages and tools run in.")
Name = Annotated[str, typer.Argument(help="One of `neurofm container list`.")]


@app.command("list")
def container_list() -> None:
    """Say which engine answers, which images are pinned, which are here, and how to bring the others."""
    engine = find_engine(load_site().engine)
    found = images.presence(Path(), engine=engine)
    out = console()
    rootless = ", without root" if engine.is_rootless else ""
    out.print(Text(f"engine: {engine.name} ({engine.program}{rootless})"))
    out.print(images.presence_table(found, width=out.width))
    for item in found:
        if item.problem:
            out.print(Text(f"{item.name}: {item.problem}", overflow="fold"))


@app.command("build")
def container_build(name: Name = "neurofm") -> None:
    """Build one of the project's images from requirements.lock, and write its bill of materials."""
    engine, root = find_engine(load_site().engine), Path()
    images.build_image(name, engine=engine, root=root)
    image = find_image(name, engine=engine, root=root)
    print(f"{name}: {short(image.digest)} is here; what is in it: {write_bill(name, image, engine=engine, root=root)}")


@app.command("sbom")
def container_sbom(name: Name = "neurofm") -> None:
    """Write the bill of materials of an image that is here (CycloneDX JSON)."""
    engine, root = find_engine(load_site().engine), Path()
    print(write_bill(name, find_image(name, engine=engine, root=root), engine=engine, root=root))
