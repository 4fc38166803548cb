"""Try faults by the thousand and count what is lost: python -m tests.faults [KIND...]

Each module of this package with a WHAT is a kind; with none named, all are tried. What came of a
kind is written into its row of the table in tests/faults/README.md.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import re
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random

import tests.faults
from tests.bench.common import markdown
from tests.faults.trial import ImpossibleError, Kind

PAGE = Path(__file__).parent / "README.md"


def kinds() -> dict[str, Kind]:
    """The kinds of faults by the names of their modules."""
    names = [module.name for module in pkgutil.iter_modules(tests.faults.__path__)]
    modules = {n: importlib.import_module(f"tests.faults.{n}") for n in names if n != "__main__"}
    return {n: module for n, module in modules.items() if hasattr(module, "WHAT")}  # type: ignore[misc]


def tried(kind: Kind, count: int, seed: int) -> tuple[Counter[str], list[str]]:
    """Try so many faults of a kind: how they ended, and the first that were lost."""
    ends: Counter[str] = Counter()
    lost: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for trial in kind.run(Random(seed), Path(folder), count):
            ends[trial.ended] += 1
            if trial.ended == "lost" and len(lost) < 20:
                lost.append(f"{trial.what}: {trial.said}")
    return ends, lost


def write_row(what: str, ends: Counter[str]) -> None:
    """Put the counts of a kind into the table, in the place of those that stood there."""
    text = PAGE.read_text(encoding="utf-8")
    before, rows, after = re.split(r"(?s)(?<=<!-- table -->\n)(.*)(?=<!-- end -->)", text)
    cells = [[cell.strip() for cell in row.strip("| ").split("|")] for row in rows.splitlines()]
    kept = {row[0]: row for row in cells[2:]}  # below the head and its line
    kept[what] = [what, *(f"{n:,}" for n in (ends.total(), ends["survived"], ends["lost"]))]
    titles = {kind.WHAT: kind for kind in kinds().values()}
    table = markdown(cells[0], [kept[title] for title in titles if title in kept])
    PAGE.write_text(f"{before}{table}\n{after}", encoding="utf-8")


def main() -> None:
    known = kinds()
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=", ".join(known))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if unknown := set(arguments.kinds) - set(known):
        raise SystemExit(f"error: {', '.join(sorted(unknown))}: expected {', '.join(known)}")
    failed = False
    for name in arguments.kinds or known:
        kind, began = known[name], time.perf_counter()
        try:
            ends, lost = tried(kind, kind.WHOLE, arguments.seed)
        except ImpossibleError as error:
            ends, lost = Counter(), [str(error)]
        print(f"{kind.WHAT}: {dict(ends)} in {time.perf_counter() - began:.0f} s")
        print("".join(f"  lost: {line}\n" for line in lost), end="", flush=True)
        failed |= bool(lost)
        write_row(kind.WHAT, ends)
    raise SystemExit(int(failed))


if __name__ == "__main__":
    main()
