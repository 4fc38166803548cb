"""Strange surroundings: a run gives the same bytes, or says in a line what is wrong."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from random import Random

from tests.conftest import Repository
from tests.faults import small
from tests.faults.trial import Trial

WHAT = "strange surroundings"
WHOLE, SHORT = 8, 1

_SPACED = "Mit Leerzeichen 和汉字"


def run(rng: Random, folder: Path, count: int) -> Iterator[Trial]:
    first = small.made(folder)
    whole = first.copy(folder / "whole")
    assert small.repro(whole).returncode == 0
    expected = small.digests(whole)
    ways: list[tuple[str, list[str], dict[str, str | None]]] = [
        ("a path with spaces and Chinese", [], {}),
        ("LC_ALL=C", [], {"LC_ALL": "C", "PYTHONUTF8": "0"}),
        ("a locale that is not installed", [], {"LC_ALL": "xx_XX.UTF-8"}),
        ("no HOME", [], {"HOME": None}),
        ("umask 077", ["sh", "-c", 'umask 077 && exec "$@"', "sh"], {}),
        ("one core", ["taskset", "--cpu-list", "0"], {}),
        ("no terminal's type", [], {"TERM": None, "COLUMNS": None}),
        ("another hash seed", [], {"PYTHONHASHSEED": "123"}),
    ]
    rng.shuffle(ways)
    for what, before, variables in ways[:count]:
        name = _SPACED if "spaces" in what else "plain"
        repository = first.copy(folder / name)
        yield _same(what, repository, expected, before, variables)
        shutil.rmtree(repository.path)


def _same(
    what: str,
    repository: Repository,
    expected: dict[str, str],
    before: list[str],
    variables: dict[str, str | None],
) -> Trial:
    done = small.repro(repository, *before, **variables)
    if done.returncode:
        return Trial(what, "lost", done.stdout[-1500:])
    return small.ends_well(what, repository, expected)
