"""Real vocabularies of SentencePiece and byte-level BPE, extended by the command: what is claimed, what it takes.

    python tests/benchmarks/sentencepiece_families.py [--families '["llama2", "gemma3"]']

For each family the published tokenizer with tiny random weights gets 1,000 tokens of torch's documentation. For
SentencePiece BPE the ids of Hugging Face, of SentencePiece's rule, and of the sentencepiece package on a
`tokenizer.model` made here from the vocabulary are compared on megabytes of text and 20,000 fuzzed texts.
"""

import random
import re
import resource
import struct
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerFast

from configs import run_entry
from scratch_models.corpus.embedded_corpus import embedded_corpus
from tests.real_tokenizers import REAL_FAMILIES, real_model, smollm2_folder
from tests.tokenizer_ext.tiny_models import tiny_tied_llama
from tokenizer_ext.encoders.spm_twin import SentencePieceTwin
from tokenizer_ext.extension.certificate import read_certificate
from tokenizer_ext.huggingface.byte_level_backend import bpe_json, is_spm
from tokenizer_ext.huggingface.hf_model import load_tokenizer
from tokenizer_ext.huggingface.hf_tokenizer import next_token_id

_KINDS = (
    "a",
    "Z",
    " ",
    "  ",
    "   ",
    "\n",
    "\t",
    "é",
    "e\u0301",
    "\u0301",
    "\u00a0",
    "日本",
    "の",
    "한",
    "ा",
    "🙂",
    "👩\u200d🚀",
)
_MORE = ("\u200d", "\ufeff", "1", "23", "(", ")", ".", "_", "the", " model", "ing", "\u3000", "дор", "tensor", "torch")


@dataclass(frozen=True, kw_only=True)
class FamilySettings:
    """Which families."""

    families: list[str] = field(default_factory=lambda: ["llama2", "gemma3", "qwen3", "llama3_1", "smollm2"])
    """Folders of the shared tokenizers, and `smollm2`."""
    new_tokens: int = 1000
    """Tokens to learn."""
    compared_megabytes: float = 3.0
    """Text on which encoders are compared."""


def main(settings: FamilySettings) -> None:
    """Prints each row when it is known."""
    corpus = embedded_corpus()
    domain, held_out, other = (
        [re.sub(r"\n\s*\n", "\n", one.text) for one in part]
        for part in (corpus.domain, corpus.domain_held_out, corpus.base_held_out)
    )
    with TemporaryDirectory() as folder:
        files = {name: Path(folder, f"{name}.txt") for name in ("domain", "held_out")}
        for name, documents in (("domain", domain), ("held_out", held_out)):
            files[name].write_text("\n\n".join(documents), encoding="utf-8")
        for family in settings.families:
            base = _base(family, Path(folder, family))
            extended = _extend(family, base, files, Path(folder, f"{family}_extended"), settings.new_tokens)
            tokenizer = load_tokenizer(str(extended))
            if is_spm(tokenizer):
                texts = [*_first_megabytes([*held_out, *other, *domain], settings.compared_megabytes), *_fuzzed(20_000)]
                _compare(family, load_tokenizer(str(base)), tokenizer, AutoTokenizer.from_pretrained(extended), texts)


def _base(family: str, folder: Path) -> Path:
    if family in REAL_FAMILIES:
        return real_model(family, folder)
    tokenizer = load_tokenizer(str(smollm2_folder()))
    tiny_tied_llama(next_token_id(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _extend(family: str, base: Path, files: dict[str, Path], folder: Path, new_tokens: int) -> Path:
    command = [sys.executable, "-m", "tokenizer_ext.extend", "--base", str(base), "--output_dir", str(folder)]
    command += ["--corpus", str(files["domain"]), "--held_out", str(files["held_out"]), "--new_tokens", str(new_tokens)]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - start
    certificate = read_certificate(folder)
    assert certificate is not None
    gain = certificate.bytes_per_token_after / certificate.bytes_per_token_before - 1
    rows = {
        "claims that fail": (", ".join(certificate.flaws) or "0", "0"),
        "unreachable; longer; old ids moved; unequal after a reload": (
            f"{certificate.unreachable_tokens}; {certificate.longer_documents}; {certificate.moved_ids}; "
            f"{certificate.unequal_after_reload} of {certificate.reloaded_documents:,}",
            "0",
        ),
        "other encoders unequal": (
            f"{certificate.encoders.unequal_documents} of {certificate.encoders.documents}",
            "0",
        ),
        "bytes per token, held out": (
            f"{certificate.bytes_per_token_before:.4f} -> {certificate.bytes_per_token_after:.4f} ({gain:+.1%})",
            ">= +10 %",
        ),
        "extend, seconds of the processor; of the clock": (
            f"{after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime:.1f}; {wall:.1f}",
            "<= 25",
        ),
    }
    for name, (seen, wanted) in rows.items():
        _row(f"{family}: {name}", wanted, seen)
    return folder


def _compare(
    family: str,
    base: PreTrainedTokenizerFast,
    tokenizer: PreTrainedTokenizerFast,
    reloaded: PreTrainedTokenizerFast,
    texts: list[str],
) -> None:
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    expected = [one.ids for one in tokenizer.backend_tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
    again = [one.ids for one in reloaded.backend_tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
    twin = SentencePieceTwin(tokenizer)
    unequal = sum(twin.encode(text) != ids for text, ids in zip(texts, expected, strict=True))
    what = f"{len(texts):,} texts, {megabytes:.1f} MB"
    _row(
        f"{family}: unequal after a reload, {what}", "0", str(sum(a != b for a, b in zip(again, expected, strict=True)))
    )
    _row(f"{family}: unequal to SentencePiece's rule", "0", str(unequal))
    old_ids = [one.ids for one in base.backend_tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
    package = [_package(one) for one in (base, tokenizer)]
    agreed = [package[0].encode(text) == ids for text, ids in zip(texts, old_ids, strict=True)]
    wrong = sum(
        same and package[1].encode(text) != ids for same, text, ids in zip(agreed, texts, expected, strict=True)
    )
    _row(
        f"{family}: unequal to the sentencepiece package where it gives the base's ids",
        "0",
        f"{wrong} of {sum(agreed):,}",
    )


def _package(tokenizer: PreTrainedTokenizerFast) -> Any:
    """A processor of the sentencepiece package with the vocabulary, its scores in the order of the merges."""
    import sentencepiece

    backend = bpe_json(tokenizer)
    vocabulary: dict[str, int] = backend["model"]["vocab"]
    ranks: dict[str, int] = {}
    for rank, (left, right) in enumerate(backend["model"]["merges"]):
        ranks.setdefault(left + right, rank)
    order = {token: place for place, token in enumerate(sorted(ranks, key=ranks.__getitem__))}
    added = {token["content"] for token in backend["added_tokens"]}
    texts = {id_: token for token, id_ in vocabulary.items()}
    message = b""
    for id_ in range(max(texts) + 1):
        text = texts.get(id_, f"<nothing{id_}>")
        kind = 2 if text == "<unk>" else 6 if re.fullmatch(r"<0x[0-9A-F]{2}>", text) else 1
        if kind == 1 and (id_ not in texts or text in {"<s>", "</s>", "<pad>", "<bos>", "<eos>"}):
            kind = 3
        elif kind == 1 and text in added:
            kind = 4
        content = (
            _field(1, text.encode())
            + b"\x15"
            + struct.pack("<f", -float(order.get(text, len(order))))
            + bytes([0x18, kind])
        )
        message += _field(1, content)
    prefix = "Prepend" in str(backend["normalizer"])
    # model_type BPE, byte_fallback; identity, no prefix unless asked, spaces kept and escaped
    message += _field(2, bytes([3 << 3, 2]) + bytes([0x98, 0x02, 1]))
    message += _field(3, _field(1, b"identity") + bytes([3 << 3, prefix, 4 << 3, 0, 5 << 3, 1]))
    return sentencepiece.SentencePieceProcessor(model_proto=message)


def _field(number: int, content: bytes) -> bytes:
    size, groups = len(content), []
    while size > 0x7F:
        groups.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([number << 3 | 2, *groups, size]) + content


def _first_megabytes(documents: list[str], megabytes: float) -> list[str]:
    size = 0
    kept = []
    for text in documents:
        if (size := size + len(text.encode())) > megabytes * 1e6:
            break
        kept.append(text)
    return kept


def _fuzzed(count: int) -> list[str]:
    draw = random.Random(0)
    return ["".join(draw.choices([*_KINDS, *_MORE], k=draw.randrange(1, 15))) for _ in range(count)]


def _row(name: str, wanted: str, seen: str) -> None:
    print(f"{name:90}{wanted:>10}  {seen}", flush=True)


if __name__ == "__main__":
    run_entry(main, FamilySettings)
