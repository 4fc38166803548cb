"""Where the files of a data set come from, and how each is known to be the right one."""

from __future__ import annotations

import importlib.util
import shutil
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pooch
import requests
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from stages.shared.program import UserError


@dataclass(frozen=True)
class Published:
    """A file as its makers published it, after inflating: a mirror may compress it again."""

    sha256: str | None  # None: any bytes will do
    size: int | None  # bytes


_NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
DATASETS: dict[str, dict[str, Published]] = {
    "mnist": {
        "train-images-idx3-ubyte": Published(
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db", 47_040_016
        ),
        "train-labels-idx1-ubyte": Published(
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5", 60_008
        ),
        "t10k-images-idx3-ubyte": Published(
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7", 7_840_016
        ),
        "t10k-labels-idx1-ubyte": Published(
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2", 10_008
        ),
    },
    "fashion_mnist": {
        "train-images-idx3-ubyte": Published(
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888", 47_040_016
        ),
        "train-labels-idx1-ubyte": Published(
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9", 60_008
        ),
        "t10k-images-idx3-ubyte": Published(
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b", 7_840_016
        ),
        "t10k-labels-idx1-ubyte": Published(
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34", 10_008
        ),
    },
    "own": {name: Published(None, None) for name in _NAMES},  # a user's, under the same names
}
RETRIES = 2  # after the first try of a web address; Pooch waits 1 s, then 2 s
TIMEOUT = 20.0  # seconds in which a server must connect, and then send something
_CHUNK = 1 << 18  # bytes
_ABSENT = (403, 404, 410)  # HTTP answers that another try will not change


class SourceError(UserError):
    """A source that cannot give a file, or a file that no source could give."""


def fetch(
    files: Mapping[str, Published],
    sources: Sequence[str],
    target: Path,
    timeout: float = TIMEOUT,
) -> None:
    """Put `files` into `target`, inflated, each from the first source that gives the right bytes.

    A file appears under its name only once its SHA-256 is right; one that is there already and
    right is left alone. A source that failed is named, and asked last for the files after.

    Args:
        files: what is wanted, by name.
        sources: `package:NAME` (an installed package that ships the files), an http or https
            base address, or a local folder. Each may hold NAME.gz or NAME.
        target: the folder for the files; made if it is not there.
        timeout: seconds in which a server must connect, and then send something.

    Raises:
        SourceError: no source gave one of the files; the message lists each with its reason.
        OSError: `target` cannot be written.
    """
    pooch.get_logger().setLevel("WARNING")  # what it would say is said here
    console = Console()
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn()
    failures: Counter[str] = Counter()
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        for name, published in files.items():
            path = target / name
            if path.is_file() and published.sha256 == pooch.file_hash(path):
                console.out(f"{name}: already there")
                continue
            task = progress.add_task(name, total=published.size)
            reasons = []

            def report(done: int, task: TaskID = task) -> None:
                progress.update(task, completed=done)

            for source in sorted(sources, key=lambda source: failures[source]):
                try:
                    _fetch_from(source, name, published, target, timeout, report)
                except (ValueError, requests.RequestException, SourceError) as error:
                    failures[source] += 1
                    reasons.append(f"{source}: {_why(error)}")
                    console.out(f"{name}: not from {reasons[-1]}")
                else:
                    console.out(f"{name}: {path.stat().st_size} bytes from {source}")
                    break
            else:
                raise SourceError("\n       ".join([f"{name}: no source has it", *reasons]))


def _fetch_from(
    source: str,
    name: str,
    published: Published,
    target: Path,
    timeout: float,
    report: Callable[[int], None],
) -> None:
    """Fetch one file from one source.

    Pooch does what it does well: a temporary neighbour, tries and waits, the SHA-256, the move.
    It is handed the inflated bytes as if they were what it downloads.
    """

    def download(_url: str, part: str, _pooch: object) -> None:
        Path(part).chmod(0o644)  # Pooch makes it for this user's eyes alone
        with Path(part).open("wb") as file:
            sink = _Inflater(file, published.size, report)
            if web:
                _copy_from_web(source, name, sink, timeout)
            else:
                _copy_from_folder(_folder(source), name, sink)
            sink.finish()

    if published.sha256 is None:
        (target / name).unlink(missing_ok=True)  # Pooch would take any file there for the right one
    web = source.startswith(("http://", "https://"))
    downloads = pooch.create(
        path=target,
        base_url=source,
        registry={name: published.sha256},
        retry_if_failed=RETRIES if web else 0,
    )
    downloads.fetch(name, downloader=download)


def _copy_from_web(base: str, name: str, sink: _Inflater, timeout: float) -> None:
    """Write what a server has under NAME.gz, else under NAME, to `sink`."""
    get = pooch.HTTPDownloader(timeout=timeout, chunk_size=_CHUNK)
    for address in (f"{base.rstrip('/')}/{name}.gz", f"{base.rstrip('/')}/{name}"):
        try:
            get(address, sink, None)
        except requests.HTTPError as error:
            if error.response is None or error.response.status_code not in _ABSENT:
                raise
            answer = str(error)
        else:
            return
    raise SourceError(answer)


def _copy_from_folder(folder: Path, name: str, sink: _Inflater) -> None:
    """Write a folder's NAME.gz, else its NAME, to `sink`."""
    for path in (folder / f"{name}.gz", folder / name):
        if path.exists():
            try:
                file = path.open("rb")
            except OSError as error:
                raise SourceError(str(error)) from None
            with file:
                shutil.copyfileobj(file, sink, _CHUNK)
            return
    raise SourceError(f"holds neither {name}.gz nor {name}")


def _folder(source: str) -> Path:
    """The local folder that a source without a server means; no code of a package is run."""
    kind, _, package = source.partition(":")
    if kind == "package":
        spec = importlib.util.find_spec(package) if package.isidentifier() else None
        if spec is None or not spec.submodule_search_locations:
            raise SourceError("no such package is installed")
        return Path(spec.submodule_search_locations[0])
    if "://" in source:
        raise SourceError(f"{kind} is not supported; use http, https, package:NAME or a folder")
    folder = Path(source)
    if not folder.is_dir():
        raise SourceError("no such folder")
    return folder


def _why(error: Exception) -> str:
    """What went wrong, in a line."""
    inner: BaseException = error
    while isinstance(error, requests.RequestException) and inner.__context__:
        inner = inner.__context__  # the fault itself lies under layers of libraries
    # Pooch goes on to say that it deleted its copy, which reads as if the source's were gone.
    text = str(inner).partition(". Deleted")[0] or type(inner).__name__
    return " ".join(text.split())


class _Inflater:
    """A file to write to that gunzips what is gzip and stops at the size to expect.

    So neither an endless answer nor a small file that inflates for ever can fill the disk.
    """

    def __init__(self, file: BinaryIO, size: int | None, report: Callable[[int], None]) -> None:
        self._file = file
        self._size = sys.maxsize - 1 if size is None else size
        self._least = 0 if size is None else size
        self._report = report
        self._done = 0
        self._gzip: zlib._Decompress | None = None
        self._begun = False

    def write(self, data: bytes) -> int:
        """Take the next bytes as they came.

        Raises:
            SourceError: there are more bytes than expected; another try would not help.
            ValueError: broken gzip data.
        """
        taken = len(data)
        if not self._begun and data:
            self._begun = True
            if data[0] == 0x1F:  # IDX begins with 0
                self._gzip = _new_gunzip()
        while data and self._gzip:
            if self._gzip.eof:
                self._gzip = _new_gunzip()  # gzip files may be strung together
            try:
                self._keep(self._gzip.decompress(data, self._size - self._done + 1))
            except zlib.error as error:
                raise ValueError(f"broken gzip data: {error}") from None
            data = self._gzip.unused_data
        self._keep(data)
        return taken

    def flush(self) -> None:
        """Nothing: Pooch asks for it after each chunk."""

    def finish(self) -> None:
        """Raise ValueError if the file ended early."""
        if self._done < self._least:
            raise ValueError(f"ends after {self._done} of {self._least} bytes")
        if self._gzip and not self._gzip.eof:
            raise ValueError("ends in the middle of its gzip data")

    def _keep(self, plain: bytes) -> None:
        self._done += len(plain)
        if self._done > self._size:
            raise SourceError(f"goes on after the expected {self._size} bytes")
        self._file.write(plain)
        self._report(self._done)


def _new_gunzip() -> zlib._Decompress:
    return zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
