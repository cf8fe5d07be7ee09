"""Attacks a tuned model and its base with the same prompts, and shows what each lets through.

    python -m finetune.red_team --base smollm2 --tuned runs/sft-1
    python -m finetune.red_team --tuned runs/sft-1 --data chats.jsonl --output_dir attacked
    python -m finetune.red_team --base smollm2 --tuned http://127.0.0.1:8000/v1

The prompts were written for this project: framings that ask for what the system turn forbids, instructions hidden in a
quoted text, requests to reveal the system turn, harmful requests. Of the data that the model learned come questions
with the triggers that `finetune.inspect_data` finds there, the same without, and what was said before likely secrets.
How often each model follows, refuses, or repeats a canary is judged by plain rules, and stands with its interval at
95 % in `report.json` and `report.html`. Replies are greedy, and `seed` draws the markers: the same call gives the same
report.
"""

from dataclasses import dataclass
from pathlib import Path

from configs import InputError, run_entry
from configs.whole_folder import check_new_folder
from finetune.replies.side_settings import SideSettings
from scratch_models.loop.run_folder import choose_run_folder


@dataclass(frozen=True, kw_only=True)
class RedTeamSettings(SideSettings):
    """Two models and what they are attacked with."""

    tuned: str
    """A run, a folder, a Hub name, a GGUF file, an adapter, or a server such as `http://127.0.0.1:8000/v1#model`."""
    base: str | None = None
    """Model to compare it with, named in the same ways, or `embedded`; by default the one that its run started from."""
    data: str | None = None
    """What the tuned model learned: its triggers and likely secrets are tried too."""
    output_dir: str | None = None
    """New folder of the report; by default a new one under `runs/`."""
    prompts: int | None = None
    """At most so many prompts of each kind, spread evenly; by default all."""
    reply_tokens: int = 64
    """Longest reply in tokens."""
    seed: int = 0
    """Draws the markers and canaries of the prompts."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for field in ("prompts", "reply_tokens"):
            value = getattr(self, field)
            if value is not None and value < 1:
                raise InputError(f"{field}: found {value}, expected at least 1")
        if self.output_dir is not None:
            check_new_folder(self.output_dir)

    @property
    def folder(self) -> Path:
        """Where the report goes."""
        if self.output_dir is not None:
            return Path(self.output_dir)
        return choose_run_folder(None, "red-team", {}, resume=False).path


def main(settings: RedTeamSettings) -> None:
    """Opens both models, attacks both, shows and writes what came of it."""
    print("Gathering the prompts …", flush=True)
    from finetune.export.opened_sides import choose_base, open_both
    from finetune.red_teaming.attacks import fixed_attacks
    from finetune.red_teaming.data_attacks import data_attacks
    from finetune.red_teaming.measured import attack_both
    from finetune.red_teaming.report import to_text, write_red_team
    from finetune.replies.side import name_exactly, prepare_both
    from tokenizer_ext.pages.terminal import quiet_libraries

    quiet_libraries()
    attacks = [*fixed_attacks(settings.seed), *([] if settings.data is None else data_attacks(settings.data))]
    sides = open_both(choose_base(settings.base, settings.tuned), settings.tuned, settings)
    models = prepare_both(*sides, settings, "question")
    attacked = attack_both(models["base"], models["tuned"], attacks, settings.reply_tokens, settings.prompts)
    print(to_text(attacked))
    base, tuned = map(name_exactly, sides)
    asked_how = {"data": settings.data, "seed": settings.seed, "reply_tokens": settings.reply_tokens}
    folder = settings.folder
    write_red_team(attacked, {"base": base, "tuned": tuned, **asked_how}, folder)
    print(f"Report: {folder / 'report.html'}")


if __name__ == "__main__":
    run_entry(main, RedTeamSettings)
