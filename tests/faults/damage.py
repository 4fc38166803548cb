"""Results that were damaged after a run: the next one sees it, and puts every byte right."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from random import Random

from tests.faults import small
from tests.faults.trial import Trial

WHAT = "a result that was damaged, emptied, removed, or replaced by a folder"
WHOLE, SHORT = 40, 3


def run(rng: Random, folder: Path, count: int) -> Iterator[Trial]:
    whole = small.made(folder)
    assert small.repro(whole).returncode == 0
    expected = small.digests(whole)
    for _ in range(count):
        repository = whole.copy(folder / "damaged")
        path = rng.choice(sorted(small.files(repository)))
        way = rng.choice(("flipped", "cut", "emptied", "removed", "a folder"))
        damage(rng, path, way)
        what = f"{path.relative_to(repository.path)} {way}"
        yield small.ends_well(what, repository, expected)
        shutil.rmtree(repository.path)


def damage(rng: Random, path: Path, way: str) -> None:
    """Change a file; a new one takes its place, as it may be DVC's own, which is shared."""
    content = bytearray(path.read_bytes())
    path.unlink()
    if way == "flipped":
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(content)
    elif way == "cut":
        path.write_bytes(content[: rng.randrange(len(content))])
    elif way == "emptied":
        path.touch()
    elif way == "a folder":
        path.mkdir()
        (path / "file").touch()
