"""What the API answers with, as OpenAI writes it down; times are unix seconds.

https://developers.openai.com/api/reference (and the types of the package `openai`, which tests read every answer with).
"""

from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel

Item = TypeVar("Item", bound=BaseModel)


class ErrorDetail(BaseModel):
    """Why a request was refused."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorObject(BaseModel):
    """A refusal."""

    error: ErrorDetail


class Page(BaseModel, Generic[Item]):
    """A part of a list; `after` with the id of its last gives the next one."""

    object: Literal["list"] = "list"
    data: list[Item]
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool = False


class FileObject(BaseModel):
    """An uploaded file."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"
    kind: str
    """Not OpenAI's: `conversations`, `pairs`, `choices` or `text`."""
    records: int
    """Not OpenAI's: how many of them were read."""
    sha256: str
    """Not OpenAI's."""


class Deleted(BaseModel):
    """Something that is gone."""

    id: str
    object: str
    deleted: bool = True


class ModelObject(BaseModel):
    """A model that can be asked or tuned."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str


class JobError(BaseModel):
    """Why a job failed."""

    code: str
    message: str
    param: str | None = None


class Hyperparameters(BaseModel):
    """How a job was asked to train; `auto` is what the data, the base and the method suggest."""

    batch_size: int | Literal["auto"] = "auto"
    learning_rate_multiplier: float | Literal["auto"] = "auto"
    n_epochs: float | Literal["auto"] = "auto"


class JobObject(BaseModel):
    """A fine-tuning job."""

    id: str
    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    created_at: int
    error: JobError | None = None
    fine_tuned_model: str | None = None
    finished_at: int | None = None
    estimated_finish: int | None = None
    hyperparameters: Hyperparameters
    integrations: list[Any] = []
    method: dict[str, Any]
    metadata: dict[str, str] = {}
    model: str
    organization_id: str = "graft"
    result_files: list[str] = []
    seed: int
    status: Literal["queued", "running", "paused", "succeeded", "failed", "cancelled"]
    suffix: str | None = None
    trained_tokens: int | None = None
    training_file: str
    validation_file: str | None = None
    settings: dict[str, Any] = {}
    """Not OpenAI's: the settings of the run as they were given."""


class EventObject(BaseModel):
    """Something that happened to a job; of a step its figures."""

    id: str
    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    created_at: int
    level: Literal["info", "warn", "error"]
    message: str
    type: Literal["message", "metrics"]
    data: dict[str, Any] | None = None


class CheckpointObject(BaseModel):
    """A checkpoint that a job has written."""

    id: str
    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    created_at: int
    fine_tuned_model_checkpoint: str
    fine_tuning_job_id: str
    metrics: dict[str, float]
    step_number: int


class TaskObject(BaseModel):
    """An extension of a vocabulary, or a comparison of two models: in the manner of a job, and not OpenAI's."""

    id: str
    object: Literal["vocabulary.extension", "comparison"]
    created_at: int
    finished_at: int | None = None
    status: Literal["queued", "running", "paused", "succeeded", "failed", "cancelled"]
    error: JobError | None = None
    model: str | None = None
    """What came of it, as a model to ask or to tune; only of an extension."""
    metadata: dict[str, str] = {}
    settings: dict[str, Any]


class Usage(BaseModel):
    """Tokens of a request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class TopLogprob(BaseModel):
    """A token that could have been taken."""

    token: str
    bytes: list[int]
    logprob: float


class TokenLogprob(TopLogprob):
    """The token that was taken, and the likeliest ones."""

    top_logprobs: list[TopLogprob]


class ChoiceLogprobs(BaseModel):
    """The tokens of a choice."""

    content: list[TokenLogprob] | None = None
    refusal: None = None


class ChatMessage(BaseModel):
    """What the model says."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class ChatChoice(BaseModel):
    """One reply."""

    index: int
    message: ChatMessage
    logprobs: ChoiceLogprobs | None = None
    finish_reason: Literal["stop", "length"]


class ChatCompletion(BaseModel):
    """The replies to a conversation."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    system_fingerprint: str


class TextLogprobs(BaseModel):
    """The tokens of a completion."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class TextChoice(BaseModel):
    """One completion."""

    index: int
    text: str
    logprobs: TextLogprobs | None = None
    finish_reason: Literal["stop", "length"]


class TextCompletion(BaseModel):
    """The completions of prompts."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[TextChoice]
    usage: Usage
    system_fingerprint: str
