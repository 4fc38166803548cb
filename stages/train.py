"""Train the network.

Reads data/npy: train-*.npy and the names of the classes; writes models/digits.safetensors and the
curves in plots/training.
"""

from __future__ import annotations

from stages.shared.program import run

# isort: split
# From here on Ctrl-C is answered in a line, also while the rest is imported.
from stages.shared import curves, digits, model_file, params
from stages.shared.model_file import Description
from stages.shared.network import device


def main() -> None:
    settings = params.load().train
    device.select(settings.device)
    written = curves.Curves(curves.FOLDER)  # first, as `dvc plots show` looks for them from now on
    # For the device that was settled Jittor starts here.
    from stages.shared.network import classifier, runtime
    from stages.shared.training import checkpoints, loop
    from stages.shared.training.progress import Display

    taken = runtime.use(settings.device, settings.seed)
    print(f"training on {taken.name}: {taken.reason}")
    class_names = digits.load_class_names(digits.FOLDER)
    data = digits.load(digits.FOLDER, "train", len(class_names))
    held_out = digits.held_out(len(data), settings.validation_images, settings.seed)
    mean, std = digits.mean_and_std(data, held_out)
    description = Description(
        network=settings.network,
        image_size=data.image_size,
        class_names=class_names,
        mean=mean,
        std=std,
        held_out=len(held_out),
        params=settings.model_dump(),
        versions=runtime.versions(),
    )
    learner = classifier.build(description)
    data_files = sorted(digits.FOLDER.glob("train-*.npy"))
    run_id = checkpoints.fingerprint(description.model_dump(), data_files)
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
