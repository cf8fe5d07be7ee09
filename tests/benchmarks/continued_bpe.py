"""Continued BPE on GPT-2's ranks: what new tokens gain, what they leave alone, and how long learning takes.

    python tests/benchmarks/continued_bpe.py

Learns from torch's documentation in the embedded corpus and measures held-out documents of it, which share no
near-duplicate group with the rest. Beside continued BPE stand its peers: the same strings through `add_tokens`, and the
tokens of a vocabulary learned anew, appended with its own merges. Reads GPT-2's ranks and GSM8K from `../shared/data`.
Takes about three minutes on two cores.
"""

import hashlib
import json
import sysconfig
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import AddedToken, Encoding, Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from scratch_models.corpus.embedded_corpus import embedded_corpus
from tokenizer_ext.bpe.byte_characters import from_visible
from tokenizer_ext.bpe.merge_learning import Merge, Pair, learn_merges
from tokenizer_ext.bpe.tiktoken_files import read_ranks
from tokenizer_ext.extension.growth_curve import GrowthCurve, measure_growth
from tokenizer_ext.extension.piece_counts import adjacent_pairs, count_pieces
from tokenizer_ext.extension.reachability import assert_reachable, find_witnesses
from tokenizer_ext.huggingface.hf_tokenizer import (
    append_merges,
    merges_from,
    next_token_id,
    to_hf_tokenizer,
    token_bytes,
)

SHARED_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
SIZES = (1_000, 10_000)
WANTED_GAIN = {1_000: ">= +12%", 10_000: ">= +18%"}
SOURCE_BYTES = 50_000_000
CHECKED_BYTES = 20_000_000
TEXTS_PER_BATCH = 2_000

Pieces = Mapping[tuple[int, ...], int]


@dataclass
class Measured:
    """Texts, and how many tokens each is for the base."""

    texts: Sequence[str]
    base_lengths: Sequence[int]

    @property
    def text_bytes(self) -> int:
        """UTF-8 bytes of all texts."""
        return _byte_length(self.texts)


def main() -> None:
    """Prints each row when it is known."""
    base = to_hf_tokenizer(read_ranks(SHARED_DATA / "gpt2.tiktoken"), {"<|endoftext|>": 50256})
    corpus = embedded_corpus()
    domain, held_out_texts, others = (
        [document.text for document in documents]
        for documents in (corpus.domain, corpus.domain_held_out, (*corpus.base, *corpus.base_held_out))
    )
    everything = [*_first([*domain, *held_out_texts, *others], CHECKED_BYTES), *_gsm8k()]
    print(f"{'':66}{'wanted':>8}  seen", flush=True)
    pieces = count_pieces(domain, base)
    first_new_id = next_token_id(base)
    learned = _learn(base, pieces)
    checked = Measured(everything, _lengths(base, everything))
    held_out = Measured(held_out_texts, _lengths(base, held_out_texts))
    for size in SIZES:
        merges = learned[:size]
        ours = append_merges(base, merges)
        assert_reachable(ours, merges)
        _row(f"{size} tokens: no text reaches them", "0", _count_unreached(ours, merges, pieces))
        _row(f"{size} tokens: longer of {_described(everything)}", "0", _count_longer(ours, checked))
        _row(f"{size} tokens: bytes per token on held-out documents", WANTED_GAIN[size], _gain(ours, held_out))
        added = _through_add_tokens(base, merges)
        _row("    the same strings through add_tokens", "less", _gain(added, held_out))
        _row("        tokens that their own text does not reach", "", _count_passed_over(added, merges))
        _row("        longer documents of all, of the held-out", "", _longer_of_both(added, checked, held_out))
        anew = _learned_anew(base, domain, size)
        _row("    tokens of a vocabulary learned anew, by its own merges", "less", _gain(anew, held_out))
        _row("        no text reaches them", "", _count_unreached(anew, merges_from(anew, first_new_id), pieces))
        _row("        longer documents of all, of the held-out", "", _longer_of_both(anew, checked, held_out))
    _protect(base, pieces, held_out)
    _time_learning(base)
    _print_curve(measure_growth(pieces, count_pieces(held_out_texts, base), held_out.text_bytes, learned, first_new_id))


def _learn(base: PreTrainedTokenizerFast, pieces: Pieces, refused_pairs: Collection[Pair] = ()) -> list[Merge]:
    return learn_merges(
        pieces,
        token_bytes(base),
        new_tokens=max(SIZES),
        first_id=next_token_id(base),
        allow=_holds_no_digit,
        refused_pairs=refused_pairs,
    )


def _count_passed_over(added: PreTrainedTokenizerFast, merges: Sequence[Merge]) -> int:
    """How many added tokens their own text does not encode to."""
    texts = [merge.token_bytes.decode(errors="ignore") for merge in merges]
    return sum(added.convert_tokens_to_ids(text) not in added.encode(text) for text in texts if text)


def _longer_of_both(tokenizer: PreTrainedTokenizerFast, checked: Measured, held_out: Measured) -> str:
    return f"{_count_longer(tokenizer, checked)}, {_count_longer(tokenizer, held_out)}"


def _through_add_tokens(base: PreTrainedTokenizerFast, merges: Sequence[Merge]) -> PreTrainedTokenizerFast:
    """The base with the strings of `merges` as added tokens; bytes within a character have no string."""
    texts = [merge.token_bytes.decode(errors="ignore") for merge in merges]
    tokenizer = append_merges(base, [])
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in texts if text])
    return tokenizer


def _learned_anew(base: PreTrainedTokenizerFast, texts: Sequence[str], size: int) -> PreTrainedTokenizerFast:
    """The base with the first `size` new tokens of a vocabulary learned from `texts` alone, and its merges for them."""
    anew = Tokenizer(models.BPE())
    anew.pre_tokenizer = base.backend_tokenizer.pre_tokenizer
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=4 * size + 4_000, initial_alphabet=alphabet, show_progress=False)
    anew.train_from_iterator(texts, trainer)
    ids, first_new_id = base.get_vocab(), next_token_id(base)
    merges: list[Merge] = []
    for left, right in json.loads(anew.to_str())["model"]["merges"]:
        joined = left + right
        if len(merges) < size and joined not in ids and not any(character.isdigit() for character in joined):
            ids[joined] = first_new_id + len(merges)
            merges.append(Merge(ids[left], ids[right], ids[joined], from_visible(joined), 0))
    assert len(merges) == size
    return append_merges(base, merges)


def _protect(base: PreTrainedTokenizerFast, pieces: Pieces, held_out: Measured) -> None:
    """GSM8K keeps its ids, while torch's documentation gets shorter."""
    protected = _gsm8k()
    learned = _learn(base, pieces, adjacent_pairs(protected, base))
    extended = append_merges(base, learned)
    before, after = ([encoding.ids for encoding in _encodings(tokenizer, protected)] for tokenizer in (base, extended))
    changed = sum(old != new for old, new in zip(before, after, strict=True))
    _row(f"{len(learned)} tokens, GSM8K protected: documents changed of {len(protected)}", "0", changed)
    _row("    bytes per token on held-out documents", "", _gain(extended, held_out))


def _time_learning(base: PreTrainedTokenizerFast) -> None:
    """10,000 merges from distinct Python source: counting its pieces, and learning."""
    texts = _python_source()
    start, cpu_start = time.perf_counter(), time.process_time()
    pieces = count_pieces(texts, base)
    counted = time.perf_counter()
    merges = learn_merges(pieces, token_bytes(base), new_tokens=10_000, first_id=next_token_id(base))
    learned = time.perf_counter()
    assert len(merges) == 10_000
    on_cores = f"{time.process_time() - cpu_start:.1f} s of processor time"
    seen = f"{learned - start:.1f} s (pieces {counted - start:.1f}, merges {learned - counted:.1f}; {on_cores})"
    _row(f"10,000 merges from {_described(texts)} of Python", "<=30 s", seen)


def _print_curve(curve: GrowthCurve) -> None:
    print("\nnew tokens   bytes per token   seen fewer than 100 times in one epoch", flush=True)
    for point in curve.points:
        mark = "   <- knee" if point == curve.knee else ""
        print(f"{point.new_tokens:10}{point.bytes_per_token:18.4f}{point.rarely_seen:11}{mark}")


def _count_unreached(tokenizer: PreTrainedTokenizerFast, merges: Sequence[Merge], pieces: Pieces) -> int:
    return sum(witness.how == "none" for witness in find_witnesses(tokenizer, merges, pieces))


def _count_longer(tokenizer: PreTrainedTokenizerFast, measured: Measured) -> int:
    lengths = _lengths(tokenizer, measured.texts)
    return sum(new > old for old, new in zip(measured.base_lengths, lengths, strict=True))


def _gain(tokenizer: PreTrainedTokenizerFast, measured: Measured) -> str:
    before, after = sum(measured.base_lengths), sum(_lengths(tokenizer, measured.texts))
    text_bytes = measured.text_bytes
    return f"{text_bytes / before:.4f} -> {text_bytes / after:.4f} ({before / after - 1:+.1%})"


def _lengths(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[int]:
    return [len(encoding) for encoding in _encodings(tokenizer, texts)]


def _encodings(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> Iterator[Encoding]:
    for start in range(0, len(texts), TEXTS_PER_BATCH):
        batch = texts[start : start + TEXTS_PER_BATCH]
        yield from tokenizer.backend_tokenizer.encode_batch_fast(batch, add_special_tokens=False)


def _gsm8k() -> list[str]:
    lines = (SHARED_DATA / "gsm8k_train.jsonl").read_text(encoding="utf-8").splitlines()
    return [f"{problem['question']}\n{problem['answer']}" for problem in map(json.loads, lines)]


def _python_source() -> list[str]:
    """The installed Python files, each text once, up to `SOURCE_BYTES`."""
    files = [path for key in ("purelib", "stdlib") for path in sorted(Path(sysconfig.get_path(key)).rglob("*.py"))]
    distinct = {hashlib.sha256(content).digest(): content for content in (path.read_bytes() for path in files)}
    return _first([content.decode(errors="replace") for content in distinct.values()], SOURCE_BYTES)


def _first(texts: Sequence[str], text_bytes: int) -> list[str]:
    """The first texts that come to `text_bytes` together, or all."""
    chosen: list[str] = []
    for text in texts:
        text_bytes -= len(text.encode())
        chosen.append(text)
        if text_bytes <= 0:
            break
    return chosen


def _byte_length(texts: Sequence[str]) -> int:
    return sum(len(text.encode()) for text in texts)


def _described(texts: Sequence[str]) -> str:
    return f"{len(texts)} documents, {_byte_length(texts) / 1e6:.1f} MB"


def _holds_no_digit(token: bytes) -> bool:
    return not any(character.isdigit() for character in token.decode(errors="ignore"))


def _row(what: str, wanted: str, seen: object) -> None:
    print(f"{what:66}{wanted:>8}  {seen}", flush=True)


if __name__ == "__main__":
    main()
