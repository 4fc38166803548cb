"""Prove the path to the GPU on a machine that has one: every network on the CPU and on the card.

Reads params.yaml and data/npy. Trains each network for an epoch, with the values of its recipe, on
the CPU and twice on the card; compares the logits of the same weights, and the bytes of the two
runs; times the steps. Prints a table and writes all figures to a JSON file. With --rehearse the
CPU stands in for the card, so that the trial itself can be tried anywhere.
"""

from __future__ import annotations

from stages.shared.program import UserError, run

# isort: split
import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, get_args

import numpy as np

from stages.shared import digits, params
from stages.shared.files import from_json, replacing
from stages.shared.network import device
from stages.shared.params import Train
from stages.tools.trial import Request, Result

# Both add some thousand float32 products for a logit, in another order: that moves it by 1e-5 of
# its size, and logits are some tens. A wrong kernel moves it by far more.
MOST = 100_000_000  # training images
TOLERANCE = 1e-3


class GpuError(UserError):
    """The card does not give what the CPU gives, or the trial could not be made."""


def settings(network: str) -> Train:
    """One epoch with the values of the first recipe for a network."""
    found = params.load()
    block: dict[str, Any] = found.train.model_dump()
    for recipe in found.recipes.values():
        changes = recipe.get("train", {})
        if changes.get("network") == network:
            block = params.merged(block, changes)
            break
    return Train.model_validate({**block, "network": network, "epochs": 1})


def try_out(folder: Path, name: str, train: Train, images: int) -> tuple[Result, Any]:
    """Run `trial` in a process of its own.

    Args:
        folder: for its files.
        name: of the files.
        train: what to train, and where.
        images: how many of the training images to take.

    Returns:
        Its figures, and logits, float32 (N, classes), of the weights that the CPU trained.

    Raises:
        GpuError: it failed; what it said was printed.
    """
    request = Request(
        train=train,
        images=images,
        weights=str(folder / f"{train.network}-1.safetensors"),
        out=str(folder / name),
    )
    path = folder / f"{name}.request"
    path.write_text(request.model_dump_json(), "utf-8")
    command = [sys.executable, "-m", "stages.tools.trial", str(path)]
    if subprocess.run(command).returncode:
        raise GpuError(f"{train.network} on {train.device}: the trial failed, as said above")
    result = from_json(Result, (folder / f"{name}.json").read_text("utf-8"))
    logits = np.lib.format.open_memmap(folder / f"{name}.npy", mode="r")  # type: ignore[no-untyped-call]
    return result, logits


def compare(folder: Path, network: str, card: str, images: int) -> dict[str, Any]:
    """Try a network on the CPU, then twice on the card.

    Returns:
        Its row of the table, as JSON can hold it.
    """
    block = settings(network)
    tried = []
    for number, where in enumerate(("cpu", card, card), start=1):
        print(f"{network} on {where} ...", flush=True)
        train = block.model_copy(update={"device": where})
        tried.append(try_out(folder, f"{network}-{number}", train, images))
    (cpu, expected), (first, logits), (second, _) = tried
    return {
        "network": network,
        "cpu": cpu.model_dump(),
        "card": first.model_dump(),
        "logits_differ_by": float(np.abs(logits - expected).max()),
        "other_labels": int((logits.argmax(axis=1) != expected.argmax(axis=1)).sum()),
        "images": len(logits),
        "same_bytes_twice": first.sha256 == second.sha256,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The figures as a table of Markdown, a row for each network."""
    lines = [
        "| network | CPU, images/s | card, images/s | logits differ by | other labels "
        "| validation, CPU and card | two runs | of a step the host takes |",
        "|" + " --- |" * 8,
    ]
    for row in rows:
        cpu, card = row["cpu"], row["card"]
        lines.append(
            f"| {row['network']} | {cpu['images_per_second']:,.0f}"
            f" | {card['images_per_second']:,.0f} | {row['logits_differ_by']:.1e}"
            f" | {row['other_labels']} of {row['images']:,}"
            f" | {cpu['validation']:.2%}, {card['validation']:.2%}"
            f" | {'same bytes' if row['same_bytes_twice'] else 'other bytes'}"
            f" | {card['host'] * 1e3:.2f} of {card['step'] * 1e3:.2f} ms |"
        )
    return "\n".join(lines)


def faults(rows: list[dict[str, Any]]) -> list[str]:
    """What is not as it should be, a line each."""
    return [
        f"{row['network']}: logits differ by {row['logits_differ_by']:.1e}, expected {TOLERANCE:g}"
        for row in rows
        if not row["logits_differ_by"] <= TOLERANCE
    ]


def _count(text: str) -> int:
    if text.isascii() and text.isdigit() and 1 <= int(text[:10]) <= MOST:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text}, expected 1 to {MOST:,}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m stages.tools.gpu", description=__doc__)
    parser.add_argument("--json", type=Path, default=Path("gpu.json"), help="where figures go")
    parser.add_argument("--rehearse", action="store_true", help="with the CPU in the card's place")
    parser.add_argument("--images", type=_count, help="how many training images to take (all)")
    arguments = parser.parse_args()
    card = "cpu" if arguments.rehearse else "cuda"
    device.select(card)  # whether it can be had is told before anything is tried
    images = arguments.images or len(digits.load(digits.FOLDER, "train"))
    networks = get_args(Train.model_fields["network"].annotation)
    with tempfile.TemporaryDirectory() as folder:
        rows = [compare(Path(folder), network, card, images) for network in networks]
    content = {"device": card, "reason": device.taken().reason, "networks": rows}
    print(f"\n{device.taken().reason}\n\n{table(rows)}")
    with replacing(arguments.json) as part:
        part.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    print(f"\nall figures: {arguments.json}")
    if found := faults(rows):
        raise GpuError("\nerror: ".join(found))


if __name__ == "__main__":
    run(main)
