"""Where the files of a data set come from: a package, a web address or a folder, in turn."""

from __future__ import annotations

import importlib.util
import io
import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import pooch
import requests
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from stages.shared import datasets, idx
from stages.shared.datasets import IdxFile
from stages.shared.files import GzipError, inflated, naming
from stages.shared.program import UserError, in_a_line

RETRIES = 2  # after the first try of a web address; Pooch waits 1 s, then 2 s
TIMEOUT = 20.0  # seconds in which a server must connect, and then send something
_CHUNK = 1 << 14  # bytes; a server must send as many in twice that time
_HEADER = 4 + 4 * 255  # bytes of IDX's longest header
_MOST = 1 << 34  # bytes of one inflated file: 16 GiB
_MOST_LETTERS = 400  # of what is said of a fault: a server's words may be of any length
_ABSENT = (403, 404, 410)  # HTTP answers that another try will not change


class SourceError(UserError):
    """A source that cannot give a file, or a file that no source could give."""


class AbsentError(SourceError):
    """A folder that does not hold a file."""


def fetch(
    files: Mapping[str, IdxFile],
    sources: Sequence[str],
    target: Path,
    timeout: float = TIMEOUT,
) -> None:
    """Put `files` into `target`, inflated, each from the first source that gives the right bytes.

    A file appears under its name only once its SHA-256 is right; one that is there already and
    right is left alone. A source that failed is named, and asked last for the files after. Files
    without a SHA-256 are all taken from the source that gave the first: data sets do not mix.

    Args:
        files: what is wanted, by name.
        sources: `package:NAME` (an installed package that ships the files), an http or https
            base address, or a local folder. Each may hold NAME.gz or NAME. A file without a
            published size must be IDX, whose header says how long it is, and may not be another
            data set's.
        target: the folder for the files; made if it is not there.
        timeout: seconds in which a server must connect, and then send something; in twice as
            many it must send 16 KiB.

    Raises:
        SourceError: no source gave one of the files; the message lists each with its reason.
        OSError: `target` cannot be written.
    """
    pooch.get_logger().setLevel("WARNING")  # what it would say is said here
    console = Console()
    columns = (
        *(TextColumn("{task.description}"), BarColumn(), DownloadColumn()),
        *(TimeRemainingColumn(), TextColumn("to go")),
    )
    failures: Counter[str] = Counter()
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        for name, published in files.items():
            path = target / name
            if path.is_file() and published.sha256 == pooch.file_hash(path):
                console.out(f"{name}: already there")
                continue
            reasons = []
            for source in sorted(sources, key=lambda source: failures[source]):
                shown = in_a_line(source)
                try:
                    _fetch_from(source, name, published, target, timeout, _Bar(progress, name))
                except AbsentError as error:  # no fault: the folder may be there for another day
                    reasons.append(f"{shown}: {error}")
                except (ValueError, requests.RequestException, SourceError) as error:
                    failures[source] += 1
                    reasons.append(f"{shown}: {_why(error)}")
                    console.out(f"{name}: not from {reasons[-1]}")
                else:
                    console.out(f"{name}: {path.stat().st_size} bytes from {shown}")
                    if published.sha256 is None:
                        sources = [source]
                    break
            else:
                raise SourceError("\n       ".join([f"{name}: no source has it", *reasons]))


class _Bar:
    """A task of a progress display in the form that Pooch reports to."""

    def __init__(self, progress: Progress, name: str) -> None:
        self._progress = progress
        self._task = progress.add_task(name, total=None)

    @property
    def total(self) -> int | None:
        """Bytes that the server says it will send."""
        return None

    @total.setter
    def total(self, value: int) -> None:
        self._progress.update(self._task, total=value or None)

    def update(self, count: int) -> None:
        """Take note of some more bytes."""
        self._progress.update(self._task, advance=count)

    def reset(self) -> None:
        """Go back to the start: Pooch does so once all is there, and then fills the bar."""
        self._progress.reset(self._task)

    def close(self) -> None:
        """Nothing: the display ends all of its tasks."""


def _fetch_from(
    source: str, name: str, published: IdxFile, target: Path, timeout: float, bar: _Bar
) -> None:
    """Fetch one file from one source.

    Pooch does what it does well: a temporary neighbour, tries and waits, the SHA-256, the move.
    It is handed the inflated bytes as if they were what it downloads.
    """

    def download(_url: str, part: str, _pooch: object) -> None:
        Path(part).chmod(0o644)  # Pooch makes it for this user's eyes alone
        with (
            tempfile.TemporaryFile(dir=Path(part).parent) as packed,
            Path(part).open("wb") as plain,
        ):
            sink = _Bounded(packed, name, published.size)
            if web:
                _in_time(lambda: _copy_from_web(source, name, sink, timeout, bar), sink, timeout)
            else:
                _copy_from_folder(source, name, sink, either=published.sha256 is not None)
            packed.seek(0)
            _inflate(packed, plain, sink.size)

    if published.sha256 is None:
        (target / name).unlink(missing_ok=True)  # Pooch would take any file there for the right one
    web = source.startswith(("http://", "https://"))
    downloads = pooch.create(
        path=target,
        base_url=source,
        registry={name: published.sha256},
        retry_if_failed=RETRIES if web else 0,
    )
    with naming(target / name):
        downloads.fetch(name, downloader=download)
    # The sources of params.yaml have MNIST's under the same names: taken for somebody's own, they
    # would be trained on without a word.
    key = datasets.published_in(pooch.file_hash(target / name))
    if key and published.sha256 is None:
        (target / name).unlink()
        raise SourceError(f"it is that of download.dataset {key}, expected your own")


def _copy_from_web(base: str, name: str, sink: _Bounded, timeout: float, bar: _Bar) -> None:
    """Write what a server has under NAME.gz, else under NAME, to `sink`."""
    get = pooch.HTTPDownloader(timeout=timeout, chunk_size=_CHUNK, progressbar=bar)
    for address in (f"{base.rstrip('/')}/{name}.gz", f"{base.rstrip('/')}/{name}"):
        try:
            get(address, sink, None)
        except requests.HTTPError as error:
            if error.response is None or error.response.status_code not in _ABSENT:
                raise
            answer = str(error)
        except requests.RequestException:
            raise
        except OSError as error:
            if error.errno:  # of the disk that is written to
                raise
            # Of a file of certificates that is not there, which these variables name.
            raise SourceError(f"{error} (REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE)") from None
        else:
            return
    raise SourceError(answer)


def _in_time(work: Callable[[], None], sink: _Bounded, timeout: float) -> None:
    """Do some work that writes to a sink, as long as it writes 16 KiB in each two `timeout`.

    The library's own timeout begins anew with each byte: a byte a second would do for ever. Twice
    as long leaves a server that is silent to the library, which says what happened. The work
    cannot be stopped from outside, so it is done in a thread that is left to itself then.

    Raises:
        ValueError: it is too slow.
        Exception: what `work` raises.
    """
    raised: list[BaseException] = []

    def catch() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=catch, daemon=True)
    thread.start()
    before = -_CHUNK
    while thread.is_alive() and sink.taken >= before + _CHUNK:
        before = sink.taken
        thread.join(2 * timeout)
    if thread.is_alive():
        sink.close()
        raise ValueError(f"too slow: {sink.taken} bytes, and no {_CHUNK} more in {2 * timeout:g} s")
    if raised:
        raise raised[0]


def _copy_from_folder(source: str, name: str, sink: _Bounded, either: bool) -> None:
    """Write a folder's NAME.gz, else its NAME, to `sink`.

    Args:
        source: as `fetch` takes it.
        name: of the file.
        sink: takes its bytes.
        either: it is known what they must be, so that it does not matter which of both is read.
    """
    try:
        folder = _folder(source)
        there = [path for path in (folder / f"{name}.gz", folder / name) if path.exists()]
        if not there:
            raise AbsentError(f"holds neither {name}.gz nor {name}")
        if len(there) > 1 and not either:
            raise SourceError(f"holds both {name}.gz and {name}, expected one of them")
        if not there[0].is_file():
            raise SourceError(f"{there[0].name} is not a file")
        file = there[0].open("rb")
    except OSError as error:  # also of a name that is too long to be one
        raise SourceError(str(error.strerror)) from None
    with file:
        shutil.copyfileobj(file, sink, _CHUNK)


def _inflate(packed: BinaryIO, plain: BinaryIO, size: int | None) -> None:
    """Copy a file that may be gzipped, up to the size that it should have.

    Raises:
        SourceError: it goes on after `size` bytes; another try would not help.
        ValueError: it ends before, or its gzip data is damaged; Pooch tries again then.
    """
    done = 0
    try:
        with inflated(packed) as content:
            while chunk := content.read(_CHUNK):
                done += len(chunk)
                if size is not None and done > size:
                    raise SourceError(f"goes on after the expected {size} bytes")
                plain.write(chunk)
    except GzipError as error:
        raise ValueError(str(error)) from None
    if size is None:
        raise ValueError(f"ends after {done} bytes, within the header of IDX")
    if done < size:
        raise ValueError(f"ends after {done} of {size} bytes")


class _Bounded:
    """A file to write to that refuses more than a file of that size can take, gzipped or not.

    So an endless answer cannot fill the disk. Where the size is not known, the data must be IDX,
    whose header tells it.

    Attributes:
        size: bytes after inflating; None until it is known.
        taken: bytes as they came.
    """

    def __init__(self, file: BinaryIO, name: str, size: int | None) -> None:
        self._file = file
        self._name = name
        self._head = b""  # the first bytes, as long as the size is not known
        self._open = True
        self.size = size
        self.taken = 0

    def write(self, data: bytes) -> int:
        """Take the next bytes as they came.

        Raises:
            SourceError: they are not IDX, or more than expected; another try would not help.
        """
        if not self._open:
            raise SourceError("is not wanted any more")
        self.taken += len(data)
        if self.size is None:
            self._head += data
            self.size = self._promised()
        # Data that gzip cannot press grows by its header and 5 bytes for each 16 kB or more.
        if self.size is not None and self.taken > self.size + self.size // 1000 + 1000:
            raise SourceError(f"goes on after the expected {self.size} bytes")
        return self._file.write(data)

    def close(self) -> None:
        """Take no more."""
        self._open = False

    def flush(self) -> None:
        """Nothing: Pooch asks for it after each chunk."""

    def _promised(self) -> int | None:
        """The size by the header of the IDX data that has come so far, plain or gzipped."""
        if len(self._head) < 2:  # not yet to be told from gzip
            return None
        try:
            with inflated(io.BytesIO(self._head)) as content:
                head = content.read(4)
                head += content.read(4 * head[3]) if len(head) == 4 else b""
        except GzipError:
            head = b""
        try:
            size = idx.promised_size(head, Path(self._name)) if head else None
        except idx.IdxError as error:
            raise SourceError(f"not IDX: {str(error).partition(': ')[2]}") from None
        if size is None and len(self._head) > _HEADER + 1000:
            raise SourceError("not IDX: no header")
        if size is not None and size > _MOST:
            raise SourceError(f"its header promises {size} bytes, expected {_MOST} at most")
        return size


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
    """What went wrong, in a line that no letter of a server's steers."""
    inner: BaseException = error
    while isinstance(error, requests.RequestException) and inner.__context__:
        inner = inner.__context__  # the fault itself lies under layers of libraries
    # Pooch goes on to say that it deleted its copy, which reads as if the source's were gone.
    text = str(inner).partition(". Deleted")[0] or type(inner).__name__
    line = in_a_line(" ".join(text.split()))
    return line if len(line) <= _MOST_LETTERS else f"{line[:_MOST_LETTERS]}..."
