"""How a program of this project ends: one line and an exit code for errors that a user can fix."""

from __future__ import annotations

import io
import os
import signal
import stat
import sys
import warnings
from collections.abc import Callable
from types import FrameType

WAY_BACK = "the results of the last commit come back by: "


class UserError(Exception):
    """An error that the user can fix.

    Its text is the whole message: it names the file or the key, what was found and what was
    expected. Each module derives its own error from this one.
    """


def run(main: Callable[[], None]) -> None:
    """Call `main` and turn errors that the user can fix into one line and an exit code.

    A letter that the terminal's encoding does not have is printed as its escape sequence. What a
    library warns of is for who develops this, and is shown by `python -W default` alone.

    Args:
        main: the entry point of a stage or a tool.

    Raises:
        SystemExit: 1 after a `UserError` or an `OSError`, with its text on standard error, and
            where memory runs out. Any other exception is a bug and keeps its traceback.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # else closed, or a notebook's
            stream.reconfigure(errors="backslashreplace")
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    sys.addaudithook(_refuse_pipes)
    try:
        try:
            main()
        except SystemExit:  # after --help, say
            _flush()
            raise
        _flush()
    except (UserError, OSError) as error:
        print(last_words(_named(error)), file=sys.stderr)
        raise SystemExit(1) from None
    except MemoryError:
        print(last_words(MemoryError("there is not enough memory for this")), file=sys.stderr)
        raise SystemExit(1) from None


def _flush() -> None:
    """Write what is left of the output, while it can still be said that this fails."""
    if sys.stdout:
        sys.stdout.flush()


def _refuse_pipes(event: str, arguments: tuple[object, ...]) -> None:
    """Refuse to open a named pipe, which waits for ever for somebody at its other end.

    Here and not where each file is opened: a pipe can stand in the place of any of them.

    Raises:
        UserError: a file that is about to be opened is one.
    """
    if event != "open" or not isinstance(path := arguments[0], str | bytes):
        return
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 - pathlib takes milliseconds to import
    except (OSError, ValueError):
        return  # what is wrong with it says who opens it
    if stat.S_ISFIFO(mode):
        raise UserError(f"{os.fsdecode(path)}: a pipe, expected a file")


def last_words(error: Exception) -> str:
    """What a program says of an error that ends it."""
    return f"error: {visible(str(error))}{_way_back()}"


def visible(text: str) -> str:
    """A text from outside as a terminal may have it: what steers the terminal is spelt out.

    Args:
        text: of any number of lines; the name of a file, say, can hold any letter.
    """
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text
    )


def in_a_line(text: str) -> str:
    """A file's or a class's name, of which no letter steers the terminal or ends the line."""
    return visible(text).replace("\n", "\\n")


def _named(error: UserError | OSError) -> Exception:
    """An error, or the same by the name of standard output if that is what cannot be written."""
    nameless = isinstance(error, OSError) and error.filename is None
    try:
        if sys.stdout:
            sys.stdout.flush()
            if nameless:
                os.write(1, b"\n")  # where nothing is buffered, an empty line tells
    except OSError as refused:
        # Python would try again at its end, and print a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if nameless:
            return OSError(refused.errno, refused.strerror, "standard output")
    return error


def _way_back() -> str:
    """A line for a stage that DVC runs: it has removed the outputs of the run before.

    What DVC's cache holds comes back by `dvc checkout`, by force since half of a curve may be in
    its way; what Git holds by `git restore`. The stage `check` comes first and costs nothing; an
    experiment from the queue runs in a folder that is gone afterwards.
    """
    elsewhere = "/.dvc/tmp/exps/" in os.getcwd()  # noqa: PTH109  no pathlib here, see below
    if os.environ.get("DVC_STAGE", "check") == "check" or elsewhere:
        return ""
    return f"\n{WAY_BACK}git restore dvc.lock plots && dvc checkout --force"


def _stop(number: int, _frame: FrameType | None) -> None:
    """Say one line at Ctrl-C and end as the signal asks, which shells call 130.

    It ends at once and not by KeyboardInterrupt: Ctrl-C also interrupts imports and callbacks that
    swallow exceptions, and Jittor's clean-up would wait for compilers that were stopped as well.
    """
    try:
        if os.isatty(1):
            os.write(1, b"\x1b[?25h\n")  # a progress bar hides the cursor
        os.write(2, f"stopped{_way_back()}\n".encode())
    except OSError:
        pass  # nobody reads it any more
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)


def is_ours() -> bool:
    """Whether a program of this project runs, and not a test or a notebook that imports it."""
    main = getattr(sys.modules["__main__"], "__file__", None) or ""
    ours = os.path.realpath(__file__).rpartition("shared")[0]
    return os.path.realpath(main).startswith(ours)


# A test or a notebook handles Ctrl-C itself. Until here it is Python's, with a traceback; so what
# takes milliseconds to import, pathlib say, is not imported above.
if is_ours():
    signal.signal(signal.SIGINT, _stop)
    # No program here opens a window. One for which matplotlib is told a name that it does not know
    # would not even start.
    os.environ["MPLBACKEND"] = "agg"
