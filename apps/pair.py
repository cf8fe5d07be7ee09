"""The two models that the page compares: which they are, and how each is asked."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch

from apps.form import RAW, Asked
from apps.panes import Side
from configs import InputError, MissingInput
from finetune.chat.choose_format import choose_format
from finetune.export.saved_model import find_base, load_assistant
from finetune.replies.prompts import PLAIN_PROMPTS, ChatPromptFormat, PlainPrompt, PlainPromptFormat
from scratch_models.embedded_default import folder_of_base
from scratch_models.loop.run_folder import RUNS, find_recorded, newest_run

MAXIMUM_EXAMPLES = 4
ASSISTANTS = ("sft", "dpo")  # runs that leave one; training of new rows alone teaches no chat
FOLDER_STARTS = (".", "/", "~", f"{RUNS}/")


class Verbatim(PlainPrompt):
    """No format at all: the prompt as it stands, and all that follows."""

    def cut(self, generated: str) -> str:
        r"""The whole text, blank lines and spaces included.

        >>> VERBATIM.cut(" one\n\ntwo")
        ' one\n\ntwo'
        """
        return generated


VERBATIM = Verbatim(labels={"user": "", "assistant": ""}, between="", separator="")


@dataclass(frozen=True)
class Names:
    """Where both models are: a folder or Hub name each."""

    base: str
    tuned: str

    @property
    def titles(self) -> tuple[str, str]:
        """What the page calls base and assistant: a folder by its own name, a run's by that of the run.

        >>> Names("openai-community/gpt2", "runs/sft-3/final").titles
        ('openai-community/gpt2', 'sft-3')
        """
        base = Path(self.base)
        return base.name if base.is_dir() else self.base, run_of(self.tuned).name


def choose_names(base: str | None, tuned: str | None) -> Names:
    """What the user named; else the newest finished fine-tuning run, and the base that the run was started from.

    Raises:
        InputError: there is no such run, no finished one, or nothing says which base it had.

    """
    tuned = tuned or str(newest_run(*ASSISTANTS).path)
    if tuned.startswith(FOLDER_STARTS) and not Path(tuned).exists():
        raise MissingInput(
            f"tuned {tuned}: no such folder, expected a run's folder, or leave it out for the newest run"
        )
    base = base or find_base(tuned)
    if base is None:
        raise InputError(f"tuned {tuned}: no run.json says what it was made from: pass --base")
    return Names(folder_of_base(base), tuned)


def run_of(tuned: str) -> Path:
    """The folder of the run that a path to it or into its `final/` belongs to.

    >>> run_of("runs/sft-3/final/adapter").as_posix()
    'runs/sft-3'
    """
    path = Path(tuned)
    parents = [parent for parent in path.parents if parent.name == "final"]
    return parents[0].parent if parents else path.parent if path.name == "final" else path


def read_examples(tuned: str) -> list[str]:
    """A few held-out questions from the report of the assistant's run; none where there is no report."""
    path = run_of(tuned) / "report.json"
    if not path.is_file():
        return []
    try:
        samples = json.loads(path.read_text(encoding="utf-8"))["samples"]
        questions = dict.fromkeys(str(sample["question"]) for sample in samples)
        return [question for question in questions if question.strip()][:MAXIMUM_EXAMPLES]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not readable ({error!r}), expected the report of a run: delete it") from None


class Pair:
    """Both models, loaded."""

    def __init__(self, names: Names) -> None:
        self.names = names
        self.assistant, tokenizer = load_assistant(names.tuned)
        try:
            self.calculator = find_recorded(names.tuned, "calculator") is True
            config = self.assistant.generation_config
            chat = choose_format(tokenizer, calculator=self.calculator, generation_config=config)
            self.chat = ChatPromptFormat(chat)
        except InputError as error:
            raise InputError(f"tuned {names.tuned}: {error}") from None
        self.base, self.base_tokenizer = load_assistant(names.base)
        if torch.accelerator.is_available():
            for model in (self.assistant, self.base):
                model.to(torch.accelerator.current_accelerator())

    def sides(self, asked: Asked) -> tuple[Side, Side]:
        """The base in the plain-text format that was chosen, the assistant in its chat format."""
        prompt = VERBATIM if asked.plain_format == RAW else PLAIN_PROMPTS[asked.plain_format]
        plain = PlainPromptFormat(self.base_tokenizer, prompt, calculator=self.calculator)
        return Side(self.base, plain), Side(self.assistant, self.chat)
