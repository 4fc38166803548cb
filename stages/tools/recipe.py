"""Run one of the recipes in params.yaml as an experiment of DVC: python -m stages.tools.recipe NAME

Prints the `dvc exp run` line that it runs; words after NAME are added to that line.
"""

from __future__ import annotations

from stages.shared.program import UserError, run

# isort: split
# From here on Ctrl-C is answered in a line, also while the rest is imported.
import argparse
import json
import os
import shlex
import subprocess
from typing import Any

from stages.shared import params
from stages.shared.params import Params


def command(everything: Params, name: str) -> list[str]:
    """The words of the `dvc exp run` command that runs a recipe.

    Raises:
        UserError: there is no such recipe.
    """
    if name not in everything.recipes:
        known = ", ".join(everything.recipes)
        raise UserError(f"params.yaml: recipes has no {name!r}, expected one of: {known}")
    words = ["dvc", "exp", "run", "-n", name]
    for key, value in params.overrides(everything.recipes[name]).items():
        words += ["-S", f"{key}={_as_yaml(value)}"]
    return words


def _as_yaml(value: Any) -> str:
    """A value as YAML and JSON both write it; a word needs no quotes in either."""
    return value if isinstance(value, str) else json.dumps(value)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m stages.tools.recipe",
        description="Run one of the recipes in params.yaml as an experiment of DVC.",
    )
    parser.add_argument("name", metavar="NAME", help="a key of `recipes` in params.yaml")
    parser.add_argument("more", nargs=argparse.REMAINDER, help="more words for `dvc exp run`")
    arguments = parser.parse_args()
    words = [*command(params.load(), arguments.name), *arguments.more]
    # DVC takes the workspace as it is, so what an earlier recipe changed would count as well.
    changed = subprocess.run(
        ["git", "diff", "--quiet", "HEAD", "--", "params.yaml"], capture_output=True, text=True
    )
    if changed.returncode == 1:
        raise UserError(
            "params.yaml: differs from the last commit, and a recipe starts from that;"
            " `git restore params.yaml` or commit it first"
        )
    if changed.returncode:
        raise UserError(f"an experiment starts from a commit: {changed.stderr.strip()}")
    print(shlex.join(words), flush=True)
    try:
        os.execvp(words[0], words)
    except FileNotFoundError:
        raise UserError(
            "dvc: not on PATH, expected .venv/bin there: source .venv/bin/activate"
        ) from None


if __name__ == "__main__":
    run(main)
