"""A weight that is mapped is checked through its file: the same numbers, and no page of the map comes into memory."""

import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from configs import InputError
from tokenizer_ext.foreign.weight_headers import read_headers
from tokenizer_ext.held_weights.mapped_weights import map_rows, pieces, place_in_file
from tokenizer_ext.held_weights.stored_slices import read_rows

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what is mapped is told by Linux alone")
ROWS, WIDTH = 4096, 1024


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A table of 8 MB, behind another tensor."""
    torch.manual_seed(0)
    tensors = {"a": torch.randn(5, 3), "table": torch.randn(ROWS, WIDTH).bfloat16()}
    save_file(tensors, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


@pytest.fixture
def table(file: Path) -> Tensor:
    with safe_open(file, "pt") as library:
        tensor: Tensor = library.get_tensor("table")
    return tensor


def resident_bytes(tensor: Tensor) -> int:
    """Of the memory of a tensor, by the system's own list of pages."""
    with open("/proc/self/pagemap", "rb") as pages:
        pages.seek(tensor.data_ptr() // 4096 * 8)
        return 4096 * sum(entry >> 7 for entry in pages.read(tensor.nbytes // 4096 * 8)[7::8])


def together(tensor: Tensor) -> Tensor:
    return torch.cat([piece.reshape(-1) for piece in pieces(tensor)]).view(tensor.shape)


def test_the_file_is_read_and_the_map_stays_where_it_is(table: Tensor):
    before = resident_bytes(table)
    found = together(table)
    assert resident_bytes(table) == before < table.nbytes / 10
    assert torch.equal(found, table) and resident_bytes(table) > table.nbytes / 2  # whoever looks has it there


def test_some_rows_are_told_from_the_file_too(table: Tensor):
    stored = place_in_file(table[1000:3000])
    assert stored is not None and stored.shape == (2000, WIDTH)
    assert torch.equal(read_rows("table", stored, 5, 2), table[1005:1007])


def test_a_number_that_was_changed_in_memory_is_read_from_there(table: Tensor):
    table.data[1234, 5] = 77.0
    assert place_in_file(table) is None and together(table)[1234, 5] == 77.0
    assert place_in_file(table[:1000]) is not None


def test_a_file_that_another_one_has_replaced_is_not_read(file: Path, table: Tensor):
    save_file({"a": torch.zeros(5, 3), "table": torch.zeros(ROWS, WIDTH).bfloat16()}, file.with_name("other"))
    file.with_name("other").rename(file)
    assert place_in_file(table) is None and together(table).abs().sum() > 0


def test_what_was_made_in_memory_is_read_there():
    made = torch.randn(ROWS, WIDTH)
    assert place_in_file(made) is None and torch.equal(together(made.T), made.T)


def test_rows_that_are_mapped_are_those_that_are_read_and_only_those_asked_for_come(file: Path):
    stored = read_headers([file])["table"]
    mapped = map_rows("table", stored, 1000, 3000)
    assert resident_bytes(mapped) == 0
    assert torch.equal(mapped[[7, 2999]], torch.stack([read_rows("table", stored, row, 1)[0] for row in (1007, 3999)]))
    assert resident_bytes(mapped) < mapped.nbytes / 10
    assert torch.equal(together(mapped), read_rows("table", stored, 1000, 3000))
    assert resident_bytes(mapped) < mapped.nbytes / 10


def test_a_file_that_is_gone_is_named(file: Path):
    stored = read_headers([file])["table"]
    file.unlink()
    with pytest.raises(InputError, match="table cannot be mapped"):
        map_rows("table", stored, 0, 10)
