"""Whether Jittor works with a CUDA toolkit: tried once on the card, and remembered.

That all parts are there proves little: a compiler can refuse another, a library lack a function, a
card be newer than the code. So Jittor is imported in a process of its own, which compiles all of
its core, and made to compute on the card. What came of it, good or bad, is kept under a key of all
that it depends on, so that the next run neither tries for minutes again nor trusts a half-built
core.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from stages.shared.files import replacing
from stages.shared.network.cuda import Driver, Toolkit


@dataclass(frozen=True)
class Proof:
    """What came of a trial.

    Attributes:
        works: whether Jittor computes with the toolkit.
        fault: the last line that it said, where it does not.
        log: the file with all that it said, where it does not.
    """

    works: bool
    fault: str = ""
    log: str = ""


class Record:
    """The proof for one toolkit, on disk.

    Args:
        cache: Jittor's folder, `.cache/jittor`.
        toolkit: what is tried.
        driver: with which driver.
        trial: how, and with which Jittor, Python and C++ compiler.

    Attributes:
        path: the file; without it the trial is made again.
    """

    def __init__(self, cache: Path, toolkit: Toolkit, driver: Driver, trial: str) -> None:
        self.path = cache / "proofs" / f"{_key(toolkit, driver, trial)}.json"

    def load(self) -> Proof | None:
        """The proof, or None where there was no trial yet."""
        try:
            return Proof(**json.loads(self.path.read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def save(self, said: str | None) -> Proof:
        """Write down what came of a trial.

        Args:
            said: all that it said; None where it succeeded.
        """
        proof = Proof(True)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if said is not None:
            log = self.path.with_suffix(".log")
            log.write_text(said, "utf-8")
            lines = [line.strip() for line in said.splitlines() if line.strip()]
            proof = Proof(False, lines[-1] if lines else "it said nothing", str(log))
        with replacing(self.path) as part:
            part.write_text(json.dumps(asdict(proof)), "utf-8")
        return proof


def _key(toolkit: Toolkit, driver: Driver, trial: str) -> str:
    """A name for all that a trial depends on."""
    files = []
    for part in toolkit.parts:
        if part.place:
            status = part.place.stat()
            files.append([str(part.place.resolve()), status.st_size, status.st_mtime_ns])
    text = json.dumps([toolkit.version, asdict(driver), files, sys.prefix, trial])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
