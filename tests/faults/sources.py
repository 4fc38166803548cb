"""Servers that fail in every way: the next source gives the right bytes, or words say why not."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from random import Random
from unittest import mock

from stages.shared.datasets import IdxFile
from stages.shared.sources import SourceError, fetch
from tests.faults.trial import MOST_LETTERS, Trial, judged
from tests.test_sources import FILES, OWN, refused, serving, whole

WHAT = "servers that are dead, slow, endless, cut, wrong or hostile"

_DEAD = "dead"
_WAYS = (
    _DEAD, "hangs", "hangs_half_way", "trickles", "trickles_in_chunks", "endless", "bomb",
    "missing", "broken", "recovers", "cut", "cut_once", "cut_unseen", "stops_short", "wrong",
    "damaged", "page", "loops", "leaves", "steers", "garbles", "babbles",
    *(f"drops/{tenths}" for tenths in range(10)),
)  # fmt: skip
WHOLE, SHORT = 10 * len(_WAYS), len(_WAYS)
_TIMEOUT = 0.5  # seconds, in place of the twenty that a real server is given


def run(rng: Random, folder: Path, count: int) -> Iterator[Trial]:
    with serving() as mirror:
        for number in range(count):
            way = _WAYS[number % len(_WAYS)]
            bad = refused() if way == _DEAD else mirror.at(way)
            # Of what is somebody's own nobody knows which bytes are wrong.
            own = way != "wrong" and rng.random() < 0.5
            alone = not way.startswith("drops") and rng.random() < 0.3
            names = [bad] if alone else [bad, mirror.at("good")]
            mirror.asked.clear()
            yield judged(
                f"{way}{', own files' * own}{', no other source' * alone}",
                partial(_fetched_or_refused, OWN if own else FILES, names, folder / str(number)),
            )


def _fetched_or_refused(files: Mapping[str, IdxFile], names: list[str], target: Path) -> bool:
    """Fetch, without the waits between tries, and see what is said and what is left."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), mock.patch.object(time, "sleep"):
            fetch(files, names, target, _TIMEOUT)
    except SourceError as error:
        if len(names) > 1 or f"{names[0]}: " not in str(error) or list(target.iterdir()):
            return False
        raise
    lines = said.getvalue().splitlines()
    clear = all(line.isprintable() and len(line) <= MOST_LETTERS for line in lines)
    return clear and names[0] in said.getvalue() and whole(target)
