"""The one exception that users are meant to see, and what others say."""


class UserError(Exception):
    """Bad input or configuration, told in one sentence: what was got, where, and how to mend it.

    The command line prints the message alone and exits with code 2; see :mod:`rlhf_rm.cli`.
    """


def first_line(error: BaseException) -> str:
    """What an error says first, or of what kind it is where it says nothing."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
