"""Draw the figures and write the model card.

Reads the curves in plots/training, the scores and predictions in plots/evaluation, the arrays in
data/npy and the description in models/digits.safetensors; writes plots/figures/*.png, all of them
or none, and plots/README.md, which shows them.
"""

from __future__ import annotations

from stages.shared.program import run

# isort: split
# From here on Ctrl-C is answered in a line, also while the rest is imported.
import numpy as np

from stages.shared import curves, digits, model_file, params, scoring
from stages.shared.datasets import DATASETS
from stages.shared.files import replacing
from stages.shared.report import card, figures, style


def main() -> None:
    settings = params.load()
    series = {name: curves.read(curves.FOLDER, name) for name in figures.CURVES}
    train, test = (digits.load(digits.FOLDER, part) for part in ("train", "test"))
    scores = scoring.read_scores(scoring.FOLDER)
    names = list(scores.per_class)
    result = scoring.read_predictions(scoring.FOLDER, test.labels, names)
    about = model_file.load(model_file.PATH)[1]
    dataset = DATASETS[settings.download.dataset]
    recipe = params.recipe_of(about.params, settings.recipes)
    drawable = style.drawable(names)
    page = card.page(
        dataset,
        len(train),
        about,
        recipe,
        scores,
        np.flatnonzero(result.actual != result.predicted).tolist(),
        numbered=drawable != names,
    )
    words = [dataset.title, f"network {about.network}", *([f"recipe {recipe}"] if recipe else [])]
    signature = ", ".join([*words, f"seed {about.params.get('seed', 'unknown')}"])
    window = settings.plot.smoothing
    drawn = figures.draw(series, train, test, drawable, result, window, signature)
    figures.write(drawn, figures.FOLDER)
    with replacing(card.PATH) as part:
        part.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    run(main)
