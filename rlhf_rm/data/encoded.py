"""Preference pairs as trees of tokens, with their columns, in files that are mapped into memory.

Shape legend: B pairs, N trees (prompts), K responses of a tree.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rlhf_rm.data.columns import ColumnWriter, read_columns
from rlhf_rm.data.encode import Dialogue, DialogueEncoder, Encoded
from rlhf_rm.data.packing import Tree, shared_prefix
from rlhf_rm.data.store import TreeStore, TreeWriter
from rlhf_rm.data.types import Message, PreferencePair

IDENTICAL = ("drop", "keep")
REPORT = "report.json"
FORMAT = 2  # of what is written here; the next one whenever equal input leaves other files
PROBES = 8  # pairs whose text is kept, to compare an export by
CHUNK = 1024  # pairs tokenised at once


@dataclass(frozen=True, slots=True)
class EncodedPairs:
    """The encoded pairs of one split.

    Args:
        trees: one for each pair, or for each group of pairs that compare the same K responses.
        table: the columns of the pairs, (B,), in the order given: ``pair_id``, ``prompt_id``, ``id``,
            ``source``, ``margin`` (null where there is none), ``tree`` (which of ``trees``),
            ``chosen`` and ``rejected`` (which branches of it), and ``notes.NAME`` for each note.
        report: counts of what was truncated and left out, and lengths in tokens.
        probes: some prompts with their responses as text.
    """

    trees: TreeStore
    table: pa.Table
    report: dict[str, Any]
    probes: list[Dialogue]

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def strings(self, name: str) -> list[str]:
        """A column of text."""
        return list(self.table[name].to_pylist())

    def numbers(self, name: str) -> NDArray[Any]:
        """A column of numbers; null becomes NaN."""
        return np.asarray(self.table[name].to_numpy())

    @classmethod
    def open(cls, directory: Path) -> "EncodedPairs":
        """What :func:`encode_pairs` left in ``directory``."""
        table = read_columns(directory)
        told = json.loads((directory / REPORT).read_text(encoding="utf-8"))
        probes: list[Dialogue] = [
            (tuple(Message(**m) for m in messages), response) for messages, response in told["probes"]
        ]
        return cls(TreeStore.open(directory), table, told["report"], probes)


def encode_pairs(
    encoder: DialogueEncoder, pairs: Iterable[PreferencePair], *, identical: str, directory: Path
) -> EncodedPairs:
    """Tokenise the responses of each pair, or of each group of pairs, and find what they share.

    Args:
        encoder: with its policy for what is too long.
        pairs: the pairs of a split; those of one group follow each other.
        identical: what becomes of pairs whose token ids are equal, as truncation can make them:
            ``drop`` for training, where they teach nothing; ``keep`` for evaluation, where they are ties.
        directory: an empty one for the files.

    Raises:
        UserError: see :meth:`DialogueEncoder.encode`.
    """
    if identical not in IDENTICAL:
        raise ValueError(f"identical={identical!r} is unknown: use one of {', '.join(IDENTICAL)}")
    counts: Counter[str] = Counter(dict.fromkeys(COUNTS, 0))
    probes: list[Dialogue] = []
    with TreeWriter(directory) as trees, ColumnWriter(directory) as columns:
        for groups in _chunks(_groups(pairs), CHUNK):
            for group, encoded in zip(groups, _encode(encoder, groups), strict=True):
                kept = _keep(group, encoded, counts, encoder.too_long, identical)
                if not kept:
                    continue
                # Responses that truncation made equal are one branch: two of them, in other places of a
                # row, have rewards that differ in the last bits, and a tie would go to either.
                first = _first_equal(encoded)
                kept = [(pair, first[chosen], first[rejected]) for pair, chosen, rejected in kept]
                used = sorted({branch for _, *sides in kept for branch in sides})
                for pair, chosen, rejected in kept:
                    sides = {"chosen": used.index(chosen), "rejected": used.index(rejected)}
                    columns.add(pair, tree=len(trees.shared), **sides)
                    if len(probes) < 2 * PROBES:
                        probes += [(pair.messages, pair.chosen), (pair.messages, pair.rejected)]
                branches = tuple(encoded[branch].ids for branch in used)
                prompts = tuple(encoded[branch].prompt_tokens for branch in used)
                trees.add(Tree(branches, shared_prefix(branches), prompts))
    report = _report(encoder, counts, TreeStore.open(directory), read_columns(directory))
    text = [[[message._asdict() for message in messages], response] for messages, response in probes]
    (directory / REPORT).write_text(json.dumps({"report": report, "probes": text}), encoding="utf-8")
    return EncodedPairs.open(directory)


COUNTS = (
    "pairs_given",
    "pairs_too_long",
    "pairs_dropped_too_long",
    "responses_cut",
    "pairs_identical",
    "pairs_dropped_identical",
    "longest_given",
)

Group = list[PreferencePair]


def _groups(pairs: Iterable[PreferencePair]) -> Iterator[Group]:
    """Pairs that share a group together, all others alone."""
    group: Group = []
    for pair in pairs:
        if group and not (pair.group and pair.group == group[0].group):
            yield group
            group = []
        group.append(pair)
    if group:
        yield group


def _chunks(groups: Iterable[Group], pairs: int) -> Iterator[list[Group]]:
    chunk: list[Group] = []
    size = 0
    for group in groups:
        chunk.append(group)
        size += len(group)
        if size >= pairs:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _responses(group: Group) -> list[str]:
    """The distinct responses of a group, in the order in which they are named."""
    return list(dict.fromkeys(text for pair in group for text in (pair.chosen, pair.rejected)))


def _encode(encoder: DialogueEncoder, groups: Sequence[Group]) -> Iterator[list[Encoded]]:
    """The encoded responses of each group, in the order of :func:`_responses`."""
    dialogues: list[Dialogue] = []
    names: list[str] = []
    for group in groups:
        for text in _responses(group):
            pair = next(one for one in group if text in (one.chosen, one.rejected))
            side = "chosen" if text == pair.chosen else "rejected"
            dialogues.append((pair.messages, text))
            names.append(f"{side} of {pair.id or pair.pair_id}")
    encoded = iter(encoder.encode(dialogues, names=names))
    for group in groups:
        yield [next(encoded) for _ in _responses(group)]


def _first_equal(encoded: Sequence[Encoded]) -> list[int]:
    """For each response the first one of the same token ids."""
    first: dict[bytes, int] = {}
    return [first.setdefault(one.ids.tobytes(), number) for number, one in enumerate(encoded)]


def _keep(
    group: Group, encoded: Sequence[Encoded], counts: Counter[str], too_long: str, identical: str
) -> list[tuple[PreferencePair, int, int]]:
    """The pairs of a group that stay, with the numbers of their responses; the others are counted."""
    number = {text: i for i, text in enumerate(_responses(group))}
    kept = []
    read: set[int] = set()
    counts["longest_given"] = max(counts["longest_given"], *(one.length for one in encoded))
    for pair in group:
        chosen, rejected = number[pair.chosen], number[pair.rejected]
        a, b = encoded[chosen], encoded[rejected]
        counts["pairs_given"] += 1
        if a.too_long or b.too_long:
            counts["pairs_too_long"] += 1
            if too_long == "drop":
                counts["pairs_dropped_too_long"] += 1
                continue
        read |= {chosen, rejected}
        if np.array_equal(a.ids, b.ids):
            counts["pairs_identical"] += 1
            if identical == "drop":
                counts["pairs_dropped_identical"] += 1
                continue
        kept.append((pair, chosen, rejected))
    counts["responses_cut"] += sum(
        encoded[one].response_cut for one in read
    )  # each once, in however many pairs
    return kept


def _report(
    encoder: DialogueEncoder, counts: Counter[str], trees: TreeStore, table: pa.Table
) -> dict[str, Any]:
    """The counts, and lengths in tokens of the pairs that are left."""
    lengths, tree = trees.lengths(), table["tree"].to_numpy()
    first, shared = trees.first_branch_N[tree], trees.shared_N[tree]
    own = {
        side: float(np.mean(lengths[first + table[side].to_numpy()] - shared)) if len(tree) else 0.0
        for side in ("chosen", "rejected")
    }
    return {
        **counts,
        "pairs": table.num_rows,
        "prompts": len(trees),
        "max_length": encoder.max_length,
        "too_long": encoder.too_long,
        "tokens": int(lengths.sum()),
        "tokens_shared_once": int(trees.sizes("shared").sum()),
        "mean_shared": float(trees.shared_N.mean()) if len(trees) else 0.0,
        "mean_own_chosen": own["chosen"],
        "mean_own_rejected": own["rejected"],
    }
