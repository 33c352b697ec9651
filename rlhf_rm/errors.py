"""The one exception that users are meant to see."""


class UserError(Exception):
    """Bad input or configuration, told in one sentence: what was got, where, and how to mend it.

    The command line prints the message alone and exits with code 2; see :mod:`rlhf_rm.cli`.
    """
