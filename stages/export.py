"""Write the trained network as ONNX, once ONNX Runtime has read every test image as Jittor does.

Reads models/digits.safetensors and data/npy/test-*.npy; writes models/digits.onnx.
"""

from __future__ import annotations

from stages.shared.program import run

# isort: split
# From here on Ctrl-C is answered in a line, also while the rest is imported.
from stages.shared import digits, graph_file, interchange, model_file, params
from stages.shared.files import replacing
from stages.shared.network import classifier, runtime


def main() -> None:
    settings = params.load().evaluate
    runtime.use("cpu")
    trained = classifier.load(model_file.PATH)
    images = digits.load(digits.FOLDER, "test").images
    content = graph_file.to_bytes(interchange.model(trained))
    expected = trained.logits(images, settings.batch_size)
    difference = interchange.check(content, images, expected, settings.batch_size)
    with replacing(graph_file.PATH) as part:
        part.write_bytes(content)
    print(
        f"{graph_file.PATH}: {len(images):,} test images, the same labels,"
        f" logits to {difference:.1e}"
    )


if __name__ == "__main__":
    run(main)
