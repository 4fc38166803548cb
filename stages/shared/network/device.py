"""The device that Jittor computes on: settled before Jittor is imported, and then known to all.

While it is imported Jittor starts CUDA, or is kept from it. So a stage reads its parameters first,
says here what they ask for, and imports Jittor's modules then. Where nobody says, it is the CPU.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from stages.shared.network import cuda
from stages.shared.network.cuda import Driver, Toolkit
from stages.shared.program import UserError


class DeviceError(UserError):
    """The device that was asked for is not there."""


@dataclass(frozen=True)
class Device:
    """What the arithmetic runs on.

    Attributes:
        name: "cpu" or "cuda", as in params.yaml.
        reason: which one exactly, in words for the user.
        cuda: what Jittor compiles with, and what runs it; None on the CPU.
    """

    name: str
    reason: str
    cuda: tuple[Toolkit, Driver] | None = None


_taken = Device("cpu", "params.yaml asks for no other")


def select(asked: str) -> None:
    """Settle the device of this process, before Jittor is imported. It takes a second at most.

    Args:
        asked: "cpu" or "cuda".

    Raises:
        DeviceError: "cuda" was asked for and cannot be had. A run on the CPU in its place would
            only look like what was asked.
    """
    global _taken
    if asked == "cpu":
        return
    home = Path(os.environ.get("JITTOR_HOME") or Path.home())
    found = cuda.driver()
    choice = cuda.choose(found, [] if found.fault else cuda.toolkits(Path(sys.prefix), home))
    if not choice.toolkit:
        raise DeviceError(f"params.yaml: a device is 'cuda', but {choice.reason}; use cpu")
    _taken = Device("cuda", choice.reason, (choice.toolkit, found))


def taken() -> Device:
    """The device of this process."""
    return _taken
