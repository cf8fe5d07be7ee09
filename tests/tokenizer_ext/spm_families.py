"""SentencePiece BPE tokenizers as Llama 2 and Gemma publish them, learned here by the sentencepiece package.

`tokenizer.model` is what the package wrote; `tokenizer.json` is what transformers' converter makes of such a file:
every way to join a piece from two others is a merge, in the order of the pieces.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from tokenizer_ext.inspection.sentencepiece_bpe import train_sentencepiece

SPM_FAMILIES = ("llama 2", "gemma")


def write_spm_family(family: str, folder: Path, text: str, size: int = 600) -> Path:
    """Writes tokenizer.json, tokenizer_config.json, config.json and, as Llama 2 has it, tokenizer.model."""
    pytest.importorskip("sentencepiece")
    folder.mkdir(parents=True, exist_ok=True)
    processor = train_sentencepiece(text, size)
    tokenizer = _converted(processor)
    if family == "llama 2":
        (folder / "tokenizer.model").write_bytes(processor.serialized_model_proto())
        stages: list[Any] = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        tokenizer.normalizer = normalizers.Sequence(stages)
    else:
        tokenizer.normalizer = normalizers.Replace(" ", "▁")
        tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.save(str(folder / "tokenizer.json"))
    ends = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps({**ends, "tokenizer_class": "PreTrainedTokenizerFast"}))
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    return folder


def _converted(processor: Any) -> Tokenizer:
    vocabulary = {processor.id_to_piece(id_): id_ for id_ in range(processor.vocab_size())}
    merges = []
    for piece in vocabulary:
        splits = [(piece[:cut], piece[cut:]) for cut in range(1, len(piece))]
        known = [(left, right) for left, right in splits if left in vocabulary and right in vocabulary]
        merges += sorted(known, key=lambda pair: (vocabulary[pair[0]], vocabulary[pair[1]]))
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.add_special_tokens([AddedToken(one, special=True, normalized=False) for one in ("<unk>", "<s>", "</s>")])
    tokenizer.post_processor = processors.TemplateProcessing(
        "<s> $A", "<s> $A <s>:1 $B:1", [("<s>", vocabulary["<s>"])]
    )
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return tokenizer
