"""Which models the studio shows first, and what each is called there."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from apps.service_settings import ServiceSettings, short_name
from configs import InputError, MissingInput
from finetune.replies.server_address import is_server, read_address
from scratch_models.loop.run_folder import RECORD, find_recorded, newest_run

if TYPE_CHECKING:
    from apps.studio_settings import StudioSettings
    from finetune.replies.side import Side

ASSISTANTS = ("sft", "dpo")  # runs that leave one; training of new rows alone teaches no chat
EMBEDDED = "embedded"
MOST_EXAMPLES = 4


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The models of a studio."""

    settings: ServiceSettings
    """Those of the service, the models that are shown among its own."""
    base: str
    assistant: str | None
    """None where there is no run yet."""
    servers: "Mapping[str, Side]" = field(default_factory=dict)
    """Models on other servers, by the name that the page has for each."""
    examples: tuple[str, ...] = ()
    calculator: bool = False
    """Whether the assistant learned to use one."""


def choose(settings: "StudioSettings") -> Chosen:
    """What the user named; else the newest finished fine-tuning run and its base; else the base that ships with it.

    Raises:
        InputError: there is no such run, nothing says which base it had, or a server does not answer.
    """
    tuned = settings.tuned or _newest()
    base = settings.base or _base_of(tuned)
    named = _listed(settings.models)
    servers = [*_listed(settings.servers), *(place for place in (base, tuned) if place and is_server(place))]
    found: dict[str, str | None] = {}
    for which, place in (("base", base), ("tuned", tuned)):
        if place is None or is_server(place):
            found[which] = None if place is None else _server_name(place)
        else:
            found[which] = _name(place, settings, named)
    return Chosen(
        settings=replace(settings, models=[*named.values()]),
        base=found["base"] or EMBEDDED,
        assistant=found["tuned"],
        servers={_server_name(place): _connected(place, settings) for place in dict.fromkeys(servers)},
        examples=() if tuned is None or is_server(tuned) else _examples(_run_of(tuned)),
        calculator=tuned is not None and not is_server(tuned) and find_recorded(tuned, "calculator") is True,
    )


def _newest() -> str | None:
    try:
        return str(newest_run(*ASSISTANTS).path)
    except InputError:
        return None


def _base_of(tuned: str | None) -> str:
    if tuned is None:
        return EMBEDDED
    if not is_server(tuned) and tuned.startswith((".", "/", "~", "runs/")) and not Path(tuned).exists():
        raise MissingInput(f"tuned {tuned}: no such folder, expected a run's, or leave it out for the newest run")
    base = None if is_server(tuned) else find_recorded(tuned, "base")
    if base is None and not is_server(tuned):
        from finetune.export.saved_model import find_base  # reads torch, which takes seconds

        base = find_base(tuned)
    if base is None:
        raise InputError(f"tuned {tuned}: no run.json says what it was made from: pass --base")
    return base


def _listed(names: str | list[str]) -> dict[str, str]:
    """Entries of a setting, each under itself."""
    return {entry: entry for entry in ([names] if isinstance(names, str) else names)}


def _name(place: str, settings: ServiceSettings, named: dict[str, str]) -> str:
    """What a model is called: a run under the folder of runs is listed there already, all else is added."""
    run, runs = _run_of(place), Path(settings.runs)
    if (run / RECORD).is_file() and run.resolve().parent == runs.resolve() and (run / "final").is_dir():
        return f"{runs.name}/{run.name}"
    name = run.name if (run / RECORD).is_file() else short_name(place)
    named.setdefault(place, f"{name}={place}")
    return name


def _run_of(place: str) -> Path:
    """The folder of the run that a path to it or into its `final/` belongs to.

    >>> _run_of("runs/sft-3/final/adapter").as_posix()
    'runs/sft-3'
    """
    path = Path(place)
    finals = [one for one in (path, *path.parents) if one.name == "final"]
    return finals[0].parent if finals else path


def _server_name(place: str) -> str:
    address = read_address(place)
    return f"{address.model} at {address.host}" if address.model else address.host


def _connected(place: str, settings: "StudioSettings") -> "Side":
    from finetune.export.opened_sides import open_server

    return open_server(place, settings.key_variable)


def _examples(run: Path) -> tuple[str, ...]:
    """A few held-out questions from the report of a run; none where there is no report.

    Raises:
        InputError: the report is not what a run wrote.
    """
    path = run / "report.json"
    if not path.is_file():
        return ()
    try:
        samples = json.loads(path.read_text(encoding="utf-8"))["samples"]
        questions = dict.fromkeys(str(sample["question"]) for sample in samples)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not readable ({error!r}), expected the report of a run: delete it") from None
    return tuple(question for question in questions if question.strip())[:MOST_EXAMPLES]
