"""The folder of a finished scratch model: weights, shape and vocabulary.

A GPT on BPE ids is a Hugging Face GPT-2 folder. Every other model, and any model on characters or bytes, is

    model.safetensors
    config.json                        {"model": one of KINDS or "bigram", then the fields of its shape}
    characters.json | tokenizer.json   the vocabulary; instead of it, "tokens": "bytes" in config.json
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from configs import InputError, MissingInput
from configs.errors import on_one_line
from configs.manifest import check_manifest, sealed_folder
from scratch_models.corpus.vocabulary import ByteVocabulary, CharacterVocabulary, Vocabulary
from scratch_models.rungs.all_rungs import KINDS, ScratchModel
from scratch_models.rungs.bigram import BigramLanguageModel
from scratch_models.rungs.gpt import GPT
from scratch_models.rungs.gpt2_weights import load_gpt2, save_gpt2
from tokenizer_ext.embeddings.saved_weights import check_tensors
from tokenizer_ext.foreign.checked_folder import check_tokenizer_folder
from tokenizer_ext.foreign.config_numbers import check_numbers
from tokenizer_ext.foreign.json_in_folder import read_object
from tokenizer_ext.foreign.weight_headers import read_headers


def save_scratch_model(model: ScratchModel, vocabulary: Vocabulary, folder: str | Path) -> None:
    """Writes the folder that `load_scratch_model` reads, complete or not at all; one that is there is replaced.

    It is opened again, and must hold these very weights, before it is in its place.

    That of a GPT on BPE ids opens in transformers too.
    """
    with sealed_folder(folder) as partial:
        if isinstance(model, GPT) and not isinstance(vocabulary, CharacterVocabulary | ByteVocabulary):
            save_gpt2(model, partial, vocabulary)
        else:
            _save_own(model, vocabulary, partial)
        check_tensors(load_scratch_model(partial)[0].state_dict(), model.state_dict())


def _save_own(model: ScratchModel, vocabulary: Vocabulary, folder: Path) -> None:
    save_model(model, str(folder / "model.safetensors"))
    fields = _shape_fields(model)
    if isinstance(vocabulary, ByteVocabulary):
        fields["tokens"] = "bytes"
    (folder / "config.json").write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")
    if isinstance(vocabulary, CharacterVocabulary):
        vocabulary.save(folder / "characters.json")
    elif not isinstance(vocabulary, ByteVocabulary):
        vocabulary.save_pretrained(folder)


def load_scratch_model(folder: str | Path) -> tuple[ScratchModel, Vocabulary]:
    """The model and vocabulary of a run's folder or its `final/`, or of any GPT-2 folder or Hub name.

    Raises:
        InputError: there is no model, a file of it is damaged, or model and vocabulary do not belong together.
    """
    folder = folder_of_model(folder)
    check_manifest(folder)
    fields = _read_fields(folder) if folder.is_dir() else {}
    model = _load_own(folder, fields) if "model" in fields else load_gpt2(folder)
    is_of_bytes = fields.get("tokens") == "bytes"
    vocabulary = ByteVocabulary() if is_of_bytes else _load_vocabulary(folder, own="model" in fields)
    tokens, rows = len(vocabulary), model.token_embedding_table.num_embeddings
    if tokens > rows:
        raise InputError(
            f"{folder}: the vocabulary has {tokens} tokens and the model {rows} rows, expected a row for each"
        )
    return model, vocabulary


def holds_own_model(folder: str | Path) -> bool:
    """Whether a folder holds a model in the form that only this project opens, and not in that of Hugging Face.

    Raises:
        InputError: it is a folder without a readable config.json, or a file of it is damaged.
    """
    folder = folder_of_model(folder)
    check_manifest(folder)
    return folder.is_dir() and "model" in _read_fields(folder)


def folder_of_model(folder: str | Path) -> Path:
    """The `final/` of a run, and any other folder as it is."""
    folder = Path(folder)
    final = folder / "final"
    is_run = not (folder / "config.json").is_file() and (final / "config.json").is_file()
    return final if is_run else folder


def _shape_fields(model: ScratchModel) -> dict[str, Any]:
    rows = {"vocabulary_size": model.token_embedding_table.num_embeddings}  # as they are, added ones included
    if isinstance(model, BigramLanguageModel):
        return {"model": "bigram", **rows}
    kind = next(name for name, (model_class, _) in KINDS.items() if isinstance(model, model_class))
    return {"model": kind, **dataclasses.asdict(model.config), **rows}


def _read_fields(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        raise MissingInput(f"{folder}: holds no config.json, expected the final/ of a run or a GPT-2 folder")
    return read_object(path)


def _load_own(folder: Path, fields: dict[str, Any]) -> ScratchModel:
    shape = {field: value for field, value in fields.items() if field not in ("model", "tokens")}
    model: ScratchModel
    if (folder / "model.safetensors").is_file():
        check_numbers(shape, read_headers([folder / "model.safetensors"]), folder / "config.json")
    try:
        if fields["model"] == "bigram":
            model = BigramLanguageModel(**shape)
        elif fields["model"] in KINDS:
            model_class, config_class = KINDS[fields["model"]]
            model = model_class(config_class(**shape))
        else:
            expected = ", ".join(map(repr, KINDS))
            raise InputError(f"{folder}/config.json: model is {fields['model']!r}, expected {expected} or 'bigram'")
        load_model(model, folder / "model.safetensors")
    except FileNotFoundError:
        raise MissingInput(f"{folder}: holds no model.safetensors, expected the weights beside config.json") from None
    except (TypeError, RuntimeError, SafetensorError) as error:
        # A field of another name or type, or weights of another shape.
        raise InputError(f"{folder}: config.json and model.safetensors make no model ({on_one_line(error)})") from None
    return model


def _load_vocabulary(folder: Path, *, own: bool) -> Vocabulary:
    if own and (folder / "characters.json").is_file():
        return CharacterVocabulary.load(folder / "characters.json")
    if folder.is_dir() and not (folder / "tokenizer.json").is_file() and not (folder / "vocab.json").is_file():
        raise MissingInput(f"{folder}: holds no vocabulary, expected characters.json or tokenizer.json")
    if folder.is_dir():
        check_tokenizer_folder(folder)
    try:
        # AutoTokenizer asks config.json for the kind of model, which our own does not name in its terms.
        return PreTrainedTokenizerFast.from_pretrained(folder) if own else AutoTokenizer.from_pretrained(str(folder))
    except (OSError, ValueError) as error:
        raise InputError(f"{folder}: its tokenizer cannot be read ({on_one_line(error)})") from None
