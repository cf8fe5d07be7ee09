"""Requests for jobs as settings of runs, and jobs as OpenAI's API shows them."""

import math
import time
from typing import Any

from apps.shapes.bodies import JobBody, MethodHyperparameters
from apps.shapes.errors import ApiError
from apps.shapes.objects import CheckpointObject, EventObject, Hyperparameters, JobError, JobObject, TaskObject
from finetune.runs.job import Job, JobCheckpoint, JobEvent
from finetune.runs.job_store import JobStore
from finetune.service.model_names import TUNING_KINDS, name_of
from scratch_models.loop.run_folder import find_recorded

METHODS = {"supervised": "sft", "dpo": "dpo"}
TAKEN_FROM = {
    "base": "model",
    "data": "training_file",
    "held_out": "validation_file",
    "epochs": "method.hyperparameters.n_epochs",
    "conversations_per_step": "method.hyperparameters.batch_size",
    "pairs_per_step": "method.hyperparameters.batch_size",
    "seed": "seed",
    "learning_rate_multiplier": "method.hyperparameters.learning_rate_multiplier",
}
"""Settings of a run that a request says in another place."""
NOT_OVER_THE_NETWORK = (
    *("output_dir", "output", "resume", "config", "dry_run", "inspect", "push_to_hub", "log_with", "corpus", "compile"),
    *("words", "leave_out", "protect", "held_out", "tuned", "prompt", "tuned_key_variable", "base_key_variable"),
)
"""Settings that name files or places of the server's machine, or that send something elsewhere."""


def settings_of(body: JobBody, base: str, training: str, validation: str | None) -> tuple[str, dict[str, Any]]:
    """The kind of a job and the settings of its run.

    Raises:
        ApiError: the request says one thing twice, or names a setting that may not come over the network.
    """
    method = body.method.type if body.method else "supervised"
    asked = hyperparameters_of(body)
    settings: dict[str, Any] = {"base": base, "data": training}
    if validation is not None:
        settings["held_out"] = validation
    if body.seed is not None:
        settings["seed"] = body.seed
    if asked.n_epochs != "auto":
        settings["epochs"] = float(asked.n_epochs)
    if asked.batch_size != "auto":
        settings["pairs_per_step" if method == "dpo" else "conversations_per_step"] = asked.batch_size
    beta = getattr(asked, "beta", "auto")
    if beta != "auto":
        settings["beta"] = beta
    if asked.learning_rate_multiplier != "auto":
        settings["learning_rate_multiplier"] = asked.learning_rate_multiplier
    return METHODS[method], {**settings, **further(body.settings, TAKEN_FROM)}


def hyperparameters_of(body: JobBody) -> MethodHyperparameters:
    """What a request says of them, in the place where it says it.

    Raises:
        ApiError: it says it in both places, or of another method than its own.
    """
    kind = body.method.type if body.method else "supervised"
    other = "dpo" if kind == "supervised" else "supervised"
    if body.method and getattr(body.method, other) is not None:
        raise ApiError(
            400, f"method.{other}: found beside type {kind}, expected method.{kind}", param=f"method.{other}"
        )
    of_method = getattr(body.method, kind, None)
    found = of_method.hyperparameters if of_method else None
    if found is not None and body.hyperparameters is not None:
        raise ApiError(400, "hyperparameters: found in two places, expected them in method", param="hyperparameters")
    return found or body.hyperparameters or MethodHyperparameters()


def further(settings: dict[str, Any] | None, elsewhere: dict[str, str]) -> dict[str, Any]:
    """The further settings of a request.

    Raises:
        ApiError: one has a place of its own in the request, or may not come over the network.
    """
    for name in settings or {}:
        if name in elsewhere:
            raise ApiError(400, f"settings.{name}: give it as {elsewhere[name]}", param=f"settings.{name}")
        if name in NOT_OVER_THE_NETWORK:
            raise ApiError(400, f"settings.{name}: is not taken over the network", param=f"settings.{name}")
    return settings or {}


def as_job(job: Job, jobs: JobStore) -> JobObject:
    """A job as the API shows it."""
    details = job.details
    done = job.state == "succeeded"
    method = details.get(
        "method", {"type": next((name for name, kind in METHODS.items() if kind == job.kind), "other")}
    )
    progress = _progress(job, jobs)
    return JobObject(
        id=job.id,
        created_at=int(job.created_at),
        error=error_of(job),
        fine_tuned_model=name_of(job) if done and job.kind in TUNING_KINDS else None,
        finished_at=None if job.ended_at is None else int(job.ended_at),
        estimated_finish=progress.get("estimated_finish"),
        hyperparameters=Hyperparameters(**details.get("hyperparameters", {})),
        method=method,
        metadata=details.get("metadata", {}),
        model=details.get("model", str(job.settings.get("base", ""))),
        seed=int(job.settings.get("seed", 0)),
        status=job.state,
        suffix=job.name or None,
        trained_tokens=progress.get("trained_tokens") if done else None,
        training_file=details.get("training_file", ""),
        validation_file=details.get("validation_file"),
        settings=details.get("settings", {}),
    )


def as_task(job: Job, what: Any) -> TaskObject:
    """An extension or a comparison as the API shows it."""
    leaves = job.state == "succeeded" and job.kind in TUNING_KINDS and not job.settings.get("dry_run")
    return TaskObject(
        id=job.id,
        object=what,
        created_at=int(job.created_at),
        finished_at=None if job.ended_at is None else int(job.ended_at),
        status=job.state,
        error=error_of(job),
        model=name_of(job) if leaves else None,
        metadata=job.details.get("metadata", {}),
        settings=job.details.get("settings", {}),
    )


def error_of(job: Job) -> JobError | None:
    """Why a job failed."""
    return JobError(code="run_failed", message=job.error or "") if job.state == "failed" else None


def as_event(event: JobEvent) -> EventObject:
    """An event as the API shows it; numbers that JSON does not know are text."""
    return EventObject(
        id=event.id,
        created_at=int(event.created_at),
        level=event.level,
        message=event.message,
        type=event.type,
        data=_finite(event.data),
    )


def as_checkpoint(job: Job, checkpoint: JobCheckpoint) -> CheckpointObject:
    """A checkpoint as the API shows it."""
    named = {"train_loss": "loss_nats", "valid_loss": "held_out_loss_nats"}
    metrics = {theirs: checkpoint.metrics[ours] for theirs, ours in named.items() if ours in checkpoint.metrics}
    return CheckpointObject(
        id=checkpoint.id,
        created_at=int(checkpoint.created_at),
        fine_tuned_model_checkpoint=f"{name_of(job)}:step-{checkpoint.step}",
        fine_tuning_job_id=job.id,
        metrics={"step": checkpoint.step, **_finite(metrics)},
        step_number=checkpoint.step,
    )


def _progress(job: Job, jobs: JobStore) -> dict[str, int]:
    """The tokens that were trained on, and of a running job when it should end, by the speed of its steps so far."""
    if job.state not in ("running", "succeeded"):
        return {}
    steps = [line for line in jobs.metrics(job.id) if "loss_nats" in line]
    if not steps:
        return {}
    known = {"trained_tokens": sum(int(line.get("tokens", 0)) for line in steps)}
    total, last = find_recorded(job.output_dir, "max_steps"), steps[-1]
    if job.state == "running" and isinstance(total, int) and math.isfinite(last["seconds"]):
        known["estimated_finish"] = int(time.time() + (total - last["step"]) * last["seconds"] / last["step"])
    return known


def _finite(data: dict[str, Any]) -> dict[str, Any]:
    return {
        name: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in data.items()
    }
