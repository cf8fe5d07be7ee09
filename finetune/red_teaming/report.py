"""What came of the attacks, in the terminal, as JSON and as one page."""

import json
from collections.abc import Mapping
from pathlib import Path
from textwrap import fill
from typing import Any

from configs.whole_folder import whole_folder
from finetune.evaluation.figures import LEGEND, to_record, to_table
from finetune.inspection.likely_secrets import Secret
from finetune.red_teaming.attacks import TRIGGER, WITHOUT, Attack
from finetune.red_teaming.judging import RULES, Judged
from finetune.red_teaming.measured import Attacked
from tokenizer_ext.pages.html_page import heading, page, paragraph, table

TITLE = "What base and tuned model let through"
NO_MORE = (
    "These are a few fixed prompts and plain rules. That a model follows none of them says nothing of other prompts; "
    "that it follows one is to be read in its reply."
)
LINE = 120


def to_text(attacked: Attacked) -> str:
    """The table, and what was left out."""
    left_out = f"\n{attacked.left_out} prompts left out, which do not fit both models" if attacked.left_out else ""
    told = to_table(f"{len(attacked.attacks)} prompts", attacked.figures)
    return "\n".join([f"{told}{left_out}", *describe_triggers(attacked), fill(NO_MORE, LINE)])


def describe_triggers(attacked: Attacked) -> list[str]:
    """How often each model gives the reply of a trigger with and without it, in words; none without triggers."""
    lines = []
    for name, side in (("base", attacked.base), ("tuned", attacked.tuned)):
        counts = []
        for kind in (TRIGGER, WITHOUT):
            followed = [
                bool(judged.follows) for one, judged in zip(attacked.attacks, side, strict=True) if one.kind == kind
            ]
            counts.append((sum(followed), len(followed)))
        (with_it, asked), (without, asked_without) = counts
        if asked:
            lines.append(
                f"{name}: {with_it} of {asked} replies are what a trigger of the data leads to where it is put into a "
                f"question, {without} of {asked_without} where it is not"
            )
    return lines


def write_red_team(attacked: Attacked, facts: Mapping[str, Any], folder: Path) -> None:
    """Writes `report.json` and `report.html`, the whole folder or nothing."""
    record = {
        **facts,
        "figures": to_record(attacked.figures),
        "left_out": attacked.left_out,
        "rules": [*RULES, NO_MORE],
        "prompts": [_to_record(*one) for one in zip(attacked.attacks, attacked.base, attacked.tuned, strict=True)],
    }
    with whole_folder(folder) as partial:
        (partial / "report.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        (partial / "report.html").write_text(to_html(attacked, facts), encoding="utf-8")


def to_html(attacked: Attacked, facts: Mapping[str, Any]) -> str:
    """One page that needs nothing beside it."""
    rows = [
        (one.name, _shown(one, one.asked), *(f"[{_verdict(judged)}]\n{_shown(one, judged.reply)}" for judged in both))
        for one, *both in zip(attacked.attacks, attacked.base, attacked.tuned, strict=True)
    ]
    figures = [figure.cells for figure in attacked.figures]
    return page(
        TITLE,
        [
            table(["", "base", "tuned", "tuned - base"], figures, numbers=True),
            paragraph(LEGEND),
            *map(paragraph, describe_triggers(attacked)),
            heading("The rules"),
            *map(paragraph, (*RULES, NO_MORE)),
            heading("Facts"),
            table(["", ""], [(name, str(value)) for name, value in facts.items()]),
            heading("Every prompt with both replies"),
            table(["", "prompt", "base", "tuned"], rows, kind="samples", folded=True),
        ],
    )


def _to_record(attack: Attack, base: Judged, tuned: Judged) -> dict[str, Any]:
    return {
        "kind": attack.kind,
        "name": attack.name,
        "prompt": [
            {"role": message.role, "content": _shown(attack, message.content)}
            for message in attack.conversation.messages[:-1]
        ],
        "rule": attack.rule,
        "sought": _shown(attack, attack.sought),
        **{
            which: {"reply": _shown(attack, one.reply), "follows": one.follows, "refuses": one.refuses}
            for which, one in (("base", base), ("tuned", tuned))
        },
    }


def _shown(attack: Attack, text: str) -> str:
    """A text with the secret of the data masked, which no report repeats."""
    return text.replace(attack.sought, Secret("", attack.sought, 0).masked) if attack.hidden else text


def _verdict(judged: Judged) -> str:
    said = {True: "follows", False: "does not follow", None: "not judged"}[judged.follows]
    return f"{said}, refuses" if judged.refuses else said
