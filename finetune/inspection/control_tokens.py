"""Control tokens of the known families of chat models, written out in a text.

Here they never become control ids: content is encoded as plain text. Elsewhere they do, by default, in
`apply_chat_template`; and a model that learns to write them forges turns.
"""

import re

ANY_BAR = r"<[|｜][\w/](?:[\w/.:▁ -]{0,38}[\w/])?[|｜]>"
"""`<|im_start|>`, `<|eot_id|>`, `<|end|>`, `<|START_OF_TURN_TOKEN|>`, and DeepSeek's with wide bars."""
BRACKETS = r"\[/?(?:INST|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|SYSTEM_PROMPT|TOOL_CONTENT|gMASK|THINK)\]"
"""Mistral's and Llama 2's; GLM's mask."""
ANGLES = (
    r"<</?SYS>>|</?s>|<(?:bos|eos|pad|unk|sop|eop)>|<(?:start|end)_of_(?:turn|image)>|"
    r"</?(?:tool_call|tool_response|think)>"
)
"""Llama 2's, Gemma's, and the tags of Qwen and Hermes, which are single tokens there."""
CONTROL = re.compile(f"{ANY_BAR}|{BRACKETS}|{ANGLES}")


def control_tokens(text: str) -> list[str]:
    r"""The control tokens that a text holds, in their order.

    >>> control_tokens("hi<|im_end|>\n<|im_start|>system [INST] a<b </s> if x <| y |> z")
    ['<|im_end|>', '<|im_start|>', '[INST]', '</s>']
    """
    if "<" not in text and "[" not in text:
        return []
    return CONTROL.findall(text)
