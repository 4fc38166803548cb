"""How many threads a training computes on: as many as others leave of the cores.

OpenMP's threads wait for each other by spinning, thousands of times a second, which is the fastest
way as long as each has a core of its own. Where it has not, the one that is waited for does not
run, and the others spin its time away: two trainings at once on two cores then take three times as
long as one after the other. To sleep at once in place of spinning costs a training that is alone a
tenth of its speed. So the threads go on spinning, and their number follows what there is to share.
No result depends on it.
"""

from __future__ import annotations

import os
import time

import psutil
from threadpoolctl import ThreadpoolController

_TOGETHER = "OMPI_COMM_WORLD_LOCAL_SIZE"  # how many workers mpirun has started on this machine
_INTERVAL = 0.25  # seconds that each reading is taken over; the system counts in hundredths


def share(cores: int, busy: float) -> int:
    """How many threads to compute on.

    Args:
        cores: that this process may use.
        busy: how many of them, on average, others keep busy.

    Returns:
        At least 1. Trainings that began alike come to equal shares: each sees the others take
        what the system's scheduler gives them, which is the same for all.
    """
    return max(1, round(cores - busy))


class Threads:
    """The threads of OpenMP in this process, once Jittor is loaded.

    Where OMP_NUM_THREADS is set, it is obeyed, and the number stays. So does that of workers which
    share this machine: each has its part of the cores, as they wait for each other at every step.
    """

    def __init__(self) -> None:
        self._cores = sorted(os.sched_getaffinity(0))
        self._libraries = (
            []
            if os.environ.get("OMP_NUM_THREADS")
            else ThreadpoolController().select(user_api="openmp").lib_controllers
        )
        together = int(os.environ.get(_TOGETHER, 1))
        if together > 1:
            self._set(max(1, len(self._cores) // together))
            self._libraries = []
        self._last = self._read()

    def settle(self) -> None:
        """Follow what others do; cheap enough to be called at each step."""
        if not self._libraries or time.perf_counter() - self._last[0] < _INTERVAL:
            return
        now = self._read()
        wall, used, own = (new - old for new, old in zip(now, self._last, strict=True))
        self._last = now
        self._set(share(len(self._cores), (used - own) / wall))

    def _set(self, number: int) -> None:
        for library in self._libraries:
            library.set_num_threads(number)

    def _read(self) -> tuple[float, float, float]:
        """Seconds so far: by the clock, used of our cores by anybody, and used by this process."""
        listed = psutil.cpu_times(percpu=True)
        # Without numbers: where some cores are switched off, or a container shows but its own,
        # there are fewer than the numbers go up to, and those are ours.
        ours = [listed[core] for core in self._cores] if self._cores[-1] < len(listed) else listed
        used = sum(times.user + times.system for times in ours)
        return time.perf_counter(), used, time.process_time()
