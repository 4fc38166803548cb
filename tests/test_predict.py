import gzip
import io
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console

import stages.shared.network
from stages.shared import idx, model_file
from stages.shared.idx import IdxError
from stages.tools import explanation, predict
from stages.tools.pictures import PictureError
from stages.tools.predict import Reading

DIGIT = np.zeros((28, 28), np.uint8)
DIGIT[5:20, 12:16] = 255
READINGS = [Reading(Path("a.png"), 0, "7", 0.99987), Reading(Path("[b]long.idx"), 11, "1", 0.5)]


class Stub:
    """Stands for a trained network: three classes, sure of the second."""

    description = SimpleNamespace(class_names=["no", "one", "two"], image_size=(28, 28))

    def __init__(self) -> None:
        self.seen: NDArray[np.uint8] = np.zeros(0, np.uint8)

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.seen = images
        return np.tile(np.array([0, np.log(2), 0], np.float32), (len(images), 1))


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> Stub:
    """Call `main` with a stub in the place of the room that starts Jittor."""
    stub = Stub()
    room = SimpleNamespace(load=lambda _: stub)
    monkeypatch.setattr(stages.shared.network, "classifier", room, raising=False)
    monkeypatch.setattr(model_file, "load", lambda _: ({}, stub.description))
    monkeypatch.setattr("sys.argv", ["predict", *map(str, words)])
    predict.main()
    return stub


def test_json_of_all_kinds_of_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(~DIGIT).resize((90, 90)).save(tmp_path / "a.png")
    idx.write(tmp_path / "b", np.stack([DIGIT, ~DIGIT]))
    (tmp_path / "c.gz").write_bytes(gzip.compress((tmp_path / "b").read_bytes()))
    files = [tmp_path / name for name in ("a.png", "b", "c.gz")]
    stub = run(monkeypatch, *files, "--json")
    found = json.loads(capsys.readouterr().out)
    assert [(Path(entry["file"]).name, entry["image"]) for entry in found] == [
        ("a.png", 0),
        ("b", 0),
        ("b", 1),
        ("c.gz", 0),
        ("c.gz", 1),
    ]
    assert {(entry["digit"], entry["confidence"]) for entry in found} == {("one", 0.5)}
    assert stub.seen.shape == (5, 28, 28)
    assert stub.seen.dtype == np.uint8


def test_lines_are_plain_and_aligned_away_from_a_terminal() -> None:
    stream = io.StringIO()
    predict.show(READINGS, Console(file=stream, width=20))
    assert stream.getvalue() == (
        "a.png         0  7  99.99%\n"
        "[b]long.idx  11  1  50.00%\n"
    )  # fmt: skip


def test_a_terminal_gets_a_table_and_names_are_not_markup() -> None:
    stream = io.StringIO()
    predict.show(READINGS, Console(file=stream, force_terminal=True, color_system=None, width=80))
    assert "confidence" in stream.getvalue()
    assert "[b]long.idx" in stream.getvalue()


def test_an_idx_image_in_the_right_form_is_taken_as_it_is() -> None:
    as_it_is = predict.fit(DIGIT, True, (28, 28))
    np.testing.assert_array_equal(as_it_is, DIGIT)
    for pixels, from_idx in ((~DIGIT, True), (DIGIT[:, :20], True), (DIGIT, False)):
        ready = predict.fit(pixels, from_idx, (28, 28))
        assert np.flatnonzero(ready.any(axis=1)).tolist() == list(range(4, 24))


@pytest.mark.parametrize("size", [28, 30])
@pytest.mark.parametrize("level", [0, 255])
def test_a_blank_image_is_named_and_gets_no_digit(tmp_path: Path, size: int, level: int) -> None:
    blank = np.full((size, size), level, np.uint8)
    digit = np.pad(DIGIT, (size - 28) // 2)
    idx.write(tmp_path / "x.idx", np.stack([digit, blank, digit]))
    found, wrong = predict.fitted([tmp_path / "x.idx"], (28, 28))
    assert [picture.index for picture in found] == [0, 2]
    assert len(wrong) == 1
    assert f"{tmp_path / 'x.idx'}: image 1: blank: " in str(wrong[0])


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (np.zeros(5, np.uint8), r"uint8 \(5,\)"),
        (np.zeros((2, 28, 28), np.float32), r"float32 \(2, 28, 28\)"),
        (np.zeros((0, 28, 28), np.uint8), r"uint8 \(0, 28, 28\)"),
    ],
)
def test_idx_that_holds_no_images_is_refused(
    tmp_path: Path, array: NDArray[Any], found: str
) -> None:
    idx.write(tmp_path / "x", array)
    with pytest.raises(PictureError, match=found):
        predict.load(tmp_path / "x")


def test_damaged_idx_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\0\0\x08\x03\0\0")
    with pytest.raises(IdxError):
        predict.load(tmp_path / "x")


def test_an_explanation_is_drawn_of_what_the_network_saw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(~DIGIT).resize((90, 90)).save(tmp_path / "a.png")
    idx.write(tmp_path / "b", np.stack([DIGIT, ~DIGIT]))
    drawn: list[Any] = []

    def noted(*arguments: Any) -> Figure:
        drawn.extend(arguments)
        return draw(*arguments)

    draw = explanation.draw
    monkeypatch.setattr(explanation, "draw", noted)
    target = tmp_path / "why.png"
    stub = run(monkeypatch, "--explain", target, tmp_path / "a.png", tmp_path / "b")
    images, probabilities, class_names, names = drawn
    np.testing.assert_array_equal(images, stub.seen)
    assert probabilities == pytest.approx(np.tile([0.25, 0.5, 0.25], (3, 1)))
    assert class_names == stub.description.class_names
    assert names == ["a.png", "b, image 0", "b, image 1"]
    with Image.open(target) as picture:
        assert picture.format == "PNG"
    assert len(capsys.readouterr().out.splitlines()) == 3


@pytest.mark.parametrize(
    ("count", "target", "message"),
    [
        (21, "why.png", "--explain: 21 pictures, expected 20 or fewer"),
        (1, "why.jpg", r"--explain: .*why\.jpg, expected a name that ends in \.png"),
        (1, "in.png", r"--explain: .*in\.png is one of the pictures"),
    ],
)
def test_what_cannot_be_explained_is_told_before_anything_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, target: str, message: str
) -> None:
    idx.write(tmp_path / "in.png", np.stack([DIGIT] * count))
    before = (tmp_path / "in.png").read_bytes()
    with pytest.raises(PictureError, match=message):
        run(monkeypatch, "--explain", tmp_path / target, tmp_path / "in.png")
    assert [path.name for path in tmp_path.iterdir()] == ["in.png"]
    assert (tmp_path / "in.png").read_bytes() == before


def test_wrong_files_are_named_and_the_others_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(DIGIT).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("no picture")
    os.mkfifo(tmp_path / "pipe")
    names = ("none.png", "b.png", "a.png", "pipe", ".")
    with pytest.raises(PictureError) as caught:
        run(monkeypatch, *(tmp_path / name for name in names))
    assert capsys.readouterr().out.split() == [str(tmp_path / "a.png"), "0", "one", "50.00%"]
    lines = str(caught.value).splitlines()
    assert [line.rpartition(": ")[2].split(",")[0] for line in lines] == [
        "no such file",
        "not a whole picture",
        "not a file",
        "not a file",
    ]


def test_names_do_not_steer_the_terminal() -> None:
    stream = io.StringIO()
    bad = Reading(Path("a\x1b[2J\nb.png"), 0, "\x1b[31m\r7", 0.5)
    predict.show([bad], Console(file=stream))
    assert stream.getvalue() == "a\\x1b[2J\\nb.png  0  \\x1b[31m\\r7  50.00%\n"


def test_the_command_line() -> None:
    arguments = predict.parse(["a.png", "b.png"])
    assert arguments.files == [Path("a.png"), Path("b.png")]
    assert arguments.model == Path("models/digits.safetensors")
    assert not arguments.json
    with pytest.raises(SystemExit):
        predict.parse([])
