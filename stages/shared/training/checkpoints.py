"""A run that was stopped, kept so that it can go on as if it had not been.

A checkpoint carries the fingerprint of all that shapes the run: parameters, data, code, versions.
One with another fingerprint belongs to another run, and is not used.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from stages.shared.files import replacing
from stages.shared.model_file import Arrays

FOLDER = Path("models/checkpoints")


def fingerprint(facts: dict[str, Any], files: Iterable[Path]) -> str:
    """Name a run by what shapes it.

    Args:
        facts: parameters and versions, as JSON can hold them.
        files: data that the run reads. The code that is loaded at this moment is added to them:
            the modules of this project, and the C++ headers beside them.

    Returns:
        A SHA-256, in 64 hexadecimal digits.
    """
    total = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    code = [
        Path(module.__file__)
        for name, module in sorted(sys.modules.items())
        if name.startswith("stages.") and module.__file__
    ]
    headers = {header for path in code for header in path.parent.glob("*.h")}
    for path in (*code, *sorted(headers), *files):
        with path.open("rb") as file:
            # hashlib.file_digest came with Python 3.11.
            while chunk := file.read(1 << 20):
                total.update(chunk)
    return total.hexdigest()


class Checkpoints:
    """The checkpoint of one run, in a folder that may hold those of others.

    Args:
        folder: made when the first checkpoint is written.
        run: the run's fingerprint.
    """

    def __init__(self, folder: Path, run: str) -> None:
        self._folder = folder
        self.path = folder / f"{run[:16]}.safetensors"

    def others(self) -> list[Path]:
        """Checkpoints of other parameters, data or code, which this run does not use."""
        return sorted(path for path in self._folder.glob("*.safetensors") if path != self.path)

    def save(self, arrays: Arrays, progress: dict[str, Any]) -> None:
        """Write the state of the run, whole or not at all.

        Args:
            arrays: by name.
            progress: the rest of the state, as JSON can hold it.
        """
        with replacing(self.path) as part:
            save_file(arrays, part, {"progress": json.dumps(progress)})

    def load(self) -> tuple[Arrays, dict[str, Any]] | None:
        """The state that was saved last, or None where there is none that can be read."""
        try:
            with safe_open(self.path, framework="numpy") as file:
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                return arrays, json.loads(file.metadata()["progress"])
        except (FileNotFoundError, SafetensorError):
            return None

    def clear(self) -> None:
        """Remove the run's checkpoint: the run is over."""
        self.path.unlink(missing_ok=True)
