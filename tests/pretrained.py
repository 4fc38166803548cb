"""The trained network that Git holds, so that there is one before anything was trained.

`python -m tests.pretrained` runs the recipe `fast` anew and keeps its network, as safetensors and
as ONNX. It belongs to a change that is meant to change what that recipe gives.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from stages.shared.model_file import PRETRAINED
from tests.conftest import TOP, begin

FILES = {
    "models/digits.safetensors": PRETRAINED,
    "models/digits.onnx": PRETRAINED.with_suffix(".onnx"),
}


def make(folder: Path) -> dict[Path, bytes]:
    """Run the recipe `fast` on the real MNIST.

    Args:
        folder: an empty one.

    Returns:
        What the files of the trained network hold, by their place in the repository.
    """
    repository = begin(folder, folder)
    shutil.copy(TOP / "params.yaml", folder)
    repository.commit("The parameters as they are")
    repository.run("python", "-m", "stages.tools.recipe", "fast")
    return {kept: (folder / made).read_bytes() for made, kept in FILES.items()}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for path, content in make(Path(folder)).items():
            (TOP / path).write_bytes(content)
            print(f"{path}: {len(content):,} bytes")


if __name__ == "__main__":
    main()
