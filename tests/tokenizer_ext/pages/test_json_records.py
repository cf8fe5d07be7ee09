"""A record that came from anywhere is the dataclass that was written, or is refused in one line that says why."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from configs import InputError
from tokenizer_ext.pages.json_records import read_record, write_record


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    name: str
    share: float = 0.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Whole:
    count: int
    is_done: bool = False
    part: Part
    other: Part | None = None
    ids: tuple[tuple[int, int] | str, ...] = ()


WHOLE = Whole(count=2, part=Part(name="a"), ids=((1, 2), "é"))
FIELDS = json.loads(json.dumps(dataclasses.asdict(WHOLE)))


def test_what_is_written_comes_back(tmp_path: Path):
    write_record(WHOLE, tmp_path / "whole.json")
    assert read_record(Whole, tmp_path / "whole.json", "a whole") == WHOLE


def test_fields_that_a_file_lacks_take_their_defaults_and_a_whole_number_may_be_a_float(tmp_path: Path):
    (tmp_path / "whole.json").write_text('{"count": 2, "part": {"name": "a", "share": 1}}')
    assert read_record(Whole, tmp_path / "whole.json", "a whole") == Whole(count=2, part=Part(name="a", share=1.0))


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"count": 2.0}, "count is 2.0, expected "),
        ({"count": True}, "count is true, expected "),
        ({"count": None}, "count is null, expected "),
        ({"is_done": 1}, "is_done is 1, expected "),
        ({"part": {"name": 7}}, "part.name is 7, expected "),
        ({"part": {}}, "missing 1 required fields: part.name"),
        ({"part": [1]}, r"part is \[1\], expected "),
        ({"other": {"name": "a", "code": "import os"}}, "other.code is no field of it"),
        ({"ids": [[1, 2, 3]]}, r"ids is \[1, 2, 3\], expected "),
    ],
)
def test_a_field_is_refused_by_file_name_what_was_found_and_what_was_expected(fields: dict[str, Any], found, tmp_path):
    path = tmp_path / "whole.json"
    path.write_text(json.dumps(FIELDS | fields))
    with pytest.raises(InputError, match=rf"whole\.json: cannot be read \({found}.*\), expected a whole$") as refusal:
        read_record(Whole, path, "a whole")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("content", ["", "{", "null", "[]", "7", '{"count": 2}', "[" * 10_000, b"\xff{}", '"a\nb"'])
def test_what_is_no_such_record_is_refused_in_one_line(content: str | bytes, tmp_path: Path):
    (tmp_path / "whole.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=r"whole\.json: cannot be read") as refusal:
        read_record(Whole, tmp_path / "whole.json", "a whole")
    assert "\n" not in str(refusal.value)
