"""JSON text: one object per line, or one list of objects."""

from collections.abc import Iterator
from typing import BinaryIO

from configs import InputError
from scratch_models.documents.json_values import kind_of, parse_json

MAXIMUM_LINE_BYTES = 16 * 2**20
UTF8_MARK = b"\xef\xbb\xbf"


def read_lines(file: BinaryIO, name: str) -> Iterator[tuple[str, object]]:
    """Each line that holds something, unread, with its place.

    Raises:
        InputError: a line, or a stretch of blank ones, is longer than any conversation.

    """
    number = blank_bytes = 0
    while line := file.readline(MAXIMUM_LINE_BYTES + 1):
        number += 1
        if len(line) > MAXIMUM_LINE_BYTES:
            limit = MAXIMUM_LINE_BYTES // 2**20
            raise InputError(f"{name}:{number}: line is longer than {limit} MiB, expected one conversation per line")
        line = line.removeprefix(UTF8_MARK) if number == 1 else line
        if line.strip():
            blank_bytes = 0
            yield f"{name}:{number}", line.rstrip()
            continue
        blank_bytes += len(line)
        if blank_bytes > MAXIMUM_LINE_BYTES:
            limit = MAXIMUM_LINE_BYTES // 2**20
            raise InputError(f"{name}:{number}: more than {limit} MiB of blank lines, expected conversations")


def read_list(file: BinaryIO, name: str) -> Iterator[tuple[str, object]]:
    """Each object of the list that the file holds, with its place.

    Raises:
        InputError: the file holds no list.

    """
    content = file.read().removeprefix(UTF8_MARK)
    if not content.strip():
        return
    records = parse_json(name, content)
    if not isinstance(records, list):
        raise InputError(
            f"{name}: found {kind_of(records)}, expected a list of objects; one object per line goes into a .jsonl file"
        )
    yield from ((f"{name}[{index}]", record) for index, record in enumerate(records))
