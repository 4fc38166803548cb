"""A trained network as an ONNX file: sealed with a digest, and checked before anything runs it.

ONNX is a language: a graph may loop without end, call what it defines itself, or name other files.
Those of this project are chains of a few operators, and no other graph is accepted. Nothing here
starts Jittor.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import onnx
from onnx.external_data_helper import uses_external_data

from stages.shared.files import RecordError, from_json, listed
from stages.shared.model_file import Description
from stages.shared.program import UserError

PATH = Path("models/digits.onnx")
OPERATORS = {
    *("BatchNormalization", "Cast", "Conv", "Div", "Flatten"),
    *("Gemm", "MaxPool", "Relu", "Sub", "Unsqueeze"),
}
_SEAL = "sha256"  # the last entry of a file's metadata, and the digest of all before it


class GraphFileError(UserError):
    """A file that does not hold the graph that it should."""


def to_bytes(graph: onnx.ModelProto) -> bytes:
    """Seal a graph: the same graph gives the same bytes.

    Args:
        graph: its metadata has no entry `sha256`; it gets one.
    """
    seal = _digest(graph)
    graph.metadata_props.add(key=_SEAL, value=seal)
    return _serialised(graph)


def read(path: Path) -> tuple[bytes, Description]:
    """Read what `to_bytes` made of a graph.

    Args:
        path: a .onnx file whose metadata holds, as `description`, what the network is.

    Returns:
        The file's content, and the description.

    Raises:
        GraphFileError: the file is missing or damaged, is not sealed, or holds another graph than
            those of this project.
    """
    if not path.is_file():
        what = "not a file" if path.exists() else "no such file"
        raise GraphFileError(f"{path}: {what}; `make repro` makes it")
    content = path.read_bytes()
    try:
        model = onnx.load_model_from_string(content)
    except Exception:  # protobuf's own, of a package that this project does not ask for
        raise GraphFileError(f"{path}: not an ONNX file") from None
    entries = {entry.key: entry.value for entry in model.metadata_props}
    if "description" not in entries or _SEAL not in entries:
        raise GraphFileError(f"{path}: not a network as `dvc repro export` writes it")
    kept = [entry for entry in model.metadata_props if entry.key != _SEAL]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    if _digest(model) != entries[_SEAL]:
        raise GraphFileError(
            f"{path}: its content is not what was written (the SHA-256 within differs);"
            " remove it, then `dvc repro export`"
        )
    _check_operators(path, model)
    try:
        return content, from_json(Description, entries["description"])
    except RecordError as error:
        raise GraphFileError(
            f"{path}: its description is not that of a network ({error})"
        ) from None


def _serialised(graph: onnx.ModelProto) -> bytes:
    content: bytes = graph.SerializeToString(deterministic=True)
    return content


def _digest(graph: onnx.ModelProto) -> str:
    return hashlib.sha256(_serialised(graph)).hexdigest()


def _check_operators(path: Path, model: onnx.ModelProto) -> None:
    """Refuse a graph that does more than compute, step by step, from what the file holds.

    Raises:
        GraphFileError: there is such a step, or a tensor that lies elsewhere.
    """
    unknown = {f"{node.domain}:{node.op_type}".strip(":") for node in model.graph.node} - OPERATORS
    if unknown or model.functions:
        raise GraphFileError(
            f"{path}: a graph with {listed(unknown) or 'functions'}, expected none but"
            f" {', '.join(sorted(OPERATORS))}"
        )
    elsewhere = [held.name for held in model.graph.initializer if uses_external_data(held)]
    if elsewhere:
        raise GraphFileError(f"{path}: {listed(elsewhere)} in another file, expected all in this")
