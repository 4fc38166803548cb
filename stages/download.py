"""Fetch the data set's IDX files.

Reads the sources that params.yaml lists; writes data/raw: the IDX files as published, inflated, so
that their bytes are the same whatever the source.
"""

from __future__ import annotations

from pathlib import Path

from stages.shared import params
from stages.shared.program import run
from stages.shared.sources import DATASETS, fetch


def main() -> None:
    """Run the stage on the folder that dvc.yaml names."""
    download = params.load().download
    fetch(DATASETS[download.dataset], download.sources, Path("data/raw"))


if __name__ == "__main__":
    run(main)
