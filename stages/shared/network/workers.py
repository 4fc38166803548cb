"""The workers that share one training: which part of a batch is whose, and what they add up.

All that computes takes the current team from here and reads the same for one worker and for many.
A team of one divides nothing, adds nothing up and never loads MPI. How a team is started, and how
it ends, is in training/mpirun.py.

What keeps a team together: every worker makes the same calls in the same order. Jittor puts its
work off until somebody wants a result, so an addition must not be left pending where one worker
may want a result and another not. Those of BatchNorm and of divided layers are over before the
gradients are there, and the gradients are added up at once.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from stages.shared.network.runtime import jt

_Value = TypeVar("_Value")
_Matrix = NDArray[np.float32]

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
    def computed(self) -> int:
        """How many images all workers compute, each as often as it has copies."""
        return self.of * self.copies

    @property
    def share(self) -> float:
        """The weight of this part's mean in that of the batch, 0 to 1; those of all parts are 1."""
        mine: int = self.chosen.stop - self.chosen.start
        return mine / self.computed


class Exchanges(NamedTuple):
    """The addresses of C functions, as numbers, by which workers fill one matrix from another.

    N and C are the rows and columns of a whole matrix, n and c this worker's. Each is called with
    (float *from, long rows, long columns, float *to, long rows, long columns).

    Attributes:
        every_row: (n, C) of each worker to (N, C).
        sum_rows: (N, C) of each worker, added up, to (n, C).
        own_rows: (N, c) of each worker to (n, C).
        own_columns: (n, C) of each worker to (N, c).
    """

    every_row: float = 0.0
    sum_rows: float = 0.0
    own_rows: float = 0.0
    own_columns: float = 0.0


class Workers:
    """A team of one.

    Attributes:
        count: how many workers there are.
        rank: which of them this one is, from 0; the first alone shows and writes anything.
        add_up: the address of a C function (double *values, long count) that adds up over all
            workers, as a number; 0 where there is nothing to add.
        exchanges: addresses as well.
        computed: of the current batch, as `Part` has it; whoever takes a step sets it.
    """

    count = 1
    rank = 0
    add_up = 0.0
    exchanges = Exchanges()
    computed = 0

    def slices(self, items: int) -> list[slice]:
        """Which of so many items are whose; sizes differ by 1 at most."""
        bounds = [items * rank // self.count for rank in range(self.count + 1)]
        return list(itertools.starmap(slice, itertools.pairwise(bounds)))

    def slice(self, items: int) -> slice:
        """Which of so many items are this worker's."""
        return self.slices(items)[self.rank]

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

    def divided(self, arrays: list[jt.Var]) -> AbstractContextManager[None]:  # noqa: ARG002
        """For as long as the block takes, leave in each matrix only this worker's columns.

        Args:
            arrays: with as many columns as there are workers, or more; they are whole again at the
                end, unless the block fails.
        """
        return contextlib.nullcontext()

    def sum_gradients(self, optimizer: Any) -> None:
        """Add up the gradients that a Jittor optimizer's `backward` left in it, in place.

        Those of divided arrays are left alone: they are of the whole batch already.
        """


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
        seconds: that this worker has spent in messages, waiting for others included.
        bytes: of the arrays that it has added up or exchanged.
    """

    def __init__(self, comm: Any) -> None:
        from mpi4py import MPI

        self._mpi = MPI
        self._comm = comm
        self.count, self.rank = comm.size, comm.rank
        self.seconds, self.bytes = 0.0, 0
        self._divided: list[jt.Var] = []
        self._kept: list[Any] = []  # functions, for as long as kernels may call them
        self.add_up = self._address(self._sum_doubles, ctypes.c_void_p, ctypes.c_long)
        matrix = ctypes.c_void_p, ctypes.c_long, ctypes.c_long
        exchanges = self._every_row, self._sum_rows, self._own_rows, self._own_columns
        self.exchanges = Exchanges(
            *(self._address(self._of_matrices(f), *matrix, *matrix) for f in exchanges)
        )

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

    @contextlib.contextmanager
    def divided(self, arrays: list[jt.Var]) -> Iterator[None]:
        """For as long as the block takes, leave in each matrix only this worker's columns."""
        for var in arrays:
            mine = var.numpy()[:, self.slice(var.shape[1])]
            var.update(jt.array(np.ascontiguousarray(mine)))
        self._divided = arrays
        yield
        self._divided = []
        for var in arrays:
            with self._waiting():
                parts = self._comm.allgather(var.numpy())
            var.update(jt.array(np.concatenate(parts, axis=1)))

    def sum_gradients(self, optimizer: Any) -> None:
        """Add up the gradients that a Jittor optimizer's `backward` left in it, in place."""
        pairs = [
            (param, grad)
            for group in optimizer.param_groups
            for param, grad in zip(group["params"], group["grads"], strict=True)
            if not param.is_stop_grad()
        ]
        jt.sync([grad for _, grad in pairs])
        views: list[NDArray[np.float32]] = [
            grad.data for param, grad in pairs if not any(param is own for own in self._divided)
        ]
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

    def _counts(self, rows: int, columns: int) -> list[int]:
        """How many numbers of a matrix are in the rows of each worker."""
        return [(part.stop - part.start) * columns for part in self.slices(rows)]

    def _every_row(self, mine: _Matrix, whole: _Matrix) -> None:
        self._comm.Allgatherv(mine, [whole, self._counts(*whole.shape)])

    def _sum_rows(self, whole: _Matrix, mine: _Matrix) -> None:
        # Faster than MPI's own Reduce_scatter, and in the order of the workers.
        parts = np.empty((self.count, *mine.shape), np.float32)
        sizes = [mine.size] * self.count
        self._comm.Alltoallv([whole, self._counts(*whole.shape)], [parts, sizes])
        np.sum(parts, axis=0, out=mine)

    def _own_rows(self, columns: _Matrix, rows: _Matrix) -> None:
        sizes = self._counts(*rows.shape[::-1])
        message = np.empty(rows.size, np.float32)
        self._comm.Alltoallv([columns, self._counts(*columns.shape)], [message, sizes])
        blocks = np.split(message, np.cumsum(sizes)[:-1])
        for part, block in zip(self.slices(rows.shape[1]), blocks, strict=True):
            rows[:, part] = block.reshape(len(rows), -1)

    def _own_columns(self, rows: _Matrix, columns: _Matrix) -> None:
        sizes = self._counts(*rows.shape[::-1])
        message = np.empty(rows.size, np.float32)
        blocks = np.split(message, np.cumsum(sizes)[:-1])
        for part, block in zip(self.slices(rows.shape[1]), blocks, strict=True):
            block.reshape(len(rows), -1)[:] = rows[:, part]
        self._comm.Alltoallv([message, sizes], [columns, self._counts(*columns.shape)])

    def _of_matrices(self, work: Callable[[_Matrix, _Matrix], None]) -> Callable[..., None]:
        """The same function for addresses and sizes, as a kernel has them."""

        def call(x: int, rows: int, columns: int, y: int, new_rows: int, new_columns: int) -> None:
            given, made = _array(x, (rows, columns)), _array(y, (new_rows, new_columns))
            with self._waiting():
                work(given, made)
            self.bytes += max(given.nbytes, made.nbytes)

        return call

    def _sum_doubles(self, address: int, count: int) -> None:
        self._sum(np.ctypeslib.as_array((ctypes.c_double * count).from_address(address)))

    def _address(self, function: Callable[..., None], *types: Any) -> float:
        """The address of a C function with arguments of these types, as a number."""
        self._kept.append(ctypes.CFUNCTYPE(None, *types)(function))
        return float(ctypes.cast(self._kept[-1], ctypes.c_void_p).value or 0)


def _array(address: int, shape: tuple[int, int]) -> _Matrix:
    """The matrix of float32 at an address."""
    numbers = (ctypes.c_float * (shape[0] * shape[1])).from_address(address)
    return np.ctypeslib.as_array(numbers).reshape(shape)


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
