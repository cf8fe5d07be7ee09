"""An extension from end to end on GPT-2's ranks: what it costs to certify, what a reload keeps, how small a delta is.

    python tests/benchmarks/extension_chain.py

Extends random models of GPT-2's width by 1,000 tokens from torch's documentation, saves and reloads them, and compares
with what a delta gives back. Reads GPT-2's ranks from `../shared/data`. Takes about a minute on one core.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel, PreTrainedModel, PreTrainedTokenizerFast

from scratch_models.corpus.embedded_corpus import embedded_corpus
from tokenizer_ext.bpe.tiktoken_files import read_ranks
from tokenizer_ext.extension.certificate import hash_weights
from tokenizer_ext.extension.checks import certify
from tokenizer_ext.extension.corpus_files import sort_texts
from tokenizer_ext.extension.delta import apply_delta, save_delta
from tokenizer_ext.extension.extension import Extended, grow
from tokenizer_ext.extension.plan import Plan, make_plan
from tokenizer_ext.extension.wanted import Wanted
from tokenizer_ext.huggingface.hf_model import load_model
from tokenizer_ext.huggingface.hf_tokenizer import to_hf_tokenizer

SHARED_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
NEW_TOKENS, CONTROL_TOKENS, WIDTH = 1_000, ("<|user|>", "<|assistant|>"), 768


def main() -> None:
    """Prints each row when it is known."""
    base = to_hf_tokenizer(read_ranks(SHARED_DATA / "gpt2.tiktoken"), {"<|endoftext|>": 50256})
    corpus = embedded_corpus()
    domain, held_out = ([one.text for one in part] for part in (corpus.domain, corpus.domain_held_out))
    protected = [one.text for one in corpus.base_held_out]
    texts = sort_texts(domain, held_out, protected)
    print(f"{'':70}{'wanted':>12}  seen", flush=True)
    _cost(base, domain)
    plan = make_plan(base, texts, Wanted(new_tokens=NEW_TOKENS, control_tokens=CONTROL_TOKENS))
    for tied, dtype in ((True, torch.float32), (False, torch.bfloat16)):
        _chain(plan, tied, dtype, [*held_out, *protected])


def _cost(base: PreTrainedTokenizerFast, domain: Sequence[str]) -> None:
    """What growth curve and certificate add to an extension, in seconds of the processor."""
    texts = sort_texts(domain, None, ())
    megabytes = sum(len(text.encode()) for text in domain) / 1e6
    plan = make_plan(base, texts, Wanted(new_tokens=NEW_TOKENS))
    extended = grow((_model(True, torch.float32, 64), base), plan, 1, "subtoken_mean", 0)
    weights, rows = extended.certificate.weights_before, 50_304
    start = time.process_time()
    certify(plan, extended.model, weights, rows)
    seconds = time.process_time() - start
    _row(f"certificate on {megabytes:.1f} MB of text, seconds of the processor", "< 5", f"{seconds:.1f}")


def _chain(plan: Plan, tied: bool, dtype: torch.dtype, documents: Sequence[str]) -> None:
    name = f"{'tied' if tied else 'untied'}, {str(dtype).removeprefix('torch.')}"
    extended = grow((_model(tied, dtype, WIDTH), plan.base), plan, 64, "normal", 0)
    certificate = extended.certificate
    _row(f"{name}: claims of the certificate that fail", "0", str(len(certificate.flaws)))
    _row(
        f"{name}: protected documents whose ids changed",
        "0",
        f"{certificate.changed_protected_documents} of {certificate.protected_documents:,}",
    )
    with TemporaryDirectory() as folder:
        saved, delta = extended.save(Path(folder, "extended")), Path(folder, "delta")
        _reload(name, extended, saved, documents)
        save_delta(extended.model, extended.tokenizer, extended.first_new_id, delta)
        _delta(name, extended, tied, dtype, delta)
        applied = apply_delta((_model(tied, dtype, WIDTH), plan.base), delta).save(Path(folder, "applied"))
        left, right = (load_file(one / "model.safetensors") for one in (saved, applied))
        unequal = sum(not torch.equal(left[key], right[key]) for key in left) + len(left.keys() ^ right.keys())
        _row(f"{name}: weights that base and delta give otherwise", "0", f"{unequal} of {len(left)}")


def _reload(name: str, extended: Extended, folder: Path, documents: Sequence[str]) -> None:
    reloaded = AutoTokenizer.from_pretrained(folder)
    both = zip(
        *(one(list(documents), verbose=False)["input_ids"] for one in (extended.tokenizer, reloaded)), strict=True
    )
    equal = sum(left == right for left, right in both)
    _row(
        f"{name}: documents with equal ids after a reload",
        "100 %",
        f"{equal / len(documents):.2%} of {len(documents):,}",
    )
    special: dict[str, Any] = {token: extended.tokenizer.convert_tokens_to_ids(token) for token in CONTROL_TOKENS}
    special["<|endoftext|>"] = 50256
    moved = sum(reloaded.convert_tokens_to_ids(token) != id_ for token, id_ in special.items())
    _row(f"{name}: special ids moved", "0", str(moved))
    same = hash_weights(load_model(str(folder), "auto"), 50257) == extended.certificate.weights_before
    _row(f"{name}: sha256 of base rows and of all other weights", "equal", "equal" if same else "UNEQUAL")


def _delta(name: str, extended: Extended, tied: bool, dtype: torch.dtype, folder: Path) -> None:
    rows, merges = NEW_TOKENS + len(CONTROL_TOKENS), extended.merges
    bytes_of_rows = rows * WIDTH * dtype.itemsize * (1 if tied else 2)
    bytes_of_merges = sum(len(f"[{merge.left}, {merge.right}], ") for merge in merges)
    size = sum(file.stat().st_size for file in folder.iterdir())
    limit = bytes_of_rows + bytes_of_merges + 16 * 1024
    _row(f"{name}: delta beyond its rows and merges, bytes", "<= 16,384", f"{size - bytes_of_rows - bytes_of_merges:,}")
    assert size <= limit


def _model(tied: bool, dtype: torch.dtype, width: int) -> PreTrainedModel:
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=50_304, n_positions=64, n_embd=width, n_layer=1, n_head=2, tie_word_embeddings=tied)
    return GPT2LMHeadModel(config).to(dtype).eval()


def _row(name: str, wanted: str, seen: str) -> None:
    print(f"{name:70}{wanted:>12}  {seen}", flush=True)


if __name__ == "__main__":
    main()
