"""What the page's form sends, checked: a request that bypasses the page can hold anything that JSON can."""

import reprlib
from dataclasses import dataclass

from configs import InputError
from finetune.replies.side import CHAT
from scratch_models.decoding.sampling_settings import Sampling
from tokenizer_ext.pages.shortened import shorten

MAXIMUM_CHARACTERS = 20_000
MAXIMUM_TOKENS = 1024
MAXIMUM_TEMPERATURE = 2.0
MAXIMUM_TOP_K = 200
MAXIMUM_SEED = 2**32 - 1
SHOWN_CHARACTERS = 80

RAW = "raw"
FORMATS = {
    CHAT: "Its own chat format",
    "question": "Question: … Answer:",
    "dialogue": "User: … Assistant:",
    "bare": "The prompt, then a blank line",
    RAW: "Raw completion of the prompt",
}
"""The prompt formats in which a model can be asked, with the words that the page has for them."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One prompt for both models."""

    prompt: str
    base_format: str
    """How the base is asked: a key of `FORMATS`."""
    tuned_format: str
    """The same of the other model."""
    sampling: Sampling
    """Shared by both, so that they draw with the same noise."""
    maximum_tokens: int
    """Longest reply in tokens."""


def read_form(*values: object) -> Asked:
    """The request in the form's values: prompt, both formats, temperature, top-k, top-p, seed, maximum tokens.

    >>> read_form("1+1?", "question", "chat", 0.8, 0, 1, 7, 96).sampling
    Sampling(temperature=0.8, top_k=0, top_p=1.0, seed=7)

    Raises:
        InputError: a value is of another type or out of its range.
    """
    prompt, base_format, tuned_format, temperature, top_k, top_p, seed, maximum_tokens = values
    return Asked(
        prompt=_text(prompt),
        base_format=_prompt_format("base", base_format),
        tuned_format=_prompt_format("tuned", tuned_format),
        sampling=Sampling(
            temperature=_number("temperature", temperature, 0, MAXIMUM_TEMPERATURE),
            top_k=_whole("top-k", top_k, 0, MAXIMUM_TOP_K),
            top_p=_number("top-p", top_p, 0, 1),
            seed=_whole("seed", seed, 0, MAXIMUM_SEED),
        ),
        maximum_tokens=_whole("maximum tokens", maximum_tokens, 1, MAXIMUM_TOKENS),
    )


def _text(prompt: object) -> str:
    if not isinstance(prompt, str) or not prompt.strip():
        raise InputError("prompt: is empty, expected a question or a text to continue")
    if len(prompt) > MAXIMUM_CHARACTERS:
        raise InputError(
            f"prompt: found {len(prompt):,} characters, expected at most {MAXIMUM_CHARACTERS:,}; shorten it"
        )
    if any("\ud800" <= character <= "\udfff" for character in prompt):  # JSON can spell them, no tokenizer takes them
        raise InputError("prompt: holds half of a character (a lone surrogate), expected text")
    return prompt


def _prompt_format(which: str, prompt_format: object) -> str:
    if not isinstance(prompt_format, str) or prompt_format not in FORMATS:
        raise InputError(f"{which} format: found {_shown(prompt_format)}, expected one of {', '.join(FORMATS)}")
    return prompt_format


def _number(name: str, value: object, lowest: float, highest: float) -> float:
    # A comparison with NaN is false, so NaN is refused as well.
    if isinstance(value, bool) or not isinstance(value, int | float) or not lowest <= value <= highest:
        raise InputError(f"{name}: found {_shown(value)}, expected a number from {lowest:g} to {highest:g}")
    return float(value)


def _whole(name: str, value: object, lowest: int, highest: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or not lowest <= value <= highest or value % 1:
        raise InputError(f"{name}: found {_shown(value)}, expected a whole number from {lowest} to {highest}")
    return int(value)


def _shown(value: object) -> str:
    """A value that may be anything, in a few words.

    >>> len(_shown({"a" * 99: ["b" * 99] * 9})) <= SHOWN_CHARACTERS
    True
    """
    return shorten(reprlib.repr(value), SHOWN_CHARACTERS)
