"""A corpus that is read as a stream gives the ids of one that is read into memory, from whatever it is read."""

import gzip
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from pydoc_data.topics import topics
from typing import get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from configs import InputError, load_config
from scratch_models.corpus import corpus_parts, training_text
from scratch_models.corpus.blocks import RandomBlocks
from scratch_models.corpus.encoded_text import TrainingText
from scratch_models.corpus.stored_ids import StoredIds
from scratch_models.corpus.streamed_text import stream_training_text
from scratch_models.corpus.training_text import read_training_text
from scratch_models.corpus.vocabulary import Tokens
from scratch_models.documents import reading
from scratch_models.rungs.bigram import bigram_of_counts
from scratch_models.train import TrainSettings, main
from tests.house.repository import ROOT

DOCUMENTS = [f"{text.strip()} — é 漢" for text in list(topics.values())[:23]]
TEXT = "\n\n \n".join(DOCUMENTS)
LETTERS = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz      \n", np.uint8)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache" / "graft" / "ids"


def all_ids(text: TrainingText) -> list[int]:
    return text.training_ids[: len(text.training_ids)].long().tolist()


@pytest.mark.parametrize("tokens", get_args(Tokens))
def test_a_text_in_pieces_gives_what_it_gives_in_memory(tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("text.txt").write_text(TEXT, encoding="utf-8")
    expected = read_training_text("text.txt", tokens, 400)
    assert isinstance(expected.training_ids, torch.Tensor)
    monkeypatch.setattr(training_text, "MOST_BYTES_IN_MEMORY", 1000)
    monkeypatch.setattr(reading, "BYTES_AT_ONCE", 777)
    found = read_training_text("text.txt", tokens, 400)
    assert isinstance(found.training_ids, StoredIds)
    assert all_ids(found) == all_ids(expected)
    assert found.held_out_ids.tolist() == expected.held_out_ids.tolist()
    assert (found.held_out_bytes, found.sha256) == (expected.held_out_bytes, expected.sha256)
    assert found.vocabulary.encode(TEXT[:500]) == expected.vocabulary.encode(TEXT[:500])
    stored, in_memory = (RandomBlocks(text.training_ids, 64, 6, seed=3) for text in (found, expected))
    for step in range(20):
        pairs = zip(stored.micro_batches(step, 0, 1), in_memory.micro_batches(step, 0, 1), strict=True)
        assert all(torch.equal(one[name], other[name]) for one, other in pairs for name in one)
    if tokens == "bytes":
        tables = [bigram_of_counts(text.training_ids, 256).token_embedding_table.weight for text in (found, expected)]
        assert torch.equal(*tables)


def write_documents(folder: Path, kind: str) -> None:
    folder.mkdir()
    lines = [json.dumps({"text": text}) for text in DOCUMENTS]
    half = len(lines) // 2
    if kind == "texts":
        for number, text in enumerate(DOCUMENTS):
            (folder / f"{number:03}.txt").write_text(text, encoding="utf-8")
    elif kind == "jsonl":
        (folder / "a.jsonl").write_text("\n".join(lines[:half]))
        (folder / "b.jsonl.gz").write_bytes(gzip.compress("\n".join(lines[half:]).encode()))
    else:
        pq.write_table(pa.table({"text": DOCUMENTS}), folder / "all.parquet")


@pytest.mark.parametrize("tokens", get_args(Tokens))
def test_documents_give_the_same_ids_from_every_kind_of_file(tokens: Tokens) -> None:
    found = []
    for kind in ("texts", "jsonl", "parquet"):
        write_documents(Path(kind), kind)
        found.append(read_training_text(kind, tokens, 400))
    assert all_ids(found[0]) == all_ids(found[1]) == all_ids(found[2])
    assert [text.held_out_ids.tolist() for text in found] == [found[0].held_out_ids.tolist()] * 3
    first = found[0]
    assert first.documents == {"read": 23, "kept": 23, "dropped": {"empty": 0}}
    between = "<|endoftext|>" if tokens == "bpe" else "\n\n"
    parts = [first.vocabulary.decode(ids) for ids in (all_ids(first), first.held_out_ids.tolist())]
    learned, held_out = (part.removesuffix("<|endoftext|>").split(between) for part in parts)
    aside = [DOCUMENTS[11], DOCUMENTS[22]]  # a tenth of 23, spread evenly
    assert between.join(held_out) == between.join(aside)
    assert between.join(learned) == between.join(text for text in DOCUMENTS if text not in aside)
    counted = "".join(aside) if tokens == "bpe" else "\n\n".join(aside)
    first_bytes = len(first.vocabulary.decode([int(first.held_out_ids[0])]).encode())
    assert first.held_out_bytes == len(counted.encode()) - first_bytes


def test_no_more_is_held_out_than_an_evaluation_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus_parts, "MOST_HELD_OUT", 1000)
    monkeypatch.setattr(training_text, "MOST_BYTES_IN_MEMORY", 1000)
    Path("text.txt").write_text(TEXT, encoding="utf-8")
    text = read_training_text("text.txt", "characters", 0)
    assert text.vocabulary.decode(text.held_out_ids.tolist()) == TEXT[-1000:]
    write_documents(Path("texts"), "texts")
    text = read_training_text("texts", "characters", 0)
    assert text.vocabulary.decode(text.held_out_ids.tolist()) == DOCUMENTS[-1]


def test_ids_are_kept_by_what_decides_them_and_a_broken_entry_is_made_again(own_cache: Path) -> None:
    write_documents(Path("jsonl"), "jsonl")
    first = stream_training_text("jsonl", "bytes", 0)
    (entry,) = own_cache.iterdir()
    made = (entry / "training.ids").stat().st_mtime_ns
    assert np.memmap(entry / "training.ids", np.uint8).tolist() == all_ids(first)
    shutil.copytree("jsonl", "elsewhere")
    assert all_ids(stream_training_text("elsewhere", "bytes", 0)) == all_ids(first)
    assert (entry / "training.ids").stat().st_mtime_ns == made
    (entry / "held_out.ids").write_bytes(b"cut short")
    assert all_ids(stream_training_text("jsonl", "bytes", 0)) == all_ids(first)
    assert (entry / "training.ids").stat().st_mtime_ns != made
    for others in (("bpe", 400, []), ("bytes", 0, ["markup"]), ("characters", 0, [])):
        stream_training_text("jsonl", *others)  # type: ignore[arg-type]
    assert len(list(own_cache.iterdir())) == 4
    with Path("jsonl/a.jsonl").open("a") as file:
        file.write('\n{"text": "one more"}')
    assert stream_training_text("jsonl", "bytes", 0).documents["read"] == 24
    shutil.rmtree(own_cache)
    assert len(all_ids(first)) == len(first.training_ids)  # what is open is read to the end


def test_what_the_filters_drop_is_printed_and_stands_in_the_record_of_the_run(
    capsys: pytest.CaptureFixture[str],
) -> None:
    documents = [*DOCUMENTS, "Too short.", " ", DOCUMENTS[3] + " Again."]
    Path("corpus.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in documents))
    filters = ("--filters", "length", "near_duplicates", "markup")
    short = ("--max_steps", "2", "--evaluation_steps", "0", "--sample_characters", "5", "--output_dir", "here")
    arguments = ["--data", "corpus.jsonl", "--tokens", "bytes", *filters, *short]
    main(load_config(TrainSettings, arguments))
    facts = json.loads(Path("here/run.json").read_text())["documents"]
    with_brackets = sum("{" in text and len(text.split()) > 60 for text in DOCUMENTS)
    assert facts["read"] == 26 and facts["dropped"]["empty"] == facts["dropped"]["near_duplicates"] == 1
    assert facts["dropped"]["markup"] == with_brackets > 0
    assert facts["kept"] == 26 - sum(facts["dropped"].values())
    said = f"26 documents read, {facts['kept']} kept; dropped by empty: 1, length: {facts['dropped']['length']}, "
    assert said + f"near_duplicates: 1, markup: {with_brackets}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--filters", "long"], "filters: long is no filter"),
        (["--filters", "language:zz"], "language"),
        (["--filters", "length"], r"a text file is one document; 1 documents read, 0 kept; dropped by length: 1"),
        (["--data", "embedded", "--filters", "length"], "filters: found length, expected none, as embedded has no"),
        (["--block_size", "100"], "expected at least 101 for one block of 100"),
        (["--data", "missing"], "missing: no such file"),
        (["--data", "."], r"cache/x\.parquet: not readable as Parquet"),
    ],
)
def test_bad_input_is_one_line_and_no_run(arguments: list[str], message: str) -> None:
    Path("text.txt").write_text("A line.\n" * 5)
    Path("cache").mkdir()
    Path("cache/x.parquet").write_text("no table")
    with pytest.raises(InputError, match=message):
        main(load_config(TrainSettings, ["--data", "text.txt", *arguments]))
    assert not Path("runs").exists()


def test_a_cache_without_room_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    Path("corpus.jsonl").write_text('{"text": "one"}\n{"text": "two"}')
    with pytest.raises(InputError, match=r"cannot keep the ids of the corpus .* set XDG_CACHE_HOME"):
        stream_training_text("corpus.jsonl", "bytes", 0)


PEAKS = """
import resource, sys
from scratch_models.corpus.blocks import RandomBlocks
from scratch_models.corpus.training_text import read_training_text
for name in ("small.txt", "large.txt"):
    batches = RandomBlocks(read_training_text(name, "characters", 0).training_ids, 128, 32, seed=0)
    blocks = [batches.micro_batches(step, 0, 1) for step in range(300)]
    print(len(batches.ids), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.long
def test_a_large_corpus_takes_little_more_memory_than_a_small_one(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for name, megabytes in (("small.txt", 1), ("large.txt", 150)):
        with Path(name).open("wb") as file:
            for _ in range(megabytes):
                file.write(LETTERS[generator.integers(0, len(LETTERS), 10**6, dtype=np.uint8)].tobytes())
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run([sys.executable, "-c", PEAKS], capture_output=True, text=True, env=environment)
    assert ended.returncode == 0, ended.stderr
    (small, peak_of_small), (large, peak_of_large) = (map(int, line.split()) for line in ended.stdout.splitlines())
    assert (small, large) == (900_000, 149_000_000)
    assert peak_of_large < 1.2 * peak_of_small
