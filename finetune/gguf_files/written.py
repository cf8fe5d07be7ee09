"""A model written as a GGUF file, and held to what was written when it is read again."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter, LlamaFileType, dequantize, quantize
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from configs import InputError
from finetune.gguf_files.families import Family, family_of, named_tensors
from finetune.gguf_files.vocabulary import write_vocabulary
from tokenizer_ext.huggingface.byte_level_backend import backend_json
from tokenizer_ext.pages.progress import progress

Stored = Literal["F32", "F16", "Q8_0"]
FILE_TYPES = {
    "F32": LlamaFileType.ALL_F32,
    "F16": LlamaFileType.MOSTLY_F16,
    "Q8_0": LlamaFileType.MOSTLY_Q8_0,
}
BLOCK = 32
"""Numbers that share one scale in Q8_0; a matrix whose rows are no multiple of it stays in half precision."""
HALF_STEP = 0.5 / 127
"""The most that Q8_0 moves a number, as a share of the largest of its block; the scale itself is in half precision."""
LARGEST_HALF = 65504.0


def write_gguf(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    file: Path,
    *,
    name: str,
    stored_as: Stored,
    stops: list[int],
) -> str:
    """Writes the file, reads it again, and holds it to the model; the name of the pre-tokenizer in it.

    Matrices are stored as asked, vectors (norms, biases) in float32.

    Raises:
        InputError: llama.cpp has no such family or pre-tokenizer, a number is too large for half precision, or what is
            read back is not what was written.

    """
    family = family_of(model)
    writer = GGUFWriter(file, family.architecture.name.lower())
    writer.add_name(name)
    writer.add_file_type(FILE_TYPES[stored_as])
    family.write_numbers(writer, model.config)
    rows = model.get_input_embeddings().weight.shape[0]
    pre = write_vocabulary(writer, tokenizer, rows, stops)
    with progress("writing the weights"):
        for place, weight in named_tensors(model, family):
            kind, data = _stored(place, weight, stored_as)
            writer.add_tensor(place, data, raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    with progress("reading the file again"):
        _check(GGUFReader(file), model, tokenizer, family)
    return pre


def _stored(name: str, weight: Tensor, stored_as: Stored) -> tuple[GGMLQuantizationType, np.ndarray]:
    numbers = weight.float().contiguous().numpy()
    if weight.ndim < 2 or stored_as == "F32":
        return GGMLQuantizationType.F32, numbers
    if stored_as == "Q8_0" and numbers.shape[-1] % BLOCK == 0:
        return GGMLQuantizationType.Q8_0, quantize(numbers, GGMLQuantizationType.Q8_0)
    if float(np.abs(numbers).max()) > LARGEST_HALF:
        raise InputError(
            f"model: {name} holds {np.abs(numbers).max():.3g}, more than half precision: take stored_as F32"
        )
    return GGMLQuantizationType.F16, numbers.astype(np.float16)


def _check(reader: GGUFReader, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, family: Family) -> None:
    stored = {tensor.name: tensor for tensor in reader.tensors}
    for name, weight in named_tensors(model, family):
        tensor = stored.pop(name, None)
        if tensor is None:
            raise InputError(f"file: lacks {name} when it is read again")
        read = torch.from_numpy(np.array(dequantize(tensor.data, tensor.tensor_type))).view(weight.shape)
        if not torch.equal(_as_stored(weight.float(), read, tensor.tensor_type), read):
            raise InputError(f"file: {name} is not what was written when it is read again")
    if stored:
        raise InputError(f"file: holds {next(iter(stored))}, which the model has not")
    _check_texts(reader, "tokenizer.ggml.merges", map(" ".join, backend_json(tokenizer)["model"]["merges"]))
    ids = tokenizer.get_vocab()
    tokens = reader.fields["tokenizer.ggml.tokens"].contents()
    if any(tokens[id_] != token for token, id_ in ids.items()):
        raise InputError("file: its tokens are not those of the tokenizer when it is read again")


def _as_stored(weight: Tensor, read: Tensor, kind: GGMLQuantizationType) -> Tensor:
    """What reading back should give; with Q8_0 the numbers read, where all lie as near as they should."""
    if kind == GGMLQuantizationType.F16:
        return weight.half().float()
    if kind == GGMLQuantizationType.F32:
        return weight
    blocks, found = weight.reshape(-1, BLOCK), read.reshape(-1, BLOCK)
    largest = blocks.abs().amax(dim=1, keepdim=True)
    is_near = (found - blocks).abs() <= largest * (HALF_STEP * 1.2 + 2**-11) + 1e-7
    return read if bool(is_near.all()) else weight


def _check_texts(reader: GGUFReader, field: str, expected: Iterable[str]) -> None:
    if reader.fields[field].contents() != list(expected):
        raise InputError(f"file: its {field} are not those of the tokenizer when it is read again")
