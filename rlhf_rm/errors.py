"""The one exception that users are meant to see, and what others say."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

# What is raised where something is missing or of another type, or where text is no JSON or YAML.
DAMAGE = (
    AttributeError,
    EOFError,
    IndexError,
    KeyError,
    StopIteration,
    TypeError,
    ValueError,
    yaml.YAMLError,
)


class UserError(Exception):
    """Bad input or configuration, told in one sentence: what was got, where, and how to mend it.

    The command line prints the message alone and exits with code 2; see :mod:`rlhf_rm.cli`.
    """


class InterruptedRunError(UserError):
    """A run was told to stop before its end, by a signal."""


def first_line(error: BaseException) -> str:
    """What an error says first, or of what kind it is where it says nothing."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


@contextmanager
def reading(file: Path, mend: str) -> Iterator[None]:
    """Take what fails in the block, because something is missing or of another type, for damage of this file.

    Args:
        file: that is read.
        mend: what to do about it.

    Raises:
        UserError: something failed.
    """
    try:
        yield
    except DAMAGE as error:
        raise UserError(
            f"{file} does not hold what this version reads ({type(error).__name__}: "
            f"{first_line(error)}): {mend}."
        ) from error
