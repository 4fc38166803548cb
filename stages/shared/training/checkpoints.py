"""A run that was stopped, kept so that it can go on as if it had not been.

A checkpoint carries the fingerprint of all that shapes the run: parameters, data, code, versions.
One with another fingerprint belongs to another run, and is not used. It carries a digest of its own
content, too: a bit that flipped on the disk is not to end in the weights.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from safetensors.numpy import save as to_bytes

from stages.shared.files import remove, replacing, shortened
from stages.shared.model_file import Arrays, ModelFileError, digest, read
from stages.shared.program import UserError

FOLDER = Path("models/checkpoints")


def fingerprint(facts: dict[str, Any], files: Iterable[Path]) -> str:
    """Name a run by what shapes it.

    Args:
        facts: parameters and versions, as JSON can hold them.
        files: data that the run reads. The code that is loaded at this moment is added to them:
            the program, the modules of this project, and the C++ headers beside them.

    Returns:
        A SHA-256, in 64 hexadecimal digits.
    """
    total = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    code = [
        Path(module.__file__)
        for name, module in sorted(sys.modules.items())
        if (name.startswith("stages.") or name == "__main__") and module.__file__
    ]
    headers = {header for path in code for header in path.parent.glob("*.h")}
    for path in (*code, *sorted(headers), *files):
        with path.open("rb") as file:
            # hashlib.file_digest came with Python 3.11.
            while chunk := file.read(1 << 20):
                total.update(chunk)
    return total.hexdigest()


class CheckpointError(UserError):
    """A checkpoint that is whole, and does not fit the run that it names."""


class _DamagedError(Exception):
    """A file that is not the whole checkpoint that was written."""


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
        text = json.dumps(progress)
        metadata = {"progress": text, "sha256": digest(arrays, text)}
        with replacing(self.path) as part:
            part.write_bytes(to_bytes(arrays, metadata))

    def load(self) -> tuple[Arrays, dict[str, Any]] | None:
        """The state that was saved last, or None where there is none that is whole."""
        try:
            return self._read()
        except (FileNotFoundError, _DamagedError):
            return None

    def set_aside(self) -> Path | None:
        """Give a checkpoint that is not whole another name, so that the run begins anew.

        Returns:
            Its new name, or None where there was nothing to do.
        """
        try:
            self._read()
        except FileNotFoundError:
            return None
        except _DamagedError:
            return self._aside()
        return None

    def refused(self, why: Exception) -> CheckpointError:
        """Set a checkpoint aside that is whole, and cannot be gone on from.

        Args:
            why: what was raised when it was taken up.

        Returns:
            The words for it; the next run begins anew.
        """
        what = shortened(str(why) if isinstance(why, UserError) else repr(why))
        return CheckpointError(
            f"{self.path}: not a checkpoint of this network ({what}); it is {self._aside()} now,"
            " and the next run starts anew"
        )

    def _aside(self) -> Path:
        aside = self.path.with_suffix(".damaged")
        remove(aside)
        self.path.rename(aside)
        return aside

    def _read(self) -> tuple[Arrays, dict[str, Any]]:
        try:
            arrays, metadata = read(self.path)
        except FileNotFoundError:
            raise
        except (OSError, ModelFileError) as error:
            raise _DamagedError from error
        text = metadata.get("progress", "")
        if metadata.get("sha256") != digest(arrays, text):
            raise _DamagedError
        try:
            progress = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise _DamagedError from error
        if not isinstance(progress, dict):
            raise _DamagedError
        return arrays, progress

    def clear(self) -> None:
        """Remove the run's checkpoint: the run is over."""
        self.path.unlink(missing_ok=True)
