"""The settings of the studio, which its entry and what it starts both read."""

from dataclasses import dataclass, field

from apps.service_settings import ServiceSettings


@dataclass(frozen=True, kw_only=True)
class StudioSettings(ServiceSettings):
    """The studio, and the service behind it."""

    base: str | None = None
    """A run, folder, Hub name, GGUF file, adapter, or `embedded`; by default what the other's run was started from."""
    tuned: str | None = None
    """The model to show beside it, named in the same ways; by default the newest finished run."""
    models: str | list[str] = field(default_factory=list)
    """Other models that can be chosen, named in the same ways, or NAME=one of these."""
    servers: str | list[str] = field(default_factory=list)
    """Servers of OpenAI's API whose models can be chosen too, such as `http://127.0.0.1:8000/v1#model`."""
    key_variable: str = "OPENAI_API_KEY"
    """Environment variable with the API key of those servers; need not be set where they ask for none."""
    port: int = 7860
    """Port to listen on."""
