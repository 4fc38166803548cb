"""Strange surroundings: a run gives the same bytes, or says in a line what is wrong."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random
from types import MappingProxyType
from typing import NamedTuple

from tests.faults import small
from tests.faults.trial import ImpossibleError, Trial, in_namespace

WHAT = "strange surroundings"
WHOLE, SHORT = 11, 1


class _Way(NamedTuple):
    """How a run is started.

    Attributes:
        before: what stands before the command.
        variables: of the environment; None takes one out.
        names: where the run cannot be, what the refusal names; none: it must give the same bytes.
    """

    before: tuple[str, ...] = ()
    variables: Mapping[str, str | None] = MappingProxyType({})
    names: tuple[str, ...] = ()


_WAYS = {
    "a path with spaces and Chinese": _Way(),
    "LC_ALL=C": _Way(variables={"LC_ALL": "C", "PYTHONUTF8": "0"}),
    "a locale that is not installed": _Way(variables={"LC_ALL": "xx_XX.UTF-8"}),
    "no HOME": _Way(variables={"HOME": None}),
    "a HOME that cannot be written": _Way(variables={"HOME": "/proc"}, names=("HOME is /proc",)),
    "umask 077": _Way(("sh", "-c", 'umask 077 && exec "$@"', "sh")),
    "one core": _Way(("taskset", "--cpu-list", "0")),
    "2 GiB of memory": _Way(("sh", "-c", 'ulimit -v 2097152 && exec "$@"', "sh")),
    "no terminal's type": _Way(variables={"TERM": None, "COLUMNS": None}),
    "another hash seed": _Way(variables={"PYTHONHASHSEED": "123"}),
    "a checkout that cannot be written": _Way(("read-only",), names=("Read-only file system",)),
}


def run(rng: Random, folder: Path, count: int) -> Iterator[Trial]:
    first, _, expected = small.finished()
    for what in rng.sample(list(_WAYS), count):
        repository = first.copy(
            folder / ("Mit Leerzeichen 和汉字" if "spaces" in what else "plain")
        )
        way = _WAYS[what]
        before = list(way.before)
        if before == ["read-only"]:
            try:
                before = in_namespace('mount --bind . . && cd "$PWD" && mount -o remount,bind,ro .')
            except ImpossibleError:
                continue
        done = small.repro(repository, *before, **way.variables)
        if way.names:
            wrong = small.refused(done, *way.names)
        else:
            wrong = done.stdout[-1500:] if done.returncode else ""
        if wrong:
            yield Trial(what, "lost", wrong)
        else:
            yield small.ends_well(what, repository, expected)
        shutil.rmtree(repository.path)
