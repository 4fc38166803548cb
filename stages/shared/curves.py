"""The curves of a training run: the files that DVCLive writes, and their reader."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stages.shared.files import replacing, shortened
from stages.shared.program import UserError

FOLDER = Path("plots/training")
NAMES = (
    *("train/loss", "train/accuracy", "train/learning_rate"),
    *("validation/loss", "validation/accuracy"),
)
# Few, so that `dvc metrics show` fits a terminal, and none with the name of a parameter.
COMPARED = ("train/loss", "validation/accuracy", "validation/loss")


class CurveError(UserError):
    """A file that is not a curve of that name."""


class Series(NamedTuple):
    """A curve: one finite value for each step; both arrays have the same length of 1 or more."""

    steps: NDArray[np.int64]
    values: NDArray[np.float64]


class Curves:
    """Writes the curves of `NAMES` as they grow, a file each, and their latest values.

    Every file is there from the start, without a point: `dvc plots show` would call a run of which
    no epoch has ended yet, and so no validation, a failure.

    Args:
        folder: what it holds is replaced; the same values give the same bytes. Those of `COMPARED`
            are in metrics.json as well.
    """

    def __init__(self, folder: Path) -> None:
        from dvclive import Live  # takes 0.3 s, which a reader need not wait for

        self._live = Live(str(folder), save_dvc_exp=False, dvcyaml=None)
        self._latest: dict[str, float] = {}
        self._folder = folder
        for name in NAMES:
            path = _file(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"step\t{path.stem}\n", encoding="utf-8")
        self._summarise()

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Log one value per curve at this step.

        Args:
            step: optimizer steps taken since the start.
            values: by the name of the curve, such as "train/loss".
        """
        self._live.step = step
        for name, value in values.items():
            self._live.log_metric(name, value)
        self._latest |= values
        self._summarise()

    def end(self) -> None:
        """Finish the files."""
        self._live.end()
        self._summarise()

    def _summarise(self) -> None:
        """Write metrics.json, for `dvc exp show` while the run goes on; 0.1 ms.

        DVCLive's own has every curve in it, and may be read half written.
        """
        tree: dict[str, dict[str, float]] = {}
        for name in COMPARED:
            if name in self._latest:
                part, _, what = name.partition("/")
                tree.setdefault(part, {})[what] = self._latest[name]
        with replacing(self._folder / "metrics.json") as part_file:
            part_file.write_text(json.dumps(tree, indent=2) + "\n", encoding="utf-8")


def read(folder: Path, name: str) -> Series:
    """Read one curve.

    Args:
        folder: where `Curves` wrote it.
        name: such as "train/loss".

    Raises:
        CurveError: the file is missing, holds other columns or no point, the steps do not rise, or
            a value is not a finite number.
    """
    path = _file(folder, name)
    try:
        text = path.read_text(encoding="utf-8")
        rows = iter([line.split("\t") for line in text.splitlines()])
    except FileNotFoundError:
        raise CurveError(f"{path}: no such file; `dvc repro train` makes it") from None
    except UnicodeDecodeError:
        raise CurveError(f"{path}: not text") from None
    header, expected = next(rows, []), ["step", path.stem]
    if header != expected:
        found = shortened(", ".join(header)) or "none"
        raise CurveError(f"{path}: columns {found}, expected {', '.join(expected)}")
    steps: list[int] = []
    values: list[float] = []
    for line, row in enumerate(rows, start=2):
        before = steps[-1] if steps else -1
        try:
            step, value = int(row[0]), float(row[1])
        except (ValueError, IndexError):
            value = math.nan
        if not math.isfinite(value) or not before < step < 2**63:
            found = shortened(repr(" ".join(row)))
            after = f" after {before}" if steps else ""
            raise CurveError(f"{path}: line {line} is {found}, expected a step{after} and a number")
        steps.append(step)
        values.append(value)
    if not steps:
        raise CurveError(f"{path}: no point, expected one or more")
    return Series(np.array(steps), np.array(values))


def _file(folder: Path, name: str) -> Path:
    """Where DVCLive keeps a curve."""
    return folder / "plots/metrics" / f"{name}.tsv"
