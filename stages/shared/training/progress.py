"""What is seen of a training run: a bar and lines on the screen, and curves on disk."""

from __future__ import annotations

import statistics
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from stages.shared.curves import Curves
from stages.shared.training.events import Epoch, Event, Resumed, Step


class Display:
    """A context in which the events of a training run are shown and logged as they come.

    Args:
        curves: where the values of each event go.
        steps: how many optimizer steps the whole run takes.
    """

    def __init__(self, curves: Curves, steps: int) -> None:
        self._curves = curves
        self._console = Console()
        self._bar = Progress(
            # All of it fits a terminal of 80 columns.
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(bar_width=12),
            TextColumn("loss {task.fields[loss]:.4f}  accuracy {task.fields[accuracy]:.2%}"),
            TextColumn("{task.fields[speed]:,.0f} images/s"),
            TimeRemainingColumn(),
            TextColumn("to go"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("train", total=steps)
        self._speeds: list[float] = []  # of the steps of this epoch, in images per second

    def __enter__(self) -> Display:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()
        self._curves.end()

    def show(self, event: Event) -> None:
        """Show and log one event of `loop.fit`."""
        if isinstance(event, Step):
            self._step(event)
        elif isinstance(event, Epoch):
            self._epoch(event)
        elif isinstance(event, Resumed):
            self._console.print(f"going on from a checkpoint, after epoch {event.epoch}")

    def _step(self, event: Step) -> None:
        self._curves.log(
            event.step,
            {
                "train/loss": event.loss,
                "train/accuracy": event.accuracy,
                "train/learning_rate": event.learning_rate,
            },
        )
        self._speeds.append(event.images_per_second)
        self._bar.update(
            self._task,
            completed=event.step,
            epoch=event.epoch + 1,
            loss=event.loss,
            accuracy=event.accuracy,
            speed=event.images_per_second,
        )
        # Not before there is something to show; Jittor compiles its kernels until then, with a bar
        # of its own.
        self._bar.start()

    def _epoch(self, event: Epoch) -> None:
        self._curves.log(
            event.step,
            {"validation/loss": event.loss, "validation/accuracy": event.accuracy},
        )
        # The median: the first steps of a process wait for kernels to be compiled. The speed is
        # said and not kept, since no two runs share it and every output must be reproducible.
        speed = statistics.median(self._speeds)
        self._speeds.clear()
        self._console.print(
            f"epoch {event.epoch}: validation loss {event.loss:.4f}, accuracy {event.accuracy:.2%};"
            f" {speed:,.0f} images/s"
        )
