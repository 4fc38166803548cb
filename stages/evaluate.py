"""Score the trained network on every test image.

Reads models/digits.safetensors and data/npy/test-*.npy, which no other stage trains or chooses
by; writes plots/evaluation/metrics.json and plots/evaluation/predictions.csv.
"""

from __future__ import annotations

import json
from pathlib import Path

from stages.shared import digits, params, scoring
from stages.shared.network import classifier as weights
from stages.shared.network import runtime
from stages.shared.program import run

MODEL = Path("models/digits.safetensors")
DATA = Path("data/npy")
SCORES = Path("plots/evaluation/metrics.json")
PREDICTIONS = Path("plots/evaluation/predictions.csv")


def main() -> None:
    settings = params.load().evaluate
    runtime.use(settings.device)
    trained = weights.load(MODEL)
    test = digits.load(DATA, "test")
    logits = trained.logits(test.images, settings.batch_size)
    scores = scoring.score(logits, test.labels, trained.classes)
    SCORES.parent.mkdir(parents=True, exist_ok=True)
    PREDICTIONS.write_text(scoring.to_csv(scoring.predictions(logits, test.labels)))
    SCORES.write_text(json.dumps(scores, indent=2) + "\n")
    print(f"{scores['accuracy']:.2%} of {scores['images']:,} test images read correctly")


if __name__ == "__main__":
    run(main)
