"""What the pipeline and ten steps of training give, as SHA-256, kept in hashes.json.

`python -m tests.hashes` runs them here and writes the file anew. That is right after a change that
is meant to change what is computed (a kernel, a recipe, the way a figure is drawn) or a new lock of
the packages, and then belongs to the same commit. It is wrong where the test fails on one machine
or compiler and not on another: that is the fault which it is there to find.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

PATH = Path(__file__).with_name("hashes.json")
_WRITES = "WRITE_HASHES"  # set in the environment where the file is to be written

Hashes = dict[str, str]


def check(part: str, found: Hashes) -> None:
    """Compare with what is kept, in the order of `found`; the message names the first difference.

    Pictures count only where the packages that draw them are those of the kept ones: the lock has
    others for Python 3.10.

    Args:
        part: a key of hashes.json.
        found: the name of each thing with its hash.
    """
    kept: dict[str, Any] = json.loads(PATH.read_text()) if PATH.exists() else {}
    if os.environ.get(_WRITES):
        kept = {**kept, "pictures by": _painters(), part: found}
        PATH.write_text(json.dumps(kept, indent=2) + "\n")
        return
    if kept["pictures by"] != _painters():
        found = {name: digest for name, digest in found.items() if not name.endswith(".png")}
    different = [name for name in found if kept[part].get(name) != found[name]]
    assert not different, f"{part}: {different[0]} is the first of {different} that differ"
    missing = [name for name in kept[part] if name not in found and not name.endswith(".png")]
    assert not missing, f"{part}: {missing[0]} was not made"


def of_file(path: Path) -> str:
    """The SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _painters() -> dict[str, str]:
    return {name: version(name) for name in ("matplotlib", "pillow")}


def main() -> None:
    import pytest

    os.environ[_WRITES] = "1"
    sys.exit(pytest.main(["-q", str(PATH.parent / "test_same_bytes.py")]))


if __name__ == "__main__":
    main()
