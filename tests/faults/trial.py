"""What every kind of fault reports, one trial at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Literal, NamedTuple, Protocol


class Trial(NamedTuple):
    """One fault and what came of it.

    Attributes:
        what: the fault in a few words, with all that is needed to make it again.
        ended: "survived" where the right bytes came out, or one clear line and a non-zero code;
            "missed" where the fault did not hit (the run had ended before the kill); "lost" for
            all else: a traceback, a hang, a wrong result, an output lost or half-written.
        said: the last lines of output, where it was lost.
    """

    what: str
    ended: Literal["survived", "missed", "lost"]
    said: str = ""


class Kind(Protocol):
    """A module of this package that tries one kind of fault."""

    WHAT: str  # the row of the table
    WHOLE: int  # how many trials `make faults` asks for
    SHORT: int  # how many `make test` asks for

    @staticmethod
    def run(rng: Random, folder: Path, count: int) -> Iterator[Trial]:
        """Try `count` faults in `folder`, which is empty, each drawn from `rng`."""
        ...
