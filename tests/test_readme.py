"""The two READMEs say the same, and what they point to is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]
PAGES = ["README.md", "README.zh-CN.md"]


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


@pytest.mark.parametrize("page", [*PAGES, "plots/README.md"])
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
