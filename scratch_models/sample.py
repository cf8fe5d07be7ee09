"""Prints text that a scratch model continues, token by token.

python -m scratch_models.sample --checkpoint runs/bigram-1 --prompt "To be"
"""

from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from configs import InputError, run_entry
from scratch_models.decoding.sampling_settings import Sampling


@dataclass(frozen=True, kw_only=True)
class SampleSettings:
    """Prints text that a scratch model continues, token by token."""

    checkpoint: str
    """A run's folder or its final/, or a GPT-2 folder or Hub name such as openai-community/gpt2."""
    prompt: str = "\n"
    """The text to continue; a line break by default."""
    max_new_tokens: int = 300
    """Stop after so many tokens, or at the end-of-text token."""
    temperature: float = Sampling.temperature
    """0 takes the likeliest token every time; larger is more random."""
    top_k: int = Sampling.top_k
    """Draw among the k likeliest tokens only; 0 is off."""
    top_p: float = Sampling.top_p
    """Draw among the likeliest tokens that together hold this probability; 1 is off."""
    seed: int = Sampling.seed
    """Same seed, same text."""
    best_of: int = 1
    """Draw so many continuations together and print the one that the model finds likeliest, after what all cost."""

    def __post_init__(self) -> None:
        if not self.prompt:
            raise InputError("prompt is empty, expected at least one character to continue")
        if self.max_new_tokens < 1:
            raise InputError(f"max_new_tokens is {self.max_new_tokens}, expected at least 1")
        if self.best_of < 1:
            raise InputError(f"best_of is {self.best_of}, expected at least 1")
        if self.best_of > 1 and self.temperature == 0:
            raise InputError("best_of: at temperature 0 all continuations are the same, expected a temperature above 0")
        self.sampling()  # refuses bad values before any weights load

    def sampling(self) -> Sampling:
        """The part of the settings that chooses ids."""
        return Sampling(temperature=self.temperature, top_k=self.top_k, top_p=self.top_p, seed=self.seed)


def main(settings: SampleSettings) -> None:
    """Loads the model, then prints the prompt and its continuation as it is made."""
    import torch

    from scratch_models.decoding.generation import generate
    from scratch_models.scratch_folder import load_scratch_model
    from tokenizer_ext.huggingface.streaming import TextStream

    _print_nothing_but_text()
    model, vocabulary = load_scratch_model(settings.checkpoint)
    if torch.accelerator.is_available():
        model.to(torch.accelerator.current_accelerator())
    prompt_ids = vocabulary.encode(settings.prompt)
    end_id = getattr(vocabulary, "eos_token_id", None)  # characters have none
    if settings.best_of > 1:
        print(_best(settings, model, vocabulary, prompt_ids, end_id))
        return
    ids = generate(model, prompt_ids, settings.max_new_tokens, settings.sampling())
    print(settings.prompt, end="", flush=True)
    stream = TextStream(vocabulary.decode)
    for id_ in takewhile(lambda id_: id_ != end_id, ids):
        print(stream.push(id_), end="", flush=True)
    print(stream.flush())


def _best(settings: SampleSettings, model: Any, vocabulary: Any, prompt_ids: list[int], end_id: int | None) -> str:
    """A line for each continuation, what all cost, and the prompt with the best."""
    from scratch_models.decoding.best_of import sample_candidates

    found = sample_candidates(model, prompt_ids, settings.best_of, settings.max_new_tokens, settings.sampling(), end_id)
    lines = [
        f"{number}. {candidate.nats_per_token:.4f} nats a token, {len(candidate.ids)} tokens: "
        f"{vocabulary.decode(list(candidate.ids))[:48]!r}"
        for number, candidate in enumerate(found.ranked, start=1)
    ]
    cost = f"{found.tokens} tokens for {settings.best_of} continuations in {found.seconds:.1f} s; the likeliest:"
    return "\n".join([*lines, cost, settings.prompt + vocabulary.decode(list(found.ranked[0].ids))])


def _print_nothing_but_text() -> None:
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


if __name__ == "__main__":
    run_entry(main, SampleSettings)
