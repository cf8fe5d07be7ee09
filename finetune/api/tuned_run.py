"""A finished run as an object: its model, its figures, and what can be done with it next."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from configs import InputError
from finetune.api.comparing import Compared, ask_prompts, measure_over_data
from finetune.api.process_state import left_as_found
from finetune.conversations.message_reader import read_messages
from finetune.conversations.messages import Conversation, Message
from finetune.conversations.tool_calls import read_tools
from finetune.evaluation.report import Report, plot_losses, read_report
from finetune.evaluation.scoring import read_replies
from finetune.evaluation.tables import Row, score_rows
from finetune.export.hub import push
from finetune.export.merged_folder import MERGED, Stored
from finetune.export.opened_sides import open_local
from finetune.export.receipt import merge_with_receipt
from finetune.export.saved_model import find_base
from finetune.preference.report import PreferenceReport, rows_of
from finetune.replies.local_side import LocalSide
from scratch_models.decoding.sampling_settings import Sampling
from scratch_models.loop.run_folder import RunFolder
from tokenizer_ext.pages.html_page import image, paragraph, table
from tokenizer_ext.pages.plots import can_plot


@dataclass(frozen=True, repr=False)
class TunedRun:
    """A finished run, read from its folder: what is said of it is said of what was saved."""

    folder: Path
    """Holds `final/`, `report.html`, `metrics.jsonl`, `run.json` and `checkpoints/`."""

    @property
    def model(self) -> PreTrainedModel:
        """The model of `final/`, its adapter beside its weights, on the accelerator where there is one; opened once."""
        return self._side.model

    @property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The tokenizer of `final/`, with its chat template."""
        return self._side.tokenizer

    @property
    def settings(self) -> dict[str, Any]:
        """Every setting as the run took it, from `run.json`."""
        settings: dict[str, Any] = RunFolder(self.folder).record()["settings"]
        return settings

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The lines of `metrics.jsonl`: one for the model before training, then one a step."""
        return RunFolder(self.folder).read_metrics()

    @property
    def report(self) -> Report:
        """The figures of base and assistant on the held-out questions, every reply, and what was read and trained."""
        kind = PreferenceReport if "beta" in self.settings else Report
        return read_report(RunFolder(self.folder), kind)

    @property
    def table(self) -> list[Row]:
        """The rows of base against assistant: name of the figure, that of the base, that of the assistant."""
        report = self.report
        if isinstance(report, PreferenceReport):
            return rows_of(report)
        return score_rows(report.base, report.assistant)

    @left_as_found()
    def chat(
        self,
        said: str | Sequence[Mapping[str, object]],
        *,
        reply_tokens: int = 256,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int = 0,
        tools: Sequence[Mapping[str, object]] | None = None,
    ) -> str:
        """The reply, in the model's own chat template, to a question or to messages that end with the user's.

        Raises:
            InputError: the messages cannot be read, nothing is asked, or it is longer than the model's positions.

        """
        messages = [{"role": "user", "content": said}] if isinstance(said, str) else list(said)
        read = read_messages(messages, "chat", "messages")
        asked = Conversation((*read, Message("assistant", "")), "chat", tools=read_tools(tools and list(tools), "chat"))
        model = self._side.in_chat(calculator=self.settings.get("calculator") is True)
        if not read or read[-1].role == "assistant" or not model.fits(asked):
            raise InputError(
                f"chat: {len(read)} messages cannot be answered, expected the last one not by the assistant, text in "
                "them, and no more of it than the model has positions for"
            )
        sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, seed=seed)
        return read_replies(model, [asked], reply_tokens, sampling)[0].reply

    @left_as_found()
    def compare(
        self,
        asked: Any,
        *,
        base: "str | Path | TunedRun | None" = None,
        conversations: int = 200,
        reply_tokens: int = 96,
    ) -> Compared:
        """Both models beside each other, the base being the one that the run started from, or another one.

        Args:
            asked: A list of prompts, to see both replies; or questions with known replies, to measure both: a file, a
                Hub name, or rows.
            base: Any model that `finetune/compare.py` takes and that is on this machine, or another run.
            conversations: How many questions of the data are asked, spread evenly.
            reply_tokens: Longest reply in tokens.

        Raises:
            InputError: the questions or the base cannot be read.

        """
        name = find_base(self.folder) if base is None else base.folder if isinstance(base, TunedRun) else base
        sides = open_local(str(name)), self._side
        calculator = self.settings.get("calculator") is True
        if isinstance(asked, Sequence) and not isinstance(asked, str) and all(isinstance(one, str) for one in asked):
            return ask_prompts(*sides, asked, reply_tokens, calculator=calculator)
        return measure_over_data(*sides, asked, conversations, reply_tokens, calculator=calculator)

    @left_as_found()
    def merge(self, folder: str | Path | None = None, *, stored_as: Stored = "float32") -> Path:
        """The new folder with adapter and base as one model, proven after it was read back; by default `merged/`.

        Raises:
            InputError: every weight was trained, so there is no adapter; the folder holds something; or the merged
                model says something else.

        """
        target = self.folder / MERGED if folder is None else Path(folder)
        print(merge_with_receipt(self.folder, target, stored_as=stored_as).describe())
        return target

    @left_as_found()
    def push_to_hub(self, repository: str, *, private: bool = True, merged: str | Path | None = None) -> str:
        """The address of the repository on the Hub that now holds `final/`, or the folder of a merge.

        Raises:
            InputError: nobody is logged in, or the Hub does not take it.

        """
        return push(self.folder / "final" if merged is None else merged, repository, private=private)

    @cached_property
    def _side(self) -> LocalSide:
        with left_as_found():
            return open_local(str(self.folder))

    def __repr__(self) -> str:
        """The folder, what was made of what, and the first figure of base and assistant."""
        settings, (name, base, assistant) = self.settings, self.table[0]
        made = f"{settings['base']} on {settings['data']}, {settings['max_steps']} steps"
        return f"<{_shown(self.folder)}: {made}; {name.partition(' (')[0]}: {base} → {assistant}>"

    def _repr_html_(self) -> str:
        """The table of base and assistant, the loss curve and the folder, for a notebook."""
        columns = ["", "reference", "tuned"] if "beta" in self.settings else ["", "base", "assistant"]
        curve = [image("Loss by step", plot_losses(self.metrics))] if can_plot() else []
        report = f"{_shown(self.folder)}; the whole report: {_shown(self.folder / 'report.html')}"
        return "\n".join([table(columns, self.table, numbers=True), *curve, paragraph(report)])


def _shown(path: Path) -> Path:
    """The path as it is reached from the current folder, where it lies below."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
