"""Rows that a program has in memory, in the place of the name of a file: read by the same code as a file's records."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from configs import InputError
from configs.whole_folder import write_whole
from scratch_models.documents.json_values import without_nulls

KEPT = "data.jsonl"
"""Where a run keeps the rows that it was given."""
KEPT_HELD_OUT = "held_out.jsonl"
"""Where it keeps those to hold out."""


class RowsInMemory(str):
    """The name of rows, which it carries: settings that name data may hold it, and only what reads records looks in."""

    rows: Iterable[object]
    of_table: bool

    def __new__(cls, rows: Iterable[object], *, of_table: bool = False) -> "RowsInMemory":
        """The name, with rows that can be gone through more than once; those of a table are full of nulls."""
        named = super().__new__(cls, "rows in memory")  # with spaces, so that it is no path and no name on the Hub
        named.rows, named.of_table = rows, of_table
        return named

    def __deepcopy__(self, _known: dict[int, object]) -> "RowsInMemory":
        return self  # settings are copied where they are recorded: the name is enough

    def records(self) -> Iterator[tuple[str, dict[str, object]]]:
        """Each row as a record, with the place that an error can name.

        >>> list(RowsInMemory([{"question": "1+1?", "answer": "2"}]).records())
        [('rows[0]', {'question': '1+1?', 'answer': '2'})]

        Raises:
            InputError: a row is no dict.

        """
        for number, row in enumerate(self.rows):
            place = f"rows[{number}]"
            if not isinstance(row, Mapping):
                raise InputError(
                    f'{place}: is of type {type(row).__name__}, expected a dict such as {{"messages": [...]}}'
                )
            record = {str(key): value for key, value in row.items()}
            yield place, {key: without_nulls(value) for key, value in record.items()} if self.of_table else record


def keep_rows(data: str | Sequence[str], folder: Path, name: str = KEPT) -> None:
    """Writes rows in memory to a file in the folder of a run, which can then be done again; no other data."""
    if isinstance(data, RowsInMemory):
        lines = (json.dumps(record, default=str) for _, record in data.records())
        write_whole(folder / name, "".join(f"{line}\n" for line in lines))
