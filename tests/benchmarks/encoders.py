"""Compares the encoders of an extended tokenizer: Hugging Face's, its tiktoken export and the readable twin.

    python -m tests.benchmarks.encoders

On GPT-2's ranks with 1,000 and 10,000 new tokens and 10 MB of text (GSM8K and the embedded corpus), and on a small
tokenizer of every family with 300 new tokens and 1 MB; each with a fuzz of Unicode as well. Then what encoding and
loading cost on GPT-2's ranks with 10,000 new tokens, beside the base tokenizer, turn by turn. Reads GPT-2's ranks and
GSM8K from `../shared/data`. Takes about four minutes on one core.
"""

import gc
import json
import random
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tokenizers import Tokenizer
from transformers import AutoTokenizer, GPT2Config, PreTrainedTokenizerFast

from scratch_models.corpus.embedded_corpus import embedded_corpus
from tests.tokenizer_ext.families import FAMILIES, load_tokenizer, write_family
from tokenizer_ext.bpe.merge_learning import learn_merges
from tokenizer_ext.bpe.tiktoken_files import read_ranks
from tokenizer_ext.extension.piece_counts import count_pieces
from tokenizer_ext.huggingface.hf_tokenizer import (
    add_control_tokens,
    append_merges,
    next_token_id,
    to_hf_tokenizer,
    token_bytes,
)
from tokenizer_ext.huggingface.tiktoken_export import export_tiktoken, normalized, twin_of
from tokenizer_ext.pages.terminal import quiet_libraries

SHARED_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
CONTROL = ["<|user|>", "<|assistant|>"]
FUZZ_TEXTS = 20_000
ROUNDS = 9

# Emoji of several characters, marks that combine, blanks and controls of every kind, and parts of control tokens.
SPICES = [
    "👩\u200d🚀",
    "🇫🇷",
    "👍🏽",
    "❤\ufe0f",
    "e\u0301",
    "\u0301",
    "\u0338",
    "한",
    "ा",
    "\u202e",
    "\ufeff",
    "\r\n",
    "\n\n",
]
SPICES += [
    " ",
    "  ",
    " " * 30,
    "\t",
    "\x00",
    "\x1b",
    "\x85",
    "\u2028",
    "\u3000",
    "'ll",
    "'S",
    "1",
    "234",
    "½",
    *CONTROL,
]
SPICES += ["<|", "|>", "<|endoftext|>", "<|im_end|>", "<tool_call>", " the", "class "]


def main() -> None:
    """Prints the figures."""
    quiet_libraries()
    corpus = embedded_corpus()
    texts = [*gsm8k(), *(document.text for document in (*corpus.domain_held_out, *corpus.domain, *corpus.base))]
    domain = [document.text for document in corpus.domain]
    print(f"{'':22}{'texts':>8}{'MB':>6}{'fuzz':>8}{'tiktoken':>10}{'twin':>10}{'reloaded':>10}{'old ids':>9}")
    print(f"{'equal ids, wanted':22}{'':8}{'':6}{'':8}{'100 %':>10}{'100 %':>10}{'100 %':>10}{'unmoved':>9}")
    base = to_hf_tokenizer(read_ranks(SHARED_DATA / "gpt2.tiktoken"), {"<|endoftext|>": 50256})
    for size in (1_000, 10_000):
        extended = extend(base, domain, size)
        with TemporaryDirectory() as folder:
            GPT2Config().save_pretrained(folder)
            compare(f"GPT-2 + {size:,}", base, extended, first_bytes(texts, 10_000_000), Path(folder))
    for family in FAMILIES:
        with TemporaryDirectory() as folder:
            small = load_tokenizer(str(write_family(family, Path(folder), domain[:300], ranks=1_000)))
            compare(f"{family} + 300", small, extend(small, domain, 300), first_bytes(texts, 1_000_000), Path(folder))
    kinds = {
        "torch's documents": domain,
        "other documents": [document.text for document in corpus.base],
        "GSM8K": gsm8k(),
    }
    measure_encoding(base, extended, kinds)
    measure_loading(base, extended)


def gsm8k() -> list[str]:
    """Questions with their answers."""
    lines = (SHARED_DATA / "gsm8k_train.jsonl").read_text(encoding="utf-8").splitlines()
    return ["\n".join(json.loads(line).values()) for line in lines]


def first_bytes(texts: Sequence[str], total: int) -> Sequence[str]:
    """As many of the first texts as have `total` bytes."""
    sizes = accumulate(len(text.encode()) for text in texts)
    return texts[: 1 + sum(size < total for size in sizes)]


def extend(base: PreTrainedTokenizerFast, corpus: Iterable[str], new_tokens: int) -> PreTrainedTokenizerFast:
    """The base with tokens learned from the corpus, then control tokens."""
    pieces = count_pieces(corpus, base)
    merges = learn_merges(pieces, token_bytes(base), new_tokens=new_tokens, first_id=next_token_id(base))
    assert len(merges) == new_tokens
    return add_control_tokens(append_merges(base, merges), CONTROL)


def fuzz() -> list[str]:
    """Texts of characters from all planes, from those that are in use, and of what tokenizers stumble over."""
    chance = random.Random(0)

    def character() -> str:
        kind = chance.random()
        if kind < 0.4:
            return chance.choice(SPICES)
        code = chance.randrange(0x110000 if kind < 0.6 else 0x3000 if kind < 0.9 else 0x20000)
        return chr(code) if not 0xD800 <= code < 0xE000 else " "

    return ["".join(character() for _ in range(chance.randrange(1, 40))) for _ in range(FUZZ_TEXTS)]


def compare(
    name: str,
    base: PreTrainedTokenizerFast,
    extended: PreTrainedTokenizerFast,
    texts: Sequence[str],
    folder: Path,
) -> None:
    """Print how many texts, fuzz among them, have equal ids from every encoder. `folder` holds the model's config."""
    everything = [*texts, *fuzz()]
    expected = ids_of(extended, everything)
    encoding, twin = export_tiktoken(extended, name), twin_of(extended)
    plain = [normalized(text, extended) for text in everything]
    for old in folder.glob("tokenizer*"):
        old.unlink()
    extended.save_pretrained(folder)
    reloaded = AutoTokenizer.from_pretrained(folder)
    equal = (
        in_words(expected, encoding.encode_batch(plain, num_threads=1, allowed_special="all")),
        in_words(expected, [twin.encode(text, allowed_special="all") for text in plain]),
        in_words(expected, ids_of(reloaded, everything)),
    )
    unmoved = base.get_vocab().items() <= reloaded.get_vocab().items()
    unmoved &= reloaded.all_special_ids == [*base.all_special_ids, *extended.convert_tokens_to_ids(CONTROL)]
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    print(
        f"{name:22}{len(texts):8,}{megabytes:6.1f}{FUZZ_TEXTS:8,}"
        + "".join(f"{words:>10}" for words in equal)
        + f"{'unmoved' if unmoved else 'MOVED':>9}"
    )


def ids_of(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[list[int]]:
    """The ids of each text, without what a post-processor puts around it."""
    return [encoding.ids for encoding in tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False)]


def in_words(expected: list[list[int]], found: list[list[int]]) -> str:
    """100 %, or how many of the texts have other ids."""
    other = sum(a != b for a, b in zip(expected, found, strict=True))
    return f"{other} other" if other else "100 %"


def measure_encoding(
    base: PreTrainedTokenizerFast, extended: PreTrainedTokenizerFast, kinds: Mapping[str, Sequence[str]]
) -> None:
    """Print the ratio of encoding speeds on a megabyte of each kind of text, line by line.

    Both sides are made anew for each kind: a tokenizer keeps the words it met until its cache is full, so one that has
    read other text before would be slower for that reason.
    """
    print(f"encoding, 10,000 tokens  {'base MB/s':>10}{'MB/s':>8}{'ratio':>8}")
    for kind, texts in kinds.items():
        lines = "\n".join(first_bytes(texts, 1_000_000)).splitlines()
        megabytes = sum(len(line.encode()) for line in lines) / 1e6

        def encode(backend: Tokenizer, lines: list[str] = lines) -> None:
            backend.encode_batch_fast(lines, add_special_tokens=False)

        fresh = [Tokenizer.from_str(tokenizer.backend_tokenizer.to_str()) for tokenizer in (base, extended)]
        before, after = turn_by_turn(encode, fresh)
        print(f"   {kind:22}{megabytes / before:10.2f}{megabytes / after:8.2f}{before / after:8.3f}   wanted >= 0.95")


def measure_loading(base: PreTrainedTokenizerFast, extended: PreTrainedTokenizerFast) -> None:
    """Print the ratio of the times that AutoTokenizer takes."""
    with TemporaryDirectory() as folder:
        places = [str(Path(folder, name)) for name in ("base", "extended")]
        for tokenizer, place in zip((base, extended), places, strict=True):
            tokenizer.save_pretrained(place)
            GPT2Config().save_pretrained(place)
        before, after = turn_by_turn(AutoTokenizer.from_pretrained, places)
    print(f"loading, 10,000 tokens   {before:8.3f} s{after:7.3f} s{after / before:7.3f}   wanted <= 1.7")


def turn_by_turn(work: Callable[[Any], object], sides: Sequence[Any]) -> list[float]:
    """Median processor seconds of each side, which other work on the machine changes least.

    Without garbage collection, as in timeit: a collection of all that torch and transformers hold takes as long as to
    load a tokenizer, and falls on one side or the other by the number of objects made before.
    """
    seconds: list[list[float]] = [[] for _ in sides]
    gc.collect()
    gc.disable()
    for _ in range(ROUNDS):
        for side, times in zip(sides, seconds, strict=True):
            start = time.process_time()
            work(side)
            times.append(time.process_time() - start)
    gc.enable()
    return [statistics.median(times) for times in seconds]


if __name__ == "__main__":
    main()
