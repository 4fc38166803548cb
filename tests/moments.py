"""A run that stands still at a chosen moment, so that a test can look at it or end it there."""

from __future__ import annotations

import contextlib
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import Repository

# Goes into a module that Python imports as it starts. No signal that a test sends to a run that
# stands still can come too late.
TRAP = """
import os, signal, sys, threading
event, ending, count, delay = os.environ["TRAP"].split()
met = 0
def freeze():
    os.kill(os.getpid(), signal.SIGSTOP)
def watch(seen, arguments):
    global met
    if seen == event and any(str(argument).endswith(ending) for argument in arguments):
        met += 1
        if met == int(count) and float(delay):
            threading.Timer(float(delay), freeze).start()
        elif met == int(count):
            freeze()
sys.addaudithook(watch)
"""


@dataclass(frozen=True)
class Moment:
    """A moment of a run, named by what Python tells its audit hooks then.

    Attributes:
        event: the kind of the event; Python's manual lists them.
        ending: how one of its arguments ends.
        count: how many such events there must have been.
        delay: seconds from then on.
    """

    event: str
    ending: str
    count: int = 1
    delay: float = 0.0


def is_frozen(group: int) -> bool:
    """Whether a process of the group stands still."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            state, _, number = path.read_text().rpartition(") ")[2].split()[:3]
            if state == "T" and int(number) == group:
                return True
    return False


def run_until(moment: Moment, repository: Repository, *command: str) -> subprocess.Popen[str]:
    """Start a command as a shell does, in a group of its own, and wait for its moment.

    Returns:
        The command, of which one process stands still; SIGCONT lets it go on.
    """
    trap = repository.path.parent / "trap"
    trap.mkdir(exist_ok=True)
    (trap / "sitecustomize.py").write_text(TRAP)
    chosen = f"{moment.event} {moment.ending} {moment.count} {moment.delay}"
    process = subprocess.Popen(
        command,
        cwd=repository.path,
        env={**repository.environment, "PYTHONPATH": str(trap), "TRAP": chosen},
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    while process.poll() is None and not is_frozen(process.pid):
        time.sleep(0.01)
    assert process.poll() is None, f"over before its moment came: {process.communicate()[0]}"
    return process
