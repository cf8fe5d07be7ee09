"""What llama.cpp itself makes of a GGUF file, beside the tokenizer and the model that it was written from."""

import importlib
import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from configs import InputError
from finetune.replies.generation import generate_ids
from scratch_models.decoding.sampling_settings import Sampling
from tokenizer_ext.huggingface.byte_level_backend import missing_bytes
from tokenizer_ext.huggingface.encoder_proof import trial_texts
from tokenizer_ext.huggingface.hf_tokenizer import token_bytes
from tokenizer_ext.huggingface.tiktoken_export import normalized, normalizer_name
from tokenizer_ext.pages.progress import tracked

PACKAGE, GET = "llama_cpp", "pip install llama-cpp-python"
SHOWN = 60


@dataclass(frozen=True, kw_only=True)
class LlamaCppProof:
    """What was compared with llama.cpp."""

    llama_cpp: str
    """Version of llama-cpp-python."""
    texts: int
    """Texts read by both: every token by itself and thrice, every added token in many places, every kind of letter."""
    same_ids: int
    first_other: str = ""
    """The first text that both read as different ids; empty where there is none."""
    normalised: str = ""
    """What the tokenizer does to text first (NFC), which llama.cpp does not: the texts were given to it so."""
    prompts: int = 0
    same_replies: int = 0

    def describe(self) -> str:
        """On one line."""
        nfc = f" of {self.normalised} text" if self.normalised else ""
        other = f"; the first other one is {self.first_other}" if self.first_other else ""
        replies = f"; {self.same_replies} of {self.prompts} greedy replies are the same" if self.prompts else ""
        return (
            f"llama.cpp (llama-cpp-python {self.llama_cpp}) gives the same ids{nfc} for {self.same_ids:,} of "
            f"{self.texts:,} texts{other}{replies}"
        )


def is_installed() -> bool:
    """Whether llama.cpp can be asked."""
    return importlib.util.find_spec(PACKAGE) is not None


def prove(
    file: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, prompts: Sequence[str], reply_tokens: int
) -> LlamaCppProof:
    """Reads many texts with both, and has both go on from the prompts, greedily.

    Raises:
        InputError: llama.cpp cannot open the file.

    """
    read = _opened(file, vocab_only=True)
    missing = set(missing_bytes(tokenizer))
    alone = [token.decode(errors="replace") for token in token_bytes(tokenizer).values()]
    texts = [text for text in (*trial_texts(tokenizer), *alone) if text and missing.isdisjoint(text.encode())]
    expected = tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False)
    plain = partial(normalized, tokenizer=tokenizer)
    others = [
        f"{text[:SHOWN]!r}: {ids[:20]}, expected {encoding.ids[:20]}"
        for text, encoding in tracked(
            zip(texts, expected, strict=True), "reading with llama.cpp", "texts", total=len(texts)
        )
        if (ids := read.tokenize(plain(text).encode(), add_bos=False, special=True)) != encoding.ids
    ]
    return LlamaCppProof(
        llama_cpp=version("llama-cpp-python"),
        texts=len(texts),
        same_ids=len(texts) - len(others),
        first_other=others[0] if others else "",
        normalised=normalizer_name(tokenizer),
        prompts=len(prompts),
        same_replies=_same_replies(file, model, tokenizer, prompts, reply_tokens) if prompts else 0,
    )


def _same_replies(
    file: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, prompts: Sequence[str], tokens: int
) -> int:
    asked = [tokenizer.encode(prompt) for prompt in prompts]
    theirs = _opened(file, n_ctx=max(map(len, asked)) + tokens + 1, n_threads=os.cpu_count())
    same = 0
    for ids in tracked(asked, "replying with llama.cpp", "prompts"):
        (reply,) = generate_ids(model, [ids], max_new_tokens=tokens, stop_ids=(), sampling=Sampling(temperature=0))
        theirs.reset()
        found: list[int] = []
        for id_ in theirs.generate(ids, temp=0.0, top_k=1, repeat_penalty=1.0):
            found.append(id_)
            if len(found) == len(reply.ids):
                break
        same += found == list(reply.ids)
    return same


def _opened(file: Path, **settings: Any) -> Any:
    try:
        return importlib.import_module(PACKAGE).Llama(model_path=str(file), verbose=False, **settings)
    except ValueError as error:
        raise InputError(f"{file.name}: llama.cpp cannot open it ({error})") from None
