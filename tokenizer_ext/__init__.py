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
    from tokenizer_ext.extension.certificate import Certificate
    from tokenizer_ext.extension.delta import apply_delta, save_delta
    from tokenizer_ext.extension.extension import Extended, extend_vocabulary

__all__ = ["extend_vocabulary", "Extended", "Certificate", "save_delta", "apply_delta"]


MODULES = {"Certificate": "extension.certificate", "save_delta": "extension.delta", "apply_delta": "extension.delta"}


def __getattr__(name: str) -> Any:
    # At first use: transformers takes seconds to import, which an entry that only shows its --help does without.
    if name in __all__:
        return getattr(importlib.import_module(f"tokenizer_ext.{MODULES.get(name, 'extension.extension')}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
