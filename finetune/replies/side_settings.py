"""The settings that compare and the studio share: how each of two models is asked, and how a server is."""

import math
import re
from dataclasses import dataclass
from typing import Literal

from configs import InputError

FormatChoice = Literal["auto", "chat", "plain"]
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, kw_only=True)
class SideSettings:
    """How the two models that are compared are asked."""

    base_format: FormatChoice = "auto"
    """How the base is asked: `chat` in its own chat format, `plain` in plain text; `auto` in chat where it has one."""
    tuned_format: FormatChoice = "auto"
    """The same of the other model."""
    base_key_variable: str = "OPENAI_API_KEY"
    """Environment variable with the API key of a base on a server; need not be set where the server asks for none."""
    tuned_key_variable: str = "OPENAI_API_KEY"
    """The same of the other model."""
    server_requests: int = 4
    """Questions that a server is asked at the same time."""
    server_seconds: float = 120.0
    """How long a server may be silent; a request that fails for a passing reason is sent twice more."""

    def __post_init__(self) -> None:
        for field in ("base_key_variable", "tuned_key_variable"):
            if not VARIABLE.fullmatch(getattr(self, field)):  # whatever was given may be the key itself: not shown
                raise InputError(f"{field}: found no name of an environment variable, expected one that holds the key")
        if self.server_requests < 1:
            raise InputError(f"server_requests: found {self.server_requests}, expected at least 1")
        if not 0 < self.server_seconds < math.inf:
            raise InputError(f"server_seconds: found {self.server_seconds}, expected a finite number above 0")
