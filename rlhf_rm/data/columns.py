"""The columns of pairs beside their tokens, in an Arrow file that is written and mapped piece by piece."""

from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from rlhf_rm.data.types import PreferencePair

FILE = "pairs.arrow"
BATCH = 8192  # rows in memory
COLUMNS = {
    "pair_id": pa.string(),
    "prompt_id": pa.string(),
    "id": pa.string(),
    "source": pa.string(),
    "margin": pa.float32(),
    "tree": pa.int32(),
    "chosen": pa.int16(),
    "rejected": pa.int16(),
}
NOTES = "notes."


class ColumnWriter:
    """Writes pairs one by one, few of them in memory; for the columns see :class:`EncodedPairs`.

    A note may come up first in a late pair, but a table has the same columns from its beginning. So the
    notes of a pair are written as one column, and become a column each at the end.

    Args:
        directory: an empty one; the file in it is complete once the ``with`` block has ended.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE
        self._part = directory / f"{FILE}.part"
        self._schema = pa.schema([*COLUMNS.items(), ("notes", pa.map_(pa.string(), pa.float64()))])
        self._rows: list[dict[str, Any]] = []
        self._notes: dict[str, None] = {}

    def __enter__(self) -> Self:
        self._target = pa.ipc.new_stream(str(self._part), self._schema)
        return self

    def add(self, pair: PreferencePair, *, tree: int, chosen: int, rejected: int) -> None:
        """Write one pair, with the number of its tree and those of its responses among the branches."""
        self._notes |= dict.fromkeys(pair.notes)
        own = {name: getattr(pair, name) for name in ("pair_id", "prompt_id", "id", "source", "margin")}
        sides = {"tree": tree, "chosen": chosen, "rejected": rejected}
        self._rows.append(own | sides | {"notes": list(pair.notes.items())})
        if len(self._rows) == BATCH:
            self._flush()

    def _flush(self) -> None:
        self._target.write_batch(pa.RecordBatch.from_pylist(self._rows, schema=self._schema))
        self._rows = []

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self._flush()
        self._target.close()
        if kind is None:
            self._spread_notes()
            self._part.unlink()

    def _spread_notes(self) -> None:
        schema = pa.schema([*COLUMNS.items(), *((f"{NOTES}{note}", pa.float64()) for note in self._notes)])
        with (
            pa.memory_map(str(self._part)) as source,
            pa.ipc.open_stream(source) as batches,
            pa.ipc.new_file(str(self._path), schema) as target,
        ):
            for batch in batches:
                notes = [dict(some) for some in batch["notes"].to_pylist()]
                columns = [pa.array([some.get(note) for some in notes], pa.float64()) for note in self._notes]
                target.write_batch(
                    pa.record_batch([*(batch[name] for name in COLUMNS), *columns], schema=schema)
                )


def read_columns(directory: Path) -> pa.Table:
    """What a :class:`ColumnWriter` left in a directory, mapped and not read."""
    with pa.memory_map(str(directory / FILE)) as source, pa.ipc.open_file(source) as reader:
        return reader.read_all()
