"""The workers that share one training: which part of a batch is whose, and what they add up.

All that computes takes the current team from here and reads the same for one worker and for many.
A team of one divides nothing, adds nothing up and never loads MPI. How a team is started, and how
it ends, is in training/mpirun.py.

What keeps a team together: every worker makes the same calls in the same order. Jittor puts its
work off until somebody wants a result, so an addition must not be left pending where one worker
may want a result and another not. Those of BatchNorm are over before the gradients are there, and
the gradients are added up at once.
"""

from __future__ import annotations

import contextlib
import ctypes
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from stages.shared.network.runtime import jt

_Value = TypeVar("_Value")

# Bytes from which a gradient is a message of its own: to copy it into a common one and back would
# cost more than a message does.
_LARGE = 1 << 20

# Seconds after which a worker that waits for the others gives up. They may be compiling kernels;
# one that has died is noticed by mpirun long before.
PATIENCE = 300


@dataclass(frozen=True)
class Part:
    """A worker's part of a batch.

    Attributes:
        of: images in the whole batch.
        chosen: which of them are this worker's; never none.
        copies: how many workers have these same images.
    """

    of: int
    chosen: slice
    copies: int = 1

    @property
    def share(self) -> float:
        """The weight of this part's mean in that of the batch, 0 to 1; those of all parts are 1."""
        mine: int = self.chosen.stop - self.chosen.start
        return mine / (self.of * self.copies)


class Workers:
    """A team of one.

    Attributes:
        count: how many workers there are.
        rank: which of them this one is, from 0; the first alone shows and writes anything.
        add_up: the address of a C function (double *values, long count) that adds up over all
            workers, as a number; 0 where there is nothing to add.
    """

    count = 1
    rank = 0
    add_up = 0.0

    def slice(self, items: int) -> slice:
        """Which of so many items are this worker's; sizes differ by 1 at most."""
        return slice(items * self.rank // self.count, items * (self.rank + 1) // self.count)

    def part(self, images: int) -> Part:
        """This worker's part of a batch.

        A batch of fewer images than workers is computed whole by each of them, and counts once:
        no kernel need know of a batch without images.
        """
        if images < self.count:
            return Part(images, slice(0, images), self.count)
        return Part(images, self.slice(images))

    def broadcast(self, value: _Value) -> _Value:
        """What the first worker calls this with."""
        return value

    def sums(self, *values: float) -> tuple[float, ...]:
        """Each number added up over all workers."""
        return values

    def sum_gradients(self, optimizer: Any) -> None:
        """Add up the gradients that a Jittor optimizer's `backward` left in it, in place."""


@contextlib.contextmanager
def patience() -> Iterator[None]:
    """End this process if the block, which waits for other workers, takes `PATIENCE` seconds."""
    signal.alarm(PATIENCE)  # its default is to end the process, also in the midst of MPI
    yield
    signal.alarm(0)


class Team(Workers):
    """One of several workers, of which each is a process that `mpirun` has started.

    Args:
        comm: what they speak by, an `mpi4py.MPI.Comm`.

    Attributes:
        seconds: that this worker has spent in adding up, waiting for others included.
        bytes: that it has added up.
    """

    def __init__(self, comm: Any) -> None:
        from mpi4py import MPI

        self._mpi = MPI
        self._comm = comm
        self.count, self.rank = comm.size, comm.rank
        self.seconds, self.bytes = 0.0, 0
        kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_long)
        self._kept = kind(self._sum_doubles)  # as long as kernels may call it
        self.add_up = float(ctypes.cast(self._kept, ctypes.c_void_p).value or 0)

    def broadcast(self, value: _Value) -> _Value:
        """What the first worker calls this with."""
        with self._waiting():
            result: _Value = self._comm.bcast(value)
        return result

    def sums(self, *values: float) -> tuple[float, ...]:
        """Each number added up over all workers."""
        array = np.array(values, np.float64)
        self._sum(array)
        return tuple(array.tolist())

    def sum_gradients(self, optimizer: Any) -> None:
        """Add up the gradients that a Jittor optimizer's `backward` left in it, in place."""
        grads = [
            grad
            for group in optimizer.param_groups
            for param, grad in zip(group["params"], group["grads"], strict=True)
            if not param.is_stop_grad()
        ]
        jt.sync(grads)
        views: list[NDArray[np.float32]] = [grad.data for grad in grads]
        small = [view.reshape(-1) for view in views if view.nbytes < _LARGE]
        if small:
            message = np.concatenate(small)
            self._sum(message)
            start = 0
            for view in small:
                view[:] = message[start : start + len(view)]
                start += len(view)
        for view in views:
            if view.nbytes >= _LARGE:
                self._sum(view)

    def _sum(self, array: NDArray[Any]) -> None:
        with self._waiting():
            self._comm.Allreduce(self._mpi.IN_PLACE, array)
        self.bytes += array.nbytes

    @contextlib.contextmanager
    def _waiting(self) -> Iterator[None]:
        began = time.perf_counter()
        with patience():
            yield
        self.seconds += time.perf_counter() - began

    def _sum_doubles(self, address: int, count: int) -> None:
        self._sum(np.ctypeslib.as_array((ctypes.c_double * count).from_address(address)))


_team = Workers()


def current() -> Workers:
    """The team that this process is of."""
    return _team


def join(comm: Any) -> Team:
    """Make this process one of a team, for as long as it lives.

    Args:
        comm: as `Team` takes it.
    """
    global _team
    _team = team = Team(comm)
    return team
