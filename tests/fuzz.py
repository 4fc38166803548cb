"""Damage IDX files by a fuzzer that seeks new ways through the reader: make fuzz

Unlike `make faults`, which draws its damage from a seed, it keeps what has reached a line that
nothing reached before, and goes on from there. It ends at the first file that is read wrongly, or
ends in anything but words; that file is in fuzz/ then. Its options are libFuzzer's.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

TIME = "-max_total_time=60"  # seconds; a later one on the command line counts
FOUND = Path("fuzz")


def fuzz(folder: Path, options: list[str]) -> None:
    """Try files in `folder` until the time is up; this ends the process."""
    import atheris

    # Python code must be instrumented as it is imported, for its ways to be seen.
    with atheris.instrument_imports(include=["stages.shared.idx", "stages.shared.files"]):
        from tests.faults import idx
    from tests.faults.trial import judged

    path, corpus = folder / "file", folder / "corpus"
    corpus.mkdir()
    for number, content in enumerate(idx.good()):
        (corpus / str(number)).write_bytes(content)

    def try_one(content: bytes) -> None:
        path.write_bytes(content)
        trial = judged("", lambda: idx.agrees(path, content))
        if trial.ended == "lost":
            raise AssertionError(trial.said)

    atheris.Setup([sys.argv[0], TIME, *options, str(corpus)], try_one)
    atheris.Fuzz()


def main() -> None:
    if sys.argv[1:2] == ["in"]:
        fuzz(Path(sys.argv[2]), sys.argv[3:])
    # The fuzzer ends its process without a last word of Python's: who starts it clears up.
    with tempfile.TemporaryDirectory() as folder:
        FOUND.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "tests.fuzz", "in", folder, f"-artifact_prefix={FOUND}/"]
        code = subprocess.run([*command, *sys.argv[1:]]).returncode
    if not any(FOUND.iterdir()):
        FOUND.rmdir()
    raise SystemExit(code)


if __name__ == "__main__":
    main()
