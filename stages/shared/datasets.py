"""What each data set is: its files with their SHA-256, its classes, and words about it.

A data set is four IDX files under MNIST's names: images and labels, to train and to test. To add
one, add a `Dataset` to `DATASETS` and its key to `params.Download.dataset`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

RAW = Path("data/raw")  # where `download` puts the files, inflated
IDX_FILES = (  # as the makers of MNIST named them; `digits.ARRAYS` has the same order
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


@dataclass(frozen=True)
class IdxFile:
    """A file as its makers published it, after inflating: a mirror may compress it again.

    Attributes:
        size: bytes; None where that is not known.
        sha256: 64 hexadecimal digits; None accepts any content.
    """

    size: int | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Dataset:
    """A data set that params.yaml can name.

    Attributes:
        title: its name in sentences.
        files: what is published, by file name.
        class_names: a name for each label, in order; empty where a label is its own name.
        use: what a network that was trained on it does with a picture; the model card's words.
        origin: where the images come from; the model card's words, Markdown.
        licence: under what terms they may be used; a sentence.
        limits: what to know about the images and labels; Markdown list items.
        contested: indices of test images whose published label most people do not confirm.
    """

    title: str
    files: Mapping[str, IdxFile]
    class_names: tuple[str, ...]
    use: str
    origin: str
    licence: str
    limits: str
    contested: tuple[int, ...] = ()

    @property
    def training_images(self) -> int | None:
        """How many there are; None where that is not known."""
        size = self.files[IDX_FILES[1]].size
        return None if size is None else size - 8  # bytes of the header; a label takes one


def _files(*published: IdxFile) -> dict[str, IdxFile]:
    """What is published under each of `IDX_FILES`, in their order."""
    return dict(zip(IDX_FILES, published, strict=True))


DATASETS: dict[str, Dataset] = {
    "mnist": Dataset(
        title="MNIST",
        files=_files(
            IdxFile(47_040_016, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
            IdxFile(60_008, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
            IdxFile(7_840_016, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
            IdxFile(10_008, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
        ),
        class_names=(),
        use="It reads a single handwritten digit in a picture",
        origin="""\
MNIST (LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition",
1998): digits written by employees of the United States Census Bureau and by high-school students,
scaled and centred. Each published file is accepted on its SHA-256 alone.""",
        licence="Yann LeCun and Corinna Cortes hold the copyright; the terms are CC BY-SA 3.0.",
        limits="""\
- Some labels are contested: of 15 test images the published label was confirmed by two or fewer of
  the five people asked by Northcutt, Athalye and Mueller ("Pervasive Label Errors in Test Sets
  Destabilize Machine Learning Benchmarks", NeurIPS 2021). They are the images {contested}.
  The scores here take every label as published; {shared} are on those images.
- The writers were in the United States around 1990. Digits as other places write them, such as a 1
  with a long upstroke or a 7 with a bar, are fewer.
- A picture holds one digit. Numbers of several digits must be cut apart first, as
  `stages.tools.predict` does it.""",
        # From the answers published with the paper that `limits` names.
        contested=(
            *(947, 1621, 1901, 2130, 2462, 2597, 2654, 3520),
            *(3558, 5937, 6651, 6783, 8527, 9679, 9729),
        ),
    ),
    "fashion_mnist": Dataset(
        title="Fashion-MNIST",
        files=_files(
            IdxFile(47_040_016, "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"),
            IdxFile(60_008, "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"),
            IdxFile(7_840_016, "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"),
            IdxFile(10_008, "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
        ),
        class_names=(
            *("T-shirt", "trouser", "pullover", "dress", "coat"),
            *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
        ),
        use="It names the piece of clothing in a picture",
        origin="""\
Fashion-MNIST (Xiao, Rasul and Vollgraf, arXiv:1708.07747, 2017): pictures of articles from a shop's
catalogue, in the form of MNIST's digits. Each published file is accepted on its SHA-256 alone.""",
        licence="Zalando SE holds the copyright; the terms are the MIT licence.",
        limits="- Each picture is of one article before an even ground, as in a shop.",
    ),
    "own": Dataset(
        title="own images",
        files=_files(*[IdxFile()] * 4),
        class_names=(),
        use="It tells the classes that it was trained on apart, in pictures",
        origin="The user's own images; the pipeline knows nothing more about them.",
        licence="Their terms are known to the user alone.",
        limits="- What these images do not cover is known only to those who made them.",
    ),
}


def class_names(dataset: str, num_classes: int, given: list[str]) -> list[str]:
    """Name each label of a data set, in order.

    Args:
        dataset: a key of `DATASETS`.
        num_classes: how many labels there are.
        given: the user's own names, which come first; none, or one for each label.

    Returns:
        `num_classes` names. Without names, the number of each label is its name.
    """
    published = list(DATASETS[dataset].class_names)
    return next(
        names
        for names in (given, published, [str(label) for label in range(num_classes)])
        if len(names) == num_classes
    )


def published_in(sha256: str) -> str | None:
    """The key in `DATASETS` of the data set that has published a file; None if none has.

    Args:
        sha256: of the file, inflated.
    """
    for key, dataset in DATASETS.items():
        if any(file.sha256 == sha256 for file in dataset.files.values()):
            return key
    return None
