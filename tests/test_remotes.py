"""Code travels by Git, data and weights by a DVC remote: a folder, or a bucket that speaks S3."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tests.conftest import Repository

pytestmark = pytest.mark.slow


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server of S3's kind on this machine, with an empty bucket `digits`."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    boto3.client("s3", endpoint_url=address).create_bucket(Bucket="digits")
    yield address
    server.stop()


@pytest.fixture
def forge(tmp_path: Path) -> Iterator[str]:
    """The address of an empty Git repository, served over the network as a forge does."""
    folder = tmp_path / "forge"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", folder / "digits.git"], check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = [f"--base-path={folder}", "--listen=127.0.0.1", f"--port={port}"]
    command = ["git", "daemon", "--reuseaddr", "--export-all", "--enable=receive-pack", *where]
    server = subprocess.Popen(command)
    while server.poll() is None:
        with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            break
        time.sleep(0.05)
    assert server.poll() is None
    yield f"git://127.0.0.1:{port}/digits.git"
    server.terminate()
    server.wait()


def clone(source: str | Path, path: Path) -> Repository:
    """Another person's clone, or the same person's on another machine."""
    subprocess.run(["git", "clone", "-q", str(source), path], check=True)
    repository = Repository(path)
    repository.run("git", "config", "user.name", path.name)
    repository.run("git", "config", "user.email", f"{path.name}@example.com")
    return repository


def use_bucket(repository: Repository, address: str) -> None:
    repository.run("dvc", "remote", "add", "--default", "store", "s3://digits/cache")
    repository.run("dvc", "remote", "modify", "store", "endpointurl", address)


def travel(repository: Repository, elsewhere: Path) -> Repository:
    """Commit and push, clone and pull; there is nothing left to do then."""
    repository.commit("Add a remote")
    pushed = repository.run("dvc", "push").stdout
    assert "pushed" in pushed
    other = clone(repository.path, elsewhere)
    assert not (elsewhere / "models/digits.safetensors").exists()
    other.run("dvc", "pull")
    for name in ("models/digits.safetensors", "models/digits.onnx", "data/npy/train-images.npy"):
        assert (elsewhere / name).read_bytes() == (repository.path / name).read_bytes()
    assert ran(other.run("dvc", "repro").stdout) == set()
    assert not other.run("git", "status", "--porcelain").stdout
    return other


def ran(said: str) -> set[str]:
    """The stages that `dvc repro` ran, by what it said."""
    return {line.split("'")[1] for line in said.splitlines() if line.startswith("Running stage")}


def test_a_folder_that_two_share(finished: Repository, tmp_path: Path) -> None:
    finished.run("dvc", "remote", "add", "--default", "store", str(tmp_path / "store"))
    other = travel(finished, tmp_path / "b")
    other.set(plot__smoothing=3)
    assert ran(other.run("dvc", "repro").stdout) == {"check", "plot"}


@pytest.mark.scale
def test_a_bucket_that_two_share_goes_to_every_point_that_the_other_was_at(
    finished: Repository, bucket: str, tmp_path: Path
) -> None:
    use_bucket(finished, bucket)
    finished.commit("Add a remote")
    finished.run("dvc", "push")  # the first run
    first, weights = (finished.path / "models/digits.safetensors").read_bytes(), []
    for rate, stages in ((0.03, []), (0.01, ["train"])):
        finished.set(train__learning_rate=rate)
        finished.run("dvc", "repro", *stages)
        finished.run("dvc", "push", "--run-cache")  # pushes the outputs of this moment
        weights.append((finished.path / "models/digits.safetensors").read_bytes())
        if rate == 0.03:
            finished.commit("A better rate; what it led to was never committed")

    other = clone(finished.path, tmp_path / "b")
    other.run("dvc", "pull", "--run-cache")
    assert (other.path / "models/digits.safetensors").read_bytes() == weights[0]
    assert ran(other.run("dvc", "repro").stdout) == set()
    other.set(train__learning_rate=0.01)
    said = other.run("dvc", "repro", "--pull", "train").stdout
    assert "Stage 'train' is cached - skipping run" in said
    assert (other.path / "models/digits.safetensors").read_bytes() == weights[1]
    other.run("git", "checkout", "-q", "--force", "HEAD~1")  # the first run
    other.run("dvc", "pull")
    assert (other.path / "models/digits.safetensors").read_bytes() == first
    listed = boto3.client("s3", endpoint_url=bucket).list_objects_v2(Bucket="digits")
    assert listed["KeyCount"] > 5


def test_what_was_pushed_and_not_committed_cannot_be_pulled(
    finished: Repository, tmp_path: Path
) -> None:
    finished.run("dvc", "remote", "add", "--default", "store", str(tmp_path / "store"))
    finished.commit("Add a remote")
    finished.set(train__learning_rate=0.03)
    finished.run("dvc", "repro", "train")
    finished.run("dvc", "push")
    other = clone(finished.path, tmp_path / "b")
    done = other.run("dvc", "pull", check=False)
    assert done.returncode
    assert "Checkout failed" in done.stderr
    finished.commit("Now it is")
    other.run("git", "pull", "-q")
    other.run("dvc", "pull")
    assert ran(other.run("dvc", "repro", "train").stdout) == set()


@pytest.mark.scale
def test_each_machine_takes_a_part_of_a_sweep(
    finished: Repository, forge: str, bucket: str, tmp_path: Path
) -> None:
    use_bucket(finished, bucket)
    finished.commit("Add a remote")
    finished.run("git", "push", "-q", forge, "main")
    finished.run("dvc", "push")
    for name, rates in {"one": "0.01,0.03", "two": "0.05,0.1"}.items():
        machine = clone(forge, tmp_path / name)
        machine.run("dvc", "pull")
        change = f"train.learning_rate=choice({rates})"
        machine.run("dvc", "exp", "run", "--queue", "-n", name, "-S", change, "train")
        machine.run("dvc", "exp", "run", "--run-all")
        machine.run("dvc", "exp", "push", "origin")

    desk = clone(forge, tmp_path / "desk")
    desk.run("dvc", "exp", "pull", "origin")
    names = {"one-1", "one-2", "two-1", "two-2"}
    assert names <= set(desk.run("dvc", "exp", "list", "--name-only").stdout.split())
    desk.run("dvc", "exp", "apply", "two-1")
    assert ran(desk.run("dvc", "repro", "train").stdout) == set()
    machine.run("dvc", "exp", "apply", "two-1")
    weights = [(m.path / "models/digits.safetensors").read_bytes() for m in (desk, machine)]
    assert weights[0] == weights[1]


def test_a_version_in_the_registry_is_had_from_anywhere(
    finished: Repository, forge: str, bucket: str, tmp_path: Path
) -> None:
    use_bucket(finished, bucket)
    finished.commit("Add a remote")
    finished.run("dvc", "push")
    finished.run("git", "tag", "-a", "digits@v1.0.0", "-m", "The first")
    finished.run("git", "push", "-q", "--follow-tags", forge, "main")
    first = (finished.path / "models/digits.safetensors").read_bytes()
    finished.set(train__learning_rate=0.03)
    finished.run("dvc", "repro", "train")
    finished.commit("Another network")
    finished.run("git", "push", "-q", forge, "main")
    elsewhere = Repository(tmp_path / "elsewhere")
    elsewhere.path.mkdir()
    elsewhere.run("dvc", "artifacts", "get", forge, "digits", "--rev", "v1.0.0")
    assert (elsewhere.path / "digits.safetensors").read_bytes() == first
