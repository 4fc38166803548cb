"""Fetch the data set's IDX files.

Reads the sources that params.yaml lists; writes data/raw: the IDX files as published, inflated, so
that their bytes are the same whatever the source. Own images may be a folder of pictures: they
become IDX files here, with the names of their classes beside them.
"""

from __future__ import annotations

from stages.shared.program import in_a_line, run

# isort: split
# From here on Ctrl-C is answered in a line, also while the rest is imported.
from stages.shared import datasets, digits, own, params
from stages.shared.sources import fetch


def main() -> None:
    settings = params.load().download
    (datasets.RAW / digits.CLASS_NAMES).unlink(missing_ok=True)
    if settings.dataset == "own" and (found := own.pictures(settings.sources[0])):
        own.write(found, datasets.RAW)
        print(
            f"{len(found.train):,} training and {len(found.test):,} test pictures of"
            f" {len(found.class_names)} classes from {in_a_line(settings.sources[0])}"
        )
    else:
        fetch(datasets.DATASETS[settings.dataset].files, settings.sources, datasets.RAW)


if __name__ == "__main__":
    run(main)
