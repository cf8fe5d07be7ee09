"""`finetune`, `prefer` and `open_run`: the same code as the entries, with rows from memory and a run to go on with.

What is heavy is imported at the first call, so that a mistake in a setting need not wait for it.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, overload

from configs import InputError
from configs.entry import check_settings
from finetune.api.given_rows import Data, name_of_data, names_of_data
from finetune.preference.settings import DpoSettings
from finetune.supervised.settings import SftSettings

if TYPE_CHECKING:
    from finetune.api.tuned_run import TunedRun
    from scratch_models.loop.run_folder import RunFolder

Base = Union[str, Path, "TunedRun"]

HELD_OUT = "held_out"
"""The setting that may hold rows as `data` may."""
Given = Mapping[str, Any]
S = TypeVar("S", SftSettings, DpoSettings)


@overload
def finetune(base: Base, data: Data, *, dry_run: Literal[True], **settings: Any) -> None: ...
@overload
def finetune(base: Base, data: Data, *, inspect: int, **settings: Any) -> None: ...
@overload
def finetune(base: Base, data: Data, **settings: Any) -> "TunedRun": ...
def finetune(base: Base, data: Data, **settings: Any) -> "TunedRun | None":
    """The finished run of supervised fine-tuning, as `finetune/sft.py` makes it; progress is shown on the way.

    With `dry_run=True` or `inspect=1` it is shown what a run would do, and None comes back.

    Args:
        base: A model by any name that the entry takes, such as "smollm2", or a run, which is merged first.
        data: A file or Hub name, or a list of them; or rows: dicts in any form that a file may have, conversations, a
            `datasets.Dataset`.
        settings: Fields of `SftSettings`, such as `epochs=1`; `held_out` is data as well.

    Raises:
        InputError: what the entry would refuse, in the same words; nothing is written then.

    """

    def start(checked: SftSettings) -> "RunFolder | None":
        from finetune.supervised.run import fine_tune

        return fine_tune(checked)

    return _call(start, SftSettings, base, data, settings)


@overload
def prefer(base: Base, pairs: Data, *, dry_run: Literal[True], **settings: Any) -> None: ...
@overload
def prefer(base: Base, pairs: Data, **settings: Any) -> "TunedRun": ...
def prefer(base: Base, pairs: Data, **settings: Any) -> "TunedRun | None":
    """The finished run of preference tuning, as `finetune/dpo.py` makes it; progress is shown on the way.

    With `dry_run=True` it is shown what a run would do, and None comes back.

    Args:
        base: A model by any name that the entry takes, or a run, such as one that `finetune` gave.
        pairs: A file or Hub name; or rows: dicts with `prompt`, `chosen` and `rejected`, or a `datasets.Dataset`.
        settings: Fields of `DpoSettings`, such as `beta=0.1`; `held_out` is data as well.

    Raises:
        InputError: what the entry would refuse, in the same words; nothing is written then.

    """

    def start(checked: DpoSettings) -> "RunFolder | None":
        from finetune.preference.run import teach_preferences

        return teach_preferences(checked)

    return _call(start, DpoSettings, base, pairs, settings)


def open_run(folder: str | Path) -> "TunedRun":
    """A run that was finished before, by a call or by a command, as `finetune` would have given it back.

    Raises:
        InputError: there is no run, it is not finished, or it is of another command than sft and dpo.

    """
    from finetune.api.tuned_run import TunedRun
    from finetune.export.saved_model import model_folder
    from scratch_models.loop.run_folder import RunFolder

    run = RunFolder(Path(folder).expanduser().absolute())
    settings = run.record()["settings"]
    model_folder(run.path)
    if "lora_rank" not in settings:
        raise InputError(f"{run.path}: is a run of another command, expected one of finetune/sft.py or finetune/dpo.py")
    return TunedRun(run.path)


def _call(start: Callable[[S], "RunFolder | None"], schema: type[S], base: Base, data: Data, settings: Given) -> Any:
    """What `start` leaves of a run with these settings, opened; None where it leaves nothing."""
    held_out = {
        key: name_of_data(value, key) for key, value in settings.items() if key == HELD_OUT and value is not None
    }
    checked = check_settings(schema, base=_name_of(base), data=names_of_data(data), **{**settings, **held_out})
    from finetune.api.process_state import left_as_found, memory_given_back

    with left_as_found(), memory_given_back():
        run = start(checked)
    return None if run is None else open_run(run.path)


def _name_of(base: Base) -> str:
    return str(base) if isinstance(base, str | Path) else str(base.folder)
