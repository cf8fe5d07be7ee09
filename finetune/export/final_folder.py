"""The finished model as a folder that plain transformers and peft open. Nothing is copied that did not change.

    final/            an adapter, where the base kept its tokens: the base is named by its place, and by the hash of its
                      weights in `base.json`; tokenizer, chat template and generation config lie beside the adapter

    final/base/       after an extension: the base with its trained new rows, in the type that it was stored in, with
                      its certificate; also where the base is nowhere on the disk, as once an adapter was merged into
                      it, or its rotary positions were scaled
    final/adapter/    the adapter on it; its config names `../base`, relative to itself

Full fine-tuning leaves one model, so there `final/` is itself the model's folder. Its weights stay in float32: what was
measured is what is saved, and a bit that is rounded away does not come back, while any tool can round.

An adapter that started by changing the base (PiSSA) is saved as the difference to the base as it was: a plain LoRA of
twice the rank.
"""

import dataclasses
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoConfig, PreTrainedModel, PreTrainedTokenizerFast

from configs import InputError
from configs.manifest import sealed_folder
from finetune.export.adapter_base import BASE_RECORD, AdapterBase, write_adapter_base
from finetune.export.base_on_disk import base_on_disk, is_scaled_in_memory, round_new_rows
from finetune.export.conversational import make_conversational
from finetune.export.model_card import public_name
from finetune.lora.changed_base import save_as_difference, take_out
from finetune.lora.lora import changes_to_base
from tokenizer_ext.embeddings.saved_weights import check_config_and_tokenizer, check_tensors, reopen
from tokenizer_ext.embeddings.tables import fold, new_row_parameters
from tokenizer_ext.encoders.spm_model import save_with_model_file
from tokenizer_ext.extension.certificate import Certificate, WeightHashes, hash_weights, weights_sha256
from tokenizer_ext.extension.extension import Extended
from tokenizer_ext.foreign.adapter_folder import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from tokenizer_ext.foreign.checked_folder import check_model_folder
from tokenizer_ext.held_weights.quantised_layers import held_bits, put_originals_back
from tokenizer_ext.held_weights.stored_layers import computes_in
from tokenizer_ext.held_weights.stored_slices import find_stored, pieces_of
from tokenizer_ext.pages.progress import shown

BASE_BESIDE_ADAPTER = "../base"


@shown("saving the model")
def save_assistant(
    model: PreTrainedModel,
    adapted: PeftModel | None,
    tokenizer: PreTrainedTokenizerFast,
    final: Path,
    extended: Extended | None = None,
    *,
    own_stops: Sequence[int] = (),
    write_card: Callable[[Path, str], None] | None = None,
) -> str:
    """Writes `final/`, complete or not at all, and says what became of the base; the model is used up.

    Args:
        model: The causal model, with adapters inside it where `adapted` is given.
        adapted: The same model as peft wraps it, or None after full fine-tuning.
        tokenizer: Its tokenizer with the control tokens.
        final: The folder to write; one that is there already is replaced.
        extended: What the model was extended by: its certificate and report are saved beside the weights.
        own_stops: As for `make_conversational`: given where the base's own chat template was trained on.
        write_card: Writes the card into the folder, given it and what became of the base, before it is in its place.

    """
    if new_row_parameters(model):
        round_new_rows(model)
        fold(model)
    make_conversational(model, tokenizer, own_stops)
    with sealed_folder(final, needed=model.get_memory_footprint() if adapted is None else 0) as partial:
        if adapted is None:
            kept = _write_whole(model, tokenizer, partial, extended)
        else:
            kept = _write_adapter(model, adapted, tokenizer, partial, extended)
            if own_stops:
                _take_published_tokenizer(model, partial)
        if write_card is not None:
            write_card(partial, kept)
    return kept


def certify_trained(extended: Extended, model: PreTrainedModel, *, all_weights_trained: bool) -> Certificate:
    """The certificate of an extension with the hashes of the model after training, as it was read back."""
    hashes = hash_weights(model, extended.first_new_id)
    return _certify(extended, hashes, all_weights_trained=all_weights_trained)


def _certify(extended: Extended, hashes: WeightHashes, *, all_weights_trained: bool) -> Certificate:
    return dataclasses.replace(
        extended.certificate,
        weights_after=hashes,
        all_weights_trained=all_weights_trained,
        reopened=True,
    )


def _write_whole(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path, extended: Extended | None
) -> str:
    base = base_on_disk(model)
    if base is not None and base.trained is not None:
        hashes = _take_trained(base.trained, model, tokenizer, folder, extended)
    else:
        model.save_pretrained(folder)
        save_with_model_file(tokenizer, folder)
        reopened = reopen(folder, model, tokenizer, logits=False)
        hashes = None if extended is None else hash_weights(reopened, extended.first_new_id)
    if extended is not None and hashes is not None:
        extended.save_proof(folder, _certify(extended, hashes, all_weights_trained=True))
    return f"every weight was trained; saved in {_name(model.dtype)}, in which it was trained"


def _take_trained(
    trained: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path, extended: Extended | None
) -> WeightHashes | None:
    """Moves weights that no process holds whole into a folder, each found to be what was trained; their hashes.

    Raises:
        InputError: the folder is not that of the model once it is opened again.

    """
    for path in sorted(trained.iterdir()):
        path.rename(folder / path.name)
    trained.rmdir()
    model.config.architectures, model.config.dtype = [type(model).__name__], model.dtype
    model.config.save_pretrained(folder)
    if model.can_generate():
        model.generation_config.save_pretrained(folder)
    save_with_model_file(tokenizer, folder)
    stored = find_stored(model, check_model_folder(folder), model.base_model_prefix)
    if lost := sorted(dict(model.named_parameters()).keys() - stored.keys()):
        raise InputError(f"{lost[0]} is not there once the folder is opened again, so nothing was kept")
    check_config_and_tokenizer(folder, AutoConfig.from_pretrained(folder, trust_remote_code=False), model, tokenizer)
    if extended is None:
        return None
    return hash_weights(model, extended.first_new_id, lambda name, rows: pieces_of(name, stored[name], rows))


def _write_adapter(
    model: PreTrainedModel,
    adapted: PeftModel,
    tokenizer: PreTrainedTokenizerFast,
    folder: Path,
    extended: Extended | None,
) -> str:
    changed = changes_to_base(adapted)
    adapted.save_pretrained(folder / "adapter", save_embedding_layers=False)
    trained = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    check_tensors(load_file(folder / "adapter" / ADAPTER_WEIGHTS), trained)
    save_as_difference(folder / "adapter", changed)
    model = take_out(adapted, changed)
    if extended is None or not _stands_as_it_was(model, extended):
        _name_base(folder / "adapter", BASE_BESIDE_ADAPTER)
        return _write_base(model, tokenizer, folder / "base", extended)
    for path in (folder / "adapter").iterdir():
        path.rename(folder / path.name)
    (folder / "adapter").rmdir()
    return _write_beside_adapter(model, tokenizer, folder, extended)


def _stands_as_it_was(model: PreTrainedModel, extended: Extended) -> bool:
    """Whether the base is on the disk with these very weights and these very tokens, so that naming it is enough."""
    base = base_on_disk(model)
    if base is None or base.folder is None or extended.plan.new_ids or is_scaled_in_memory(model, base.folder):
        return False
    return base.found_unchanged or hash_weights(model, extended.first_new_id) == extended.certificate.weights_before


def _write_beside_adapter(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path, extended: Extended
) -> str:
    base = base_on_disk(model)
    assert base is not None
    place, revision = base.place
    _name_base(folder, place, revision)
    save_with_model_file(tokenizer, folder)
    model.generation_config.save_pretrained(folder)
    sha256 = weights_sha256(extended.certificate.weights_before)
    record = AdapterBase(
        given=base.given,
        tokens=extended.first_new_id,
        weights_sha256=sha256,
        base_bits=held_bits(model),
        reopened=True,
    )
    write_adapter_base(record, folder)
    commit = f" at {revision[:12]}" if revision else ""
    return f"unchanged, so it is named and not copied: {public_name(place)}{commit}, weights sha256 {sha256}"


def _write_base(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path, extended: Extended | None
) -> str:
    """Writes a base that changed or stands nowhere; what is certified of it is what is read back from the disk."""
    origin = base_on_disk(model)
    trained_in = computes_in(model)
    put_originals_back(model)
    if origin is not None:
        model.to(origin.stored_as)
    model.save_pretrained(folder)
    save_with_model_file(tokenizer, folder)
    reopened = reopen(folder, model, tokenizer, logits=False)
    if extended is not None:
        extended.save_proof(folder, certify_trained(extended, reopened, all_weights_trained=False))
    stored = f"in base/, in {_name(model.dtype)}, as it was stored"
    if extended is None or not extended.plan.new_ids:
        which = "positions" if origin is not None and origin.folder is not None else "weights"
        return f"{stored}: with these {which} it is nowhere else on the disk"
    rounded = f", rounded from {_name(trained_in)}, in which they trained" if model.dtype != trained_in else ""
    return f"{stored}, with rows for {extended.plan.new_ids:,} new tokens{rounded}"


def _take_published_tokenizer(model: PreTrainedModel, folder: Path) -> None:
    """Has a tokenizer that nothing changed be the file that its base came with: written anew it can be twice as big."""
    base = base_on_disk(model)
    published = None if base is None or base.folder is None else base.folder / "tokenizer.json"
    if published is not None and published.is_file() and (folder / BASE_RECORD).is_file():
        shutil.copyfile(published, folder / "tokenizer.json")


def _name_base(adapter: Path, base: str, revision: str | None = None) -> None:
    """Names the base in the adapter's config, and takes out peft's card, an empty form: ours is another."""
    (adapter / "README.md").unlink(missing_ok=True)
    path = adapter / ADAPTER_CONFIG
    config = json.loads(path.read_text(encoding="utf-8"))
    config |= {"base_model_name_or_path": base, "revision": revision}
    if isinstance(config["target_modules"], list):  # a set in peft, so in another order every time
        config["target_modules"].sort()
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
