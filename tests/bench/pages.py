"""Write the figures of the pages from the JSON files that hold them: python -m tests.bench.pages

A page has a pair of comments around each block that is written here:

    <!-- figures: NAME -->
    <!-- end of figures -->

where NAME is a key of `BLOCKS`. A test compares the pages with what this would write.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from typing import Any

import yaml

from stages.shared import model_file, scoring
from stages.tools import gpu, score
from tests.bench import comparison, neighbours, pipeline, reading, recipes, workers
from tests.bench.common import TOP, markdown

_VERSIONS = {
    "python": "Python",
    "jittor": "Jittor",
    "torch": "PyTorch",
    "jax": "JAX",
    "tensorflow": "TensorFlow",
}
PAGES = ("README.md", "README.zh-CN.md", "stages/tools/README.md", "tests/bench/README.md")
_BLOCK = re.compile(
    r"(?<=<!-- figures: )(?P<name>[\w-]+)(?P<open> -->\n)(?P<body>.*?)(?=<!-- end of figures -->)",
    re.DOTALL,
)


def _json(name: str) -> Any:
    return json.loads((TOP / f"tests/bench/{name}.json").read_text(encoding="utf-8"))


def _locked(path: str) -> str:
    """The MD5 of an output, as dvc.lock has it."""
    stages = yaml.safe_load((TOP / "dvc.lock").read_text(encoding="utf-8"))["stages"].values()
    outs = [out for stage in stages for out in stage["outs"]]
    return next(str(out["md5"]) for out in outs if out["path"] == path)


def _recipes(head: list[str]) -> str:
    """The recipes in five columns, for a first screen."""
    return markdown(
        head,
        [
            [
                f"`make {one.recipe}`",
                f"`{one.runs[0]['network']}`",
                one.accuracy,
                str(len(one.runs)),
                f"{one.seconds:,.1f} s" if one.seconds < 100 else f"{one.seconds / 60:,.1f} min",
            ]
            for one in recipes.summaries(_json("recipes"))
        ],
    )


def _hardware(what: str, machine: dict[str, Any]) -> str:
    """What something was measured on, in a sentence."""
    versions = [f"{title} {machine[key]}" for key, title in _VERSIONS.items() if key in machine]
    return (
        f"{what} was measured on {machine['cores']} cores of an {machine['processor']},"
        f" with {', '.join(versions)}."
    )


def _speeds(fastest: bool, to: str = "to") -> str:
    """How many times as fast training is as PyTorch eager, or as the fastest peer of each row."""
    rows = [row for row in _json("results")["rows"] if row["what"] == "train"]
    ratios = [row["ratio"][row["fastest"] if fastest else "eager"] for row in rows]
    return f"{min(ratios):.1f} {to} {max(ratios):.1f}"


def _indented(text: str) -> str:
    """A block of code."""
    return "\n".join(f"    {line}" for line in text.splitlines())


BLOCKS: dict[str, Callable[[], str]] = {
    "score": lambda: _indented(
        score.summary(scoring.read_scores(TOP / scoring.FOLDER))
        + f"\nmd5sum {model_file.PATH}   {_locked(str(model_file.PATH))}"
    ),
    "recipes": lambda: _recipes(
        ["recipe", "network", "test accuracy, mean ± sd", "n", "training time, 2 cores"]
    ),
    "recipes-zh": lambda: _recipes(
        ["方案", "网络", "测试准确率，均值 ± 标准差", "n", "训练时间，2 个核心"]
    ),
    "speed": lambda: (
        f"On the CPU training is {_speeds(False)} times as fast as the same networks in PyTorch"
        f" eager,\n{_speeds(True)} times as fast as in the fastest of PyTorch, JAX, TensorFlow\n"
        "([how that was measured](tests/bench/README.md))."
    ),
    "speed-zh": lambda: (
        f"在 CPU 上，训练速度是同样的网络在 PyTorch eager 下的 {_speeds(False, '至')} 倍，"
        f"\n是 PyTorch、JAX 和 TensorFlow 中最快者的 {_speeds(True, '至')} 倍"
        "\n（[测量方法](tests/bench/README.md)）。"
    ),
    "recipes-whole": lambda: recipes.table(_json("recipes")),
    "comparison": lambda: comparison.table(_json("results")["rows"]),
    "peers": lambda: comparison.speeds(_json("results")["rows"]),
    "cores": lambda: comparison.cores(_json("results")),
    "step": lambda: comparison.parts(_json("results")["step"]),
    "comparison-machine": lambda: _hardware("It", _json("results")["machine"]),
    "kernels": lambda: comparison.kernels(_json("results")["kernels"]["tutorial"]),
    "accuracy": lambda: comparison.accuracies(_json("results")["accuracy"]),
    "pipeline-machine": lambda: _hardware("All of this", _json("pipeline")["machine"]),
    "stages": lambda: pipeline.stages_table(_json("pipeline")),
    "shares": lambda: pipeline.shares_table(_json("pipeline")),
    "pairs": lambda: pipeline.pairs_table(_json("pipeline")),
    "reading": lambda: reading.table(_json("reading")),
    "reading-doubt": lambda: reading.doubts(_json("reading")),
    "workers": lambda: workers.table(_json("workers")),
    "neighbours": lambda: neighbours.table(_json("neighbours")),
    "gpu": lambda: gpu.table(_json("gpu")["networks"]),
    "growth": lambda: pipeline.growth_table(_json("pipeline")),
}


def written(page: str) -> str:
    """A page with every block of figures made anew.

    Args:
        page: its text.

    Raises:
        KeyError: it has a block that is not known here.
    """
    return _BLOCK.sub(lambda m: f"{m['name']}{m['open']}{BLOCKS[m['name']]()}\n", page)


def main() -> None:
    argparse.ArgumentParser(prog="python -m tests.bench.pages", description=__doc__).parse_args()
    for name in PAGES:
        path = TOP / name
        path.write_text(written(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
