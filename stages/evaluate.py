"""Score the trained network on every test image.

Reads models/digits.safetensors and data/npy/test-*.npy; writes to plots/evaluation: metrics.json,
scores.csv, per_class.csv and predictions.csv. The test images are used neither for training nor to
choose anything.
"""

from __future__ import annotations

from stages.shared.program import run

# isort: split
# From here on Ctrl-C is answered in a line, also while the rest is imported.
from stages.shared import digits, model_file, params, scoring
from stages.shared.network import device


def main() -> None:
    settings = params.load().evaluate
    device.select(settings.device)
    # For the device that was settled Jittor starts here.
    from stages.shared.network import classifier, runtime

    runtime.use(settings.device)
    trained = classifier.load(model_file.PATH)
    class_names = trained.description.class_names
    test = digits.load(digits.FOLDER, "test", len(class_names))
    logits = trained.logits(test.images, settings.batch_size)
    scores = scoring.score(logits, test.labels, class_names)
    scoring.write(scoring.FOLDER, scores, scoring.predictions(logits, test.labels))
    print(f"{scoring.percent(scores.accuracy)} of {scores.images:,} test images read correctly")


if __name__ == "__main__":
    run(main)
