"""A trained network as an ONNX graph, for programs that know neither Jittor nor this project."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from stages.shared import graph_file
from stages.shared.network import classifier as classifiers
from stages.shared.network.classifier import Classifier
from stages.shared.network.kernels import BatchNorm, Conv, Linear
from stages.shared.network.networks import Flatten
from stages.shared.program import UserError

TOLERANCE = 1e-4  # the largest difference of a logit that is allowed
OPSET = 17  # of 2022; every runtime since then reads it
IR_VERSION = 8  # the file format that came with that opset


class ExportError(UserError):
    """An ONNX graph that does not compute what the network computes."""


class _Graph:
    """Nodes in a chain, each reading what the one before wrote."""

    def __init__(self, first: str) -> None:
        self.last = first
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(self, kind: str, *constants: str, **attributes: Any) -> None:
        """Append a node that reads the last one's output and some constants."""
        output = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, [self.last, *constants], [output], **attributes))
        self.last = output

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """Store an array, and return its name."""
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name


def model(classifier: Classifier) -> onnx.ModelProto:
    """Translate a network layer by layer, the scaling of its pixels included.

    Args:
        classifier: its network is made of Conv, BatchNorm, Flatten and Linear layers.

    Returns:
        A graph from `images`, uint8 (N, H, W), to `logits`, float32 (N, num_classes), for any N;
        its metadata holds the names of the classes as a JSON list.

    Raises:
        TypeError: a layer is of another kind.
    """
    about = classifier.description
    graph = _Graph("images")
    graph.add("Cast", to=onnx.TensorProto.FLOAT)
    for kind, value in (("Sub", about.mean), ("Div", about.std)):
        graph.add(kind, graph.constant(kind.lower(), np.array(255 * value, np.float32)))
    graph.add("Unsqueeze", graph.constant("channel_axis", np.array([1])))
    arrays = classifiers.state(classifier.network)
    for name, layer in classifier.network.layers():
        _translate(graph, name, layer, arrays)
    graph.nodes[-1].output[0] = "logits"
    height, width = about.image_size
    images = helper.make_tensor_value_info("images", onnx.TensorProto.UINT8, ["N", height, width])
    logits = helper.make_tensor_value_info(
        "logits", onnx.TensorProto.FLOAT, ["N", len(about.class_names)]
    )
    whole = helper.make_model(
        helper.make_graph(graph.nodes, about.network, [images], [logits], graph.constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    # The names for programs that know nothing of this one, all of it for those that do.
    properties = {
        "class_names": json.dumps(about.class_names),
        "description": about.model_dump_json(),
    }
    helper.set_model_props(whole, properties)
    onnx.checker.check_model(whole, full_check=True)
    return whole


def _translate(graph: _Graph, name: str, layer: Any, arrays: dict[str, NDArray[Any]]) -> None:
    """Append a layer, its ReLU and its pooling."""

    def stored(*parts: str) -> list[str]:
        names = [f"{name}.{part}" for part in parts]
        return [graph.constant(key, arrays[key]) for key in names if key in arrays]

    if isinstance(layer, Flatten):
        graph.add("Flatten")
        return
    if isinstance(layer, Conv):
        top, left = layer.padding
        pads = [top, left, top, left]
        size, strides = list(layer.kernel_size), list(layer.stride)
        names = stored("weight", "bias")
        graph.add("Conv", *names, kernel_shape=size, strides=strides, pads=pads)
    elif isinstance(layer, BatchNorm):
        names = stored("weight", "bias", "running_mean", "running_var")
        graph.add("BatchNormalization", *names, epsilon=layer.eps)
    elif isinstance(layer, Linear):
        graph.add("Gemm", *stored("weight", "bias"), transB=1)
    else:
        raise TypeError(
            f"{name} is a {type(layer).__name__}, expected Conv, BatchNorm, Flatten or Linear"
        )
    if layer.relu:
        graph.add("Relu")
    if isinstance(layer, BatchNorm) and layer.pool == 2:
        graph.add("MaxPool", kernel_shape=[2, 2], strides=[2, 2])


def check(
    content: bytes, images: NDArray[np.uint8], expected: NDArray[np.float32], batch_size: int
) -> float:
    """Run a graph in ONNX Runtime on the CPU and compare its logits.

    Args:
        content: an ONNX file.
        images: uint8 (N, H, W).
        expected: float32 (N, num_classes), the logits that it should give.
        batch_size: images at once.

    Returns:
        The largest difference of a logit.

    Raises:
        ExportError: an image gets another label, or a logit differs by more than `TOLERANCE`.
    """
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    found = np.concatenate(
        [
            session.run(["logits"], {"images": images[start : start + batch_size]})[0]
            for start in range(0, len(images), batch_size)
        ]
    )
    others = int((found.argmax(axis=1) != expected.argmax(axis=1)).sum())
    difference = float(np.abs(found - expected).max())
    if others or not difference <= TOLERANCE:  # a comparison with NaN is never true
        raise ExportError(
            f"{graph_file.PATH}: in ONNX Runtime {others} of {len(images)} test images get another"
            f" label and logits differ by {difference:.1e}, expected none and {TOLERANCE:.0e} or"
            " less"
        )
    return difference
