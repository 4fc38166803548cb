"""Write the trained network as ONNX, once ONNX Runtime has read every test image as Jittor does.

Reads models/digits.safetensors and data/npy/test-*.npy; writes models/digits.onnx. The stage is in
the pipeline, as export@onnx, where params.yaml says `export.formats: [onnx]`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from stages.shared import digits, interchange, params
from stages.shared.network import classifier as weights
from stages.shared.network import runtime
from stages.shared.program import UserError, run

MODEL = Path("models/digits.safetensors")
DATA = Path("data/npy")
EXPORTED = Path("models/digits.onnx")
TOLERANCE = 1e-4  # of a logit


class ExportError(UserError):
    """An ONNX graph that does not compute what the network computes."""


def main() -> None:
    settings = params.load().evaluate
    runtime.use(settings.device)
    trained = weights.load(MODEL)
    images = digits.load(DATA, "test").images
    content = interchange.model(trained).SerializeToString(deterministic=True)
    expected = trained.logits(images, settings.batch_size)
    difference = check(content, images, expected, settings.batch_size)
    partial = EXPORTED.with_name(EXPORTED.name + ".part")
    partial.write_bytes(content)
    partial.replace(EXPORTED)
    print(f"{EXPORTED}: {len(images):,} test images, the same labels, logits to {difference:.1e}")


def check(
    content: bytes, images: NDArray[np.uint8], expected: NDArray[np.float32], batch_size: int
) -> float:
    """Run a graph in ONNX Runtime on the CPU.

    Args:
        content: an ONNX file.
        images: uint8 (N, H, W).
        expected: float32 (N, classes), the logits that it should give.
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
    if others or not difference <= TOLERANCE:  # of NaN, no comparison is true
        raise ExportError(
            f"{EXPORTED}: in ONNX Runtime {others} of {len(images)} test images get another label"
            f" and logits differ by {difference:.1e}, expected none and {TOLERANCE:.0e} or less"
        )
    return difference


if __name__ == "__main__":
    run(main)
