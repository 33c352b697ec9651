"""Models of the Hugging Face hub as directories: fetched once, found again without a network."""

import logging
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from rlhf_rm.errors import UserError, first_line

log = logging.getLogger(__name__)
FILES = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "*.py"]
TIMEOUT = 10.0  # seconds until the hub counts as unreachable


@cache
def local_copy(name: str) -> Path:
    """The directory of a model.

    Args:
        name: a directory (of a run of this project, its export is taken), or a name on the hub:
            ``org/name``, or ``org/name@revision`` for a branch, tag or commit.

    Raises:
        UserError: there is no such model, or it cannot be fetched and is not in the cache.
    """
    if (own := export_of(name)) is not None:
        return own
    if Path(name).is_dir():
        return Path(name)
    if Path(name).is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise UserError(f"{name} is no directory: give the directory of a model, or its name on the hub.")
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
    )

    repository, _, revision = name.partition("@")
    unreachable: tuple[type[Exception], ...] = (OfflineModeIsEnabled, OSError, *_no_connection())
    try:
        # Asked first, since a download would try an unreachable hub again and again.
        info = HfApi().model_info(repository, revision=revision or None, timeout=TIMEOUT)
        files = [one.rfilename for one in info.siblings or []]
        weights = [] if any(file.endswith(".safetensors") for file in files) else ["*.bin"]
        return Path(snapshot_download(repository, revision=info.sha, allow_patterns=FILES + weights))
    except GatedRepoError:
        raise UserError(
            f"{repository} is gated: ask for access on its page, and log in with `hf auth login`."
        ) from None
    except (HfHubHTTPError, HFValidationError) as error:
        raise UserError(
            f"{name} is no model of the hub that can be fetched ({first_line(error)}): check its name."
        ) from None
    except unreachable as error:
        why = first_line(error)
    try:
        found = snapshot_download(repository, revision=revision or None, local_files_only=True)
    except LocalEntryNotFoundError:
        raise UserError(
            f"{name} is no directory, the hub cannot be reached ({why}), and it is not in the cache: give "
            "the directory of a model, or fetch it where there is a network."
        ) from None
    log.warning("The hub cannot be reached (%s): %s is taken from the cache.", why, name)
    return Path(found)


def _no_connection() -> tuple[type[Exception], ...]:
    """What `huggingface_hub` raises where there is no network; its versions have different clients."""
    clients = [name for name in ("httpx2", "httpx") if find_spec(name)]
    return tuple(import_module(name).HTTPError for name in clients)


def export_of(run: str) -> Path | None:
    """The export of a run's directory; None if it has none, or is no run."""
    directory = Path(run) / "export"
    return directory if (directory / "config.json").is_file() else None


def why_not_loaded(error: Exception) -> str:
    """The first line of what `transformers` says, or what to do about it where that is known."""
    if "does not support an attention implementation" in str(error):
        return "it has no such attention: use attention=eager."
    return first_line(error)
