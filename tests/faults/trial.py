"""What every kind of fault reports, one trial at a time."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Literal, NamedTuple, Protocol

from stages.shared.program import UserError

MOST_LINES = 12  # of what is said about a fault
MOST_LETTERS = 500  # of one of them


class Trial(NamedTuple):
    """One fault and what came of it.

    Attributes:
        what: the fault in a few words.
        ended: "survived" where the right thing came out, or a few clear lines; "lost" for all
            else: a traceback, a wrong result, a flood of words.
        said: what came out, where it was lost.
    """

    what: str
    ended: Literal["survived", "lost"]
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


class ImpossibleError(Exception):
    """This machine does not let the fault be made."""


def in_namespace(command: str) -> list[str]:
    """What to put before a command so that another, a shell's, can mount for it alone.

    Raises:
        ImpossibleError: the machine does not let its users mount, not even for themselves.
    """
    before = ["unshare", "--user", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None or subprocess.run([*before, "true"]).returncode:
        raise ImpossibleError("unshare --user --mount is not permitted here")
    return [*before, "sh", "-c", f'{command} && exec "$@"', "sh"]


def judged(what: str, work: Callable[[], bool]) -> Trial:
    """Do something with a damaged input, and judge how it ends.

    Args:
        what: the fault.
        work: returns whether the result is right, or refuses in words.
    """
    try:
        right = work()
    except (UserError, OSError) as error:
        lines = str(error).splitlines()
        short = len(lines) <= MOST_LINES and all(len(line) <= MOST_LETTERS for line in lines)
        return Trial(what, "survived") if lines and short else Trial(what, "lost", str(error)[:500])
    except Exception as error:  # the traceback that a user would see
        return Trial(what, "lost", f"{type(error).__name__}: {error}"[:500])
    return Trial(what, "survived") if right else Trial(what, "lost", "a wrong result")


def mutated(rng: Random, data: bytes) -> bytes:
    """Bytes with one to three changes: a bit flipped, some cut, put in, taken out, repeated."""
    content = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        # The beginning holds the header, where a change means most.
        end = max(1, len(content) if rng.random() < 0.4 else min(len(content), 64))
        at = rng.randrange(end)
        some = rng.randbytes(rng.choice((1, 1, 2, 4, 8)))
        way = rng.randrange(6)
        if way == 0 and content:
            content[at] ^= 1 << rng.randrange(8)
        elif way == 1:
            del content[at:]
        elif way == 2:
            content[at:at] = some
        elif way == 3:
            del content[at : at + len(some)]
        elif way == 4:
            content[at:at] = content[at : at + 16]
        else:
            content[at : at + len(some)] = rng.choice((some, b"\xff" * len(some), bytes(len(some))))
    return bytes(content)
