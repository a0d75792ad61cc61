"""What can go wrong, as sentences for the person at the keyboard.

DualsrError
├── UsageError       the command line asks for something impossible (exit code 2)
├── InputError       a file cannot be used as it is
├── OutputError      a result cannot be written
└── AlignmentError   the two photos do not show one scene, or not well enough

Every message is one sentence that names the file, says what is wrong and what to do.
"""

from __future__ import annotations

from pathlib import Path


class DualsrError(Exception):
    """Base of all expected errors; a command that did nothing ends with its `exit_code`."""

    exit_code = 1


class UsageError(DualsrError):
    """The command line asks for something impossible."""

    exit_code = 2


class InputError(DualsrError):
    """A file that was handed in cannot be used; `path` is that file."""

    def __init__(self, path: Path | str, sentence: str) -> None:
        super().__init__(f"{path} {sentence}")
        self.path = Path(path)


class OutputError(DualsrError):
    """A result cannot be written; `path` is where it should have gone."""

    def __init__(self, path: Path | str, sentence: str) -> None:
        super().__init__(f"{path} {sentence}")
        self.path = Path(path)


class AlignmentError(DualsrError):
    """The tele photo cannot be laid over the wide photo; `reason` is a stable short code."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


def explain(error: BaseException) -> str:
    """One sentence for any exception."""
    if isinstance(error, DualsrError):
        return str(error)
    if isinstance(error, MemoryError):
        return "there is not enough memory: close other programs or take smaller photos"
    story = " ".join(f"{type(error).__name__}: {error}".split())
    return f"unexpected error ({story}): run again with --debug and report what it prints"
