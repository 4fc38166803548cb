"""Sources of files: each way to fail is named, the next is asked, and only whole files are left."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest import mock

import pytest

from stages.shared import sources
from stages.shared.datasets import DATASETS, IdxFile
from stages.shared.sources import SourceError, fetch

CONTENT = b"\0\0\x08\1\0\1\x86\xa0" + bytes(range(250)) * 400
BOMB = gzip.compress(CONTENT + bytes(50_000_000), 1)  # made before anybody waits for it
ZIPPED = gzip.compress(CONTENT)
NAME = "digits-idx1-ubyte"
FILES = {NAME: IdxFile(len(CONTENT), hashlib.sha256(CONTENT).hexdigest())}
OWN = {NAME: IdxFile()}
TIMEOUT = 0.2  # seconds, in place of the twenty that a real server is given


class Mirror(ThreadingHTTPServer):
    """A web server on this machine; the first part of the path says how it behaves."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []
        self.over = threading.Event()

    def at(self, behaviour: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{behaviour}"


class Handler(BaseHTTPRequestHandler):
    server: Mirror

    def log_message(self, *_: object) -> None:
        """Keep quiet."""

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        headers.setdefault("Content_Length", str(len(body)))
        for key, value in headers.items():
            if value:
                self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        behaviour = self.path.split("/")[1]
        before = sum(path.startswith(f"/{behaviour}/") for path in self.server.asked) - 1
        # The client may have had enough.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            getattr(self, behaviour)(before)

    def good(self, _: int) -> None:
        self.answer(200, ZIPPED)

    def inflated_on_the_way(self, _: int) -> None:
        self.answer(200, ZIPPED, Content_Encoding="gzip")

    def plain_only(self, _: int) -> None:
        if self.path.endswith(".gz"):
            self.answer(404)
        else:
            self.answer(200, CONTENT)

    def in_two_members(self, _: int) -> None:
        self.answer(200, gzip.compress(CONTENT[:999]) + gzip.compress(CONTENT[999:]))

    def missing(self, _: int) -> None:
        self.answer(404)

    def steers(self, _: int) -> None:
        self.send_response(404, "\x1b[31mEvil\x1b[2J")
        self.end_headers()

    def garbles(self, _: int) -> None:
        self.wfile.write(b"\x1b[31mgarbage\x07\r\n\r\n")

    def babbles(self, _: int) -> None:
        self.send_response(404, "x" * 60_000)
        self.end_headers()

    def recovers(self, before: int) -> None:
        if before < 2:
            self.answer(503)
        else:
            self.answer(200, ZIPPED)

    def broken(self, _: int) -> None:
        self.answer(503)

    def hangs(self, _: int) -> None:
        self.server.over.wait(30)

    def hangs_half_way(self, _: int) -> None:
        self.answer(200, ZIPPED[:100], Content_Length=str(len(ZIPPED)))
        self.server.over.wait(30)

    def cut(self, _: int) -> None:
        self.answer(200, ZIPPED[:-100], Content_Length=str(len(ZIPPED)))

    def drops(self, _: int) -> None:
        tenths = int(self.path.split("/")[2])
        self.answer(200, ZIPPED[: len(ZIPPED) * tenths // 10], Content_Length=str(len(ZIPPED)))

    def stops_short(self, _: int) -> None:
        self.answer(200, ZIPPED, Content_Length=str(len(ZIPPED) - 100))

    def cut_once(self, before: int) -> None:
        if before:
            self.answer(200, ZIPPED)
        else:
            self.cut(before)

    def cut_unseen(self, _: int) -> None:
        self.answer(200, ZIPPED[:-100], Content_Length="")

    def wrong(self, _: int) -> None:
        self.answer(200, gzip.compress(CONTENT[:-1] + b"?"))

    def page(self, _: int) -> None:
        self.answer(200, b"<html>Please log in</html>")

    def damaged(self, _: int) -> None:
        self.answer(200, ZIPPED[:50] + b"\xff" * 50 + ZIPPED[100:])

    def trickles(self, _: int) -> None:
        self.answer(200, ZIPPED[:100], Content_Length=str(len(ZIPPED)))
        for byte in ZIPPED[100:]:
            if self.server.over.wait(0.02):
                break
            self.wfile.write(bytes([byte]))

    def trickles_in_chunks(self, _: int) -> None:
        self.answer(200, Content_Length="", Transfer_Encoding="chunked")
        for byte in ZIPPED:
            if self.server.over.wait(0.02):
                break
            self.wfile.write(b"1\r\n%c\r\n" % byte)

    def in_chunks(self, _: int) -> None:
        self.answer(200, Content_Length="", Transfer_Encoding="chunked")
        for first, last in ((0, 1), (1, 3), (3, len(ZIPPED)), (0, 0)):
            self.wfile.write(b"%x\r\n%b\r\n" % (last - first, ZIPPED[first:last]))

    def leaves(self, _: int) -> None:
        self.answer(302, Location="file:///etc/hostname")

    def loops(self, _: int) -> None:
        self.answer(302, Location=self.path)

    def bomb(self, _: int) -> None:
        self.answer(200, BOMB)

    def endless(self, _: int) -> None:
        self.answer(200, Content_Length="")
        while not self.server.over.is_set():
            self.wfile.write(bytes(1 << 16))


@contextlib.contextmanager
def serving() -> Iterator[Mirror]:
    """A mirror that answers, and that no proxy stands before."""
    server = Mirror()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        with mock.patch.dict(os.environ, NO_PROXY="127.0.0.1"):
            yield server
    finally:
        server.over.set()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    with serving() as server:
        yield server


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits between tries: written down, not waited for."""
    kept: list[float] = []
    monkeypatch.setattr(time, "sleep", kept.append)
    return kept


def whole(folder: Path) -> bool:
    """`folder` holds the one file, right to the last byte, and nothing else."""
    return [path.name for path in folder.iterdir()] == [NAME] and (
        folder / NAME
    ).read_bytes() == CONTENT


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize(
    "behaviour", ["good", "inflated_on_the_way", "plain_only", "in_two_members", "in_chunks"]
)
def test_a_server_may_compress_or_not(
    mirror: Mirror, tmp_path: Path, behaviour: str, own: bool
) -> None:
    fetch(OWN if own else FILES, [mirror.at(behaviour)], tmp_path / "raw")
    assert whole(tmp_path / "raw")
    assert (tmp_path / "raw" / NAME).stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(("behaviour", "tries"), [("recovers", 3), ("cut_once", 2)])
def test_a_passing_fault_is_tried_again_after_a_growing_wait(
    mirror: Mirror, tmp_path: Path, waits: list[float], behaviour: str, tries: int
) -> None:
    fetch(FILES, [mirror.at(behaviour)], tmp_path)
    assert whole(tmp_path)
    assert len(mirror.asked) == tries
    assert waits == sorted(set(waits))
    assert len(waits) == tries - 1


FAULTS = {
    "missing": "404 Client Error: Not Found",
    "steers": r"404 Client Error: \x1b[31mEvil\x1b[2J",
    "garbles": r"\x1b[31mgarbage\x07",
    "babbles": "xxx...",
    "broken": "503 Server Error",
    "hangs": "timed out",
    "hangs_half_way": "timed out",
    "cut": "100 more expected",
    "cut_unseen": "broken gzip data: Compressed file ended",
    "wrong": "does not match the known hash: expected",
    "page": f"ends after 26 of {len(CONTENT)} bytes",
    "damaged": "broken gzip data",
    "loops": "Exceeded 30 redirects",
    "bomb": f"goes on after the expected {len(CONTENT)} bytes",
    "endless": f"goes on after the expected {len(CONTENT)} bytes",
}
LASTING = {
    "missing": 2,
    "steers": 2,
    "babbles": 2,
    "bomb": 1,
    "endless": 1,
}  # requests that are made of it, no more


@pytest.mark.parametrize("behaviour", FAULTS)
def test_a_failing_server_is_named_and_the_next_is_asked(
    mirror: Mirror, tmp_path: Path, capsys: pytest.CaptureFixture[str], behaviour: str
) -> None:
    bad, good = mirror.at(behaviour), mirror.at("good")
    fetch(FILES, [bad, good], tmp_path, TIMEOUT)
    assert whole(tmp_path)
    failed, done = capsys.readouterr().out.splitlines()
    assert failed.startswith(f"{NAME}: not from {bad}: ")
    assert FAULTS[behaviour] in failed
    assert len(failed) < 500
    assert done == f"{NAME}: {len(CONTENT)} bytes from {good}"
    if behaviour in LASTING:
        assert len(mirror.asked) == LASTING[behaviour] + 1
    elif behaviour != "loops":
        assert len(mirror.asked) == sources.RETRIES + 2


def test_certificates_that_are_not_there_end_one_source_and_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "nowhere"))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / NAME).write_bytes(CONTENT)
    fetch(FILES, ["https://127.0.0.1:1/", str(tmp_path / "folder")], tmp_path / "raw", TIMEOUT)
    failed, _ = capsys.readouterr().out.splitlines()
    assert f"invalid path: {tmp_path / 'nowhere'} (REQUESTS_CA_BUNDLE" in failed


def refused() -> str:
    """The address of a server that is not there."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def test_where_every_source_fails_one_message_lists_them(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "wrong").mkdir()
    (tmp_path / "wrong" / NAME).write_bytes(CONTENT[:-1] + b"?")
    expected = {
        "package:nope": "no such package is installed",
        "package:": "no such package is installed",
        "package:os": "no such package is installed",
        "package:rich": f"holds neither {NAME}.gz nor {NAME}",
        "ftp://127.0.0.1/": "ftp is not supported; use http, https, package:NAME or a folder",
        "http://": "No host supplied",
        str(tmp_path / "nowhere"): "no such folder",
        str(tmp_path / "empty"): f"holds neither {NAME}.gz nor {NAME}",
        str(tmp_path / "wrong"): "does not match the known hash",
        refused(): "Connection refused",
        mirror.at("missing"): "404",
        mirror.at("cut"): "100 more expected",
    }
    with pytest.raises(SourceError) as caught:
        fetch(FILES, list(expected), tmp_path / "raw", TIMEOUT)
    first, *lines = str(caught.value).splitlines()
    assert first == f"{NAME}: no source has it"
    assert len(lines) == len(expected)
    for line, (source, reason) in zip(lines, expected.items(), strict=True):
        assert line.strip().startswith(f"{source}: ")
        assert reason in line
        assert "Deleted" not in line
    assert list((tmp_path / "raw").iterdir()) == []


def test_no_source_steers_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nowhere, folder = "\x1b[31m\nnowhere", tmp_path / "\x1b[2J\n"
    with pytest.raises(SourceError) as caught:
        fetch(FILES, [nowhere], tmp_path / "raw")
    assert str(caught.value).splitlines()[1:] == [r"       \x1b[31m\nnowhere: no such folder"]
    folder.mkdir()
    (folder / NAME).write_bytes(CONTENT)
    fetch(FILES, [nowhere, str(folder)], tmp_path / "raw")
    said = capsys.readouterr().out
    assert said.replace("\n", "").isprintable()
    assert said.count("\n") == 3


def test_folders_hold_files_plain_or_zipped(tmp_path: Path) -> None:
    for name, content in ((NAME, CONTENT), (f"{NAME}.gz", ZIPPED)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_bytes(content)
        fetch(FILES, [str(folder)], tmp_path / f"raw-{name}")
        assert whole(tmp_path / f"raw-{name}")


def test_a_package_is_searched_without_running_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "digits_for_test"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('was run')")
    (package / f"{NAME}.gz").write_bytes(ZIPPED)
    monkeypatch.syspath_prepend(tmp_path)
    fetch(FILES, ["package:digits_for_test"], tmp_path / "raw")
    assert whole(tmp_path / "raw")


def test_a_right_file_is_kept_and_a_wrong_one_replaced(
    mirror: Mirror, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / NAME).write_bytes(CONTENT[:-1])
    fetch(FILES, [mirror.at("good")], tmp_path)
    capsys.readouterr()
    fetch(FILES, [mirror.at("good")], tmp_path)
    assert capsys.readouterr().out == f"{NAME}: already there\n"
    assert whole(tmp_path)
    assert len(mirror.asked) == 1


def test_a_source_that_failed_is_asked_last_for_the_next_file(
    mirror: Mirror, tmp_path: Path
) -> None:
    two = {NAME: FILES[NAME], "copy": FILES[NAME]}
    fetch(two, [mirror.at("hangs"), mirror.at("good")], tmp_path, TIMEOUT)
    asked = [path.split("/")[1] for path in mirror.asked]
    assert asked == ["hangs"] * (sources.RETRIES + 1) + ["good"] * 2


def test_stopped_in_the_middle_nothing_is_left(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while the bytes come in, and a disk that is full: no source's fault."""
    for fault in (KeyboardInterrupt(), OSError(28, "No space left on device")):

        def stop(*_: object, fault: BaseException = fault) -> None:
            raise fault

        with monkeypatch.context() as patched:
            patched.setattr(sources, "_inflate", stop)
            with pytest.raises(type(fault)):
                fetch(FILES, [mirror.at("good"), mirror.at("good")], tmp_path)
        assert list(tmp_path.iterdir()) == []


def test_the_offline_package_holds_the_real_mnist(tmp_path: Path) -> None:
    """All four files, by the SHA-256 of their makers, with no network."""
    fetch(DATASETS["mnist"].files, ["package:jittor_offline"], tmp_path)
    for name, published in DATASETS["mnist"].files.items():
        content = (tmp_path / name).read_bytes()
        assert len(content) == published.size
        assert hashlib.sha256(content).hexdigest() == published.sha256
    assert len(list(tmp_path.iterdir())) == 4


def test_own_files_are_taken_as_they_are_but_whole(tmp_path: Path) -> None:
    folder, target = tmp_path / "own", tmp_path / "raw"
    folder.mkdir()
    for content in (CONTENT, b"\0\0\x08\1\0\0\0\1x"):
        (folder / f"{NAME}.gz").write_bytes(gzip.compress(content))
        fetch(OWN, [str(folder)], target)
        assert (target / NAME).read_bytes() == content


BIG = b"\0\0\x08\3" + b"\0\1\0\0" * 2 + b"\0\0\0\x10"
OWN_FAULTS = {
    "a page": (b"<html>Please log in</html>", "not IDX: starts with the bytes 3c 68"),
    "a page in gzip": (gzip.compress(b"<html>" * 999), "not IDX: starts with the bytes 3c 68"),
    "half of it": (ZIPPED[:-10], "broken gzip data: Compressed file ended"),
    "plain, cut": (CONTENT[:-1], f"ends after {len(CONTENT) - 1} of {len(CONTENT)} bytes"),
    "too much": (CONTENT + b"?", f"goes on after the expected {len(CONTENT)} bytes"),
    "a bomb": (BOMB, "goes on after the expected"),
    "no type": (b"\0\0\7\1" + CONTENT[4:], "not IDX: element type 07"),
    "too large": (BIG, "expected 17179869184 at most"),
    "nothing": (b"", "ends after 0 bytes, within the header of IDX"),
    "a header cut": (CONTENT[:6], "ends after 6 bytes, within the header of IDX"),
}


@pytest.mark.parametrize(("content", "said"), OWN_FAULTS.values(), ids=OWN_FAULTS.keys())
def test_own_files_that_are_not_idx_are_refused_before_they_are_kept(
    tmp_path: Path, content: bytes, said: str
) -> None:
    folder, target = tmp_path / "own", tmp_path / "raw"
    folder.mkdir()
    (folder / NAME).write_bytes(content)
    with pytest.raises(SourceError) as caught:
        fetch(OWN, [str(folder)], target)
    assert said in str(caught.value)
    assert list(target.iterdir()) == []


def test_of_two_own_files_none_is_chosen(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(CONTENT)
    (tmp_path / f"{NAME}.gz").write_bytes(ZIPPED)
    with pytest.raises(SourceError, match=f"holds both {NAME}.gz and {NAME}, expected one"):
        fetch(OWN, [str(tmp_path)], tmp_path / "raw")
    fetch(FILES, [str(tmp_path)], tmp_path / "raw")  # by the SHA-256 either is right
    assert whole(tmp_path / "raw")


def test_own_files_all_come_from_one_source(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty, half, other = (tmp_path / name for name in ("empty", "half", "other"))
    for folder in (empty, half, other):
        folder.mkdir()
    (half / NAME).write_bytes(CONTENT)
    (other / "labels").write_bytes(CONTENT)
    sources = [str(folder) for folder in (empty, half, other)]
    with pytest.raises(SourceError, match=r"labels: no source has it\n.*half: holds neither"):
        fetch({NAME: IdxFile(), "labels": IdxFile()}, sources, tmp_path / "raw")
    # A folder that holds nothing is no fault to speak of.
    assert capsys.readouterr().out == f"{NAME}: {len(CONTENT)} bytes from {half}\n"


def test_mnist_is_nobodys_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The sources of params.yaml have it under the same names, and ask for it last."""
    name = "t10k-labels-idx1-ubyte"
    (tmp_path / "mine").mkdir()
    sources = [str(tmp_path / "none"), "package:jittor_offline", str(tmp_path / "mine")]
    with pytest.raises(SourceError, match=f"{name}: no source has it\n.*none"):
        fetch({name: IdxFile()}, sources, tmp_path / "raw")
    said = "package:jittor_offline: it is that of download.dataset mnist, expected your own"
    assert f"{name}: not from {said}" in capsys.readouterr().out
    assert not list((tmp_path / "raw").iterdir())
    (tmp_path / "mine" / name).write_bytes(b"\0\0\x08\1\0\0\0\1x")
    fetch({name: IdxFile()}, sources, tmp_path / "raw")
    assert (tmp_path / "raw" / name).stat().st_size == 9


def test_what_is_no_file_or_no_name_is_passed_over(tmp_path: Path) -> None:
    pipe, good = tmp_path / "pipe", tmp_path / "good"
    for folder in (pipe, good):
        folder.mkdir()
    os.mkfifo(pipe / NAME)
    (good / NAME).write_bytes(CONTENT)
    fetch(OWN, [str(pipe), "x" * 5000, f"{tmp_path}/{'y' * 300}", str(good)], tmp_path / "raw")
    assert whole(tmp_path / "raw")


@pytest.mark.parametrize("files", [FILES, OWN], ids=["known", "own"])
@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        ("trickles", "too slow: "),
        ("trickles_in_chunks", "too slow: "),
        ("endless", "goes on after the expected|not IDX"),
        ("bomb", "goes on after the expected|not IDX"),
        ("page", "ends after|not IDX"),
        ("leaves", "No connection adapters"),
    ],
)
def test_no_server_can_hold_or_fill_the_machine(
    mirror: Mirror, tmp_path: Path, files: dict[str, IdxFile], behaviour: str, said: str
) -> None:
    with pytest.raises(SourceError, match=said):
        fetch(files, [mirror.at(behaviour)], tmp_path / "raw", TIMEOUT)
    assert list((tmp_path / "raw").iterdir()) == []
