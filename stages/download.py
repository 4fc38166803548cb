"""Fetch the data set's IDX files.

Reads the sources that params.yaml lists; writes data/raw: the IDX files as published, inflated, so
that their bytes are the same whatever the source.
"""

from __future__ import annotations

from stages.shared.program import run

# isort: split
# From here on Ctrl-C is answered in a line, also while the rest is imported.
from stages.shared import datasets, params
from stages.shared.sources import fetch


def main() -> None:
    settings = params.load().download
    fetch(datasets.DATASETS[settings.dataset].files, settings.sources, datasets.RAW)


if __name__ == "__main__":
    run(main)
