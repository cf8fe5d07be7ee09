"""Looks inside a model while it reads a prompt, and writes one HTML page of what is there.

    python -m scratch_models.look --checkpoint embedded --prompt "The default is"

The page shows the tokens, what the model expects after each, the attention of every head, what the head would say after
each layer (the logit lens), the rows of the embedding nearest to each token's, and where sums of words point. It takes
scratch models and GPT-2 and Llama-like models of Hugging Face. What a model does not have is left out, and said.
"""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from configs import InputError, run_entry
from configs.whole_folder import write_whole
from scratch_models.looking.direction_terms import direction_terms

if TYPE_CHECKING:
    from torch import nn

    from scratch_models.corpus.vocabulary import Vocabulary
    from scratch_models.looking.reading import Reading


@dataclass(frozen=True, kw_only=True)
class LookSettings:
    """Writes one HTML page of what a model computes while it reads a prompt."""

    checkpoint: str
    """A run's folder or its final/, `embedded`, `smollm2`, a GGUF file, or a Hugging Face folder or Hub name."""
    prompt: str
    """The text to read."""
    direction: str | list[str] = "king - man + woman"
    """Sums of words whose nearest rows are shown, one or several; words that are no single token are named."""
    output_dir: str | None = None
    """New folder for `look.html`; by default `runs/look-<n>`."""

    def __post_init__(self) -> None:
        if not self.prompt:
            raise InputError("prompt is empty, expected text to read")
        for text in self.directions():
            direction_terms(text)

    def directions(self) -> list[str]:
        """All directions, also where there is one."""
        return [self.direction] if isinstance(self.direction, str) else self.direction


def main(settings: LookSettings) -> None:
    """Loads the model, reads the prompt, writes the page."""
    from scratch_models.looking.figures import make_figures
    from scratch_models.looking.look_page import describe, to_html
    from scratch_models.looking.token_texts import token_texts
    from scratch_models.loop.run_folder import choose_run_folder
    from tokenizer_ext.embeddings.tables import find_tables
    from tokenizer_ext.pages.terminal import quiet_libraries

    quiet_libraries()
    fields = dataclasses.asdict(settings)
    run = choose_run_folder(settings.output_dir, "look", fields, resume=False)
    model, vocabulary, reading = _read(settings.checkpoint, settings.prompt)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    about = {
        "checkpoint": settings.checkpoint,
        "prompt": settings.prompt,
        "model": f"{type(model).__name__} of {parameters:,} parameters",
    }
    table = find_tables(model).embedding.weight
    figures = make_figures(reading, table, token_texts(vocabulary), settings.directions(), about)
    page = to_html(figures)
    run = run.start(fields, {}, resume=False)
    write_whole(run.path / "look.html", page)
    print(describe(figures))
    print(f"Saved: {run.path / 'look.html'}")


def _read(checkpoint: str, prompt: str) -> "tuple[nn.Module, Vocabulary, Reading]":
    """The model and vocabulary of a checkpoint, and what the model computes of a prompt."""
    from scratch_models.embedded.default import folder_of_base
    from scratch_models.looking.scratch_reading import read_with_scratch_model
    from scratch_models.looking.transformers_reading import check_architecture, read_with_transformers
    from scratch_models.scratch_folder import folder_of_model, holds_own_model, load_scratch_model
    from tokenizer_ext.huggingface.hf_model import load_model, load_tokenizer

    name = folder_of_base(checkpoint)
    if holds_own_model(name):
        own, own_vocabulary = load_scratch_model(name)
        return own, own_vocabulary, read_with_scratch_model(own, own_vocabulary.encode(prompt), checkpoint)
    name = str(folder_of_model(name))
    check_architecture(name)
    tokenizer = load_tokenizer(name)
    model = load_model(name)
    return model, tokenizer, read_with_transformers(model, tokenizer.encode(prompt), checkpoint)


if __name__ == "__main__":
    run_entry(main, LookSettings)
