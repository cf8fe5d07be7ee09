"""Shows how two models differ: both replies to a prompt, or the figures of both over a file.

    python -m finetune.compare --tuned runs/sft-1 --prompt "What does torch.sum do?"
    python -m finetune.compare --base openai-community/gpt2 --tuned runs/sft-2 --data my_questions.jsonl
    python -m finetune.compare --base smollm2 --tuned http://127.0.0.1:8000/v1 --data my_questions.jsonl

Any two can be compared: a run, a folder, a Hub name, a GGUF file, an adapter of any tool, an OpenAI-compatible server.
Each is asked in its own chat format where it has one, else in plain text, on this machine both with the same noise.
Over a file every figure has its interval at 95 %; questions with `choices` are multiple choice, by likelihood.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from configs import InputError, run_entry
from configs.whole_folder import write_whole
from finetune.conversations.formats import Conversation
from finetune.conversations.questions import ChoiceQuestion, describe_left_alone, read_asked
from finetune.evaluation.draw import TEMPERATURE_OF_SEVERAL, BestBy, Draw
from finetune.replies.server_address import is_server
from finetune.replies.side_settings import SideSettings
from scratch_models.decoding.sampling_settings import Sampling
from scratch_models.loop.run_folder import find_recorded

if TYPE_CHECKING:
    from finetune.evaluation.comparison import Measured
    from finetune.replies.side import Side


@dataclass(frozen=True, kw_only=True)
class CompareSettings(SideSettings):
    """Two models and what they are asked."""

    tuned: str
    """A run, a folder, a Hub name, a GGUF file, an adapter, or a server such as `http://127.0.0.1:8000/v1#model`."""
    base: str | None = None
    """Model to compare it with, named in the same ways, or `embedded`; by default the one that its run started from."""
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
    """How a model that is asked in plain text is asked a prompt; over data it is asked in all three ways."""
    reply_tokens: int = 96
    """Longest reply in tokens."""
    temperature: float | None = None
    """Divides the logits of replies; by default 0, the likeliest token every time, or 0.7 with `best_of`, without which
    data is always answered at 0."""
    top_k: int = 0
    """Only the k likeliest tokens can be drawn; 0 is off."""
    top_p: float = 1.0
    """Only the likeliest tokens that together hold this probability can be drawn; 1 is off."""
    seed: int = 0
    """Seed of the draws, for both models."""
    best_of: int = 1
    """So many replies to each question are drawn, and one of them is taken; each costs as much as a single one."""
    best_by: BestBy = "likelihood"
    """Which: the one with the fewest nats a token, without temperature, or by `majority` one with the most frequent
    final answer, of equally frequent ones the likeliest."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.prompt is None) == (self.data is None):
            raise InputError("pass either --prompt TEXT, to see both replies, or --data FILE, to measure both models")
        if self.prompt is not None and not self.prompt.strip():
            raise InputError("prompt: is empty, expected a question")
        _ = self.draw  # refuses bad values before any weights load
        if self.output is not None:
            _check_output(Path(self.output), self.data)
        for field in ("conversations", "reply_tokens", "best_of"):
            if getattr(self, field) < 1:
                raise InputError(f"{field}: found {getattr(self, field)}, expected at least 1")
        for name in filter(is_server, (self.base, self.tuned)):
            self._check_server(str(name))

    def _check_server(self, name: str) -> None:
        """Refuses what a server cannot do."""
        if self.top_k:
            raise InputError(f"top_k: found {self.top_k}, and a server has no such setting: leave it at 0")
        if self.calculator == "on":
            raise InputError(f"calculator: {name} generates by itself, without it: leave it at auto or off")
        if self.best_of > 1 and self.best_by == "likelihood":
            raise InputError(f"best_by: {name} gives no likelihood of a reply: choose --best_by majority")

    @property
    def draw(self) -> Draw:
        """How replies come about: to data by the likeliest token, unless they are the best of several.

        Raises:
            InputError: a setting is out of its range.

        """
        if self.best_of > 1 and self.temperature == 0:
            raise InputError(
                f"temperature: found 0, at which best_of draws {self.best_of} times the same: leave it out"
            )
        usual = 0.0 if self.best_of == 1 else TEMPERATURE_OF_SEVERAL
        temperature = usual if self.temperature is None else self.temperature
        sampling = Sampling(temperature=temperature, top_k=self.top_k, top_p=self.top_p, seed=self.seed)
        if self.data is not None and self.best_of == 1:
            sampling = Sampling(temperature=0.0)
        return Draw(self.best_of, self.best_by, sampling)


def main(settings: CompareSettings) -> None:
    """Loads both models, asks both, shows what they say."""
    from finetune.export.opened_sides import choose_base, open_both
    from tokenizer_ext.pages.terminal import quiet_libraries

    quiet_libraries()
    left_alone: Counter[str] = Counter()
    conversations, choices = read_asked(settings.data, left_alone) if settings.data is not None else ([], [])
    if choices:
        refuse_servers(settings)
    if choices and not conversations and settings.best_of > 1:
        raise InputError(f"best_of: {settings.data} has multiple-choice questions alone, to which no reply is drawn")
    base, tuned = open_both(choose_base(settings.base, settings.tuned), settings.tuned, settings)
    if left_alone:
        print(f"{settings.data}: {describe_left_alone(left_alone)}")
    if settings.prompt is not None:
        answer_prompt(base, tuned, settings.prompt, settings)
    else:
        measure_both(base, tuned, conversations, choices, settings)


def answer_prompt(base: "Side", tuned: "Side", prompt: str, settings: CompareSettings) -> None:
    """Prints what each model is and what it replies."""
    from finetune.evaluation.side_by_side import read_both, show_replies
    from finetune.replies.side import prepare_both

    models = prepare_both(base, tuned, settings, settings.plain_prompt, calculator=has_calculator(settings))
    print_batch(base, tuned)
    replies = read_both(models, prompt, settings.reply_tokens, settings.draw)
    print(f"\n{show_replies(replies, settings.reply_tokens)}")


def measure_both(
    base: "Side",
    tuned: "Side",
    conversations: list[Conversation],
    choices: list[ChoiceQuestion],
    settings: CompareSettings,
) -> None:
    """Asks both models over the data, prints the figures, and writes them where a file is named."""
    from finetune.evaluation.comparison import Asking, measure_sides
    from finetune.replies.side import describe, formats_over_data

    calculator = has_calculator(settings)
    asked = (base, settings.base_format), (tuned, settings.tuned_format)
    for which, one in zip(("base", "tuned"), asked, strict=True):
        print(f"{which}: {describe(one[0], formats_over_data(*one))}")
    print_batch(base, tuned)
    print(f"Asking both on {settings.data}{', with the calculator' if calculator else ''} …", flush=True)
    asking = Asking(settings.conversations, settings.reply_tokens, settings.draw)
    parts = measure_sides(*asked, conversations, choices, asking, calculator=calculator)
    print("\n\n".join(part.text for part in parts))
    if settings.output is not None:
        write_record(Path(settings.output), settings, (base, tuned), parts)


def print_batch(base: "Side", tuned: "Side") -> None:
    """Says whether both are asked in one batch, where one is an adapter."""
    from finetune.evaluation.one_batch import describe_batch

    if said := describe_batch(base, tuned):
        print(said)


def has_calculator(settings: CompareSettings) -> bool:
    """Whether the models on this machine have the calculator; by default as the run recorded it."""
    if settings.calculator == "auto":
        return not is_server(settings.tuned) and find_recorded(settings.tuned, "calculator") is True
    return settings.calculator == "on"


def refuse_servers(settings: CompareSettings) -> None:
    """Refuses multiple choice of a server, before anything is opened.

    Raises:
        InputError: one of the models is on a server.

    """
    for which, name in (("base", settings.base), ("tuned", settings.tuned)):
        if is_server(name):
            raise InputError(
                f"{which} {name}: a server gives no likelihood of a choice, and {settings.data} has multiple-choice "
                "questions: name a model on this machine, or leave those questions out"
            )


def write_record(
    path: Path, settings: CompareSettings, sides: "tuple[Side, Side]", parts: "Sequence[Measured]"
) -> None:
    """Writes what was compared, the figures and every question as JSON."""
    base, tuned = sides
    record = {
        "tuned": tuned.name,
        "base": base.name,
        "identities": {"tuned": tuned.identity, "base": base.identity},
        "data": settings.data,
        "calculator": has_calculator(settings),
        "best_of": settings.best_of,
        **{part.kind: part.to_record() for part in parts},
    }
    write_whole(path, json.dumps(record, indent=2, ensure_ascii=False) + "\n")
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
