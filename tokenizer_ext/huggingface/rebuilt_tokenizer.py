"""A tokenizer built anew from the files that a reload reads, so that no reload can make another of it.

transformers builds the pipeline of some classes (GPT2Tokenizer, Qwen2Tokenizer, GPTNeoXTokenizer) from what it knows
of the class, and takes only vocabulary, merges and added tokens from tokenizer.json: SmolLM, which is said to be of
GPT-2's class, loses the stage that cuts digits one by one. Where that makes a difference, the class becomes
TokenizersBackend (also named PreTrainedTokenizerFast), which reads all of tokenizer.json.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from configs.disk_space import temporary_folder
from tokenizer_ext.huggingface.tokenizer_state import pipeline_of, what_decides_pieces, what_decides_text


def rebuilt(
    tokenizer: PreTrainedTokenizerFast, backend: Mapping[str, Any], control_tokens: Sequence[str] = ()
) -> PreTrainedTokenizerFast:
    """The tokenizer that a reload finds after `backend` took the place of tokenizer.json.

    Added tokens are written into the model's vocabulary: a reload numbers those that stand beside it anew. A vocabulary
    by place (Unigram) has no holes and stays as it is: what is numbered after its end gets the same ids again.
    """
    vocabulary = backend["model"]["vocab"]
    ids = {added["content"]: added["id"] for added in backend["added_tokens"]}
    if isinstance(vocabulary, dict):
        ids = ids | vocabulary
        backend["model"]["vocab"] = ids
    with temporary_folder() as folder:
        tokenizer.save_pretrained(folder)
        (folder / "tokenizer.json").write_text(json.dumps(backend, ensure_ascii=False), encoding="utf-8")
        _add_special_names(folder, control_tokens)
        new = type(tokenizer).from_pretrained(folder)
        if pipeline_of(new.backend_tokenizer) != pipeline_of(tokenizer.backend_tokenizer):
            new = PreTrainedTokenizerFast.from_pretrained(folder)
    new.name_or_path = tokenizer.name_or_path
    new.padding_side, new.truncation_side = tokenizer.padding_side, tokenizer.truncation_side
    assert ids.items() <= new.get_vocab().items(), "an id moved"
    return new


def as_published(tokenizer: PreTrainedTokenizerFast, folder: Path, content: dict[str, Any]) -> PreTrainedTokenizerFast:
    """`tokenizer`, or one that goes by the tokenizer.json there, where its class makes other ids or text.

    The model was trained with what the file says, which is `content`; nothing where there is none.
    """
    if not content or type(tokenizer) is PreTrainedTokenizerFast:
        return tokenizer
    model = content["model"]
    is_bpe = model.get("type", "BPE" if "merges" in model else "") == "BPE"
    small = model | {"vocab": {}, "merges": []} if is_bpe else {"type": "BPE", "vocab": {}, "merges": []}
    published = Tokenizer.from_str(json.dumps(content | {"added_tokens": [], "model": small}))
    compare = what_decides_text if is_bpe else what_decides_pieces
    if compare(published) == compare(tokenizer.backend_tokenizer):
        return tokenizer
    return PreTrainedTokenizerFast.from_pretrained(folder)


def _add_special_names(folder: Path, tokens: Sequence[str]) -> None:
    """Add `tokens` to the special tokens that tokenizer_config.json names, so that they count as special."""
    path = folder / "tokenizer_config.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["extra_special_tokens"] = [*content.get("extra_special_tokens", []), *tokens]
    path.write_text(json.dumps(content, ensure_ascii=False, indent=2), encoding="utf-8")
