"""A training leaves the cores to whoever else computes on them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from stages.shared.network.runtime import jt
from stages.shared.training.threads import Threads, share
from tests.conftest import Repository

CORES = len(os.sched_getaffinity(0))


def number() -> int:
    assert jt is not None  # OpenMP comes with Jittor
    return int(next(i["num_threads"] for i in threadpool_info() if i["user_api"] == "openmp"))


@pytest.fixture(autouse=True)
def _whole(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("OMP_NUM_THREADS", "OMPI_COMM_WORLD_LOCAL_SIZE"):
        monkeypatch.delenv(name, raising=False)
    with threadpool_limits(CORES, user_api="openmp"):
        yield


@pytest.fixture
def others() -> Iterator[None]:
    """Twice as many processes as cores, and none of them ever waits."""
    running = [subprocess.Popen([sys.executable, "-c", "while 1: 0"]) for _ in range(2 * CORES)]
    yield
    for process in running:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("cores", "busy", "threads"),
    [(2, 0.0, 2), (2, 0.4, 2), (2, 1.0, 1), (2, 2.1, 1), (1, 0.9, 1), (16, 8.0, 8), (16, 3.1, 13)],
)
def test_what_others_leave(cores: int, busy: float, threads: int) -> None:
    assert share(cores, busy) == threads


def follows(threads: Threads, expected: range) -> bool:
    """Whether the number comes to be an expected one, while this process computes."""
    end = time.perf_counter() + 20
    while number() not in expected and time.perf_counter() < end:
        threads.settle()
    return number() in expected


@pytest.mark.usefixtures("others")
@pytest.mark.skipif(CORES == 1, reason="one core leaves nothing to share")
def test_threads_give_way_to_other_processes() -> None:
    assert follows(Threads(), range(1, CORES))


def test_threads_come_back_when_the_others_have_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    # Nobody can keep the rest of this machine idle, so its readings are made up.
    readings = iter([(0.0, 0.0, 0.0), (1.0, CORES, 1.0), (2.0, CORES + 1.0, 2.0)])
    monkeypatch.setattr(Threads, "_read", lambda _: next(readings))
    monkeypatch.setattr(time, "perf_counter", lambda: 10.0)
    threads = Threads()
    threads.settle()
    assert number() == 1
    threads.settle()
    assert number() == CORES


def test_cores_may_have_numbers_that_the_system_does_not_list(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As where every other core is switched off, or in a container that shows but its own."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 100_000})
    wall, used, own = Threads()._read()
    assert wall > 0
    assert used > own > 0


@pytest.mark.parametrize(("workers", "threads"), [(1, CORES), (CORES, 1), (3 * CORES, 1)])
def test_workers_of_one_machine_divide_its_cores(
    monkeypatch: pytest.MonkeyPatch, workers: int, threads: int
) -> None:
    monkeypatch.setattr(Threads, "_read", lambda _: (time.perf_counter(), 0.0, 0.0))
    monkeypatch.setenv("OMPI_COMM_WORLD_LOCAL_SIZE", str(workers))
    mine, end = Threads(), time.perf_counter() + 0.5
    while time.perf_counter() < end:
        mine.settle()
    assert number() == threads


@pytest.mark.usefixtures("others")
def test_a_number_that_the_user_sets_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", str(CORES))
    threads, end = Threads(), time.perf_counter() + 1
    while time.perf_counter() < end:
        threads.settle()
    assert number() == CORES


def work(*repositories: Repository) -> float:
    """Seconds of cores that trainings use which begin at the same moment."""
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "stages.train"],
            cwd=one.path,
            env=one.environment,
            stdout=subprocess.DEVNULL,
        )
        for one in repositories
    ]
    ends = [os.wait4(process.pid, 0)[1:] for process in running]
    assert [code for code, _ in ends] == [0] * len(running)
    return sum(usage.ru_utime + usage.ru_stime for _, usage in ends)


@pytest.mark.slow
@pytest.mark.scale
@pytest.mark.skipif(CORES == 1, reason="one core leaves nothing to share")
def test_trainings_at_once_spin_no_time_away(finished: Repository, tmp_path: Path) -> None:
    """A thread that spins while another has its core is seen in the work, whatever the clock."""
    finished.set(train__epochs=150)
    other = finished.copy(tmp_path / "other")
    in_turns = work(finished) + work(other)
    assert work(finished, other) < 1.25 * in_turns
