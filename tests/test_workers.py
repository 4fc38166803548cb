"""One training by many workers: the same result, and an end for each that goes wrong.

Every test runs real processes under the real mpirun. Those marked `scale` take long and run by
`make test-scale`.
"""

from __future__ import annotations

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from stages.shared import params
from stages.shared.network import workers
from stages.shared.network.workers import Workers
from stages.shared.training import mpirun
from tests import team
from tests.conftest import TOP, Repository
from tests.test_resume import DVC, checkpoints, epochs_kept

pytestmark = [
    pytest.mark.slow,
    pytest.mark.team,
    pytest.mark.skipif(mpirun.find()[0] is None, reason="OpenMPI or mpi4py is not there"),
]

CHANGED = {"shift": 2, "rotate": 15, "scale": 0.15, "shear": 0.25}


@pytest.mark.parametrize(("images", "count"), [(64, 1), (64, 3), (7, 3), (2, 3), (1, 8), (9, 9)])
def test_each_image_of_a_batch_counts_once(images: int, count: int) -> None:
    seen, scored = np.zeros(images), np.zeros(images)
    shares = 0.0
    for rank in range(count):
        one = Workers()
        one.count, one.rank = count, rank
        part = one.part(images)
        assert len(seen[part.chosen]) > 0
        seen[part.chosen] += 1 / part.copies
        shares += part.share
        scored[one.slice(images)] += 1  # of the held-out images, none where there are too few
    assert np.allclose(seen, 1)
    assert np.all(scored == 1)
    assert shares == pytest.approx(1)


LINE = "-" * 76
SPEAKS = {
    "a warning": (f"{LINE}\nWARNING: An invalid value\n  Value: nope\n{LINE}\nmore", 0),
    "an end": (f"{LINE}\nPRTE has lost communication\nwith a daemon.\n{LINE}\nmore", -9),
    "an error": ("error: no room\nmore", -9),
}


@pytest.mark.parametrize("case", SPEAKS)
def test_a_warning_of_openmpi_ends_nothing(
    case: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """What says that the run is over does, should mpirun itself not see it."""
    monkeypatch.setattr(mpirun, "_GRACE", 0.2)
    text, code = SPEAKS[case]
    script = f"printf '%s\\n' \"$0\" >&2; sleep 2; printf '{mpirun._DONE.decode()}' >&2"
    process = subprocess.Popen(["bash", "-c", f"{script}; exit 0", text], stderr=subprocess.PIPE)
    listener = mpirun._Listener(process)
    listener.listen()
    assert (process.returncode, listener.done) == (code, int(code == 0))
    said = capfd.readouterr().err
    assert ("WARNING: An invalid value\n  Value: nope\n" in said) == (case == "a warning")
    assert listener.own.startswith({"a warning": "WARNING", "an end": "PRTE has"}.get(case, ""))
    if case == "an error":  # the reason is the last word
        assert said == "more\nerror: no room\n"


def difference(found: Path, expected: Path) -> float:
    """The largest difference of two files of weights, each array by its own size."""
    a, b = load_file(found), load_file(expected)
    assert a.keys() == b.keys()
    return max(float(np.abs(a[n] - b[n]).max() / np.abs(b[n]).max()) for n in b)


@pytest.fixture(scope="module")
def arrays(finished_once: Repository) -> Path:
    return finished_once.path / "data/npy"


def test_fifty_steps_by_many_are_those_of_one(arrays: Path, tmp_path: Path) -> None:
    # 18 images are left for the last batch: 4, and so fewer than the five workers.
    changes = {
        "network": "compact",
        "batch_size": 18,
        "validation_images": 96,
        "learning_rate": 0.02,
        "augment": CHANGED,
        "label_smoothing": 0.1,
        "ema_decay": 0.9,
        "log_every": 3,
    }
    ways = {"one": 1, "two": 2, "again": 2, "five": 5}
    files = {way: tmp_path / way for way in ways}
    found = {way: team.run(count, changes, arrays, 1000, files[way]) for way, count in ways.items()}
    for way in ("two", "five"):
        assert difference(files[way], files["one"]) < 1e-4, way
        assert np.allclose(found[way]["losses"], found["one"]["losses"], rtol=1e-4), way
        assert np.allclose(found[way]["validation"], found["one"]["validation"], rtol=1e-4), way
    assert files["two"].read_bytes() == files["again"].read_bytes()
    assert found["two"]["losses"] == found["again"]["losses"]


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("network", ["tutorial", "deep"])
@pytest.mark.scale
def test_other_networks_take_the_same_step(
    network: str, optimizer: str, arrays: Path, tmp_path: Path
) -> None:
    # More steps of these differ as much when one worker begins 1e-7 beside: max-pooling jumps.
    changes = {
        "network": network,
        "optimizer": optimizer,
        "learning_rate": 0.001,
        "batch_size": 63,
        "validation_images": 37,
    }
    for count in (1, 2, 3):
        team.run(count, changes, arrays, 100, tmp_path / str(count))
    for count in (2, 3):
        found = difference(tmp_path / str(count), tmp_path / "1")
        # Adam divides by the size of a gradient, also where that is nothing but rounding.
        assert found < (1e-5 if optimizer == "sgd" else 2e-2)


def test_params_that_no_team_can_follow_are_refused() -> None:
    block = params.load(TOP / "params.yaml").train.model_dump()
    for changes, words in (
        ({"workers": 65}, "expected no more than the batch_size of 64"),
        ({"workers": 2, "device": "cuda"}, "expected cpu"),
        ({"workers": 0}, "greater than or equal to 1"),
    ):
        with pytest.raises(ValueError, match=words):
            params.Train.model_validate({**block, **changes})


def test_the_team_of_one_leaves_all_as_it_is() -> None:
    team_of_one = workers.current()
    assert (team_of_one.count, team_of_one.rank, team_of_one.add_up) == (1, 0, 0)
    assert team_of_one.sums(1.5, 2) == (1.5, 2)
    assert "mpi4py" not in sys.modules


@pytest.fixture
def training(finished: Repository) -> Repository:
    """A repository in which a long training by two workers is the next thing to do."""
    finished.set(train__workers=2, train__epochs=400, train__learning_rate=0.001)
    finished.run("dvc", "repro", "check")
    return finished


@pytest.fixture
def begun(training: Repository) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Starts the train stage, and comes back when an epoch is kept."""
    started: list[subprocess.Popen[str]] = []

    def begin() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "stages.train"],
            cwd=training.path,
            env=training.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        while not checkpoints(training):
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.05)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()


def children(process: int) -> list[int]:
    """The processes that one has started, in the order of their numbers."""
    path = Path(f"/proc/{process}/task/{process}/children")
    return sorted(int(number) for number in path.read_text().split())


def ranks(process: subprocess.Popen[str]) -> list[int]:
    """The workers of a train stage, which are mpirun's children."""
    (mpi,) = children(process.pid)
    return children(mpi)


def both_hosts_are_there(process: subprocess.Popen[bytes]) -> bool:
    """Whether mpirun has an agent for the other host and, once that has answered, a worker here."""
    return any(len(children(mpi)) > 1 for mpi in children(process.pid))


def are_gone(processes: list[int]) -> bool:
    for _ in range(100):
        states = [Path(f"/proc/{number}/stat") for number in processes]
        if not any(
            s.exists() and s.read_text().rpartition(")")[2].split()[0] != "Z" for s in states
        ):
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("who", [0, 1])
def test_a_worker_that_dies_takes_all_down_with_its_reason(
    who: int, training: Repository, begun: Callable[[], subprocess.Popen[str]]
) -> None:
    process = begun()
    alive = ranks(process)
    assert len(alive) == 2
    os.kill(alive[who], signal.SIGKILL)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said.splitlines()[-1].startswith("error: the workers were stopped: ")
    assert "signal 9" in said
    assert "Traceback" not in said
    assert are_gone(alive)
    assert epochs_kept(training) > 0


@pytest.mark.scale
@pytest.mark.parametrize("others", [1, 3])
def test_a_stopped_run_goes_on_by_another_number_of_workers(
    others: int, finished: Repository
) -> None:
    finished.set(train__workers=2, train__epochs=6)
    process = subprocess.Popen(
        [sys.executable, "-m", "stages.train"],
        cwd=finished.path,
        env=finished.environment,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    while not checkpoints(finished):
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(ranks(process)[1], signal.SIGKILL)
    process.wait(60)
    kept = epochs_kept(finished)
    finished.set(train__workers=others)
    said = finished.run(*DVC).stdout
    assert f"going on from a checkpoint, after epoch {kept}" in said
    assert said.count("epoch 6: ") == 1
    assert "\x1b" not in said
    assert not checkpoints(finished)


def test_ctrl_c_is_answered_in_a_line(begun: Callable[[], subprocess.Popen[str]]) -> None:
    process = begun()
    alive = ranks(process)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    assert said.splitlines()[-1] == "stopped"
    assert "Traceback" not in said
    assert are_gone(alive)


def test_no_worker_outlives_a_stage_that_is_killed(
    begun: Callable[[], subprocess.Popen[str]],
) -> None:
    process = begun()
    alive = ranks(process)
    process.kill()
    process.wait()
    assert are_gone(alive)


def test_a_terminal_sees_one_bar(finished: Repository) -> None:
    finished.set(train__workers=2, train__epochs=2)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "stages.train"], cwd=finished.path, env=finished.environment,
        stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    said = b""
    with contextlib.suppress(OSError):  # how Linux says that nobody has the other end any more
        while part := os.read(ours, 65536):
            said += part
    os.close(ours)
    assert process.wait() == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said.decode())
    for once in ("epoch 1: validation loss", "epoch 2: validation loss", "training on cpu: 2"):
        assert text.count(once) == 1
    assert "loss nan" not in text  # there is no bar before there is a loss
    bars = re.findall(r"epoch \d +\S+ loss [^\r\n]*? to go", text)
    assert bars
    assert "\x1b[?25l" in said.decode()  # it moves: the cursor is hidden meanwhile
    assert said.decode().count("\x1b[?25l") == 1


def test_a_loss_that_is_no_number_is_said_once(training: Repository) -> None:
    training.set(train__learning_rate=900)
    done = training.run("python", "-m", "stages.train", check=False)
    assert done.returncode == 1
    assert done.stderr.count("error: the loss is ") == 1
    assert "prterun" not in done.stderr


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[tuple[str, str, Path]]:
    """Two hosts with an address each: network namespaces joined by a cable.

    Gives the name of each, and a program in place of ssh, by which mpirun reaches the second.
    """
    names = f"dw{os.getpid()}a", f"dw{os.getpid()}b"

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    made = []
    try:
        for name in names:
            ip("netns", "add", name)
            made.append(name)
        ip("link", "add", "cable", "netns", names[0], "type", "veth",
           "peer", "name", "cable", "netns", names[1])  # fmt: skip
        for number, name in enumerate(names):
            ip("-n", name, "addr", "add", f"10.213.77.{number + 1}/24", "dev", "cable")
            for device in ("lo", "cable"):
                ip("-n", name, "link", "set", device, "up")
        agent = tmp_path / "agent"
        agent.write_text(f'#!/bin/sh\nshift\nexec ip netns exec {names[1]} sh -c "$*"\n')
        agent.chmod(0o755)
        yield *names, agent
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no network namespaces here")
    finally:
        for name in made:
            subprocess.run(f"ip netns pids {name} | xargs -r kill -9", shell=True, check=False)
            subprocess.run(["ip", "netns", "del", name], check=False)


@pytest.mark.scale
def test_two_hosts_train_the_network_that_two_workers_of_one_do(
    finished: Repository, hosts: tuple[str, str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, _, agent = hosts
    monkeypatch.setenv("PRTE_MCA_plm_ssh_agent", str(agent))
    (finished.path / "hosts").write_text("10.213.77.1 slots=1\n10.213.77.2 slots=1\n")
    weights = finished.path / "models/digits.safetensors"
    found = []
    for name in ("", "hosts"):
        finished.set(train__workers=2, train__epochs=2, train__hosts=name)
        weights.unlink()
        command = ["ip", "netns", "exec", here, sys.executable, "-m", "stages.train"]
        said = finished.run(*(command if name else command[4:])).stdout
        assert "training on cpu: 2 workers share each batch\n" in said
        found.append(weights.read_bytes())
    assert found[0] == found[1]


@pytest.mark.scale
@pytest.mark.parametrize("moment", ["before it trains", "while it trains"])
def test_a_host_that_is_cut_off_ends_the_run_in_bounded_time(
    moment: str,
    training: Repository,
    hosts: tuple[str, str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here, there, agent = hosts
    monkeypatch.setenv("PRTE_MCA_plm_ssh_agent", str(agent))
    (training.path / "hosts").write_text("10.213.77.1 slots=1\n10.213.77.2 slots=1\n")
    training.set(train__hosts="hosts")
    line = ["ip", "netns", "exec", here, sys.executable, "-m", "stages.train"]
    # Not by a pipe: the agent in place of ssh would hold it open.
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen(
            line, cwd=training.path, env=training.environment, stdout=said, stderr=said
        )
    early = moment == "before it trains"
    while not (both_hosts_are_there(process) if early else checkpoints(training)):
        assert process.poll() is None, (tmp_path / "said").read_text()
        time.sleep(0.1)
    subprocess.run(["ip", "-n", there, "link", "set", "cable", "down"], check=True)
    assert process.wait(timeout=120) == 1  # 25 seconds, and mpirun's own end
    last = (tmp_path / "said").read_text().splitlines()[-1]
    assert last.startswith("error: the workers were stopped: ")
    assert "lost" in last
    if early:
        return
    # What was kept is whole, and the next run goes on from it, here and by one worker.
    kept = epochs_kept(training)
    training.set(train__hosts="", train__workers=1)
    resumed = subprocess.Popen(
        [sys.executable, "-m", "stages.train"], cwd=training.path, env=training.environment,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert resumed.stdout is not None
    lines = [next(resumed.stdout) for _ in range(2)]
    resumed.kill()
    resumed.communicate()
    assert lines[-1] == f"going on from a checkpoint, after epoch {kept}\n"
