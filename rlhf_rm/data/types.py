"""What every data source speaks: messages, preference pairs, and the protocol of a source."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

ROLES = ("system", "user", "assistant")
SPLITS = ("train", "validation", "test")


class Message(NamedTuple):
    """One turn of a dialogue; ``role`` is one of :data:`ROLES`."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class PreferencePair:
    """Two responses to one prompt, the first preferred.

    ``messages`` is the prompt: every turn before the response. Pairs of the same ``group``, if that is
    not empty, compare the K responses of one row with one another: they follow each other in their
    split, and training takes all of them together. ``notes`` are columns that training never sees (in
    the synthetic world: gold rewards, and which labels were flipped on purpose).
    """

    messages: tuple[Message, ...]
    chosen: str
    rejected: str
    id: str = ""
    source: str = ""
    group: str = ""
    margin: float | None = None
    notes: Mapping[str, float] = field(default_factory=dict)

    @property
    def pair_id(self) -> str:
        """SHA-256 in hex of the canonical JSON ``[messages, chosen, rejected]``, as parsed.

        Taken before template, truncation and flips, so it names the pair whatever is done to it;
        duplicate rows share it.
        """
        messages = [{"role": m.role, "content": m.content} for m in self.messages]
        return _sha256([messages, self.chosen, self.rejected])

    @property
    def prompt_id(self) -> str:
        """SHA-256 in hex of the prompt's messages alone; splits are taken by it."""
        return prompt_id(self.messages)


def prompt_id(messages: Sequence[Message]) -> str:
    """SHA-256 in hex of a prompt's messages."""
    return _sha256([{"role": m.role, "content": m.content} for m in messages])


class PreferenceSource(Protocol):
    """Where preference pairs come from.

    ``name`` is a short name for reports. ``splits`` lists the names that :meth:`pairs` takes:
    ``train``, ``validation`` and ``test``, and any more that a source has of its own.
    """

    name: str

    @property
    def splits(self) -> tuple[str, ...]:
        """The names that :meth:`pairs` takes."""
        ...

    def pairs(self, split: str) -> Sequence[PreferencePair]:
        """The pairs of one split, always in the same order."""
        ...

    def fingerprint(self) -> str:
        """A hash of the content: equal fingerprints mean equal pairs in every split."""
        ...

    def report(self) -> dict[str, Any]:
        """Counts of what was read, skipped and split, for the log and the artefacts."""
        ...


def _sha256(value: Any) -> str:
    """Hash of the canonical JSON: sorted keys, no spaces, unescaped UTF-8."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
