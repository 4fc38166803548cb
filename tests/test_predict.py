import gzip
import io
import json
import os
import subprocess
import sys
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
from stages.shared.model_file import Description
from stages.tools import explanation, predict
from stages.tools.pictures import PictureError
from stages.tools.predict import Reading

DIGIT = np.zeros((28, 28), np.uint8)
DIGIT[5:20, 12:16] = 255
BOX = (0, 0, 28, 28)
READINGS = [
    Reading(Path("a.png"), 0, BOX, "7", 0.99987),
    Reading(Path("[b]long.idx"), 11, BOX, "1", 0.25),
]


class Stub:
    """Stands for a trained network: three classes, sure of the second."""

    description = Description(
        network="compact", image_size=(28, 28), class_names=["no", "one", "two"], mean=0.13,
        std=0.3, held_out=0, params={}, versions={},
    )  # fmt: skip

    def __init__(self) -> None:
        self.seen: NDArray[np.uint8] = np.zeros((0, 28, 28), np.uint8)

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.seen = np.concatenate([self.seen, images])
        return np.tile(np.array([0, np.log(2), 0], np.float32), (len(images), 1))


def run(monkeypatch: pytest.MonkeyPatch, *words: object, stub: Stub | None = None) -> Stub:
    """Call `main` with a stub in the place of the room that starts Jittor."""
    stub = stub or Stub()
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
        "[b]long.idx  11  1  25.00%  unsure: not a digit, or not a clear one\n"
    )  # fmt: skip


def test_what_is_nearly_certain_is_not_called_certain() -> None:
    stream = io.StringIO()
    nearly = Reading(Path("a.png"), 0, BOX, "7", 0.9999961)
    predict.show([nearly], Console(file=stream))
    assert stream.getvalue() == "a.png  0  7  99.9996%\n"
    row = np.array([[0.0, 0.9999961, 0.0000039]])
    figure = explanation.draw(DIGIT[None], row, ["no", "one", "two"], ["a.png"])
    words = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert words == ["99.9996%"]


def test_a_terminal_gets_a_table_and_names_are_not_markup() -> None:
    stream = io.StringIO()
    predict.show(READINGS, Console(file=stream, force_terminal=True, color_system=None, width=80))
    assert "confidence" in stream.getvalue()
    assert "[b]long.idx" in stream.getvalue()


@pytest.mark.parametrize("mean", [0.13, 0.87])
def test_idx_images_of_the_networks_size_are_taken_as_they_are(tmp_path: Path, mean: float) -> None:
    description = Stub.description.model_copy(update={"mean": mean})
    idx.write(tmp_path / "x", np.stack([DIGIT, ~DIGIT]))
    found, wrong = predict.fitted([tmp_path / "x"], description)
    np.testing.assert_array_equal([picture.digit.pixels for picture in found], [DIGIT, ~DIGIT])
    assert not wrong


def test_idx_images_without_number_are_refused_before_they_are_read(tmp_path: Path) -> None:
    """As gzip's 17 MB can hold 4 GB."""
    head = np.array([4000, 1000, 1000], ">u4").tobytes()
    (tmp_path / "x.gz").write_bytes(gzip.compress(b"\0\0\x08\x03" + head))
    found, wrong = predict.fitted([tmp_path / "x.gz"], Stub.description)
    assert not found
    assert [str(error) for error in wrong] == [
        f"{tmp_path / 'x.gz'}: 4,000,000,000 pixels in all, expected 250,000,000 at most"
    ]


def test_idx_images_of_another_size_are_fitted(tmp_path: Path) -> None:
    names = [str(digit) for digit in range(10)]
    description = Stub.description.model_copy(update={"class_names": names})
    idx.write(tmp_path / "x", np.kron(DIGIT, np.ones((3, 3), np.uint8)))
    (found,), _ = predict.fitted([tmp_path / "x"], description)
    assert np.flatnonzero(found.digit.pixels.any(axis=1)).tolist() == list(range(4, 24))
    assert found.digit.box == pytest.approx((36, 15, 48, 60), abs=1)


@pytest.mark.parametrize("size", [28, 30])
@pytest.mark.parametrize("level", [0, 255])
def test_a_blank_image_is_named_and_gets_no_digit(tmp_path: Path, size: int, level: int) -> None:
    blank = np.full((size, size), level, np.uint8)
    digit = np.pad(DIGIT, (size - 28) // 2)
    idx.write(tmp_path / "x.idx", np.stack([digit, blank, digit]))
    found, wrong = predict.fitted([tmp_path / "x.idx"], Stub.description)
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


def test_an_image_of_idx_has_no_more_pixels_than_a_picture(tmp_path: Path) -> None:
    idx.write(tmp_path / "x", np.zeros((2, 5001, 10_000), np.uint8))
    said = r"x: 10,000 x 5,001 pixels, expected 50,000,000 at most"
    with pytest.raises(PictureError, match=said):
        predict.load(tmp_path / "x")


def test_of_very_many_errors_the_first_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    idx.write(tmp_path / "x", np.zeros((1234, 28, 28), np.uint8))
    with pytest.raises(PictureError) as caught:
        run(monkeypatch, tmp_path / "x")
    first, *others, last = str(caught.value).split("\nerror: ")
    assert "image 0: blank" in first
    assert len(others) == 19
    assert last == "1,214 more files or images that cannot be read"


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
    np.testing.assert_array_equal(np.sort(images, axis=0), np.sort(stub.seen, axis=0))
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
        "a folder",
    ]


def test_a_wrong_file_has_one_line_whatever_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = tmp_path / "bad\nerror: \x1b[31m.png"
    for content in (b"no picture", b"\0\0\x08\3"):
        bad.write_bytes(content)
        with pytest.raises(PictureError, match=r"^[ -~]*bad\\nerror: \\x1b\[31m.png: [ -~]*$"):
            run(monkeypatch, bad)
    with pytest.raises(PictureError, match=r"^--explain: [ -~]* is one of the pictures[ -~]*$"):
        run(monkeypatch, bad, "--explain", bad)


def test_names_do_not_steer_the_terminal() -> None:
    stream = io.StringIO()
    bad = Reading(Path("a\x1b[2J\nb.png"), 0, BOX, "\x1b[31m\r7", 0.5)
    predict.show([bad], Console(file=stream))
    assert stream.getvalue() == "a\\x1b[2J\\nb.png  0  \\x1b[31m\\r7  50.00%\n"


def test_a_name_that_is_not_utf8_is_read_and_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / os.fsdecode(b"fa\xe7ade.png")
    Image.fromarray(DIGIT).save(path)
    run(monkeypatch, path)
    assert "fa\\udce7ade.png  0  one  50.00%" in capsys.readouterr().out
    run(monkeypatch, path, "--json")
    assert json.loads(capsys.readouterr().out)[0]["file"] == str(path)


class OfDigits(Stub):
    """Ten classes; sure of the 3 whatever it sees."""

    description = Stub.description.model_copy(
        update={"class_names": [str(digit) for digit in range(10)]}
    )

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.tile(np.eye(10, dtype=np.float32)[3] * 8, (len(images), 1))


def test_several_digits_have_boxes_and_what_is_none_is_unsure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    star = np.zeros((300, 300), np.uint8)
    rows, columns = np.mgrid[-150:150, -150:150]
    for angle in (0, np.pi / 3, 2 * np.pi / 3):
        away = np.abs(rows * np.cos(angle) - columns * np.sin(angle))
        star[(away < 9) & (np.hypot(rows, columns) < 110)] = 255
    stroke = np.zeros((300, 200), np.uint8)
    stroke[40:260, 90:115] = 255
    Image.fromarray(255 - np.hstack([stroke, star])).save(tmp_path / "a.png")
    words = (tmp_path / "a.png", "--json", "--explain", tmp_path / "why.png")
    found = json.loads(predicted(monkeypatch, capsys, OfDigits(), *words))
    assert [entry["digit"] for entry in found] == ["3", "3"]
    assert [entry["sure"] for entry in found] == [True, False]
    assert found[0]["box"] == pytest.approx([90, 40, 115, 260], abs=3)
    assert found[1]["box"][0] == pytest.approx(240, abs=5)


def predicted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stub: Stub, *words: object
) -> str:
    run(monkeypatch, *words, stub=stub)
    return capsys.readouterr().out


def test_a_reader_that_has_enough_is_no_error() -> None:
    # `false` reads nothing at all; the message is written to a closed pipe.
    command = '"$0" -m stages.tools.predict --help | false; echo ${PIPESTATUS[0]}'
    words = ["bash", "-c", command, sys.executable]
    result = subprocess.run(words, capture_output=True, text=True)
    assert result.stdout.strip() in ("0", "141")
    assert result.stderr == ""


def test_the_command_line() -> None:
    arguments = predict.parse(["a.png", "b.png"])
    assert arguments.files == [Path("a.png"), Path("b.png")]
    assert arguments.model == model_file.default()
    assert not arguments.json
    with pytest.raises(SystemExit):
        predict.parse([])
