"""Text to tokens and back, and the rows of the embedding that belong to tokens.

from tokenizer_ext import extend_vocabulary

extended = extend_vocabulary("openai-community/gpt2", corpus=texts, new_tokens=1000)
extended.save("gpt2-medical")
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizer_ext.certificate import Certificate
    from tokenizer_ext.extend import Extended, extend_vocabulary

__all__ = ["extend_vocabulary", "Extended", "Certificate"]


def __getattr__(name: str) -> Any:
    # At first use: transformers takes seconds to import, which bpe.py does without, and what is started with
    # `python -m tokenizer_ext.extend` must not find itself imported already.
    if name in __all__:
        return getattr(importlib.import_module("tokenizer_ext.extend"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
