"""Let the pages of `dvc plots show` and `dvc plots diff` need no network.

Reads stages/tools/page.html; writes .dvc/plots/page.html, the same with Vega inside, and names it
in the configuration of this clone alone: where that was not done, DVC's own page loads Vega from
the web. No stage of the pipeline; `make setup` runs it.
"""

from __future__ import annotations

from stages.shared.program import run

# isort: split
# From here on Ctrl-C is answered in a line, also while the rest is imported.
import subprocess
import sys
from pathlib import Path

import vl_convert

from stages.shared.files import replacing

LAYOUT = Path(__file__).with_name("page.html")
PAGE = Path(".dvc/plots/page.html")
VEGA_LITE = "5.21"  # of the major version that DVC's plot templates are written in


def main() -> None:
    layout = LAYOUT.read_text(encoding="utf-8")
    vega = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", VEGA_LITE)
    # The page appears last, as make takes its presence for the sign that all of this is done.
    with replacing(PAGE) as part:
        part.write_text(layout.replace("{vega}", vega), encoding="utf-8")
        # DVC takes the path from its own folder.
        setting = ["plots.html_template", PAGE.relative_to(".dvc").as_posix()]
        dvc = subprocess.run([sys.executable, "-m", "dvc", "config", "--local", *setting])
        if dvc.returncode:
            raise SystemExit(dvc.returncode)  # DVC has said why


if __name__ == "__main__":
    run(main)
