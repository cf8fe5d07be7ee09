"""The two models that the page compares: which they are, and how each is asked."""

import json
from dataclasses import dataclass
from pathlib import Path

from apps.form import CHAT, FORMATS, RAW, Asked
from configs import InputError, MissingInput
from finetune.export.opened_sides import open_both
from finetune.export.saved_model import find_base
from finetune.replies.asked_model import AskedModel
from finetune.replies.prompts import PlainPrompt
from finetune.replies.server_address import is_server, read_address
from finetune.replies.side import Side, asked_as, is_asked_in_chat
from finetune.replies.side_settings import FormatChoice, SideSettings
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
    """What both models are called on the command line."""

    base: str
    tuned: str

    @property
    def titles(self) -> tuple[str, str]:
        """What the page calls base and assistant: a folder by its own name, a run's by that of the run.

        >>> Names("openai-community/gpt2", "runs/sft-3/final").titles
        ('openai-community/gpt2', 'sft-3')
        >>> Names("runs/sft-3/final", "http://127.0.0.1:8000/v1#tiny").titles
        ('sft-3', 'tiny at 127.0.0.1:8000')
        """
        return title_of(self.base), title_of(self.tuned)


def title_of(name: str) -> str:
    """A short name: of a server model and host, of a path into a run the run's, of another folder its last part."""
    if is_server(name):
        address = read_address(name)
        return f"{address.model} at {address.host}" if address.model else address.host
    run = run_of(name)
    return run.name if run != Path(name) or run.is_dir() or name.startswith(FOLDER_STARTS) else name


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
    base = base or (None if is_server(tuned) else find_base(tuned))
    if base is None:
        raise InputError(f"tuned {tuned}: no run.json says what it was made from: pass --base")
    return Names(base, tuned)


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
    """Both models, opened."""

    def __init__(self, names: Names, settings: SideSettings) -> None:
        self.names = names
        self.calculator = not is_server(names.tuned) and find_recorded(names.tuned, "calculator") is True
        self.base, self.tuned = open_both(names.base, names.tuned, settings)
        self.first_formats = (
            _first_format(self.base, settings.base_format),
            _first_format(self.tuned, settings.tuned_format),
        )

    @property
    def sides(self) -> tuple[Side, Side]:
        """Base and assistant."""
        return self.base, self.tuned

    def models(self, asked: Asked) -> tuple[AskedModel, AskedModel]:
        """Both models in the formats that were chosen.

        Raises:
            InputError: one of them has no chat format, and was to be asked in it.

        """
        return self._asked(self.base, asked.base_format), self._asked(self.tuned, asked.tuned_format)

    def _asked(self, side: Side, prompt_format: str) -> AskedModel:
        if prompt_format == RAW:
            return side.in_plain_text(VERBATIM, calculator=self.calculator)
        return asked_as(side, prompt_format, calculator=self.calculator)


def formats_of(side: Side) -> dict[str, str]:
    """The prompt formats that the page offers for a side, with its words for them."""
    return {name: words for name, words in FORMATS.items() if name != CHAT or side.knows_chat}


def _first_format(side: Side, choice: FormatChoice) -> str:
    return CHAT if is_asked_in_chat(side, choice) else "question"
