"""The form that starts a run: made from the settings' own fields, and read as a request of the API is."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import gradio as gr
from pydantic import ValidationError

from apps.api.job_objects import NOT_OVER_THE_NETWORK, TAKEN_FROM
from apps.api.jobs import create
from apps.shapes.bodies import JobBody
from apps.shapes.errors import ApiError
from apps.showing.field_values import choice, text
from apps.showing.studio_parts import StudioParts
from configs import InputError
from finetune.runs.kinds import KINDS
from finetune.service.setting_fields import SettingField, setting_fields

METHODS = {"supervised": "on conversations", "dpo": "on preferences (DPO)"}
KIND_OF = {"supervised": "sft", "dpo": "dpo"}
BESIDE = ("epochs", "conversations_per_step", "pairs_per_step", "seed", "beta", "learning_rate_multiplier")
"""Settings that a request of the API says elsewhere; in this form they stand among the others."""
MOST_PASTED = 2_000_000
PASTED = "pasted.jsonl"
FIRST = ("max_steps", "epochs", "learning_rate", "lora_rank", "method", "new_tokens", "evaluation_steps", "merge")


@cache
def fields_of(method: str) -> tuple[SettingField, ...]:
    """The settings of a method that the form has: those that name no file, the most wanted first."""
    found = setting_fields(KINDS[KIND_OF[method]].schema)
    left_out = {*NOT_OVER_THE_NETWORK, *(set(TAKEN_FROM) - set(BESIDE))}
    shown = [field for field in found if field.takes != "other" and field.name not in left_out]
    return tuple(sorted(shown, key=lambda field: FIRST.index(field.name) if field.name in FIRST else len(FIRST)))


def component_of(field: SettingField, elem_id: str) -> gr.components.Component:
    """What a setting is entered in."""
    words: dict[str, Any] = {"label": field.name.replace("_", " "), "info": field.help, "elem_id": elem_id}
    if field.takes == "flag":
        return gr.Checkbox(field.default, **words)
    if field.takes == "choice":
        return gr.Dropdown(list(field.choices), value=field.default, **words)
    shown = "chosen by itself" if field.default is None else f"{field.default}"
    return gr.Textbox("", placeholder=shown, max_lines=1, **words)


@dataclass(frozen=True, kw_only=True)
class RunAsked:
    """A run as the form describes it."""

    method: str
    model: str
    file: str
    """The id of an uploaded file; empty where something was pasted."""
    pasted: str
    name: str
    settings: dict[str, Any]


def read_form(studio: StudioParts, method: str, values: Sequence[object]) -> RunAsked:
    """The run in the form's values: model, file, pasted lines, name, then every setting in the order of `fields_of`.

    Raises:
        InputError: a value is of another type or out of its range.
    """
    model, file, pasted, name, *given = values
    settings = {}
    for field, value in zip(fields_of(method), given, strict=True):
        found = field.read(value)
        if found != field.default:
            settings[field.name] = found
    files = [one.id for one in studio.parts.files.all()]
    return RunAsked(
        method=method,
        model=choice("model", model, studio.names),
        file=choice("file", file, files) if file else "",
        pasted=text("pasted", pasted or "", MOST_PASTED),
        name=text("name", name or "", 64),
        settings=settings,
    )


def start(studio: StudioParts, asked: RunAsked, *, dry_run: bool) -> str:
    """Queues the run; the id of its job.

    Raises:
        InputError: there is no data, or what the run itself would refuse.
    """
    if bool(asked.file) == bool(asked.pasted.strip()):
        found = "both" if asked.file else "neither"
        raise InputError(f"data: found {found} of a file and pasted lines, expected one of them")
    file = asked.file or studio.parts.files.keep_text(PASTED, asked.pasted, "fine-tune").id
    body = {"model": asked.model, "training_file": file, "method": {"type": asked.method}, "suffix": asked.name or None}
    try:
        request = JobBody.model_validate(body)
        own = asked.settings | ({"dry_run": True} if dry_run else {})
        return create(studio.parts, "studio", request, **own).id
    except ApiError as error:
        raise InputError(error.message) from None
    except ValidationError:  # the model and the file were chosen from lists
        raise InputError(f"name: found {asked.name!a}, expected letters, digits, spaces, dots, dashes") from None
