"""A side that is a model on a server."""

from dataclasses import dataclass

from finetune.replies.prompts import PlainPrompt
from finetune.replies.served_model import ServedModel
from finetune.replies.server import Server


@dataclass(frozen=True)
class ServedSide:
    """The server; whether its model has a chat template, only the server knows."""

    name: str
    server: Server

    @property
    def identity(self) -> str:
        """The model's name and the server's address."""
        return f"{self.server.model} at {self.server.url}"

    @property
    def is_local(self) -> bool:
        """No."""
        return False

    @property
    def knows_chat(self) -> bool:
        """Taken to be so; a server without a template says it when it is asked."""
        return True

    @property
    def chat_format(self) -> str:
        """Who puts a chat into the model's format."""
        return "a chat that the server renders"

    def in_chat(self, *, calculator: bool = False) -> ServedModel:
        """The model asked in a chat; a server generates by itself, so there is never a calculator."""
        return ServedModel(self.server)

    def in_plain_text(self, prompt: PlainPrompt, *, calculator: bool = False) -> ServedModel:
        """The model asked to go on with a text."""
        return ServedModel(self.server, prompt)
