"""What a stage says when the fault is not in the program."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import TracebackType


class UserError(Exception):
    """Something that the person at the keyboard can mend.

    Its text is the whole message: it names the file or the key, what was found and what was
    expected. Every room of `stages.shared` derives its own error from this one.
    """


def run(main: Callable[[], None]) -> None:
    """Call `main` and turn the faults that a user can mend into one line and an exit code.

    Args:
        main: a stage's entry point.

    Raises:
        SystemExit: 1 after a `UserError` or an `OSError`, with its text on standard error.
            Any other exception is a bug and keeps its traceback.
    """
    try:
        main()
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None


def _last_words(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Say one line after Ctrl-C; Python then ends as the signal asks, which shells call 130."""
    if issubclass(kind, KeyboardInterrupt):
        print("stopped", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


# Not in `run`: Ctrl-C falls into the imports of a stage as well, before its main() is called.
sys.excepthook = _last_words
