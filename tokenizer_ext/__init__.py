"""Text to tokens and back, and the rows of the embedding that belong to tokens.

from tokenizer_ext import apply_delta, extend_vocabulary, save_delta

extended = extend_vocabulary("openai-community/gpt2", corpus=texts, new_tokens=1000)
extended.save("gpt2-medical")
save_delta(extended.model, extended.tokenizer, extended.first_new_id, "gpt2-medical-delta")
extended = apply_delta("openai-community/gpt2", "gpt2-medical-delta")
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizer_ext.certificate import Certificate
    from tokenizer_ext.delta import apply_delta, save_delta
    from tokenizer_ext.extend import Extended, extend_vocabulary

__all__ = ["extend_vocabulary", "Extended", "Certificate", "save_delta", "apply_delta"]


def __getattr__(name: str) -> Any:
    # At first use: transformers takes seconds to import, which bpe.py does without, and what is started with
    # `python -m tokenizer_ext.extend` must not find itself imported already.
    if name in __all__:
        module = "delta" if name.endswith("_delta") else "extend"
        return getattr(importlib.import_module(f"tokenizer_ext.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
