"""Certificate: what was found, signed by its digest."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from neurofm.errors import UserError
from neurofm.operations.certify import scores, shards
from neurofm.operations.certify.finding import Finding, Verdict
from neurofm.operations.certify.surroundings import Checkout, Host, this_checkout
from neurofm.settings import Settings
from neurofm.slices.machine import Machine
from neurofm.slices.result import SliceRecording

_AGAIN = "`neurofm certify` writes a new one"


class Tolerance(Settings):
    """How far apart something may be on another kind of machine, and why."""

    what: str
    allowed: str
    why: str


TOLERANCES = (
    Tolerance(
        what="manifests, splits, code, settings and every artefact that is pulled",
        allowed="not a byte",
        why="nothing in them is rounded",
    ),
    Tolerance(
        what="everything else, on the same kind of processor with the same library versions",
        allowed="not a byte",
        why="work is done on one thread, in one order, with fixed seeds",
    ),
    Tolerance(
        what="a signal of a shard, on another kind of machine",
        allowed=f"{shards.MAX_SIGNAL_SD:g} SD of a channel on the mean, {shards.MAX_STEPS:g} steps of its grid at "
        "most; counts and spike times: nothing",
        why="a tenth of what quantisation may cost; processors add up in different orders",
    ),
    Tolerance(
        what="whether a sample is marked fit for use, on another kind of machine",
        allowed=f"{shards.MAX_FLIPPED:.1%} of samples",
        why="where a value lies at a limit, its last bit decides",
    ),
    Tolerance(
        what="a score, on another kind of machine",
        allowed=f"{scores.MIN_SCORE:g}, or {scores.INTERVAL_SHARE:.0%} of the half width of its 95 % interval if more",
        why="training carries last bits on; a tenth of the half width adds half a percent to a score's uncertainty",
    ),
    Tolerance(
        what="the weights of the model, on another kind of machine",
        allowed="judged by its scores",
        why="other weights may predict equally well",
    ),
)


class Statement(Settings):
    """What is certified: the same bytes from every run that finds the same."""

    verdict: Verdict
    checkout: Checkout
    made_on: Machine
    """The original's machine."""
    machine_differences: tuple[str, ...]
    """In what this machine differs from it (original / here); empty: everything had to be equal to the byte."""
    tolerances: tuple[Tolerance, ...] = TOLERANCES
    recordings: tuple[SliceRecording, ...]
    """What the slice is made of."""
    not_scored: dict[str, str]
    findings: tuple[Finding, ...]

    def __str__(self) -> str:
        """Say the verdict, and whether a commit stands for what was certified."""
        if not self.checkout.commit:
            return f"{self.verdict}, of files that are in no git repository"
        return f"{self.verdict}{'' if self.checkout.is_clean else ', with changes that are in no commit'}"

    def passes(self, *, allow_partial: bool = False, allow_uncommitted: bool = False) -> bool:
        """Whether this is good enough."""
        good = {Verdict.CERTIFIED, Verdict.WITHIN, *([Verdict.IN_PART] if allow_partial else [])}
        return self.verdict in good and (allow_uncommitted or self.checkout.is_clean)


class Run(Settings):
    """Who certified it, when and at what cost: differs from run to run."""

    issued: str
    """ISO 8601, UTC."""
    seconds: float
    pulled_outputs: int
    pulled_bytes: int
    host: Host


class Certificate(Settings):
    """``reports/certificate.json``."""

    schema_: Literal["neurofm-certificate/1"] = Field(default="neurofm-certificate/1", alias="schema")
    statement: Statement
    run: Run
    identity: str = ""
    """SHA-256 of the statement."""
    sha256: str = ""
    """SHA-256 of everything else: the signature."""

    def signed(self) -> Certificate:
        """Return it with both digests."""
        plain = self.plain()
        plain["identity"] = digest_of(plain["statement"])
        del plain["sha256"]
        return self.model_copy(update={"identity": plain["identity"], "sha256": digest_of(plain)})

    def plain(self) -> dict[str, Any]:
        """Return it as plain data."""
        return self.model_dump(mode="json", by_alias=True)


def digest_of(content: Any) -> str:
    """Return the SHA-256 of plain data as JSON with sorted keys, no spaces and no escapes, in UTF-8."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def read_certificate(path: Path) -> Certificate:
    """Read a certificate and check its digests.

    Raises
    ------
    UserError
        If it is not there, is something else, or was changed after it was written.
    """
    try:
        plain = json.loads(path.read_bytes())
        certificate = Certificate.model_validate_json(json.dumps(plain))
    except FileNotFoundError:
        raise UserError(f"{path} is not there.", mend=_AGAIN) from None
    except OSError as error:
        raise UserError(f"{path}: not readable: {error.strerror}.", mend="name the file of a certificate") from None
    except ValidationError as error:
        raise UserError.from_validation(error, where=str(path), mend=_AGAIN) from None
    except ValueError as error:
        raise UserError(f"{path}: no JSON: {error}.", mend=_AGAIN) from None
    plain.pop("sha256", None)
    if digest_of(plain) != certificate.sha256 or digest_of(plain["statement"]) != certificate.identity:
        raise UserError(f"{path} was changed after it was written: its digest is not that of its content.", mend=_AGAIN)
    return certificate


def why_it_does_not_fit(certificate: Certificate, *, root: Path) -> list[str]:
    """Say why a certificate is not about the checkout at `root`; empty if it is."""
    there, here = certificate.statement.checkout, this_checkout(root)
    problems = []
    if there.commit != here.commit:
        problems.append(f"it is about commit {there.commit[:12] or 'none'}, here is {here.commit[:12] or 'none'}")
    if there.dvc_lock_sha256 != here.dvc_lock_sha256:
        problems.append("it is about another dvc.lock")
    if not there.is_clean:
        problems.append("it was made with changes that are in no commit")
    elif not here.is_clean:
        problems.append(f"here are changes that are in no commit: {', '.join(here.uncommitted[:3])}")
    return problems
