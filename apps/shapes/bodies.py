"""What requests hold: every field of OpenAI's that is honoured, and those that are harmless; any other is refused.

A field that would change the answer and is not there (penalties, tools, a response format) may say only what has no
effect, and is refused by name where it asks for more.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

MOST_CHOICES, MOST_STOPS, LONGEST_STOP = 8, 4, 200
LONGEST_TEXT = 200_000
"""Characters of a prompt or of one message."""


def _nothing(value: Any) -> Any:
    if value not in (None, 0, 0.0, [], {}, False, "none"):
        raise ValueError("this server has no such thing: leave it out")
    return None


Nothing = Annotated[Any, AfterValidator(_nothing), Field(json_schema_extra={"enum": [None, 0, False]})]
"""A field that may say only what has no effect."""
Harmless = Annotated[Any, Field(description="Has no effect here.")]
Text = Annotated[str, Field(max_length=LONGEST_TEXT)]
Stop = Annotated[str, Field(min_length=1, max_length=LONGEST_STOP)]
Name = Annotated[str, Field(min_length=1, max_length=300)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=16)
]


class Body(BaseModel):
    """The JSON of a request: no value is taken for one of another type, no field is passed over."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class StreamOptions(Body):
    """What a stream tells besides."""

    include_usage: bool = False
    include_obfuscation: bool | None = None


class ReplyBody(Body):
    """What chats and completions share."""

    model: Name
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES)] | None = 1
    seed: Seed | None = None
    """Same seed, same request, same model: same replies; without one they differ."""
    stop: Stop | Annotated[list[Stop], Field(max_length=MOST_STOPS)] | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] | None = 1.0
    frequency_penalty: Nothing = None
    presence_penalty: Nothing = None
    logit_bias: Nothing = None
    user: Harmless = None

    @property
    def stop_texts(self) -> tuple[str, ...]:
        """The texts that end a reply."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def with_usage(self) -> bool:
        """Whether a stream ends with the count of its tokens."""
        return self.stream_options is not None and self.stream_options.include_usage


class TextFormat(Body):
    """Plain text, the only format that there is."""

    type: Literal["text"]


def _plain_text(value: Any) -> Any:
    if isinstance(value, dict) and value.get("type") not in ("text", None):
        raise ValueError("only text is generated here, nothing holds a reply to a schema: leave it out")
    return value


class ChatBody(ReplyBody):
    """A request for replies to a conversation."""

    messages: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=1_000)]
    """As in a file of conversations: `role` and `content`, the latter text or parts of type `text`."""
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = False
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: Annotated[TextFormat | None, BeforeValidator(_plain_text)] = None
    modalities: list[Literal["text"]] | None = None
    tools: Nothing = None
    functions: Nothing = None
    tool_choice: Nothing = None
    function_call: Nothing = None
    audio: Nothing = None
    prediction: Nothing = None
    web_search_options: Nothing = None
    reasoning_effort: Nothing = None
    verbosity: Nothing = None
    store: Nothing = None
    moderation: Nothing = None
    service_tier: Literal["auto", "default"] | None = None
    metadata: Harmless = None
    parallel_tool_calls: Harmless = None
    prompt_cache_key: Harmless = None
    prompt_cache_options: Harmless = None
    prompt_cache_retention: Harmless = None
    safety_identifier: Harmless = None

    @property
    def limit(self) -> int | None:
        """The most tokens of a reply, where the request says it."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def alternatives(self) -> int | None:
        """How many likeliest tokens are told beside each; None where not even the one taken is."""
        return (self.top_logprobs or 0) if self.logprobs else None


class CompletionBody(ReplyBody):
    """A request for texts that go on from prompts."""

    prompt: Text | Annotated[list[Text], Field(min_length=1, max_length=MOST_CHOICES)]
    max_tokens: Annotated[int, Field(ge=1)] | None = 16
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    echo: Nothing = None
    suffix: Nothing = None
    best_of: Nothing = None


class MethodHyperparameters(Body):
    """How fast and how long; `auto` leaves it to the data, the base and the method."""

    batch_size: Annotated[int, Field(ge=1, le=4096)] | Literal["auto"] = "auto"
    learning_rate_multiplier: Annotated[float, Field(gt=0, le=1_000)] | Literal["auto"] = "auto"
    n_epochs: Annotated[int, Field(ge=1, le=1_000)] | Literal["auto"] = "auto"


class DpoHyperparameters(MethodHyperparameters):
    """The same, and how close to the reference a model stays."""

    beta: Annotated[float, Field(gt=0, le=100)] | Literal["auto"] = "auto"


class Supervised(Body):
    """Supervised fine-tuning."""

    hyperparameters: MethodHyperparameters | None = None


class Dpo(Body):
    """Direct preference optimization."""

    hyperparameters: DpoHyperparameters | None = None


class Method(Body):
    """How a job trains."""

    type: Literal["supervised", "dpo"]
    supervised: Supervised | None = None
    dpo: Dpo | None = None


class JobBody(Body):
    """A request for a fine-tuning job."""

    model: Name
    training_file: Name
    validation_file: Name | None = None
    method: Method | None = None
    hyperparameters: MethodHyperparameters | None = None
    """Where OpenAI's first version had them; `method` is the place now."""
    seed: Seed | None = None
    suffix: Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9._ -]*$")] | None = None
    metadata: Metadata | None = None
    integrations: Nothing = None
    settings: dict[str, Any] | None = None
    """Not OpenAI's: further settings of the run by their names, as `{"lora_rank": 32, "max_steps": 200}`."""


class ExtensionBody(Body):
    """A request for an extension of a model's vocabulary by tokens learned from a text."""

    model: Name
    training_file: Name
    """An uploaded text."""
    new_tokens: Annotated[int, Field(ge=1, le=100_000)] = 1_000
    held_out_file: Name | None = None
    protect_file: Name | None = None
    dry_run: bool = False
    """Only says what would be added and what it is worth."""
    metadata: Metadata | None = None
    settings: dict[str, Any] | None = None
    """Further settings of `tokenizer_ext.extend` by their names."""


class ComparisonBody(Body):
    """A request to measure two models over questions with known replies."""

    model: Name
    """The one that was tuned."""
    base: Name
    data_file: Name
    metadata: Metadata | None = None
    settings: dict[str, Any] | None = None
    """Further settings of `finetune.compare` by their names."""
