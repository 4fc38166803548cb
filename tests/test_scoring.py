import json
import math
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from stages.shared import scoring
from stages.shared.scoring import ClassScores, Predictions, ScoringError
from stages.tools import score

# Four images, three classes. Read as 0, 1, 1, 2; the third is a 0 whose second guess is right,
# the fourth is a 0 whose last guess is right.
PROBABILITY = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.6, 0.1], [0.1, 0.4, 0.5]])
LOGITS = np.log(PROBABILITY).astype(np.float32)
LABELS = np.array([0, 1, 0, 0], dtype=np.uint8)


def test_scores_of_a_worked_example() -> None:
    scores = scoring.score(LOGITS, LABELS, ["zero", "one", "two"])
    assert list(scores.model_dump().items()) == [
        ("images", 4),
        ("errors", 2),
        ("accuracy", 0.5),
        ("top2_accuracy", 0.75),
        ("loss", pytest.approx(-(math.log(0.7 * 0.8 * 0.3 * 0.1)) / 4, abs=1e-6)),
        # each image is alone in its bin: gaps 0.3, 0.2, 0.6 and 0.5
        ("calibration_error", pytest.approx(1.6 / 4, abs=1e-6)),
        # f1 of 0.5, 2/3 and 0
        ("macro_f1", pytest.approx((0.5 + 2 / 3) / 3, abs=1e-6)),
        (
            "per_class",
            {
                "zero": {"images": 3, "precision": 1.0, "recall": 0.333333, "f1": 0.5},
                "one": {"images": 1, "precision": 0.5, "recall": 1.0, "f1": 0.666667},
                "two": {"images": 0, "precision": 0.0, "recall": None, "f1": 0.0},
            },
        ),
    ]


def test_scores_come_back_from_their_files(tmp_path: Path) -> None:
    scores = scoring.score(LOGITS, LABELS, ["a", 'b,"', "c"])
    scoring.write(tmp_path, scores, scoring.predictions(LOGITS, LABELS))
    assert scoring.read_scores(tmp_path) == scores
    assert (tmp_path / "per_class.csv").read_text().splitlines() == [
        "class,images,precision,recall,f1",
        "a,3,1.0,0.333333,0.5",
        '"b,""",1,0.5,1.0,0.666667',
        "c,0,0.0,,0.0",
    ]
    assert (tmp_path / "scores.csv").read_text().startswith("score,value\nimages,4\nerrors,2\n")
    # Each number in it is a column of `dvc exp show`.
    kept = json.loads((tmp_path / "metrics.json").read_text())
    assert kept == {"accuracy": 0.5, "errors": 2, "loss": scores.loss}


@pytest.mark.parametrize(
    ("share", "text"),
    [
        *[(0.0, "0.00%"), (0.97456, "97.46%"), (0.99994, "99.99%"), (0.99996, "99.996%")],
        *[(0.9999994, "99.9999%"), (0.99999999, "over 99.9999%"), (1.0, "100.00%")],
    ],
)
def test_only_all_is_a_hundred_percent(share: float, text: str) -> None:
    assert scoring.percent(share) == text


def test_a_class_that_never_occurs_has_no_share_and_no_weight() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = scoring.score(np.array([[9.0, 1.0, 0.0]]), np.array([0]), ["a", "b", "c"])
    nothing = ClassScores(images=0, precision=None, recall=None, f1=None)
    assert scores.per_class["c"] == nothing
    assert scores.macro_f1 == 1.0


def test_two_classes_are_always_in_the_top_two() -> None:
    scores = scoring.score(np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([0, 1]), ["a", "b"])
    assert (scores.accuracy, scores.top2_accuracy) == (0.5, 1.0)


def test_a_tie_never_puts_top_two_below_top_one() -> None:
    scores = scoring.score(np.zeros((1, 4)), np.array([0]), list("abcd"))
    assert scores.accuracy == scores.top2_accuracy == 1.0


def test_huge_logits_do_not_overflow() -> None:
    logits = np.array([[1e4, 0.0], [1e4, 0.0]], dtype=np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert scoring.score(logits, np.array([0, 1]), ["a", "b"]).loss == 5000.0


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.array([[0.0, 1.0], [0.0, np.nan]]), np.array([0, 1]), "image 1"),
        (np.array([[0.0, np.inf]]), np.array([0]), "not finite"),
        (np.zeros((2, 3)), np.array([0]), r"\(2, 3\)"),
        (np.zeros((0, 3)), np.array([], dtype=int), "1 or more"),
        (np.zeros((1, 3)), np.array([3]), "expected 0 to 2"),
        (np.zeros((1, 2)), np.array([0]), "2 logits per image, expected one for each of 3"),
    ],
)
def test_what_cannot_be_scored(
    logits: NDArray[np.float64], labels: NDArray[np.int64], message: str
) -> None:
    with pytest.raises(ScoringError, match=message):
        scoring.score(logits, labels, ["a", "b", "c"])


def test_calibration_of_a_worked_example() -> None:
    # Two bins: (0, 0.5] holds 0.4 (wrong) and 0.5 (right), (0.5, 1] holds 0.8 and 1.0 (both right).
    result = Predictions(
        np.array([0, 1, 1, 1]), np.array([1, 1, 1, 1]), np.array([0.4, 0.5, 0.8, 1.0])
    )
    calibration = scoring.calibrate(result, bins=2)
    assert calibration.images.tolist() == [2, 2]
    assert calibration.confidence == pytest.approx([0.45, 0.9])
    assert calibration.accuracy == pytest.approx([0.5, 1.0])
    assert calibration.error == pytest.approx((2 * 0.05 + 2 * 0.1) / 4)


def test_an_empty_bin_is_nan_and_costs_nothing() -> None:
    one = np.array([1])
    calibration = scoring.calibrate(Predictions(one, one, np.array([1.0])), bins=2)
    assert calibration.images.tolist() == [0, 1]
    assert np.isnan(calibration.accuracy[0])
    assert calibration.error == 0


def put(folder: Path, table: str) -> Path:
    (folder / "predictions.csv").write_text(table, newline="")
    return folder


def test_predictions_as_csv(tmp_path: Path) -> None:
    result = scoring.predictions(LOGITS, LABELS)
    scoring.write(tmp_path, scoring.score(LOGITS, LABELS, ["a", "b", "c"]), result)
    assert (tmp_path / "predictions.csv").read_text() == (
        "index,actual,predicted,confidence\n"
        "0,a,a,0.700000\n1,b,b,0.800000\n2,a,b,0.600000\n3,a,c,0.500000\n"
    )
    back = scoring.read_predictions(tmp_path, LABELS, ["a", "b", "c"])
    np.testing.assert_array_equal(back.actual, result.actual)
    np.testing.assert_array_equal(back.predicted, result.predicted)
    np.testing.assert_allclose(back.confidence, result.confidence, atol=5e-7)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "metrics.json",
        "per_class.csv",
        "predictions.csv",
        "scores.csv",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1"),
        ("x" * 200_000, "not CSV: field larger than field limit"),
        ("index,actual\n", "line 1: columns index,actual, expected index,actual,predicted"),
        ("index,actual,predicted,confidence\n", "line 2: no prediction"),
        ("index,actual,predicted,confidence\n0,1,1,0.5\n1,2\n", "line 3: 1,2, expected"),
        ("index,actual,predicted,confidence\n0,1,1,0.5,7\n", "line 2"),
        ("index,actual,predicted,confidence\n1,1,1,0.5\n", "line 2"),
        ("index,actual,predicted,confidence\n0,-1,1,0.5\n", "line 2"),
        ("index,actual,predicted,confidence\n0,x,1,0.5\n", "line 2"),
        ("index,actual,predicted,confidence\n0,1,1,nan\n", "line 2"),
        ("index,actual,predicted,confidence\n0,1,1,1.5\n", "line 2"),
    ],
)
def test_a_broken_table_is_named_by_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ScoringError, match=rf"predictions\.csv: {message}"):
        scoring.read_predictions(put(tmp_path, text), np.array([1]), ["0", "1"])


def test_predictions_of_other_images_or_classes_are_refused(tmp_path: Path) -> None:
    folder = put(tmp_path, "index,actual,predicted,confidence\n0,1,2,0.5\n")
    with pytest.raises(ScoringError, match="not about the test images"):
        scoring.read_predictions(folder, np.array([0]), ["0", "1", "2"])
    with pytest.raises(ScoringError, match=r"line 2: 0,1,2,0\.5, expected 0, two of the 2 classes"):
        scoring.read_predictions(folder, np.array([1]), ["0", "1"])


def test_wilsons_interval() -> None:
    # (p + z^2 / 2n +- z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n) with z = 1.96
    assert scoring.wilson(1200, 2400) == pytest.approx((0.48001, 0.51999), abs=1e-4)
    low, high = scoring.wilson(10, 10)
    assert (low, high) == pytest.approx((0.7225, 1.0), abs=1e-3)


@pytest.mark.parametrize("key", list(scoring.Overall.model_fields))
def test_scores_without_a_key_are_refused(tmp_path: Path, key: str) -> None:
    scores = scoring.score(LOGITS, LABELS, ["a", "b", "c"])
    scoring.write(tmp_path, scores, scoring.predictions(LOGITS, LABELS))
    path = tmp_path / "scores.csv"
    rows = [row for row in path.read_text().splitlines() if not row.startswith(f"{key},")]
    path.write_text("\n".join(rows) + "\n")
    with pytest.raises(ScoringError, match=rf"scores\.csv: .*\({key} is missing\)$"):
        scoring.read_scores(tmp_path)


WRONG = (
    ("scores", "accuracy", "nan", "accuracy is nan, expected"),
    ("scores", "accuracy", "inf", "accuracy is inf, expected less than or equal to 1"),
    ("scores", "top2_accuracy", "7.5", "top2_accuracy is 7.5, expected less than or equal to 1"),
    ("scores", "macro_f1", "-1.0", "macro_f1 is -1.0, expected greater than or equal to 0"),
    ("scores", "loss", "inf", "loss is inf, expected a finite number"),
    ("scores", "images", "0", "images is 0, expected greater than or equal to 1"),
    ("scores", "errors", "-5", "errors is -5, expected greater than or equal to 0"),
    ("scores", "images", "9" * 400, "expected less than 4294967296"),
    ("per_class", "b", "-5,0.5,0.5,0.5", "b.images is -5, expected greater than or equal to 0"),
    ("per_class", "b", "1,0.5,nan,0.5", "b.recall is nan, expected"),
    ("per_class", "b", "1,0.5,0.5,1.5", "b.f1 is 1.5, expected less than or equal to 1"),
)


@pytest.mark.parametrize(("name", "key", "value", "said"), WRONG)
def test_scores_out_of_bounds_are_refused(
    tmp_path: Path, name: str, key: str, value: str, said: str
) -> None:
    scores = scoring.score(LOGITS, LABELS, ["a", "b", "c"])
    scoring.write(tmp_path, scores, scoring.predictions(LOGITS, LABELS))
    path = tmp_path / f"{name}.csv"
    path.write_text(re.sub(f"(?m)^{key},.*$", f"{key},{value}", path.read_text()))
    with pytest.raises(ScoringError) as caught:
        scoring.read_scores(tmp_path)
    assert str(caught.value).startswith(f"{path}: not the scores of a network (")
    assert said in str(caught.value)
    assert len(str(caught.value)) < len(str(path)) + 250


@pytest.mark.parametrize(("name", "line"), [("scores", 9), ("per_class", 5)])
def test_a_score_that_comes_twice_is_refused(tmp_path: Path, name: str, line: int) -> None:
    scores = scoring.score(LOGITS, LABELS, ["a", "b", "c"])
    scoring.write(tmp_path, scores, scoring.predictions(LOGITS, LABELS))
    path = tmp_path / f"{name}.csv"
    rows = path.read_text().splitlines()
    path.write_text("\n".join([*rows, rows[1]]) + "\n")
    with pytest.raises(
        ScoringError, match=rf"{name}\.csv: line {line}: \w+ again, expected it once"
    ):
        scoring.read_scores(tmp_path)


def test_names_are_told_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither markup nor what steers a terminal."""
    names = ["[/cat]", "[red]", "\x1b[2J"]
    found = scoring.score(LOGITS, LABELS, names)
    scoring.write(tmp_path, found, scoring.predictions(LOGITS, LABELS))
    monkeypatch.setattr(scoring, "FOLDER", tmp_path)
    score.main()
    said = capsys.readouterr().out
    assert all(name in said for name in ("[/cat]", "[red]", r"\x1b[2J"))
    assert "\x1b" not in said
