"""Jittor's start: the one place that imports it, and so decides how it is built.

Jittor reads its environment while it is imported and compiles its core then, which takes minutes
the first time. Every other module takes `jt` and `nn` from here, so that no order of imports can
start it another way. It starts for the device that `device.select` settled, or for the CPU. Run as
a program, it builds the core.
"""

from __future__ import annotations

from stages.shared.program import UserError, is_ours, last_words, run

# isort: split
# From here on Ctrl-C is answered in a line, also while the rest is imported.
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from stages.shared.files import remove
from stages.shared.network import compiling, device, libraries, proof
from stages.shared.network.cuda import Driver, Toolkit
from stages.shared.network.device import Device

# Run by `python -c`, to try a GPU. Where the card does not run a kernel, Jittor says nothing, and
# the numbers are wrong. Each needs another part: a kernel, cuBLAS, cuDNN, and cuRAND with CUB.
_TRIAL = """
import jittor as jt
from jittor import nn
jt.flags.use_cuda = 1
ones = jt.ones((1, 1, 4, 4))
found = [(ones * 2).sum().item(), jt.matmul(ones[0, 0], ones[0, 0]).sum().item()]
found += [nn.conv2d(ones, ones[:, :, :3, :3]).sum().item(), float((jt.rand(99) > 0).sum().item())]
expected = [32.0, 64.0, 36.0, 99.0]
if found != expected:
    raise SystemExit(f"the card computes {found}, expected {expected}")
"""


# Variables of Jittor's that the user has set, and that can be what keeps it from starting.
_GIVEN = [
    name
    for name in ("cc_path", "cc_flags", "gdb_path", "log_v", "log_vprefix")
    if name in os.environ
]
_MOST_THREADS = 1024  # OpenMP ends the process where the system gives it fewer than it asks for


class JittorError(UserError):
    """Jittor cannot be built here, or does not work on the device."""


def use(asked: str, seed: int = 0) -> Device:
    """Point Jittor at a device and seed its generators.

    Args:
        asked: "cpu" or "cuda".
        seed: of the first weights; without one Jittor takes the clock.

    Returns:
        The device.

    Raises:
        JittorError: "cuda" was asked for, but `device.select` was not, before this module started
            Jittor.
    """
    found = device.taken() if asked == "cuda" else Device("cpu", "params.yaml asks for it")
    if found.name != asked:
        raise JittorError("Jittor was started for the CPU, and cannot compute on 'cuda' any more")
    jt.flags.use_cuda = int(found.name == "cuda")
    # Jittor takes one number of 31 bits. Hashed, so that neighbouring seeds have nothing in common.
    jt.set_global_seed(int(np.random.SeedSequence((seed, 0)).generate_state(1)[0] >> 1))
    return found


def _settings() -> dict[str, str]:
    """The variables that Jittor reads at its import, where the user has not set them."""
    settings = {
        "log_silent": "1",
        "use_mpi": "0",  # an mpicc on the PATH would make it build a module that nothing here uses
        "FIX_TORCH_ERROR": "0",  # it would import PyTorch, where that is installed, for nothing
        # Two libraries of kernels that nothing here calls, which are fetched at the import. The
        # first does not compile with CUDA of today; Jittor's own transposition takes its place.
        "use_cutt": "0",
        "use_cutlass": "0",
        # NVIDIA's libraries would round the factors of each product to 10 bits.
        "NVIDIA_TF32_OVERRIDE": "0",
        # Jittor installs its own handler for Ctrl-C, unless this variable of Jupyter's is there.
        # Here `program` handles Ctrl-C.
        "JPY_PARENT_PID": "0",
    }
    name = f"python{sys.version_info[0]}.{sys.version_info[1]}-config"
    places = [Path(sys.executable).parent, Path("/usr/bin"), Path("/usr/local/bin")]
    if not any((place / name).is_file() for place in places):
        # Jittor looks for the headers through this script, and not beside the base interpreter.
        settings["python_config_path"] = str(Path(sys.base_prefix) / "bin" / name)
    return settings


def _avoid_spaces(cache: Path) -> str:
    """Reach an environment whose path has a space through a link that has none.

    Jittor hands its own path to the compiler unquoted. The link's name is that of the path, since
    Jittor keys its cache by where it lies.

    Returns:
        The environment's path, or that of the link to it.
    """
    if not any(letter.isspace() for letter in sys.prefix):
        return sys.prefix
    name = hashlib.sha256(sys.prefix.encode()).hexdigest()[:8]
    link = cache / f"env-{name}"
    if not link.is_symlink():
        link.symlink_to(sys.prefix)
    sys.path[:] = [entry.replace(sys.prefix, str(link), 1) for entry in sys.path]
    sys.executable = sys.executable.replace(sys.prefix, str(link), 1)
    return str(link)


def _find_cache() -> Path:
    """Settle where Jittor keeps what it builds, before it looks for itself.

    Left to itself it writes a JITTOR_HOME that is not HOME into a file of HOME's, for all later
    runs, and reads that file again in each compiler that it starts: where another process writes it
    at that moment, the compiler fails. So HOME becomes the same folder, for this process.

    Returns:
        The folder, which is there and can be written.

    Raises:
        JittorError: it cannot be, or Jittor could not compile there.
    """
    if os.environ.get("HOME") == "":  # for Python that is the root of all folders
        raise JittorError("HOME is empty, expected a folder that can be written")
    try:
        homes = {"HOME": Path.home()}
    except RuntimeError:
        raise JittorError("HOME is not set, expected a folder that can be written") from None
    asked = os.environ.get("JITTOR_HOME")
    for name in homes.keys() | {"JITTOR_HOME"}:
        given = os.environ.get(name)
        if given and not Path(given).is_absolute():  # another folder for each place it is run from
            raise JittorError(f"{name} is {given}, expected a path that begins with /")
    homes["JITTOR_HOME"] = Path(asked or homes["HOME"]).absolute()
    for name, home in homes.items():
        cache = home / ".cache" / "jittor"
        try:
            cache.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=cache).close()
        except OSError as error:
            raise JittorError(
                f"{name} is {home}, but Jittor cannot write to {cache} ({error.strerror});"
                f" set {name} to a folder that can be written"
            ) from None
    if any(letter.isspace() for letter in str(homes["JITTOR_HOME"])):
        raise JittorError(
            f"{'JITTOR_HOME' if asked else 'HOME'} is {homes['JITTOR_HOME']}, expected a path"
            " without spaces: Jittor gives it to the compiler as it is"
            + ("" if asked else "; set JITTOR_HOME to a folder whose path has none")
        )
    os.environ["JITTOR_HOME"] = os.environ["HOME"] = str(homes["JITTOR_HOME"])
    cache = homes["JITTOR_HOME"] / ".cache" / "jittor"
    kept = cache / "config.json"
    try:
        json.loads(kept.read_text(encoding="utf-8"))
    except FileNotFoundError:
        pass
    except (OSError, ValueError):
        remove(kept)  # Jittor would stop at it, and needs none
    for lock in cache.glob("jt*/*/*/*/*/*/jittor.lock"):  # each is a file, and empty
        if lock.is_dir():
            remove(lock)
    return cache


def _remove_damaged(cache: Path) -> None:
    """See to it that Jittor meets nothing in its cache that is damaged; it makes it again."""
    import jittor_utils

    folder = Path(jittor_utils.cache_path)
    for path in libraries.check(folder):
        print(f"{path} was damaged; it is built again", file=sys.stderr)
    # Of oneDNN, which no network here computes with, it is enough that it can be loaded: to look at
    # its 50 MB would take longer than all else here.
    for path in cache.glob("mkl/*/lib/libmkldnn.so"):
        if libraries.is_whole(path):
            continue
        # All of it goes, as what Jittor unpacks over it would be written into its files.
        remove(path.parents[1])
        print(f"{path} was damaged; it is unpacked again", file=sys.stderr)
    stamp = folder / "data.md5"  # read as text, whatever it holds
    if stamp.is_dir() or (stamp.is_file() and not stamp.read_bytes().isascii()):
        remove(stamp)


def _avoid_processes() -> None:
    """Keep Jittor from starting its pool of processes, with which it compiles its core.

    `_build` does that elsewhere. Here they would idle as long as this process runs, and where one
    of them is killed (memory ran out, say) the end of this one would wait for ever.
    """
    os.environ["DISABLE_MULTIPROCESSING"] = "1"
    threads = os.environ.get("use_parallel_op_compiler")
    import jittor_utils  # noqa: F401

    # It turns off the threads that compile kernels as well.
    if threads is None:
        os.environ.pop("use_parallel_op_compiler", None)
    else:
        os.environ["use_parallel_op_compiler"] = threads


def _is_built() -> bool:
    """Whether Jittor's core stands in its cache, for this compiler, Python and CPU."""
    import jittor_utils

    folder = Path(jittor_utils.cache_path)
    return any(folder.glob("cu*/jittor_core*.so" if device.taken().cuda else "jittor_core*.so"))


def _arm_log() -> None:
    """Let a fatal fault of Jittor's be fatal, although its log is silent.

    Jittor ends its import by such a message, where a library is missing, say. Silenced, it says
    nothing and goes on: with the CPU in the first run, and with half of CUDA in the second.
    """
    import jittor_utils

    def fatal(*words: object) -> None:
        raise RuntimeError("".join(map(str, words)))

    jittor_utils.LOG.f = fatal


def _build(program: str = "import jittor") -> str | None:
    """Import Jittor in a process of its own, with a bar for what it compiles.

    Args:
        program: does that, and more if wanted.

    Returns:
        None, or the file that holds the compiler's output if the import failed.
    """
    console = Console(stderr=True)
    console.print("Building Jittor's core, once for this environment: two minutes on two cores.")
    counted = re.compile(r"Compiling (\S+)\((\d+)/(\d+)\)")
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("files,"),
        TimeElapsedColumn(),
        TextColumn("so far"),
        console=console,
        disable=not console.is_terminal,
    )
    with tempfile.NamedTemporaryFile("w", prefix="jittor-", suffix=".log", delete=False) as log:
        process = subprocess.Popen(
            [sys.executable, "-c", program],
            env={
                **os.environ,
                "log_silent": "0",
                "DISABLE_MULTIPROCESSING": "0",
                "PYTHONUNBUFFERED": "1",  # or the bar stands still, and the last word is not last
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,  # universal newlines: Jittor ends its own progress lines with \r
        )
        assert process.stdout is not None
        tenth = 0
        with bar:
            task = bar.add_task("jittor", total=None)
            for line in process.stdout:
                log.write(line)
                found = counted.search(line)
                if not found:
                    continue
                name, done, total = found[1][:12], int(found[2]), int(found[3])
                bar.update(task, description=name, completed=done, total=total)
                if not console.is_terminal and name == "jittor_core" and done * 10 // total > tenth:
                    tenth = done * 10 // total
                    console.print(f"  {tenth * 10} %")
        if (code := process.wait()) < 0:
            log.write(f"it was ended by a signal: {signal.strsignal(-code)}\n")
    if code:
        return log.name
    Path(log.name).unlink()
    return None


def _start() -> None:
    """Set the environment and see to it that the core is built; the import is quick then."""
    for name, value in _settings().items():
        os.environ.setdefault(name, value)
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads.isascii() and threads.isdigit() and int(threads[:10]) > _MOST_THREADS:
        raise JittorError(f"OMP_NUM_THREADS is {threads[:10]}, expected {_MOST_THREADS} at most")
    cache = _find_cache()
    prefix = _avoid_spaces(cache)
    found = device.taken().cuda
    # Jittor keys its cache by the Git branch that its package lies in. Our environment lies in the
    # user's repository: without a fixed name a new branch would build the core again. And where a
    # core without CUDA lies beside one with it, Jittor loads the former in place of the latter.
    os.environ["cache_name"] = "cuda" if found else "default"
    # Left to itself Jittor looks for an nvcc, and cannot be imported where one has no driver.
    # The environment's own is reached as the environment is, also where Python itself was already.
    nvcc = str(found[0].nvcc) if found else ""
    os.environ["nvcc_path"] = nvcc.replace(str(Path(sys.prefix).resolve()), prefix, 1)
    _avoid_processes()
    _arm_log()
    _remove_damaged(cache)
    if found:
        _prove(cache, *found)
    elif not _is_built():
        log = _build()
        if log:
            raise JittorError(f"Jittor's core could not be built; the compiler's output: {log}")


def _prove(cache: Path, toolkit: Toolkit, driver: Driver) -> None:
    """Make sure that Jittor computes on the card, by a trial or by what is remembered of one.

    Raises:
        JittorError: it does not.
    """
    import jittor_utils

    # Jittor's folder carries the versions of itself, of Python and of the C++ compiler.
    record = proof.Record(cache, toolkit, driver, f"{jittor_utils.cache_path}\n{_TRIAL}")
    known = record.load()
    if not known or (known.works and not _is_built()):
        log = _build(_TRIAL)
        known = record.save(Path(log).read_text("utf-8", "replace") if log else None)
        if log:
            Path(log).unlink()
    if not known.works:
        raise JittorError(
            f"Jittor does not work with {os.environ['nvcc_path']}: {known.fault} (all that it said:"
            f" {known.log}; to try again, remove {record.path}); device cpu does without"
        )


def _load_utilities() -> None:
    """Load the part of Jittor that takes over signals, before it starts any process.

    When a child process is ended by Ctrl-C, that part believes that memory ran out, says so and
    ends this process too. So its handler is taken away again, once it is loaded.
    """
    import jittor_utils

    flags = os.RTLD_NOW | os.RTLD_GLOBAL | os.RTLD_DEEPBIND  # as Jittor itself loads it
    with jittor_utils.import_scope(flags):
        jittor_utils.try_import_jit_utils_core()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _unknown(fault: Exception) -> str:
    """The last words on what no one foresaw: nearly always a damaged file of Jittor's."""
    cache = Path(os.environ["JITTOR_HOME"], ".cache/jittor")
    said = f"{type(fault).__name__}: {' '.join(str(fault).split())[:200]}"
    way = f"try without {', '.join(_GIVEN)} in the environment"
    if not _GIVEN:
        way = f"to have it built anew, remove {cache}"
    return last_words(JittorError(f"Jittor cannot start ({said}); {way}"))


try:
    _start()
    _load_utilities()
except (UserError, OSError) as fault:
    # This runs at import, outside of any stage's main().
    raise SystemExit(last_words(fault)) from None
except Exception as fault:
    raise SystemExit(_unknown(fault)) from None

# In an MPI job Jittor would want a module of its own, which `workers` does without.
_size = os.environ.pop("OMPI_COMM_WORLD_SIZE", None)
try:
    with warnings.catch_warnings():
        # Python 3.12 finds letters in Jittor's docstrings that it would escape otherwise.
        warnings.simplefilter("ignore", SyntaxWarning)
        import jittor as jt
        import jittor_utils
        from jittor import nn

    _bar = compiling.show_bar(jittor_utils.cc_path, Path(jittor_utils.cache_path))
except SystemExit:  # with 0: where its cache was moved, it builds a part anew and then gives up
    again = "Jittor has built a part of its core anew; run the same command again"
    raise SystemExit(last_words(JittorError(again))) from None
except RuntimeError as fault:  # see `_arm_log`
    said = f"Jittor cannot start: {' '.join(str(fault).split())}"
    raise SystemExit(last_words(JittorError(said))) from None
except OSError as fault:  # it writes to its cache as it starts
    said = f"Jittor cannot start from its cache in {os.environ['JITTOR_HOME']}: {fault}"
    raise SystemExit(last_words(JittorError(said))) from None
except Exception as fault:
    raise SystemExit(_unknown(fault)) from None

if is_ours():  # a notebook or a test shows errors itself
    compiling.say_faults(_bar, Path(jittor_utils.cache_path))

if _size is not None:
    os.environ["OMPI_COMM_WORLD_SIZE"] = _size

# Jittor compiles kernels with -Ofast, which leaves much to the compiler: in which order to add,
# whether to divide by an approximation (of which Intel's and AMD's are not the same), where to fuse
# a product and a sum, and before gcc 13 also to round denormal numbers to zero, for all of the
# process. With these flags each operation is that of IEEE 754, and so the same on every processor.
# What the core itself was built with does not matter: it computes nothing.
IEEE = "-O3 -ffp-contract=off -fno-math-errno -fno-trapping-math"
jt.flags.cc_flags = jt.flags.cc_flags.replace("-Ofast", IEEE)
if device.taken().cuda:
    jt.flags.nvcc_flags = jt.flags.nvcc_flags.replace("--use_fast_math", "")

__all__ = ["IEEE", "Device", "JittorError", "jt", "nn", "use", "versions"]


def versions() -> dict[str, str]:
    """What the weights depend on: packages, and on a GPU the toolkit, the driver and the card."""
    found = {"numpy": np.__version__, "jittor": jt.__version__}
    if on := device.taken().cuda:
        toolkit, driver = on
        found |= {"cuda": ".".join(map(str, toolkit.version)), "driver": driver.release}
        found |= {"card": driver.device}
    return found


def main() -> None:
    print(f"Jittor {jt.__version__} is ready.")


if __name__ == "__main__":
    run(main)
