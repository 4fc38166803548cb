"""Turn the IDX files into arrays that NumPy can map, with a name for each class beside them.

Reads data/raw, plain or gzipped; writes data/npy: images uint8 (N, rows, columns) and labels
uint8 (N,), for train and for test, and class_names.json.
"""

from __future__ import annotations

from stages.shared.program import UserError, run

# isort: split
# From here on Ctrl-C is answered in a line, also while the rest is imported.
from pathlib import Path

from stages.shared import datasets, digits, idx, own, params
from stages.shared.files import replacing


def decode(raw: Path, npy: Path, class_names: list[str]) -> None:
    """Write the four arrays of `raw` and the names to `npy`: all of them, or nothing.

    Args:
        raw: the folder with the IDX files.
        npy: the folder for the .npy files; what it held is replaced.
        class_names: a name for each label; labels must run from 0 to one less than there are.

    Raises:
        UserError: a file is missing or not IDX to the last byte, or they are not a data set.
    """
    files = (raw / name for name in datasets.IDX_FILES)
    sources = dict(zip(digits.ARRAYS, files, strict=True))
    missing = [str(path) for path in sources.values() if not path.exists()]
    if missing:
        raise UserError(f"{', '.join(missing)}: no such file; `dvc repro download` fetches it")
    with replacing(npy) as part:
        part.mkdir()
        for array, path in sources.items():
            idx.decode_to_npy(path, part / array)
        digits.check(part, len(class_names), sources)
        digits.save_class_names(part, class_names)


def main() -> None:
    settings = params.load()
    given = settings.decode.class_names
    if (datasets.RAW / digits.CLASS_NAMES).exists():  # of a folder of pictures
        found = digits.load_class_names(datasets.RAW)
        own.check_classes(found, settings.decode.num_classes)
        given = given or found
    names = datasets.class_names(settings.download.dataset, settings.decode.num_classes, given)
    decode(datasets.RAW, digits.FOLDER, names)


if __name__ == "__main__":
    run(main)
