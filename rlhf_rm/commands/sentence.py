"""What an error is told as: one sentence, where the cause lies with the user."""

import errno

from rlhf_rm.errors import UserError

# What a disk may refuse, in words.
DISK = {
    errno.ENOSPC: "no space left on the device",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "there is no permission",
    errno.EPERM: "there is no permission",
}


def sentence_of(error: BaseException | None) -> str | None:
    """What to tell the user, if the cause lies with the input or the configuration."""
    from hydra.errors import HydraException, InstantiationException, OverrideParseException
    from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

    told = None
    while error is not None:
        if isinstance(error, UserError):
            return str(error)
        if isinstance(error, OSError) and error.errno in DISK:
            what = f" for {error.filename}" if error.filename else ""
            return (
                f"{DISK[error.errno]}{what}: mend that, or choose another directory with hydra.run.dir=DIR; "
                "an interrupted training goes on with resume=auto."
            )
        if is_of_a_dead_rank(error):
            return (
                "another rank has died or does not answer; what it said itself, if anything, tells why. Go "
                f"on with resume=auto. ({' '.join(str(error).split())[:160]})"
            )
        if isinstance(error, MissingMandatoryValue):
            key = getattr(error, "full_key", None) or str(error).split(":")[-1].strip()
            return f"{key} has no value: give it as {key}=…"
        if isinstance(error, InstantiationException) and error.__cause__ is not None:
            # Hydra names the configuration key at the end: the cause, told by the library that refused it.
            key = (
                str(error).rsplit("full_key:", 1)[-1].strip()
                if "full_key:" in str(error)
                else "configuration"
            )
            inner = sentence_of(error.__cause__)
            return inner or f"{key}: {' '.join(str(error.__cause__).split())}"
        if told is None and isinstance(error, HydraException | OmegaConfBaseException):
            told = " ".join(str(error).split("Config search path")[0].split())
        if isinstance(error, OverrideParseException):
            told = _how_to_quote(error.override)
        if isinstance(error, ValueError) and str(error).startswith("Only one of --run, --multirun"):
            told = f"{error}: a sweep has a configuration for each job, which --cfg shows without -m."
        error = error.__cause__ or error.__context__
    return told


def is_of_a_dead_rank(error: BaseException) -> bool:
    """Whether it tells of a connection between ranks that broke: gloo's on CPUs, NCCL's on GPUs.

    Both report every failure by the same kind of error, so it is told by their words.
    """
    said = str(error)
    return "ncclRemoteError" in said or ("gloo" in said and "Connection" in said)


def _how_to_quote(override: str) -> str:
    home = " For ~/… write $HOME/…." if "~" in override else ""
    return (
        f"{override} cannot be read: a value with characters that Hydra itself reads, such as = , ~ or "
        f"brackets, is quoted twice: 'KEY=\"VALUE\"'.{home}"
    )
