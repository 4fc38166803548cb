"""Wrong params.yaml: refused in a few lines, or taken for what DVC takes it for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

from dvc.utils.serialize import load_yaml

from stages.shared import params
from tests.faults.trial import Trial, judged, mutated

WHAT = "wrong params.yaml"
WHOLE, SHORT = 1_000, 100
SECONDS = 2.0  # in which each is answered

_GOOD = (Path(__file__).parents[2] / "params.yaml").read_text(encoding="utf-8")
_VALUES = (
    *("", "~", "null", "no", "yes", "on", "true", "010", "0o10", "0x1F", "1:30", "1_000", "1e3"),
    *(".nan", ".inf", "-.inf", "1e308", "1e999", "-0", "-1", str(10**30), str(2**63), "9" * 5000),
    *(f"0x{'f' * 4000}", f"-0x{'f' * 4000}", f"0o{'7' * 9000}", f"[0x{'f' * 4000}]"),
    *("2024-02-30", "2024-01-01", "!!int x", "!!binary x", "!!set {a}", "!!python/name:os.system"),
    *("[" * 1000, "{a: " * 500, "[a, b]", "{a: 1}", "*none", "&a 1", "'", '"', "|", ">", "@", "`"),
    *(
        "\t1",
        "\x00",
        "\x1b[31m",
        "\u202e",
        "\ufeff",
        "ü" * 300,
        "x" * 50_000,
        "-" * 100,
        "? a",
        "%",
    ),
)
_TWICE = ", ".join(f'"{letter * 1900}\\n"' for letter in "aabbccddee")
_RECIPE = f"? {'x' * 5000}\n  : {{train: {{epochs: 0}}}}"


def run(rng: Random, folder: Path, count: int) -> Iterator[Trial]:
    path = folder / "params.yaml"
    for _ in range(count):
        what, content = _wrong(rng)
        path.write_bytes(content)
        began = time.perf_counter()
        trial = judged(what, lambda: _as_dvc_does(path))
        if time.perf_counter() - began > SECONDS:
            trial = Trial(what, "lost", f"took more than {SECONDS} s")
        yield trial


def _as_dvc_does(path: Path) -> bool:
    found = params.load(path)
    meant = params.Params.model_validate(load_yaml(str(path)))
    return found == meant


def _wrong(rng: Random) -> tuple[str, bytes]:
    lines = _GOOD.splitlines(keepends=True)
    at = rng.choice([i for i, line in enumerate(lines) if ":" in line and line[0] != "#"])
    key, _, rest = lines[at].partition(":")
    way = rng.randrange(8)
    if way == 0:
        value = rng.choice(_VALUES)
        lines[at] = f"{key}: {value}\n"
        return f"{key.strip()}: {value[:20]!r}", "".join(lines).encode()
    if way == 1:
        return f"{key.strip()} twice", "".join([*lines[:at], lines[at], *lines[at:]]).encode()
    if way == 2:
        return f"without {key.strip()}", "".join(lines[:at] + lines[at + 1 :]).encode()
    if way == 3:
        letters = list(key)
        letters[-1] = rng.choice("abcxyz_ü 1")
        lines[at] = "".join(letters) + ":" + rest
        return f"{key.strip()} misspelt", "".join(lines).encode()
    if way == 4:
        lines[at] = " " * rng.randint(0, 6) + lines[at].lstrip()
        return f"{key.strip()} moved", "".join(lines).encode()
    if way == 5:
        many = "".join(f"{key[: len(key) - len(key.lstrip())]}k{n}: 1\n" for n in range(3_000))
        return f"thousands of keys before {key.strip()}", "".join(
            [*lines[:at], many, *lines[at:]]
        ).encode()
    if way == 6:
        old, new = rng.choice(
            (
                ("class_names: []", f"class_names: [{_TWICE}]"),
                ("recipes:", f"recipes:\n  {_RECIPE}"),
            )
        )
        return f"{old} with much in it", _GOOD.replace(old, new, 1).encode()
    return "changed bytes", mutated(rng, _GOOD.encode())
