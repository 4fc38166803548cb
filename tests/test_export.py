"""An exported network computes in ONNX Runtime what it computes in Jittor."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnxruntime
import pytest

from stages.shared import interchange
from stages.shared.model_file import Description
from stages.shared.network import classifier, networks, runtime
from stages.shared.network.classifier import Classifier
from stages.shared.network.runtime import nn
from tests.conftest import Repository

pytestmark = pytest.mark.slow

CLASS_NAMES = ["a", "b", "c", "d"]


def trained(name: str, image_size: tuple[int, int]) -> Classifier:
    """A network that is not trained, with other running statistics than fresh ones."""
    runtime.use("cpu", seed=1)
    result = classifier.build(
        Description(
            network=name,
            image_size=image_size,
            class_names=CLASS_NAMES,
            mean=0.2,
            std=0.3,
            held_out=0,
            params={},
            versions={},
        )
    )
    draw = np.random.default_rng(2)
    arrays = classifier.state(result.network)
    for key, array in arrays.items():
        if "bn" in key:
            arrays[key] = draw.uniform(0.5, 1.5, array.shape).astype(np.float32)
    classifier.load_state(result.network, arrays, "the test")
    return result


def images(count: int, image_size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (count, *image_size), dtype=np.uint8)


@pytest.mark.parametrize("name", networks.NETWORKS)
@pytest.mark.parametrize("image_size", [(28, 28), (23, 31)])
def test_every_network_gives_the_same_logits(name: str, image_size: tuple[int, int]) -> None:
    network, some = trained(name, image_size), images(7, image_size)
    content = interchange.model(network).SerializeToString()
    assert interchange.check(content, some, network.logits(some), batch_size=3) < 1e-4


def test_the_file_describes_itself() -> None:
    model = interchange.model(trained("compact", (28, 28)))
    session = onnxruntime.InferenceSession(model.SerializeToString())
    assert json.loads(session.get_modelmeta().custom_metadata_map["class_names"]) == CLASS_NAMES
    (taken,), (given,) = session.get_inputs(), session.get_outputs()
    assert (taken.name, taken.type, taken.shape) == ("images", "tensor(uint8)", ["N", 28, 28])
    assert (given.name, given.shape) == ("logits", ["N", 4])


def test_the_same_network_gives_the_same_bytes() -> None:
    made = [interchange.model(trained("compact", (28, 28))).SerializeToString() for _ in "12"]
    assert made[0] == made[1]


def test_a_graph_with_other_logits_is_refused() -> None:
    network, some = trained("compact", (28, 28)), images(5, (28, 28))
    model = interchange.model(network)
    bias = next(c for c in model.graph.initializer if c.name == "fc2.bias")
    moved = onnx.numpy_helper.to_array(bias) + np.array([0, 0, 0, 1e-3], np.float32)
    bias.CopyFrom(onnx.numpy_helper.from_array(moved, "fc2.bias"))
    with pytest.raises(interchange.ExportError, match=r"logits differ by 1\.0e-03"):
        interchange.check(model.SerializeToString(), some, network.logits(some), batch_size=5)


def test_a_graph_that_gives_no_number_is_refused() -> None:
    network, some = trained("compact", (28, 28)), images(2, (28, 28))
    content = interchange.model(network).SerializeToString()
    nothing = np.full_like(network.logits(some), np.nan)
    with pytest.raises(interchange.ExportError, match="differ by nan"):
        interchange.check(content, some, nothing, batch_size=2)


def test_a_layer_that_it_does_not_know_is_named() -> None:
    network = trained("compact", (28, 28))
    network.network.names.append("extra")
    network.network.extra = nn.GroupNorm(2, 4)
    with pytest.raises(TypeError, match="extra is a GroupNorm"):
        interchange.model(network)


def test_the_pipeline_ends_with_a_file_that_was_compared(finished: Repository) -> None:
    (finished.path / "models/digits.onnx").unlink()
    said = finished.run("dvc", "repro", "--force", "--single-item", "export").stdout
    assert "models/digits.onnx: 200 test images, the same labels, logits to" in said
    assert (finished.path / "models/digits.onnx").stat().st_size > 400_000
    assert "up to date" in finished.run("dvc", "status").stdout
