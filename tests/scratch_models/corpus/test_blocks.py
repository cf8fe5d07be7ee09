import functools
import http.server
import json
import math
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from configs import InputError, MissingInput
from scratch_models.corpus import blocks as corpus
from scratch_models.corpus.blocks import RandomBlocks, held_out_blocks, split_by_position
from scratch_models.corpus.text_files import read_text, tiny_shakespeare
from scratch_models.corpus.vocabulary import CharacterVocabulary
from scratch_models.loop.held_out import bits_per_byte
from tests.house.repository import ROOT

TINY_SHAKESPEARE = ROOT.parent / "shared" / "data" / "tinyshakespeare.txt"


@given(st.text(min_size=1))
def test_encoding_then_decoding_gives_the_text_back(text: str) -> None:
    vocabulary = CharacterVocabulary.from_text(text)
    assert vocabulary.decode(vocabulary.encode(text)) == text
    assert list(vocabulary.characters) == sorted(set(text))


def test_a_saved_vocabulary_loads_with_the_same_ids(tmp_path: Path) -> None:
    text = 'line\nbreak\r "quote" \\ é 漢 😀'
    vocabulary = CharacterVocabulary.from_text(text)
    vocabulary.save(tmp_path / "characters.json")
    assert CharacterVocabulary.load(tmp_path / "characters.json").encode(text) == vocabulary.encode(text)


def test_a_character_outside_the_vocabulary_is_named() -> None:
    with pytest.raises(InputError, match=r"character 2 of the text is 'x', expected one of the 2 characters"):
        CharacterVocabulary.from_text("ab").encode("abx")


@pytest.mark.parametrize("content", ["{", "3", '["a", "a"]', '["ab"]', "[]", "[1, 2]"])
def test_a_file_that_is_no_vocabulary_is_refused_with_its_path(tmp_path: Path, content: str) -> None:
    path = tmp_path / "characters.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"characters\.json: .*expected a JSON list of distinct characters"):
        CharacterVocabulary.load(path)


def test_text_is_read_byte_for_byte(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes("a\r\nb\ré".encode())
    assert read_text(path) == "a\r\nb\ré"


def test_what_cannot_be_read_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").touch()
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9 noir")
    expected = {
        "missing.txt": "no such file",
        "empty.txt": "is empty",
        ".": "is a folder",
        "latin.txt": "byte 3 is 0xe9",
    }
    for name, found in expected.items():
        with pytest.raises(InputError, match=found) as caught:
            read_text(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)
        assert isinstance(caught.value, MissingInput) == (name == "missing.txt")


@pytest.mark.parametrize("count", [1, 10, 11, 99])
def test_the_first_nine_tenths_are_for_training(count: int) -> None:
    ids = torch.arange(count)
    training, held_out = split_by_position(ids)
    assert len(training) == int(0.9 * count)
    assert torch.equal(torch.cat([training, held_out]), ids)


def test_a_target_is_the_id_that_follows() -> None:
    (batch,) = RandomBlocks(torch.arange(1000), 8, 32, seed=0).micro_batches(step=0, rank=0, world_size=1)
    assert batch["input_ids"].shape == batch["targets"].shape == (32, 8)
    assert torch.equal(batch["targets"], batch["input_ids"] + 1)


def test_blocks_reach_the_first_and_the_last_id() -> None:
    (batch,) = RandomBlocks(torch.arange(10), 8, 64, seed=0).micro_batches(step=0, rank=0, world_size=1)
    assert batch["input_ids"].min() == 0
    assert batch["targets"].max() == 9


def test_a_corpus_of_one_block_has_one_place_to_read() -> None:
    (batch,) = RandomBlocks(torch.arange(9), 8, 4, seed=0).micro_batches(step=7, rank=0, world_size=1)
    assert torch.equal(batch["targets"], torch.arange(1, 9).repeat(4, 1))


@pytest.mark.parametrize("dtype", [torch.uint16, torch.int32, torch.int64])
def test_narrow_ids_give_the_same_blocks(dtype: torch.dtype) -> None:
    ids = torch.arange(500)
    (expected,) = RandomBlocks(ids, 8, 4, seed=3).micro_batches(step=1, rank=0, world_size=1)
    (batch,) = RandomBlocks(ids.to(dtype), 8, 4, seed=3).micro_batches(step=1, rank=0, world_size=1)
    assert batch["input_ids"].dtype == batch["targets"].dtype == torch.int64
    assert torch.equal(batch["input_ids"], expected["input_ids"])
    assert torch.equal(held_out_blocks(ids.to(dtype), 8, 4)[0]["targets"], held_out_blocks(ids, 8, 4)[0]["targets"])


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_processes_share_one_global_batch(world_size: int) -> None:
    blocks = RandomBlocks(torch.arange(1000), 8, 5, seed=1)
    (whole,) = blocks.micro_batches(step=4, rank=0, world_size=1)
    shares = [blocks.micro_batches(step=4, rank=rank, world_size=world_size)[0] for rank in range(world_size)]
    for rank, share in enumerate(shares):
        assert torch.equal(share["input_ids"], whole["input_ids"][rank::world_size])
    assert sum(len(share["input_ids"]) for share in shares) == 5


def test_blocks_depend_on_seed_and_step_alone() -> None:
    def first_ids(seed: int, step: int) -> list[int]:
        blocks = RandomBlocks(torch.arange(10**6), 8, 16, seed)
        return blocks.micro_batches(step, rank=0, world_size=1)[0]["input_ids"][:, 0].tolist()

    torch.manual_seed(0)
    once = first_ids(1, 2)
    torch.manual_seed(99)
    assert first_ids(1, 2) == once
    assert not set(once) & set(first_ids(2, 1))
    assert not set(once) & set(first_ids(1, 3))


def test_a_corpus_shorter_than_a_block_is_refused_with_both_lengths() -> None:
    with pytest.raises(InputError, match="has 8 tokens, expected at least 9 for one block of 8"):
        RandomBlocks(torch.arange(8), 8, 4, seed=0)


def test_more_processes_than_blocks_are_refused() -> None:
    with pytest.raises(InputError, match="2 blocks per batch do not reach 3 processes"):
        RandomBlocks(torch.arange(100), 8, 2, seed=0).micro_batches(step=0, rank=0, world_size=3)


@given(count=st.integers(2, 60), block_size=st.integers(1, 9), blocks_per_batch=st.integers(1, 4))
def test_every_held_out_target_comes_exactly_once(count: int, block_size: int, blocks_per_batch: int) -> None:
    ids = torch.arange(count)
    batches = held_out_blocks(ids, block_size, blocks_per_batch)
    assert all(batch["input_ids"].shape == batch["targets"].shape for batch in batches)
    assert all(len(batch["targets"]) <= blocks_per_batch for batch in batches)
    input_ids = torch.cat([batch["input_ids"].flatten() for batch in batches])
    targets = torch.cat([batch["targets"].flatten() for batch in batches])
    learned = targets != corpus.IGNORED_TARGET
    assert torch.equal(targets[learned], ids[1:])
    assert torch.equal(input_ids[learned], ids[:-1])


def test_a_held_out_part_without_a_target_is_refused() -> None:
    with pytest.raises(InputError, match="held-out part of the corpus has 1 tokens"):
        held_out_blocks(torch.arange(1), 8, 4)


def test_a_model_that_knows_nothing_needs_eight_bits_per_byte_in_any_vocabulary() -> None:
    assert bits_per_byte(100 * math.log(256), text_bytes=100) == pytest.approx(8)
    assert bits_per_byte(50 * math.log(256**2), text_bytes=100) == pytest.approx(8)


@pytest.fixture
def served_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder behind a server of this machine that stands where the download does."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(corpus, "TINY_SHAKESPEARE_URL", f"http://127.0.0.1:{server.server_port}/input.txt")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield folder
    server.shutdown()
    server.server_close()


def test_tiny_shakespeare_is_downloaded_once(served_folder: Path) -> None:
    if not TINY_SHAKESPEARE.is_file():
        pytest.skip("needs ../shared/data/tinyshakespeare.txt")
    source = served_folder / "input.txt"
    source.write_bytes(TINY_SHAKESPEARE.read_bytes())
    assert len(tiny_shakespeare()) == 1_115_394
    source.unlink()
    assert len(tiny_shakespeare()) == 1_115_394


def test_a_download_with_another_sha256_is_refused_and_not_kept(served_folder: Path, tmp_path: Path) -> None:
    (served_folder / "input.txt").write_text("To be, or not to be")
    with pytest.raises(InputError, match=r"sha256 is .*, expected 86c4e6aa.*--data PATH"):
        tiny_shakespeare()
    assert not list((tmp_path / "cache").rglob("*"))


def test_without_a_network_the_error_says_how_to_pass_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound and not listening: a connection is refused
        monkeypatch.setattr(corpus, "TINY_SHAKESPEARE_URL", f"http://127.0.0.1:{unused.getsockname()[1]}/input.txt")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        with pytest.raises(InputError, match=r"cannot be downloaded .*pass the file as --data PATH"):
            tiny_shakespeare()


def test_the_saved_vocabulary_is_a_plain_json_list(tmp_path: Path) -> None:
    CharacterVocabulary.from_text("ba").save(tmp_path / "characters.json")
    assert json.loads((tmp_path / "characters.json").read_text()) == ["a", "b"]
