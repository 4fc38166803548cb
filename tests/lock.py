"""Says whether the results in Git are from this code and these parameters, by asking DVC.

`python -m tests.lock` in a clone, fresh or not. Data, weights and curves need not be there.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

# What DVC says of a file that was not fetched from its cache.
ABSENT = {"deleted", "not in cache"}
FETCHED = ("data/", "models/", "plots/training")


def differences(status: dict[str, list[Any]]) -> Iterator[str]:
    """What `dvc status --json` found, without what is merely not fetched.

    Yields:
        A few words for each file, parameter or command that is not the one in dvc.lock.
    """
    for stage, entries in status.items():
        for entry in entries:
            if isinstance(entry, str):  # "changed command"
                yield f"{stage}: {entry}"
                continue
            for path, state in (pair for found in entry.values() for pair in found.items()):
                if isinstance(state, dict):
                    yield from (f"{stage}: {path}: {key} is {how}" for key, how in state.items())
                elif not (state in ABSENT and path.startswith(FETCHED)):
                    yield f"{stage}: {path} is {state}"


def main() -> int:
    """Print what differs; the exit code says whether anything does."""
    command = [sys.executable, "-m", "dvc", "status", "--json"]
    status = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    found = list(differences(status))
    for line in found:
        print(f"error: {line}: run `dvc repro` and commit what it leaves", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
