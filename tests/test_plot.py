import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from safetensors.numpy import save_file

from stages import plot
from stages.shared import digits, model_file, scoring
from stages.shared.model_file import Description
from stages.shared.program import UserError
from stages.shared.report import card, style
from stages.shared.report.figures import FOLDER as FIGURES

NAMES = ["accuracy", "confusion", "hardest", "loss", "mistakes", "reliability", "samples"]
CURVES = Path("plots/training/plots/metrics")
PARAMS = Path(__file__).parents[1] / "params.yaml"


CLASSES = ["zero", "one", "two"]
SCORES_OF_THREE = """score,value
images,6
errors,3
accuracy,0.5
top2_accuracy,0.75
loss,1.25
calibration_error,0.125
macro_f1,0.25
"""
BY_CLASS_HEAD = "class,images,precision,recall,f1\n"
DESCRIPTION = Description(
    network="compact", image_size=(28, 28), class_names=CLASSES, mean=0.1, std=0.2, held_out=1,
    params={"seed": 7, "epochs": 3}, versions={"jittor": "1.2.3"},
)  # fmt: skip


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the results that the earlier stages leave, of three classes."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(PARAMS.read_text())
    for part, steps in (("train", range(10, 110, 10)), ("validation", [100])):
        for name in ("loss", "accuracy"):
            path = CURVES / part / f"{name}.tsv"
            path.parent.mkdir(parents=True, exist_ok=True)
            rows = "".join(f"{step}\t{1 / step}\n" for step in steps)
            path.write_text(f"step\t{name}\n{rows}")
    images = np.random.default_rng(0).integers(0, 256, (6, 28, 28), dtype=np.uint8)
    labels = np.array([0, 1, 2, 0, 1, 2], dtype=np.uint8)
    digits.FOLDER.mkdir(parents=True)
    for part in ("train", "test"):
        np.save(digits.FOLDER / f"{part}-images.npy", images)
        np.save(digits.FOLDER / f"{part}-labels.npy", labels)
    scoring.FOLDER.mkdir()
    rows = "".join(f"{i},{CLASSES[n]},{CLASSES[i % 2]},0.9\n" for i, n in enumerate(labels))
    (scoring.FOLDER / "predictions.csv").write_text(f"index,actual,predicted,confidence\n{rows}")
    (scoring.FOLDER / "scores.csv").write_text(SCORES_OF_THREE)
    rows = "".join(f"{name},2,0.5,,\n" for name in CLASSES)
    (scoring.FOLDER / "per_class.csv").write_text(f"{BY_CLASS_HEAD}{rows}")
    model_file.PATH.parent.mkdir()
    model_file.save(model_file.PATH, {"w": np.zeros(1, np.float32)}, DESCRIPTION)
    return tmp_path


def test_all_figures_are_drawn_in_place_of_the_old(results: Path) -> None:
    FIGURES.mkdir()
    (FIGURES / "old.png").touch()
    plot.main()
    # Nothing else may stand there: `dvc plots` takes every file for a figure.
    assert sorted(path.name for path in FIGURES.iterdir()) == [f"{name}.png" for name in NAMES]
    assert sorted(path.name for path in FIGURES.parent.iterdir()) == [
        "README.md",
        "evaluation",
        "figures",
        "training",
    ]
    assert FIGURES.stat().st_mode == (results / "plots").stat().st_mode


@pytest.mark.usefixtures("results")
def test_the_card_shows_every_figure_and_what_the_weights_say() -> None:
    plot.main()
    page = card.PATH.read_text()
    shown = re.findall(r"\]\((figures/.*?)\)", page)
    assert sorted(shown) == [f"figures/{name}.png" for name in NAMES]
    assert "# Model card: `compact` on MNIST" in page
    assert "6 training images, of which 1 are held out" in page
    assert "| seed | 7 |" in page
    assert "| jittor | 1.2.3 |" in page


@pytest.mark.usefixtures("results")
def test_another_run_writes_the_same_bytes() -> None:
    plot.main()
    files = [card.PATH, *(FIGURES / f"{name}.png" for name in NAMES)]
    once = [path.read_bytes() for path in files]
    plot.main()
    assert [path.read_bytes() for path in files] == once


def test_a_failure_in_the_middle_leaves_the_old_figures(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FIGURES.mkdir()
    (FIGURES / "old.png").touch()
    save = style.save

    def full(figure: Figure, path: Path) -> None:
        if path.stem == "mistakes":
            raise OSError("no space left")
        save(figure, path)

    monkeypatch.setattr(style, "save", full)
    with pytest.raises(OSError, match="no space"):
        plot.main()
    assert [path.name for path in FIGURES.iterdir()] == ["old.png"]
    assert len(list((results / "plots").iterdir())) == 3


LOSS = "plots/training/plots/metrics/train/loss.tsv"
TABLE = "plots/evaluation/predictions.csv"
SCORES = "plots/evaluation/scores.csv"
BY_CLASS = "plots/evaluation/per_class.csv"
MODEL = "models/digits.safetensors"
HEAD = "index,actual,predicted,confidence\n"


@pytest.mark.usefixtures("results")
@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        (LOSS, None, "loss.tsv: no such file; `dvc repro train` makes it"),
        (LOSS, "", "loss.tsv: columns none, expected step, loss"),
        (LOSS, "step\tspeed\n1\t2\n", "columns step, speed, expected step, loss"),
        (LOSS, "step\tloss\n", "no point"),
        (LOSS, "step\tloss\n10\t0.5\n20\tnan\n", "line 3 is '20 nan'"),
        (LOSS, "step\tloss\n10\n", "line 2 is '10'"),
        (TABLE, None, "predictions.csv: no such file; `dvc repro evaluate` makes it"),
        (TABLE, HEAD, "predictions.csv: line 2"),
        (TABLE, f"{HEAD}0,zero,zero,0.9\n", "not about the test images"),
        (
            TABLE,
            HEAD + "".join(f"{i},{CLASSES[i % 3]},seven,0.9\n" for i in range(6)),
            "line 2: 0,zero,seven,0.9, expected 0, two of the 3 classes and a confidence",
        ),
        (SCORES, None, "scores.csv: no such file; `dvc repro evaluate` makes it"),
        (SCORES, "", "scores.csv: line 1: columns , expected score,value"),
        (
            SCORES,
            "score,value\nimages,6,7\n",
            "scores.csv: line 2: images,6,7, expected score,value",
        ),
        (SCORES, "score,value\n", "scores.csv: not the scores of a network (images is missing)"),
        (
            SCORES,
            SCORES_OF_THREE.replace("accuracy,0.5", "accuracy,high"),
            "scores.csv: not the scores of a network (accuracy is 'high', expected ",
        ),
        (BY_CLASS, None, "per_class.csv: no such file"),
        (BY_CLASS, f"{BY_CLASS_HEAD}zero,2,0.5,,\n", "1 classes, expected 2"),
        (
            BY_CLASS,
            f"{BY_CLASS_HEAD}zero,2,much,,\n",
            "per_class.csv: not the scores of a network (zero.precision is 'much', expected ",
        ),
        (MODEL, None, "digits.safetensors: no such file; `dvc repro train` makes it"),
        (MODEL, "", "digits.safetensors: not a safetensors file"),
        ("data/npy/test-images.npy", None, "test-images.npy: no such file"),
    ],
)
def test_a_broken_input_is_named_and_nothing_is_written(
    path: str, text: str | None, message: str
) -> None:
    if text is None:
        Path(path).unlink()
    else:
        Path(path).write_text(text)
    with pytest.raises(UserError) as raised:
        plot.main()
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not FIGURES.exists()
    assert not card.PATH.exists()


@pytest.mark.usefixtures("results")
@pytest.mark.parametrize("header", [None, {"description": "{"}, {"description": "{}"}])
def test_weights_that_say_nothing_of_themselves_are_named(header: dict[str, str] | None) -> None:
    save_file({"w": np.zeros(1, np.float32)}, model_file.PATH, header)
    with pytest.raises(UserError, match=r"digits\.safetensors: its description is not that of a"):
        plot.main()
    assert not FIGURES.exists()
