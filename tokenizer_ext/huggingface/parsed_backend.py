"""What `tokenizer.json` holds, parsed once for each tokenizer: for a large vocabulary that takes seconds."""

import copy
import json
from typing import Any

from transformers import PreTrainedTokenizerFast

from tokenizer_ext.huggingface.tokenizer_state import kept_while_unchanged


def parse_backend(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """What `tokenizer.json` holds, without truncation and padding, for the caller to change.

    Only the parts of a merge are shared with other callers.

    Raises:
        InputError: the tokenizer has no fast backend.

    """
    content = _parsed(tokenizer)
    model = {name: part.copy() if isinstance(part, dict | list) else part for name, part in content["model"].items()}
    rest = {name: part for name, part in content.items() if name != "model"}
    return copy.deepcopy(rest) | {"model": model}


@kept_while_unchanged
def _parsed(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    return json.loads(tokenizer.backend_tokenizer.to_str()) | {"truncation": None, "padding": None}
