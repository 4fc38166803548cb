"""What is seen of a training run: curves on disk, a bar on the screen."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from dvclive import Live
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from stages.shared.training.loop import Epoch, Resumed, Step


class Curves:
    """A context in which the events of a training run are drawn as they come.

    Args:
        folder: where DVCLive writes the curves; the same run gives the same bytes.
        speed: where it writes images a second, which no two runs share.
        steps: how many optimizer steps the whole run takes.
    """

    def __init__(self, folder: Path, speed: Path, steps: int) -> None:
        self._live = Live(str(folder), save_dvc_exp=False, dvcyaml=None)
        self._speed = Live(str(speed), save_dvc_exp=False, dvcyaml=None)
        self._console = Console()
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total} steps"),
            TextColumn("loss {task.fields[loss]:.4f}  accuracy {task.fields[accuracy]:.2%}"),
            TextColumn("{task.fields[speed]:,.0f} images/s"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task(
            "train", total=steps, epoch=1, loss=float("nan"), accuracy=0.0, speed=0.0
        )

    def __enter__(self) -> Curves:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()
        self._live.end()
        self._speed.end()

    def draw(self, event: Step | Epoch | Resumed) -> None:
        """Take up the next event of `training.fit`."""
        if isinstance(event, Step):
            self._step(event)
        elif isinstance(event, Epoch):
            self._epoch(event)
        else:
            self._console.print(f"going on from a checkpoint, after epoch {event.epoch}")

    def _step(self, event: Step) -> None:
        # Not before the first step: Jittor compiles its kernels until then, with a bar of its own.
        self._bar.start()
        self._log(
            event.step,
            {
                "train/loss": event.loss,
                "train/accuracy": event.accuracy,
                "train/learning_rate": event.learning_rate,
            },
        )
        self._speed.step = event.step
        self._speed.log_metric("images_per_second", event.images_per_second)
        self._bar.update(
            self._task,
            completed=event.step,
            epoch=event.epoch + 1,
            loss=event.loss,
            accuracy=event.accuracy,
            speed=event.images_per_second,
        )

    def _epoch(self, event: Epoch) -> None:
        self._log(
            event.step,
            {"validation/loss": event.loss, "validation/accuracy": event.accuracy},
        )
        self._console.print(
            f"epoch {event.epoch}: validation loss {event.loss:.4f}, accuracy {event.accuracy:.2%}"
        )

    def _log(self, step: int, values: dict[str, float]) -> None:
        self._live.step = step
        for name, value in values.items():
            self._live.log_metric(name, value)
        self._live.make_summary()  # for `dvc exp show` while the run goes on; 0.1 ms
