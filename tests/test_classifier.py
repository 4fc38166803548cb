"""A trained network comes back from its file as it was, or not at all."""

from __future__ import annotations

import json
import math
import resource
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from stages.shared import model_file
from stages.shared.model_file import Description, ModelFileError
from stages.shared.network import classifier, kernels, networks, runtime
from stages.shared.network.classifier import Classifier, ClassifierError
from stages.shared.network.networks import NetworkError

pytestmark = pytest.mark.slow

DESCRIPTION = Description(
    network="tutorial",
    image_size=(12, 10),
    class_names=["a", "b", "c"],
    mean=0.25,
    std=0.5,
    held_out=7,
    params={"seed": 0, "learning_rate": 0.1},
    versions={"jittor": "1"},
)


def fresh() -> Classifier:
    runtime.use("cpu", seed=0)
    return classifier.build(DESCRIPTION)


def pictures(count: int = 7) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 12, 10), dtype=np.uint8)


def rewritten(
    path: Path, arrays: dict[str, np.ndarray | None], changes: dict[str, object] | None = None
) -> Path:
    """The file at `path` with some arrays replaced, added or (None) taken away, sealed anew."""
    with safe_open(path, framework="numpy") as file:
        held = {name: file.get_tensor(name) for name in file.keys()} | arrays  # noqa: SIM118
        text = json.loads(file.metadata()["description"]) | (changes or {})
    kept = {name: array for name, array in held.items() if array is not None}
    del text["sha256"]
    compact = json.dumps(text, separators=(",", ":"), ensure_ascii=False)
    sealed = text | {"sha256": model_file.digest(kept, compact)}
    save_file(kept, path, {"description": json.dumps(sealed)})
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    classifier.save(fresh(), tmp_path / "digits.safetensors")
    return tmp_path / "digits.safetensors"


def test_a_network_comes_back_as_it_was(path: Path) -> None:
    back = classifier.load(path)
    assert np.array_equal(back.logits(pictures()), fresh().logits(pictures()))
    assert back.description == DESCRIPTION
    assert model_file.load(path)[1] == DESCRIPTION


def test_the_same_network_gives_the_same_bytes(tmp_path: Path, path: Path) -> None:
    for name in ("one", "two", "three"):
        classifier.save(fresh(), tmp_path / name)
        assert (tmp_path / name).read_bytes() == path.read_bytes()


def test_nothing_but_the_whole_file_is_left(path: Path) -> None:
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_the_batch_size_does_not_change_the_logits() -> None:
    trained = fresh()
    one = trained.logits(pictures(), batch_size=1)
    assert one.shape == (7, 3)
    np.testing.assert_allclose(one, trained.logits(pictures(), batch_size=4), atol=1e-5)


def test_images_are_normalised() -> None:
    trained = fresh()
    inputs = trained.normalised(trained.pixels(np.full((1, 2, 2), 51, np.uint8))).numpy()
    np.testing.assert_allclose(inputs, np.full((1, 1, 2, 2), (0.2 - 0.25) / 0.5), atol=1e-6)


def test_images_of_another_size_are_refused() -> None:
    with pytest.raises(
        ClassifierError, match=r"found images of \(28, 28\) pixels, expected \(12, 10"
    ):
        fresh().logits(np.zeros((1, 28, 28), np.uint8))


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"fc2.bias": None}, "lacks fc2.bias"),
        ({"fc3.bias": np.zeros(3, np.float32)}, "has the unknown fc3.bias"),
        (
            {f"{n}{'x' * 500}": np.zeros(1, np.float32) for n in range(1000)},
            r"has the unknown 0x{99}\.\.\., 100x{97}\.\.\., 101x{97}\.\.\. and 997 more$",
        ),
        (
            {"fc2.bias": np.zeros(4, np.float32)},
            r"fc2.bias is float32 \(4,\), expected float32 \(3",
        ),
        ({"fc2.bias": np.zeros(3, np.int32)}, "fc2.bias is int32"),
    ],
)
def test_every_name_and_shape_is_checked(
    path: Path, arrays: dict[str, np.ndarray | None], said: str
) -> None:
    with pytest.raises(ModelFileError, match=said):
        classifier.load(rewritten(path, arrays))


def test_files_of_other_kinds_are_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no such file"):
        classifier.load(tmp_path / "none")
    whole = path.read_bytes()
    for damaged in (b"", whole[:100], whole[:-1], b"\x80\x04" + whole):
        (tmp_path / "damaged").write_bytes(damaged)
        with pytest.raises(ModelFileError, match="damaged: not a safetensors file"):
            classifier.load(tmp_path / "damaged")
    save_file({"x": np.zeros(1)}, tmp_path / "foreign")
    with pytest.raises(ModelFileError, match="foreign: its description is not that of a network"):
        classifier.load(tmp_path / "foreign")
    with pytest.raises(ModelFileError, match="format is 'digits-9', expected 'digits-3'"):
        classifier.load(rewritten(path, {}, {"format": "digits-9"}))


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [1] * 70, "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [2**62, 0], "data_offsets": [0, 0]},
        {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]},
        {"dtype": "x" * 9999, "shape": [1], "data_offsets": [0, 4]},
    ],
)
def test_a_header_that_numpy_cannot_follow_is_refused_in_a_line(
    tmp_path: Path, entry: dict[str, object]
) -> None:
    header = json.dumps({"x": entry}).encode()
    file = tmp_path / "x.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header + bytes(entry["data_offsets"][1]))  # type: ignore[index]
    with pytest.raises(ModelFileError, match="not a safetensors file") as caught:
        model_file.load(file)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < len(str(file)) + 200


def refusal(path: Path, changes: dict[str, object]) -> str:
    """What is said of a file with a changed description, after the file's name."""
    with pytest.raises(ModelFileError) as caught:
        classifier.load(rewritten(path, {}, changes))
    name, _, said = str(caught.value).partition(": ")
    assert name == str(path)
    return said


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"mean": math.nan}, "mean is nan, expected"),
        ({"mean": 7}, "mean is 7, expected less than or equal to 1"),
        ({"std": 0.0}, "std is 0.0, expected greater than 0"),
        ({"std": -1.0}, "std is -1.0, expected greater than 0"),
        ({"std": math.inf}, "std is inf, expected"),
        ({"image_size": [10**9, 10]}, "image_size.0 is 1000000000, expected less than"),
        ({"image_size": [28.5, 28]}, "image_size.0 is 28.5, expected"),
        ({"image_size": None}, "image_size is empty, expected"),
        ({"class_names": [1, 2, 3]}, "class_names.0 is 1, expected a valid string"),
        ({"class_names": []}, "class_names is [], expected"),
        ({"class_names": None}, "class_names is empty, expected"),
        (
            {"class_names": ["a", "b", "a"]},
            "class_names is ['a', 'b', 'a'], expected names that differ",
        ),
        (
            {"class_names": ["a", "b", "<script>"]},
            "class_names.2 is '<script>', expected 1 to 40 printable",
        ),
        ({"network": ["deep"]}, "network is ['deep'], expected a valid string"),
        ({"held_out": -1}, "held_out is -1, expected greater than"),
    ],
)
def test_a_description_that_cannot_be_is_refused(
    path: Path, changes: dict[str, object], said: str
) -> None:
    assert refusal(path, changes).startswith(f"its description is not that of a network ({said}")


def test_a_network_that_is_larger_than_its_file_is_refused_before_it_is_made(path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    said = refusal(path, {"image_size": [450, 450]})  # weights of 3.3 GB, once they are drawn
    assert said == "fc1.weight is float32 (256, 768), expected float32 (256, 3182656)"
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 500_000  # KiB


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"network": "other"}, "network is 'other', expected one of: compact, deep, tutorial"),
        (
            {"network": "compact", "image_size": [9, 28]},
            "network 'compact' needs images of 11 x 11 pixels or more",
        ),
    ],
)
def test_what_no_network_is_for_is_told_by_the_file(
    path: Path, changes: dict[str, object], said: str
) -> None:
    assert refusal(path, changes).startswith(said)


def test_a_network_of_more_weights_than_there_is_memory_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes = {"SC_PHYS_PAGES": 100, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr("os.sysconf", sizes.__getitem__)
    with pytest.raises(
        NetworkError, match=r"'compact' for images of 28 x 28 has weights of 0\.0 GB"
    ):
        networks.build("compact", (28, 28), 10)


@pytest.mark.parametrize("place", ["weights", "description"])
def test_a_flipped_bit_is_seen_anywhere(path: Path, place: str) -> None:
    content = bytearray(path.read_bytes())
    content[-2 if place == "weights" else content.index(b":0.25,") + 4] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match="its content is not what was saved"):
        classifier.load(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers_are_refused(path: Path, value: float) -> None:
    weight = fresh().network.fc2.weight.numpy().copy()
    weight[1, 2] = value
    with pytest.raises(ModelFileError, match=f"fc2.weight holds {value}, expected finite numbers"):
        classifier.load(rewritten(path, {"fc2.weight": weight}))


def test_negative_variances_are_refused(path: Path) -> None:
    variance = fresh().network.bn.running_var.numpy() - 2
    with pytest.raises(ModelFileError, match=r"bn.running_var holds -1.0, expected variances"):
        classifier.load(rewritten(path, {"bn.running_var": variance}))


def test_answers_that_are_no_numbers_are_refused(path: Path) -> None:
    """Here by weights so large that their sums are infinite."""
    weight = np.full((3, 256), 3e38, np.float32)
    bias = np.full(256, 10, np.float32)
    liar = classifier.load(rewritten(path, {"fc2.weight": weight, "fc1.bias": bias}))
    with pytest.raises(ClassifierError, match="numbers that are not finite"):
        liar.logits(pictures())


def test_an_unknown_network_lists_the_known_ones() -> None:
    with pytest.raises(NetworkError, match=r"network is 'resnet', expected one of: .*tutorial"):
        networks.build("resnet", (28, 28), 10)


def test_the_tutorials_network_has_the_tutorials_shape() -> None:
    shapes = {
        n: tuple(v.shape) for n, v in networks.build("tutorial", (28, 28), 10).state_dict().items()
    }
    assert shapes["conv1.weight"] == (32, 1, 3, 3)
    assert shapes["conv2.weight"] == (64, 32, 3, 3)
    assert shapes["bn.weight"] == (64,)
    assert shapes["fc1.weight"] == (256, 64 * 12 * 12)
    assert shapes["fc2.weight"] == (10, 256)


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_a_network_has_the_size_that_it_says(name: str) -> None:
    network = networks.build(name, (28, 28), 10)
    found = networks.size(network, (28, 28))
    shapes = {key: var.shape for key, var in network.state_dict().items()}
    learned = [math.prod(shape) for key, shape in shapes.items() if "running" not in key]
    assert found.parameters == sum(learned)
    text = networks.NETWORKS[name].__doc__ or ""
    assert f"{found.parameters:,} parameters" in text
    said = text.split(" parameters and ")[1].split(" million multiply-adds")[0]
    decimals = len(said.partition(".")[2])
    assert f"{found.multiply_adds / 1e6:.{decimals}f}" == said


@pytest.mark.parametrize("name", networks.NETWORKS)
@pytest.mark.parametrize("image_size", [(28, 28), (20, 31)])
def test_multiply_adds_are_counted_at_the_true_sizes(
    name: str, image_size: tuple[int, int]
) -> None:
    network = networks.build(name, image_size, 10)
    network.eval()
    products = 0
    x = runtime.jt.zeros((1, 1, *image_size))
    with runtime.jt.no_grad():
        for _, layer in network.layers():
            x = layer(x)
            if isinstance(layer, (kernels.Conv, kernels.Linear)):
                # A weight is used once for each pixel of its layer's output.
                products += math.prod(layer.weight.shape) * math.prod(x.shape[2:])
    assert networks.size(network, image_size).multiply_adds == products
