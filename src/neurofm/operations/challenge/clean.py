"""Clean process: what runs a submission as the organisers do. A script by itself, which nothing of ours is imported by.

``python -I clean.py FOLDER REPORT SEED [WINDOWS ANSWERS]``: the folder of an unpacked submission; a file that gets one
line of JSON per check; the seed of the random batches; and, to predict, a folder of ``<challenge>-<number>.npy``
[window, 129, 200] and one for what is said of them.
"""

from __future__ import annotations

import importlib.abc
import json
import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

RATE_HZ, CHANNELS, SAMPLES = 100, 129, 200
_NETWORK = frozenset({"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"})
_VOLTS = 2e-5
"""SD of the random windows: the organisers hand over volts."""
_AT_ONCE = 16
_TIMED = 20


class _Failed(Exception):
    """A check that failed, and the mend."""


class _NoNeurofm(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname: str, path: Sequence[str] | None = None, target: Any = None) -> None:
        """Find nothing of ours."""
        del path, target
        if fullname.partition(".")[0] == "neurofm":
            raise ModuleNotFoundError(f"{fullname}: the organisers do not have neurofm")


class Checks:
    """Runs checks and writes down what came of each, until one fails."""

    def __init__(self, report: Path) -> None:
        self.report = report
        self.asked: list[str] = []

    def run(self, name: str, check: Callable[[], tuple[Any, str]]) -> Any:
        """Run a check that returns a value and what there is to say; end the process where it fails."""
        try:
            value, said = check()
        except _Failed as failed:
            self._write(name, passed=False, said=str(failed.args[0]), mend=str(failed.args[1]))
        except BaseException as error:  # noqa: BLE001  # whatever a stranger's code raises, SystemExit too
            self._write(name, passed=False, said=f"{type(error).__name__}: {error}", mend="mend submission.py")
        else:
            self._write(name, passed=True, said=said, mend="")
            return value
        sys.stdout.flush()
        os._exit(0)

    def watch(self) -> None:
        """Let nothing reach the network from here on, and nothing import neurofm."""
        sys.meta_path.insert(0, _NoNeurofm())

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            if event in _NETWORK:
                self.asked.append(f"{event} {arguments[1:2]}")
                raise PermissionError("the organisers' machine has no network")

        sys.addaudithook(hook)

    def _write(self, name: str, *, passed: bool, said: str, mend: str) -> None:
        line = json.dumps({"name": name, "passed": passed, "said": " ".join(said.split())[:500], "mend": mend})
        with self.report.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def main(folder: Path, report: Path, seed: int, windows: Path | None = None, answers: Path | None = None) -> None:
    """Import the submission, load both models, and try them."""
    checks = Checks(report)
    checks.watch()
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    before = set(sys.modules)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = checks.run("import", _import_submission)
    submission = checks.run("submission", lambda: (found(RATE_HZ, device), f"Submission({RATE_HZ}, {device})"))
    models = {}
    for challenge in (1, 2):
        name = f"challenge {challenge}"
        model = models[challenge] = checks.run(f"{name}: model", partial(_model, submission, challenge))
        if windows is None:
            checks.run(f"{name}: batches", partial(_batches, model, device, seed=seed))
            checks.run(f"{name}: time", partial(_time, model, device))
    if windows is not None and answers is not None:
        checks.run("predict", lambda: _predict(models, device, windows=windows, answers=answers))
    checks.run("network", lambda: _network(checks.asked))
    checks.run("packages", lambda: (None, _packages(set(sys.modules) - before)))
    checks.run("end", lambda: (None, ""))
    # What a stranger's code left running does not keep this process.
    sys.stdout.flush()
    os._exit(0)


def _import_submission() -> tuple[Any, str]:
    import submission  # type: ignore[import-not-found]  # noqa: PLC0415  # what was unpacked

    if not hasattr(submission, "Submission"):
        raise _Failed("submission.py has no class Submission", "define class Submission in submission.py")
    return submission.Submission, "submission.py has class Submission"


def _model(submission: Any, challenge: int) -> tuple[Any, str]:
    name = f"get_model_challenge_{challenge}"
    if not hasattr(submission, name):
        raise _Failed(f"Submission has no {name}", f"define {name}(self)")
    started = time.perf_counter()
    model = getattr(submission, name)()
    if not callable(getattr(model, "forward", None)) or not callable(getattr(model, "eval", None)):
        raise _Failed(f"{name} returned {type(model).__name__}", "return a torch.nn.Module")
    model.eval()
    return model, f"loaded in {time.perf_counter() - started:.2f} s"


def _batches(model: Any, device: torch.device, *, seed: int) -> tuple[None, str]:
    """Random batches, a window that is flat, and the same window alone and among others."""
    draw = random.Random(seed)  # noqa: S311  # lengths of batches
    sizes = [1, draw.randint(2, 8), draw.randint(9, 33)]
    generator = torch.Generator().manual_seed(seed)
    for size in sizes:
        batch = _VOLTS * torch.randn(size, CHANNELS, SAMPLES, generator=generator)
        batch[:, -1] = 0.0  # the reference
        if size > 1:
            batch[-1] = 0.0  # a pause in a recording
        said = _said(model, batch, device)
        alone = _said(model, batch[:1], device)
        if not torch.allclose(said[:1], alone, rtol=1e-3, atol=1e-4):
            raise _Failed(
                f"a window is told {alone.item():.6g} alone and {said[0].item():.6g} among {size}",
                "take nothing from the other windows of a batch: the organisers hand over one at a time",
            )
    return None, f"batches of {', '.join(map(str, sizes))}: (B, {CHANNELS}, {SAMPLES}) -> (B, 1), all finite"


def _said(model: Any, batch: torch.Tensor, device: torch.device) -> torch.Tensor:
    with torch.inference_mode():
        said = model.forward(batch.to(dtype=torch.float32, device=device))
    if not isinstance(said, torch.Tensor):
        raise _Failed(f"returned {type(said).__name__}", "return a tensor")
    if tuple(said.shape) != (len(batch), 1):
        raise _Failed(f"{tuple(batch.shape)} gave {tuple(said.shape)}", f"return ({len(batch)}, 1)")
    said = said.detach().cpu().float()
    if not bool(torch.isfinite(said).all()):
        flat = bool((batch[~torch.isfinite(said[:, 0])] == 0).all())
        raise _Failed(
            f"{int((~torch.isfinite(said)).sum())} of {len(batch)} answers are not finite"
            + (", of windows that are 0 throughout" if flat else ""),
            "divide by no SD that may be 0",
        )
    return said


def _time(model: Any, device: torch.device) -> tuple[None, str]:
    window = _VOLTS * torch.randn(1, CHANNELS, SAMPLES)
    seconds = []
    for _ in range(_TIMED):
        started = time.perf_counter()
        _said(model, window, device)
        seconds.append(time.perf_counter() - started)
    middle, most = np.percentile(seconds[_TIMED // 4 :], [50, 95])
    threads = torch.get_num_threads()
    return None, f"{1e3 * middle:.1f} ms a window (p95 {1e3 * most:.1f} ms) on {device}, {threads} threads"


def _predict(models: dict[int, Any], device: torch.device, *, windows: Path, answers: Path) -> tuple[None, str]:
    count = 0
    for path in sorted(windows.glob("*.npy")):
        given = torch.from_numpy(np.load(path, allow_pickle=False))
        model = models[int(path.name.partition("-")[0])]
        said = [_said(model, batch, device)[:, 0] for batch in torch.split(given, _AT_ONCE)]
        np.save(answers / path.name, torch.cat(said).numpy())
        count += len(given)
    return None, f"{count} windows"


def _network(asked: list[str]) -> tuple[None, str]:
    if asked:
        raise _Failed(f"asked for the network: {asked[0]}", "put all that it needs into the zip")
    return None, "not asked for"


def _packages(loaded: set[str]) -> str:
    tops = {name.partition(".")[0] for name in loaded} - sys.stdlib_module_names - {"submission", "numpy", "torch"}
    files = {name: getattr(sys.modules.get(name), "__file__", None) or "" for name in tops}
    own = sorted(name for name, file in files.items() if "site-packages" in file and not name.startswith("_"))
    return f"beside torch and numpy: {', '.join(own) or 'none'}"


if __name__ == "__main__":
    _folder, _report, _seed, *_more = sys.argv[1:]
    main(Path(_folder), Path(_report), int(_seed), *map(Path, _more))
