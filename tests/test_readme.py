"""The READMEs say the same, point to what is there, and have the figures that were measured."""

from __future__ import annotations

import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from tests.bench import pages

TOP = Path(__file__).parents[1]
PAGES = ["README.md", "README.zh-CN.md"]
OTHERS = [
    "CONTRIBUTING.md",
    "data/own/README.md",
    "SECURITY.md",
    "plots/README.md",
    "stages/README.md",
    "stages/scale.md",
    "stages/tools/README.md",
    "tests/bench/README.md",
    "tests/faults/README.md",
]


def text(page: str) -> str:
    return (TOP / page).read_text(encoding="utf-8")


def code(page: str) -> list[str]:
    """The lines of every block of code, fenced or indented."""
    lines, fenced = [], False
    for line in text(page).splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            lines.append(line)
    return lines


def figures(page: str) -> list[list[str]]:
    """The numbers of every row of every table."""
    rows = [line for line in text(page).splitlines() if line.startswith("|")]
    return [re.findall(r"\d+(?:[.,]\d+)*", row) for row in rows]


def links(page: str) -> list[str]:
    return re.findall(r"\]\(([^)]+)\)", text(page))


def test_both_give_the_same_commands() -> None:
    assert len(code(PAGES[0])) > 50
    assert code(PAGES[0]) == code(PAGES[1])


def test_both_give_the_same_figures() -> None:
    assert figures(PAGES[0]) == figures(PAGES[1])


def test_both_point_to_the_same_places() -> None:
    other = [{link for link in links(page) if link not in PAGES} for page in PAGES]
    assert other[0] == other[1]


@pytest.mark.parametrize("page", [*PAGES, *OTHERS])
def test_what_a_page_points_to_is_there(page: str) -> None:
    for link in links(page):
        if not link.startswith("https://"):
            assert ((TOP / page).parent / link.partition("#")[0]).exists(), link


@pytest.mark.parametrize("page", PAGES)
def test_every_make_target_that_is_named_exists(page: str) -> None:
    targets = set(re.findall(r"^([a-z]+):", (TOP / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^ {4}|`)make ([a-z]+)", text(page), re.MULTILINE))
    assert named
    assert named <= targets


def test_figures_are_those_of_their_json_files() -> None:
    for page in pages.PAGES:
        assert pages.written(text(page)) == text(page), f"{page}: `make pages` writes it anew"
    assert sum(text(page).count("<!-- figures: ") for page in pages.PAGES) >= len(pages.BLOCKS)


def test_the_page_begins_with_what_a_newcomer_wants() -> None:
    lines = text(PAGES[0]).splitlines()
    assert len(lines) <= 260
    first = "\n".join(lines[:24])
    for wanted in ("make repro", "make test", "| `make accurate` |", "mistakes.png"):
        assert wanted in first


def test_the_graph_is_what_dvc_draws() -> None:
    drawn = subprocess.run(
        [sys.executable, "-m", "dvc", "dag", "--dot"],
        cwd=TOP, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    arrows = sorted(re.findall(r'"(\w+)" -> "(\w+)"', drawn))
    assert len(arrows) > 8
    for page in PAGES:
        chains = re.findall(r"^    (\w+(?: --> \w+)+)$", text(page), re.MULTILINE)
        stages = [chain.split(" --> ") for chain in chains]
        assert sorted(pair for names in stages for pair in pairwise(names)) == arrows
