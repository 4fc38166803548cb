"""A trained network as an ONNX file: what is not what was written does not get to ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from stages.shared import graph_file
from stages.shared.graph_file import GraphFileError
from tests.test_draw import one_layer

FEW = (4, 3)  # pixels


def chain(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    """A graph of one layer, each logit the sum of all pixels; nodes go before it."""
    return one_layer(np.ones((12, 3)), ["a", "b", "c"], FEW, *nodes)


def test_what_was_written_is_read_and_runs(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(graph_file.to_bytes(chain()))
    content, about = graph_file.read(tmp_path / "x.onnx")
    assert (about.image_size, about.class_names) == (FEW, ["a", "b", "c"])
    session = onnxruntime.InferenceSession(content)
    (logits,) = session.run(["logits"], {"images": np.full((1, *FEW), 2, np.uint8)})
    assert logits.tolist() == [[24, 24, 24]]


def test_a_flipped_bit_is_seen_wherever_it_is(tmp_path: Path) -> None:
    whole = graph_file.to_bytes(chain())
    for place in range(0, 8 * len(whole), 7):
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        (tmp_path / "x.onnx").write_bytes(damaged)
        with pytest.raises(GraphFileError, match=r"x\.onnx: [^\n]*$"):
            graph_file.read(tmp_path / "x.onnx")


def test_a_file_that_is_cut_short_is_seen(tmp_path: Path) -> None:
    whole = graph_file.to_bytes(chain())
    for length in range(0, len(whole), 5):
        (tmp_path / "x.onnx").write_bytes(whole[:length])
        with pytest.raises(GraphFileError):
            graph_file.read(tmp_path / "x.onnx")


def test_another_ones_file_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(chain().SerializeToString())
    with pytest.raises(GraphFileError, match="not a network as `dvc repro export` writes it"):
        graph_file.read(tmp_path / "x.onnx")


def endless() -> onnx.ModelProto:
    body = helper.make_graph(
        [helper.make_node("Identity", ["before"], ["after"])],
        "body",
        [
            helper.make_tensor_value_info("step", onnx.TensorProto.INT64, []),
            helper.make_tensor_value_info("before", onnx.TensorProto.BOOL, []),
        ],
        [helper.make_tensor_value_info("after", onnx.TensorProto.BOOL, [])],
    )
    return chain(helper.make_node("Loop", ["", ""], [], body=body))


def elsewhere() -> onnx.ModelProto:
    model = chain()
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], "/etc/passwd")
    return model


def own_function() -> onnx.ModelProto:
    model = chain()
    relu = helper.make_function("", "Relu", ["x"], ["y"], [], [helper.make_opsetid("", 17)])
    model.functions.append(relu)
    return model


def foreign() -> onnx.ModelProto:
    return chain(helper.make_node("Relu", ["images"], ["y"], domain="com.example"))


def mute() -> onnx.ModelProto:
    model = chain()
    model.metadata_props[0].value = "{}"
    return model


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (endless, "a graph with Loop, expected none but BatchNormalization, Cast"),
        (elsewhere, "weights in another file, expected all in this"),
        (own_function, "a graph with functions, expected none but BatchNormalization"),
        (foreign, "a graph with com.example:Relu, expected none but"),
        (mute, r"its description is not that of a network \(network is missing\)"),
    ],
)
def test_a_graph_that_could_do_more_than_compute_is_not_run(
    tmp_path: Path, make: Callable[[], onnx.ModelProto], said: str
) -> None:
    """A seal is no signature: anybody can put the right one on a file."""
    (tmp_path / "x.onnx").write_bytes(graph_file.to_bytes(make()))
    with pytest.raises(GraphFileError, match=said):
        graph_file.read(tmp_path / "x.onnx")
