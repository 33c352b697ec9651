"""One command at a time in a directory."""

import fcntl
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rlhf_rm.errors import UserError

log = logging.getLogger(__name__)
COMMAND_LOCK = ".command.lock"  # in the directory of a command, which holds it while it works


@contextmanager
def alone_in(directory: Path) -> Iterator[None]:
    """No other command works in this directory meanwhile; a disk that knows no locks is a warning.

    The lock is this process's own: what it forks does not hold it, so that when it is killed nobody is kept
    out by workers that it leaves behind.

    Raises:
        UserError: another one does.
    """
    with ExitStack() as stack:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context((directory / COMMAND_LOCK).open("a"))
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise at_work(directory) from None
        except OSError as error:
            log.warning(
                "%s cannot be locked (%s): see to it that no other command works there.", directory, error
            )
        yield


@contextmanager
def alone_with_steps(root: Path) -> Iterator[int]:
    """As :func:`alone_in`, for a command that works by others, which hold the lock too: gives its descriptor.

    Raises:
        UserError: another one does.
    """
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise at_work(root) from None
        yield file.fileno()


def at_work(directory: Path) -> UserError:
    """What to tell who would work in a directory beside another."""
    return UserError(
        f"another process is at work in {directory}: wait for it, or choose another directory with "
        "hydra.run.dir=DIR."
    )
