"""Adapter and base as one model, with the proof that it says the same.

The merged folder is written beside its place, opened again from the disk with transformers alone, and compared with the
adapter model. Only what has passed is moved to its place; a merge that differs leaves nothing.
"""

import dataclasses
import json
import shutil
from pathlib import Path

import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from configs import InputError, MissingInput
from configs.file_hash import file_sha256
from configs.manifest import sealed_folder
from configs.whole_folder import check_new_folder
from finetune.chat.choose_format import named_stops
from finetune.export.adapter_base import base_of_adapter, quantised_bits
from finetune.export.hub import push
from finetune.export.logit_comparison import LogitComparison, compare_logits, logits_of, probe_ids
from finetune.export.merged_folder import MERGED, RECEIPT, Onto, Receipt, Stored
from finetune.export.model_card import write_merged_card
from finetune.export.saved_model import find_model, load_adapted, merge_in_memory
from scratch_models.loop.run_folder import RunFolder
from tokenizer_ext.encoders.spm_model import save_with_model_file
from tokenizer_ext.extension.certificate import hash_weights, read_certificate, weights_sha256, write_certificate
from tokenizer_ext.foreign.adapter_folder import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from tokenizer_ext.held_weights.packed_matrices import Bits
from tokenizer_ext.held_weights.quantised_layers import round_blocks
from tokenizer_ext.huggingface.hf_model import load_model, load_tokenizer, positions_of
from tokenizer_ext.huggingface.hf_tokenizer import next_token_id
from tokenizer_ext.pages.progress import shown

LIMIT = 1e-4


def merge_with_receipt(
    final: str | Path, target: str | Path, *, stored_as: Stored = "float32", onto: Onto = "stored"
) -> Receipt:
    """Writes the merged model to `target`, complete and proven or not at all.

    Args:
        final: A run, its `final/`, or an adapter that names its base.
        target: A new folder: weights, tokenizer, chat template, generation config, certificate, card, `receipt.json`.
        stored_as: What the weights are rounded to on disk. The merge itself is done and compared in float32.
        onto: What an adapter that was trained on a quantised base is merged into.

    Raises:
        InputError: there is no adapter, `target` holds something, or the merged model says something else.

    """
    adapter, target = find_model(final), Path(target)
    check_new_folder(target)
    if not adapter.is_dir():
        raise MissingInput(f"{adapter}: no such folder, expected a finished run such as runs/sft-1")
    if not (adapter / ADAPTER_CONFIG).is_file():
        raise InputError(f"{adapter}: holds no adapter, so there is nothing to merge: it is one model as it is")
    try:
        with sealed_folder(target, needed=_least_bytes(adapter, stored_as)) as partial:
            receipt = _merge(adapter, partial, stored_as, onto)
            (partial / RECEIPT).write_text(json.dumps(dataclasses.asdict(receipt), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{target}: cannot be written ({error}): make room or choose another folder") from error
    return receipt


def _least_bytes(adapter: Path, stored_as: Stored) -> int:
    """What the merged weights take at least: those of the base, rounded where that is wanted."""
    stored = sum(path.stat().st_size for path in Path(base_of_adapter(adapter)).glob("*.safetensors"))
    return stored // 2 if stored_as == "bfloat16" else stored


@shown("merging")
def _merge(adapter: Path, folder: Path, stored_as: Stored, onto: Onto) -> Receipt:
    bits = quantised_bits(adapter)
    if onto == "quantised" and bits is None:
        raise InputError(f"{adapter}: was trained on a base that was not quantised, expected --onto stored")
    adapted, tokenizer = load_adapted(adapter, prove_base=True)
    ids = probe_ids(next_token_id(tokenizer), positions_of(adapted.get_base_model()))
    rounding = bits if onto == "quantised" else None
    as_trained = None if bits is None else _logits_as_trained(adapted, ids, bits, kept=onto == "quantised")
    merged, expected, found = _merge_in(torch.float32, adapted, adapter, ids)
    if not found.largest_difference <= LIMIT:
        del merged, adapted
        merged, expected, found = _merge_in_double(adapter, ids, rounding)
    _check_difference(adapter, found)
    trained = None if as_trained is None else compare_logits(merged, ids, as_trained.to(expected))
    _write(merged.to(getattr(torch, stored_as)), tokenizer, folder)
    written = _hash(merged)
    del merged
    read_back = _read_back(folder, adapter, written)
    stop_ids = _check_stops(folder, adapter, tokenizer, read_back)
    _certify(read_back, adapter, folder)
    from_disk = compare_logits(read_back.to(expected.dtype), ids, expected)
    if expected.dtype == getattr(torch, stored_as):  # rounded weights say something else by nature
        _check_difference(adapter, found := from_disk)
    return Receipt(
        largest_difference=found.largest_difference,
        limit=LIMIT,
        compared_in=str(expected.dtype).removeprefix("torch."),
        positions=ids.numel(),
        stored_as=stored_as,
        same_choice=from_disk.same_choice,
        merged_onto=onto,
        trained_in_bits=bits,
        from_trained=trained and trained.largest_difference,
        same_choice_as_trained=trained and trained.same_choice,
        tied=read_back.get_output_embeddings().weight is read_back.get_input_embeddings().weight,
        stop_ids=stop_ids,
        adapter_sha256=file_sha256(adapter / ADAPTER_WEIGHTS),
        weights_sha256=written,
        files_sha256={path.name: file_sha256(path) for path in sorted(folder.iterdir())},
    )


def _logits_as_trained(adapted: PeftModel, ids: Tensor, bits: Bits, *, kept: bool) -> Tensor:
    """The logits on a base that is rounded as it was in training, which it stays where it is `kept` so."""
    stored = round_blocks(adapted, bits)
    logits = logits_of(adapted.get_base_model(), ids)
    for weight, before in () if kept else stored.items():
        weight.data = before
    return logits


def _merge_in_double(
    adapter: Path, ids: Tensor, rounding: Bits | None
) -> tuple[PreTrainedModel, Tensor, LogitComparison]:
    """What `_merge_in` gives of the adapter, opened again, in float64."""
    # Where activations are large, float32 differs by more than the limit for two ways to add up the same numbers, and
    # for weights that are the merged ones rounded. Whether these are the right ones, float64 tells.
    adapted = load_adapted(adapter)[0]
    if rounding is not None:
        round_blocks(adapted, rounding)
    return _merge_in(torch.float64, adapted, adapter, ids)


def _read_back(folder: Path, adapter: Path, written: str) -> PreTrainedModel:
    read_back = load_model(str(folder), "auto")
    if _hash(read_back) != written:
        raise InputError(f"{adapter}: its merged weights are others once they are read back, so nothing was kept")
    return read_back


def _merge_in(
    dtype: torch.dtype, adapted: PeftModel, adapter: Path, ids: Tensor
) -> tuple[PreTrainedModel, Tensor, LogitComparison]:
    """The merged model, the logits that the adapter's gave before, and how far the merged ones are from them."""
    expected = logits_of(adapted.to(dtype).get_base_model(), ids)
    merged = merge_in_memory(adapted, adapter)
    return merged, expected, compare_logits(merged, ids, expected)


@shown("writing the merged model")
def _write(merged: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    merged.save_pretrained(folder)
    save_with_model_file(tokenizer, folder)


def _certify(read_back: PreTrainedModel, adapter: Path, folder: Path) -> None:
    """Writes card and certificate of what was read back; the old weights are others now, and it says so."""
    certificate = read_certificate(base_of_adapter(adapter))
    if certificate is not None:
        after = hash_weights(read_back, certificate.base_tokens)
        trained = dataclasses.replace(certificate, weights_after=after, all_weights_trained=True, reopened=True)
        write_certificate(trained, folder)
    write_merged_card(adapter, folder)


def _check_difference(adapter: Path, found: LogitComparison) -> None:
    if not found.largest_difference <= LIMIT:
        raise InputError(
            f"{adapter}: once merged its logits differ by {found.largest_difference:.1e}, expected at most "
            f"{LIMIT:.0e}, so nothing was kept: use adapter and base side by side"
        )


def _check_stops(folder: Path, adapter: Path, before: PreTrainedTokenizerFast, read_back: PreTrainedModel) -> list[int]:
    """The ids that end a reply, after template, end of turn and padding were found as they were."""
    after = load_tokenizer(str(folder))
    for name in ("chat_template", "eos_token_id", "pad_token_id"):
        if getattr(after, name) != getattr(before, name):
            raise InputError(f"{adapter}: {name} of the tokenizer is another once merged, so nothing was kept")
    stop_ids = named_stops(read_back.generation_config)
    if after.eos_token_id is not None and after.eos_token_id not in stop_ids:
        raise InputError(
            f"{adapter}: the generation config stops at {stop_ids}, expected the tokenizer's end {after.eos_token_id} "
            "among them, so nothing was kept: set eos_token_id in the generation_config.json of adapter or base"
        )
    return stop_ids


def _hash(model: PreTrainedModel) -> str:
    return weights_sha256(hash_weights(model, model.get_input_embeddings().num_embeddings))


def publish(run: RunFolder, *, merge: bool, push_to_hub: str | None) -> None:
    """Merges the finished run into one model, proven after it is read back, and uploads it, where that is wanted."""
    model = run.final
    if merge:
        model = run.path / MERGED
        if model.is_symlink():  # of somebody else's run: what it leads to stays
            model.unlink()
        shutil.rmtree(model, ignore_errors=True)  # of a run that was finished before and resumed
        receipt = merge_with_receipt(run.final, model)
        print(f"{receipt.describe()}\nSaved: {model}; receipt: {model / RECEIPT}")
    if push_to_hub is not None:
        print(f"Uploaded: {push(model, push_to_hub)}")
