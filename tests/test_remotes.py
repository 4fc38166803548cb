"""Data and weights travel by a DVC remote: a local folder, or a bucket that speaks S3."""

from __future__ import annotations

from collections.abc import Iterator
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


def travel(repository: Repository, elsewhere: Path) -> None:
    """Push, clone, pull; there is nothing left to do then."""
    pushed = repository.run("dvc", "push").stdout
    assert "pushed" in pushed
    repository.commit("Add a remote")
    repository.run("git", "clone", "-q", str(repository.path), str(elsewhere))
    clone = Repository(elsewhere)
    assert not (elsewhere / "models/digits.safetensors").exists()
    clone.run("dvc", "pull")
    for name in ("models/digits.safetensors", "data/npy/train-images.npy"):
        assert (elsewhere / name).read_bytes() == (repository.path / name).read_bytes()
    assert "Data and pipelines are up to date." in clone.run("dvc", "repro").stdout
    assert not clone.run("git", "status", "--porcelain").stdout


def test_what_another_clone_has_trained_is_not_trained_again(
    finished: Repository, tmp_path: Path
) -> None:
    finished.run("dvc", "remote", "add", "--default", "shelf", str(tmp_path / "shelf"))
    finished.run("dvc", "push")
    finished.commit("Add a remote")
    finished.run("dvc", "exp", "run", "-S", "train.learning_rate=0.01")
    finished.run("dvc", "push", "--run-cache")
    finished.run("git", "restore", ".")
    finished.run("git", "clone", "-q", str(finished.path), str(tmp_path / "clone"))
    clone = Repository(tmp_path / "clone")
    clone.run("dvc", "pull", "--run-cache")
    said = clone.run("dvc", "exp", "run", "--pull", "-S", "train.learning_rate=0.01").stdout
    assert "Stage 'train' is cached - skipping run" in said


def test_a_local_folder(finished: Repository, tmp_path: Path) -> None:
    finished.run("dvc", "remote", "add", "--default", "shelf", str(tmp_path / "shelf"))
    travel(finished, tmp_path / "clone")


def test_a_bucket(finished: Repository, bucket: str, tmp_path: Path) -> None:
    finished.run("dvc", "remote", "add", "--default", "bucket", "s3://digits/cache")
    finished.run("dvc", "remote", "modify", "bucket", "endpointurl", bucket)
    travel(finished, tmp_path / "clone")
    listed = boto3.client("s3", endpoint_url=bucket).list_objects_v2(Bucket="digits")
    assert listed["KeyCount"] > 5
