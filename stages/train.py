"""Train the network.

Reads data/npy: train-*.npy and the names of the classes; writes models/digits.safetensors and the
curves in plots/training.
"""

from __future__ import annotations

from stages.shared.program import run

# isort: split
# From here on Ctrl-C is answered in a line, also while the rest is imported.
from typing import TYPE_CHECKING

from stages.shared import curves, digits, model_file, params
from stages.shared.network import device
from stages.shared.params import Train

if TYPE_CHECKING:
    from stages.shared.network.workers import Workers


def main() -> None:
    settings = params.load().train
    device.select(settings.device)
    # Jittor starts with this import, for the device that was settled.
    from stages.shared.training import mpirun

    if settings.workers > 1 and not mpirun.is_worker():
        settings.check_hosts()
        mpirun.start(settings.workers, settings.hosts)
        return
    with mpirun.joined(settings.workers) as team:
        train(settings, team)


def train(settings: Train, team: Workers) -> None:
    from stages.shared.network import classifier, runtime
    from stages.shared.training import checkpoints, loop, mpirun
    from stages.shared.training.progress import Display

    taken = runtime.use(settings.device, settings.seed)
    reason = taken.reason if team.count == 1 else f"{team.count} workers share each batch"
    print(f"training on {taken.name}: {reason}")
    class_names = digits.load_class_names(digits.FOLDER)
    data = digits.load(digits.FOLDER, "train", len(class_names))
    held_out = digits.held_out(len(data), settings.validation_images, settings.seed)
    if team.rank == 0:
        written = curves.Curves(curves.FOLDER)  # `dvc plots show` looks for them from now on
    description = classifier.describe(settings, data, held_out, class_names)
    learner = classifier.build(description)
    data_files = sorted(digits.FOLDER.glob("train-*.npy"))
    run_id = checkpoints.fingerprint(description.model_dump(), data_files)
    mpirun.agree(team, run_id)
    if team.rank > 0:
        for _ in loop.fit(learner, data, held_out, settings):
            pass
        return
    kept = checkpoints.Checkpoints(checkpoints.FOLDER, run_id)
    for other in kept.others():
        print(f"not used: {other}, a checkpoint of other parameters, data or code")
    if aside := kept.set_aside():
        print(
            f"not used: {kept.path}, which is damaged; it is {aside} now, and training starts anew"
        )
    per_epoch = loop.steps_per_epoch(len(data) - len(held_out), settings.batch_size)
    with Display(written, settings.epochs * per_epoch) as display:
        for event in loop.fit(learner, data, held_out, settings, kept):
            display.show(event)
    classifier.save(learner, model_file.PATH)
    kept.clear()


if __name__ == "__main__":
    run(main)
