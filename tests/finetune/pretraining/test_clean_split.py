"""No text that nearly equals a held-out one is learned from, in whichever corpus it stands; and what is refused."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from configs import InputError
from finetune.pretraining.document_ends import DocumentEnds
from finetune.pretraining.text_sources import NamedTexts, name_texts
from finetune.pretraining.token_files import EncodedText, encode_sources
from scratch_models.documents.known_texts import KnownTexts
from scratch_models.documents.near_duplicates import SIMILARITY, jaccard, shingles, words_of
from tests.finetune.tiny_models import COLOURS, THINGS, save_tiny_base
from tests.house.repository import ROOT
from tokenizer_ext.huggingface.hf_model import load_tokenizer

WORDS = [*COLOURS, *THINGS, "grass", "sand"]


def document(number: int, words: int = 30) -> str:
    """A text like no other."""
    return " ".join(
        WORDS[(number * (place + 3) + place * place) % 16] + str(number * 31 + place) for place in range(words)
    )


@pytest.fixture
def tokenizer(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return load_tokenizer(str(save_tiny_base(tmp_path / "base")))


def write(name: str, texts: list[str]) -> str:
    Path(name).write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return name


def encode(tokenizer, corpus, watched=()) -> tuple[NamedTexts, list[EncodedText]]:
    named = name_texts(corpus, watched, None)
    return named, encode_sources(named.all, tokenizer, DocumentEnds.of(tokenizer))


def read(ids, tokenizer) -> list[str]:
    """The documents of some ids."""
    text = tokenizer.decode(ids[0 : len(ids)].tolist(), clean_up_tokenization_spaces=False)
    return [one for one in text.split("<|endoftext|>") if one]


def test_no_pair_across_the_split_is_nearly_equal_whichever_corpus_it_is_of(tokenizer):
    texts = [document(number) for number in range(40)]
    near = [text.replace(text.split()[0], "Another").upper() for text in texts]
    domain = write("domain.jsonl", [*texts, *near[::2]])
    general = write("general.jsonl", [*near[1::2], *(document(number) for number in range(100, 140))])
    watched = write("watched.jsonl", [document(number) + " behind" for number in range(130, 150)])
    _, encoded = encode(tokenizer, [domain, general], [watched])
    held_out = [text for one in encoded for text in read(one.held_out, tokenizer)]
    learned = [text for one in encoded if len(one.training) for text in read(one.training, tokenizer)]
    assert len(held_out) == 6 + 6 + 20 and sum(one.facts.left_out for one in encoded) >= 12
    for text in learned:
        assert all(jaccard(shingles(words_of(text)), shingles(words_of(other))) < SIMILARITY for other in held_out)
    assert len(learned) + len(held_out) + sum(one.facts.left_out for one in encoded) == 60 + 60 + 20


def test_of_a_text_file_a_paragraph_of_the_held_out_end_is_left_out_where_it_stands_before(tokenizer):
    paragraphs = [document(number) for number in range(50)]
    again = paragraphs[47]
    Path("one.txt").write_text("\n\n".join([*paragraphs[:10], again.upper(), "Note:", *paragraphs[10:], "Note:"]))
    _, (encoded,) = encode(tokenizer, "one.txt")
    learned, (held_out,) = read(encoded.training, tokenizer), read(encoded.held_out, tokenizer)
    assert again in held_out and encoded.facts.left_out == 1
    # Behind the gap another document begins; a short paragraph such as a heading is no duplicate.
    assert learned[0] == "\n\n".join(paragraphs[:10]) + "\n\n" and learned[1].startswith("Note:\n\n" + paragraphs[10])
    assert encoded.facts.documents == len(learned) == 2


def test_known_texts_are_found_exactly_where_the_similarity_says_so():
    texts = [document(number % 12, 30 + number) for number in range(24)]
    known = KnownTexts(texts[:12])
    for text in texts:
        sets = [shingles(words_of(one)) for one in texts[:12]]
        assert known.has_near(text) == any(jaccard(shingles(words_of(text)), one) >= SIMILARITY for one in sets)


def test_of_a_watched_text_nothing_is_learned_and_all_of_it_is_measured(tokenizer):
    domain, watched = write("a.jsonl", [document(n) for n in range(20)]), write("b.jsonl", [document(77), document(78)])
    named, (_, other) = encode(tokenizer, domain, watched)
    assert [one.name for one in named.learned] == ["a.jsonl"] and len(other.training) == 0
    assert read(other.held_out, tokenizer) == [document(77), document(78)]


def test_ids_come_from_the_cache_until_a_text_changes(tokenizer, monkeypatch):
    domain = write("a.jsonl", [document(number) for number in range(20)])
    before = read(encode(tokenizer, domain)[1][0].training, tokenizer)
    with monkeypatch.context() as patched:
        patched.setattr("finetune.pretraining.token_files._write", None)
        assert read(encode(tokenizer, domain)[1][0].training, tokenizer) == before
    write("a.jsonl", [document(number) for number in range(1, 21)])
    assert read(encode(tokenizer, domain)[1][0].training, tokenizer) != before


@pytest.mark.parametrize(
    ("corpus", "watched", "best_by", "said"),
    [
        (["a.jsonl:1", "copy.jsonl:0.3"], [], None, "a.jsonl and copy.jsonl hold the same text, expected different"),
        (["a.txt", "a.txt.gz:0.3"], [], None, "a.txt and a.txt.gz hold the same text"),
        (["a.jsonl"], ["copy.jsonl"], None, "a.jsonl and copy.jsonl hold the same text"),
        (["a.jsonl", "./a.jsonl"], [], None, r"found \./a.jsonl twice, expected each text once"),
        (["a.jsonl:0", "b.jsonl"], [], None, "a.jsonl has the weight '0', expected a finite number above 0"),
        (["a.jsonl:much", "b.jsonl"], [], None, "a.jsonl has the weight 'much'"),
        (["a.jsonl:-1", "b.jsonl"], [], None, "a.jsonl has the weight '-1'"),
        (["a.jsonl", "gone.jsonl:2"], [], None, "gone.jsonl: no such file"),
        (["a.jsonl", "empty.txt"], [], None, "empty.txt: is empty"),
        (["a.jsonl", "blank.txt"], [], None, "1 documents read, 0 kept; dropped by empty: 1: expected some"),
        (["a.jsonl", "latin.txt"], [], None, "latin.txt: byte 3 is 0xe9, expected text in UTF-8"),
        (["a.jsonl"], [], "c.jsonl", "best_by: found 'c.jsonl', expected one of the texts of the run: a.jsonl"),
    ],
)
def test_texts_that_cannot_be_used_are_refused_in_one_line(tokenizer, corpus, watched, best_by, said):
    texts = [document(number) for number in range(20)]
    write("a.jsonl", texts), write("copy.jsonl", texts[::-1]), write("b.jsonl", texts[:9])
    Path("a.txt").write_text("\n\n".join(texts))
    subprocess.run(["gzip", "-k", "a.txt"], check=True)
    for name, content in (("empty.txt", b""), ("blank.txt", b" \n "), ("latin.txt", b"caf\xe9 noir")):
        Path(name).write_bytes(content)
    with pytest.raises(InputError, match=said) as refused:
        named = name_texts(corpus, watched, best_by)
        encode_sources(named.all, tokenizer, DocumentEnds.of(tokenizer))
    assert "\n" not in str(refused.value) and not list(Path("cache").rglob("*.ids"))


PEAKS = """
import resource, sys
from finetune.pretraining.document_ends import DocumentEnds
from finetune.pretraining.text_blocks import TextBlocks
from finetune.pretraining.text_sources import name_texts
from finetune.pretraining.token_files import encode_sources
from tokenizer_ext.huggingface.hf_model import load_tokenizer
tokenizer = load_tokenizer("base")
ends = DocumentEnds.of(tokenizer)
for names in (["small.jsonl", "small.txt"], ["large.jsonl", "large.txt"]):
    texts = encode_sources(name_texts(names, [], None).all, tokenizer, ends)
    blocks = TextBlocks.of(texts, [0.5, 0.5], ends, block_size=128, blocks_per_batch=32, seed=0)
    read = [blocks.micro_batches(step, 0, 1) for step in range(200)]
    print(sum(len(text.training) for text in texts), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.long
def test_large_texts_take_little_more_memory_than_small_ones(tokenizer):
    # Of both so much is held out as there ever is.
    for name, documents in (("small", 32_000), ("large", 130_000)):
        with Path(f"{name}.jsonl").open("w") as lines, Path(f"{name}.txt").open("w") as text:
            for number in range(documents):
                lines.write(json.dumps({"text": document(number)}) + "\n")
                text.write(document(documents + number) + "\n\n")
    assert Path("large.txt").stat().st_size > 20e6
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run([sys.executable, "-c", PEAKS], capture_output=True, text=True, env=environment)
    assert ended.returncode == 0, ended.stderr
    (small, peak_of_small), (large, peak_of_large) = (map(int, line.split()) for line in ended.stdout.splitlines())
    assert large > 4 * small
    assert peak_of_large < 1.2 * peak_of_small
