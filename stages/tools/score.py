"""Print the scores of the last run as a table.

Reads scores.csv and per_class.csv in plots/evaluation; writes to standard output only.
`dvc metrics show` gives those of them that runs are compared by.
"""

from __future__ import annotations

from stages.shared.program import in_a_line, run

# isort: split
# From here on Ctrl-C is answered in a line, also while the rest is imported.
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from stages.shared import scoring
from stages.shared.scoring import Scores, percent


def summary(scores: Scores) -> str:
    """The scores over all classes, in two lines."""
    return (
        f"accuracy {percent(scores.accuracy)}: {scores.errors:,} of {scores.images:,} test images"
        f" misread\ntop-2 accuracy {percent(scores.top2_accuracy)}   loss {scores.loss:.4f}"
        f"   calibration error {scores.calibration_error:.4f}"
    )


def main() -> None:
    scores = scoring.read_scores(scoring.FOLDER)
    table = Table("class", "images", "precision", "recall", "F1", box=SIMPLE)
    for name, one in scores.per_class.items():
        shares = ("-" if x is None else percent(x) for x in (one.precision, one.recall, one.f1))
        # Text, as a name may look like rich's markup.
        table.add_row(Text(in_a_line(name)), f"{one.images:,}", *shares)
    console = Console(highlight=False)
    console.print(table)
    console.print(summary(scores))


if __name__ == "__main__":
    run(main)
