"""Refuse a wrong params.yaml before any other stage runs.

Reads params.yaml; writes data/checked.txt, always the same bytes, so that no other stage runs again
for it. DVC removes the outputs of a stage before it runs the stage, so a wrong parameter must be
found earlier, here, or the results of the run before are lost. The first source is a dependency of
`download`, which DVC hashes: what is no folder would stop DVC in words of its own. Where it is
known how many images and classes the data set has, the parameters must fit them.
"""

from __future__ import annotations

from stages.shared.program import run

# isort: split
# From here on Ctrl-C is answered in a line, also while the rest is imported.
from pathlib import Path

from stages.shared import datasets, own, params
from stages.shared.files import replacing, shortened
from stages.shared.params import Params

CHECKED = Path("data/checked.txt")
_WRITTEN = ("data/raw", "data/npy", "models", "plots")  # where stages write


def main() -> None:
    everything = params.load()
    _check_watched(everything.download.sources[0])
    if everything.download.dataset == "own":
        _check_unwatched(everything.download.sources)
    _check_data(everything)
    everything.train.check_hosts()
    with replacing(CHECKED) as part:
        part.write_text("params.yaml has been read and found right.\n", encoding="utf-8")


def _check_watched(source: str) -> None:
    """Refuse a first source that DVC could not hash.

    Raises:
        params.ParamsError: it is no folder, a stage writes to it, or it holds what DVC
            cannot read, or would wait for without end.
    """
    said = f"params.yaml: download.sources.0 is {shortened(source)!r}"
    folder = Path(source)
    if not folder.is_dir():
        raise params.ParamsError(
            f"{said}, expected a folder that is there, as DVC watches the first source; data/own"
            " is one"
        )
    for written in map(Path, _WRITTEN):
        ours, theirs = written.resolve(), folder.resolve()
        if ours.is_relative_to(theirs) or theirs.is_relative_to(ours):
            raise params.ParamsError(f"{said}, expected a folder apart from {written}")
    for path in folder.rglob("*"):
        if not (path.is_file() or path.is_dir()):
            there = shortened(str(path.relative_to(folder)))
            raise params.ParamsError(f"{said} with {there} in it, expected nothing but files")


def _check_unwatched(sources: list[str]) -> None:
    """Refuse own images in another folder than the first source: nobody would see them change.

    Raises:
        params.ParamsError: there is such a folder.
    """
    for number, source in enumerate(sources[1:], start=1):
        if Path(source).is_dir():
            raise params.ParamsError(
                f"params.yaml: download.sources.{number} is {shortened(source)!r}, expected own"
                " images in the first source, as DVC watches no other: name it first"
            )


def _check_data(everything: Params) -> None:
    """Refuse parameters that do not fit the data set, as far as it is known before it is fetched.

    Raises:
        params.ParamsError: no image would be left to train on.
        UserError: what the first source holds is no data set, has other classes, or its images
            are too small for the network.
    """
    dataset, source = everything.download.dataset, everything.download.sources[0]
    if dataset != "own":
        images = datasets.DATASETS[dataset].training_images
        where = datasets.DATASETS[dataset].title
    else:
        images = own.check(source, everything.train.network, everything.decode.num_classes)
        where = source
    held_out = everything.train.validation_images
    if images is not None and held_out >= images:
        raise params.ParamsError(
            f"params.yaml: train.validation_images is {held_out}, expected fewer than the"
            f" {images} training images of {where}"
        )


if __name__ == "__main__":
    run(main)
