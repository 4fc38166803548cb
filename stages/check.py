"""Refuse a wrong params.yaml before any other stage runs.

Reads params.yaml; writes data/checked.txt, always the same bytes, so that no other stage runs again
for it. DVC removes the outputs of a stage before it runs the stage, so a wrong parameter must be
found earlier, here, or the results of the run before are lost.
"""

from __future__ import annotations

from stages.shared.program import run

# isort: split
# From here on Ctrl-C is answered in a line, also while the rest is imported.
from pathlib import Path

from stages.shared import params
from stages.shared.files import replacing

CHECKED = Path("data/checked.txt")


def main() -> None:
    params.load()
    with replacing(CHECKED) as part:
        part.write_text("params.yaml has been read and found right.\n", encoding="utf-8")


if __name__ == "__main__":
    run(main)
