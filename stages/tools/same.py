"""Say whether the results are the bytes that they should be: python -m stages.tools.same

First the files: each is hashed anew and compared with dvc.lock, since DVC trusts what its cache
holds, also where a disk damaged it; a file that differs is an error. So is a list of files in the
cache that differs from its name: DVC makes what it lists, and writes that into dvc.lock. Then
dvc.lock: it is compared with the one of the last commit, where code and parameters are those of
that commit; another result is wanted where they are not. With --strict a difference is an error.
"""

from __future__ import annotations

from stages.shared.program import UserError, run

# isort: split
# From here on Ctrl-C is answered in a line, also while the rest is imported.
import argparse
import hashlib
import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

LOCK, PIPELINE = Path("dvc.lock"), Path("dvc.yaml")
INPUTS = ("params.yaml", "dvc.yaml", "stages")


def first_difference(committed: dict[str, Any], here: dict[str, Any]) -> str | None:
    """Name the first output that differs, in the order of the pipeline.

    Args:
        committed: a dvc.lock, read.
        here: another one, of the same code and parameters.

    Returns:
        The stage and the path; None where all outputs are the same.
    """
    stages = {**here["stages"], **committed["stages"]}
    order = [name for name in _stages_in_order() if name in stages]
    for name in order:
        outs = [
            {out["path"]: out["md5"] for out in lock["stages"].get(name, {}).get("outs", [])}
            for lock in (committed, here)
        ]
        for path in outs[0] | outs[1]:
            if outs[0].get(path) != outs[1].get(path):
                return f"{name}: {path}"
    return None


def damaged() -> list[str]:
    """The outputs whose bytes are not those that dvc.lock names, in the order of the pipeline.

    DVC remembers hashes by size and time of change. With an empty memory it reads every file.

    Raises:
        UserError: dvc.yaml or dvc.lock is none, or DVC cannot tell.
    """
    order = _stages_in_order()
    if not LOCK.exists():
        raise UserError(
            f"{LOCK}: no such file; `git restore {LOCK}` brings it back, `dvc repro` writes one"
        )
    _read(LOCK.read_bytes())
    with tempfile.TemporaryDirectory() as memory:
        done = subprocess.run(
            [sys.executable, "-m", "dvc", "status", "--json"],
            env={**os.environ, "DVC_SITE_CACHE_DIR": memory},
            capture_output=True,
            text=True,
        )
    if done.returncode:
        raise UserError(f"dvc status: {' '.join(done.stderr.split())}")
    status = json.loads(done.stdout)
    changes = [change for name in order for change in status.get(name, [])]
    outs = [change["changed outs"] for change in changes if "changed outs" in change]
    return [path for out in outs for path, state in out.items() if state == "modified"]


def rotten_copies(pattern: str = "*") -> list[Path]:
    """The files of DVC's cache whose name, which is the MD5 of their content, is not that.

    Args:
        pattern: of their names; "*.dir" are the lists of the files in a folder.
    """
    command = [sys.executable, "-m", "dvc", "cache", "dir"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = []
    for path in sorted(Path(done.stdout.strip()).glob(f"files/md5/??/{pattern}")):
        content = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        if path.parent.name + path.stem != content:
            found.append(path)
    return found


def _stages_in_order() -> list[str]:
    stages = _stages(PIPELINE.read_bytes())
    if not stages:
        raise UserError(f"{PIPELINE}: no stages; `git restore {PIPELINE}` brings them back")
    return list(stages)


def _git(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *words], capture_output=True, text=True, errors="replace")


def _outs(lock: bytes | str) -> list[dict[str, Any]]:
    """The outputs of all stages in a dvc.lock; none of one that is not there."""
    stages = _read(lock)["stages"].values() if lock else []
    return [out for stage in stages for out in stage.get("outs", [])]


def _read(lock: bytes | str) -> dict[str, Any]:
    """A dvc.lock: its stages, each with what it wrote."""
    stages = _stages(lock)
    if stages is None or not all(_is_locked(stage) for stage in stages.values()):
        raise UserError(f"{LOCK}: not a lock file of DVC; `git restore {LOCK}` brings it back")
    return {"stages": stages}


def _is_locked(stage: object) -> bool:
    outs = stage.get("outs", []) if isinstance(stage, dict) else None
    return isinstance(outs, list) and all(
        isinstance(out, dict) and all(isinstance(out.get(key), str) for key in ("path", "md5"))
        for out in outs
    )


def _stages(text: bytes | str) -> dict[Any, Any] | None:
    """The stages in a dvc.yaml or a dvc.lock; None where it has no block of them."""
    try:
        tree = yaml.safe_load(text)
    # Also what a parser trips over in other ways: days that no month has, blocks without end.
    except (yaml.YAMLError, ValueError, RecursionError):
        return None
    stages = tree.get("stages") if isinstance(tree, dict) else None
    return stages if isinstance(stages, dict) else None


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m stages.tools.same",
        description="Say whether the results are the bytes that they should be.",
    )
    parser.add_argument("--strict", action="store_true", help="a difference is an error")
    strict: bool = parser.parse_args().strict
    if wrong := damaged():
        rotten = rotten_copies()
        remove = shlex.join(["rm", "-rf", wrong[0], *map(str, rotten)])
        raise UserError(
            f"{wrong[0]}: not the bytes that dvc.lock names, nor is what DVC's cache holds;"
            f" make it anew by: {remove} && dvc repro"
            if rotten
            else f"{wrong[0]}: not the bytes that dvc.lock names;"
            f" `dvc checkout --force {wrong[0]}` brings them back"
        )
    committed = _git("show", f"HEAD:{LOCK}")
    if lists := rotten_copies("*.dir"):
        names = {path.parent.name + path.name for path in lists}
        outs = [out for lock in (committed.stdout, LOCK.read_bytes()) for out in _outs(lock)]
        listed = sorted({out["path"] for out in outs if out["md5"] in names})
        remove = shlex.join(["rm", "-rf", *listed, *map(str, lists)])
        raise UserError(
            f"{lists[0]}: DVC's list of the files in {' '.join(listed) or 'a folder'} is damaged;"
            f" make it anew by: git restore dvc.lock data models plots && {remove} && dvc repro"
        )
    if committed.returncode or _git("diff", "--quiet", "HEAD", "--", *INPUTS).returncode:
        return  # no commit to compare with, or another pipeline than the committed one
    here = _read(LOCK.read_bytes())
    found = first_difference(_read(committed.stdout), here)
    if found is None:
        return
    line = (
        f"this machine gives other bytes than the commit, first in {found};"
        ' stages/README.md, "The same bytes", says why that can be'
    )
    if strict:
        raise UserError(line)
    print(line)


if __name__ == "__main__":
    run(main)
