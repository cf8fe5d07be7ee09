"""Shows what tuning changed: both replies to a prompt, or the figures of both models over a file.

    python -m finetune.compare --tuned runs/sft-1 --prompt "What does torch.sum do?"
    python -m finetune.compare --base openai-community/gpt2 --tuned runs/sft-2 --data my_questions.jsonl

The base is asked in plain text, or in the chat format where it knows it, the tuned model in that, both with the same
noise. Over a file every figure has its interval at 95 %; questions with `choices` are multiple choice, by likelihood.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from configs import InputError, run_entry
from finetune.conversations.formats import Conversation
from finetune.conversations.questions import ChoiceQuestion, read_questions
from finetune.conversations.splits import read_conversation_splits
from scratch_models.embedded_default import EMBEDDED, folder_of_base
from scratch_models.loop.run_folder import find_recorded
from scratch_models.sampling_settings import Sampling

if TYPE_CHECKING:
    from finetune.evaluation.comparison import Measured, Model


@dataclass(frozen=True, kw_only=True)
class CompareSettings:
    """Two models and what they are asked."""

    tuned: str
    """Assistant: a run's folder, its `final/`, an adapter beside its base, or a model with the chat format."""
    base: str | None = None
    """Model to compare it with: `embedded`, a folder or a Hub name; by default the one that its run started from."""
    prompt: str | None = None
    """A question; both replies are printed."""
    data: str | None = None
    """Questions with known replies: `embedded` (its held-out ones), a file or a Hub name; or multiple choice."""
    conversations: int = 200
    """How many questions of the data are asked, spread evenly."""
    output: str | None = None
    """JSON file to write: the figures over the data, and every question with both replies or choices."""
    calculator: Literal["auto", "on", "off"] = "auto"
    """Whether arithmetic inside << >> is completed by evaluating it; `auto` where the tuned model learned with it."""
    plain_prompt: Literal["question", "dialogue", "bare"] = "question"
    """How a base without the chat format is asked a prompt; over data it is asked in all three ways."""
    reply_tokens: int = 96
    """Longest reply in tokens."""
    temperature: float = 0.0
    """Divides the logits of a prompt's replies; 0 takes the likeliest token every time. Data is always answered so."""
    top_k: int = 0
    """Only the k likeliest tokens can be drawn; 0 is off."""
    top_p: float = 1.0
    """Only the likeliest tokens that together hold this probability can be drawn; 1 is off."""
    seed: int = 0
    """Seed of the draws, for both models."""

    def __post_init__(self) -> None:
        if (self.prompt is None) == (self.data is None):
            raise InputError("pass either --prompt TEXT, to see both replies, or --data FILE, to measure both models")
        if self.prompt is not None and not self.prompt.strip():
            raise InputError("prompt: is empty, expected a question")
        _ = self.sampling  # refuses bad values before any weights load
        if self.output is not None:
            _check_output(Path(self.output), self.data)
        for field in ("conversations", "reply_tokens"):
            if getattr(self, field) < 1:
                raise InputError(f"{field}: found {getattr(self, field)}, expected at least 1")

    @property
    def sampling(self) -> Sampling:
        """How replies to a prompt are drawn."""
        return Sampling(temperature=self.temperature, top_k=self.top_k, top_p=self.top_p, seed=self.seed)


def main(settings: CompareSettings) -> None:
    """Loads both models, asks both, shows what they say."""
    from finetune.evaluation.comparison import Asking, measure_choices, measure_replies
    from finetune.evaluation.side_by_side import show_replies
    from tokenizer_ext.pages.terminal import quiet_libraries

    quiet_libraries()
    conversations, choices = read_asked(settings.data) if settings.data is not None else ([], [])
    base, tuned = load_both(settings)
    if settings.prompt is not None:
        how = (settings.plain_prompt, settings.reply_tokens, settings.sampling, has_calculator(settings))
        print(show_replies(base, tuned, settings.prompt, *how))
        return
    asking = Asking(settings.conversations, settings.reply_tokens, has_calculator(settings))
    print(f"Asking both on {settings.data}{', with the calculator' if asking.calculator else ''} …", flush=True)
    parts = [measure_replies(base, tuned, conversations, asking)] if conversations else []
    parts += [measure_choices(base, tuned, choices, asking)] if choices else []
    print("\n\n".join(part.text for part in parts))
    if settings.output is not None:
        write_record(Path(settings.output), settings, parts)


def load_both(settings: CompareSettings) -> "tuple[Model, Model]":
    """The base and the tuned model with their tokenizers, on the accelerator where there is one."""
    import torch

    from finetune.export.saved_model import load_assistant

    name = choose_base(settings)
    tuned = load_assistant(settings.tuned)
    base = load_assistant(name)
    if torch.accelerator.is_available():
        for model, _ in (base, tuned):
            model.to(torch.accelerator.current_accelerator())
    return base, tuned


def choose_base(settings: CompareSettings) -> str:
    """The folder or name of the base: the one given, else the one in the run's record.

    Raises:
        InputError: neither says it.

    """
    from finetune.export.saved_model import find_base

    base = settings.base or find_base(settings.tuned)
    if base is None:
        raise InputError(f"base: no run.json in {settings.tuned} says what it was made from: pass --base")
    return folder_of_base(base)


def has_calculator(settings: CompareSettings) -> bool:
    """Whether both models have the calculator; by default as the run recorded it."""
    if settings.calculator == "auto":
        return find_recorded(settings.tuned, "calculator") is True
    return settings.calculator == "on"


def read_asked(data: str) -> tuple[list[Conversation], list[ChoiceQuestion]]:
    """The questions of the data; of the embedded data those that are held out."""
    return (read_conversation_splits(data).held_out, []) if data == EMBEDDED else read_questions(data)


def write_record(path: Path, settings: CompareSettings, parts: "Sequence[Measured]") -> None:
    """Writes the figures and every question as JSON."""
    from finetune.evaluation.figures import to_record
    from finetune.export.saved_model import find_base

    record = {
        "tuned": settings.tuned,
        "base": settings.base or find_base(settings.tuned),
        "data": settings.data,
        "calculator": has_calculator(settings),
        **{part.kind: {"figures": to_record(part.figures), "questions": part.questions} for part in parts},
    }
    path.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"Written: {path}")


def _check_output(output: Path, data: str | None) -> None:
    if data is None:
        raise InputError("output: only the figures over --data are written, pass it too")
    if output.exists():
        raise InputError(f"output {output}: is there already, expected a new file")
    if not output.parent.is_dir():
        raise InputError(f"output {output}: there is no folder {output.parent}")


if __name__ == "__main__":
    run_entry(main, CompareSettings)
