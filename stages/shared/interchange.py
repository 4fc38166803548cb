"""A trained network as an ONNX graph, for programs that know neither Jittor nor this project."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from stages.shared.network.classifier import Trained, arrays_of
from stages.shared.network.kernels import BatchNorm, Conv, Linear

OPSET = 17  # of 2022; every runtime since then reads it
IR_VERSION = 8


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
        """Store an array, and give its name back."""
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name


def model(trained: Trained) -> onnx.ModelProto:
    """Translate a network, the scaling of its pixels included.

    The layers are taken as a chain in the order that the network's class defines them in, which a
    graph cannot tell from the order that it calls them in: compare its logits.

    Args:
        trained: a network of Conv, BatchNorm and Linear layers.

    Returns:
        A graph from `images`, uint8 (N, H, W), to `logits`, float32 (N, classes), for any N; its
        metadata holds the names of the classes as a JSON list.

    Raises:
        TypeError: a layer is of another kind.
    """
    graph = _Graph("images")
    graph.add("Cast", to=onnx.TensorProto.FLOAT)
    for kind, value in (("Sub", trained.mean), ("Div", trained.deviation)):
        graph.add(kind, graph.constant(kind.lower(), np.array(255 * value, np.float32)))
    graph.add("Unsqueeze", graph.constant("channel_axis", np.array([1])))
    arrays = arrays_of(trained.network)
    flat = False
    for name, layer in trained.network.named_children():
        if isinstance(layer, Linear) and not flat:
            graph.add("Flatten")
            flat = True
        _translate(graph, name, layer, arrays)
    graph.nodes[-1].output[0] = "logits"
    height, width = trained.image_size
    images = helper.make_tensor_value_info("images", onnx.TensorProto.UINT8, ["N", height, width])
    logits = helper.make_tensor_value_info(
        "logits", onnx.TensorProto.FLOAT, ["N", len(trained.classes)]
    )
    whole = helper.make_model(
        helper.make_graph(graph.nodes, trained.name, [images], [logits], graph.constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    helper.set_model_props(whole, {"classes": json.dumps(trained.classes)})
    onnx.checker.check_model(whole, full_check=True)
    return whole


def _translate(graph: _Graph, name: str, layer: Any, arrays: dict[str, NDArray[Any]]) -> None:
    """Append a layer, its ReLU and its pooling."""

    def stored(*parts: str) -> list[str]:
        names = [f"{name}.{part}" for part in parts]
        return [graph.constant(key, arrays[key]) for key in names if key in arrays]

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
        raise TypeError(f"{name} is a {type(layer).__name__}, expected Conv, BatchNorm or Linear")
    if layer.relu:
        graph.add("Relu")
    if isinstance(layer, BatchNorm) and layer.pool == 2:
        graph.add("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
