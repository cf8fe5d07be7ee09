"""Experiment trackers of accelerate (TensorBoard, Weights & Biases, MLflow, ...) that get each line of metrics too."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

from configs import InputError

PROJECT = "graft"
FOLDER = "trackers"


def tracker_names(log_with: str | None) -> list[str]:
    """The trackers that a setting names, separated by commas.

    >>> tracker_names(None)
    []

    Raises:
        InputError: accelerate does not know one, or its package is not installed; accelerate would leave it out.

    """
    names = [name.strip() for name in (log_with or "").split(",") if name.strip()]
    known = sorted(str(tracker) for tracker in LOGGER_TYPE_TO_CLASS)
    for name in names:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, n=1)
            meant = f"did you mean {nearest[0]}" if nearest else "leave it out"
            raise InputError(f"log_with: found {name!r}, expected one of {', '.join(known)}: {meant}?")
        if name not in {str(tracker) for tracker in get_available_trackers()}:
            raise InputError(f"log_with: {name} is not installed: `pip install {name}`, or leave it out")
    return list(dict.fromkeys(names))


def start_trackers(accelerator: Accelerator, run_path: Path, settings: Mapping[str, Any]) -> None:
    """Starts what `log_with` names; trackers that write files do so in the run's folder."""
    accelerator.log_with = tracker_names(settings["log_with"])
    accelerator.project_configuration.logging_dir = str(run_path / FOLDER)
    plain = {name: value if isinstance(value, bool | int | float) else str(value) for name, value in settings.items()}
    accelerator.init_trackers(PROJECT, config=plain)


def log_numbers(accelerator: Accelerator, metrics: Mapping[str, Any]) -> None:
    """The numbers of a line of metrics; texts stay in `metrics.jsonl`."""
    numbers = {name: value for name, value in metrics.items() if isinstance(value, int | float) and name != "step"}
    accelerator.log(numbers, step=int(metrics["step"]))
