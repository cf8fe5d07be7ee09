"""The address of an OpenAI-compatible server, as the command line names it: ``http://127.0.0.1:8000/v1#model``."""

from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from configs import InputError

SCHEMES = ("http://", "https://")


@dataclass(frozen=True)
class ServerAddress:
    """Where a server is, and which of its models is meant."""

    url: str
    model: str | None = None
    """None for the first that the server lists."""

    @property
    def host(self) -> str:
        """The machine and the port.

        >>> ServerAddress("http://127.0.0.1:8000/v1").host
        '127.0.0.1:8000'
        """
        return urlsplit(self.url).netloc


def is_server(name: str | None) -> bool:
    """Whether a name means a server.

    >>> is_server("http://127.0.0.1:8000/v1"), is_server("runs/sft-1"), is_server(None)
    (True, False, False)
    """
    return name is not None and name.lower().startswith(SCHEMES)


def read_address(name: str) -> ServerAddress:
    """The address, and the model behind ``#``.

    >>> read_address("http://127.0.0.1:8000/v1#tiny")
    ServerAddress(url='http://127.0.0.1:8000/v1', model='tiny')

    Raises:
        InputError: it holds a password, a query, or no host.

    """
    try:
        parts = urlsplit(name)
        port_is_number = parts.port is None or parts.port > 0  # reads it, which raises for what is none
    except ValueError:
        raise InputError("server: found an address that cannot be read, expected http://host:port/v1") from None
    if "@" in parts.netloc or parts.query:  # whatever stands there may be a key: not shown
        raise InputError(
            "server: found an address with a user, password or query, expected http://host:port/v1: give the key in an "
            "environment variable"
        )
    if not parts.hostname or not port_is_number:
        raise InputError(f"server {name}: found no host, expected http://host:port/v1")
    return ServerAddress(urlunsplit((*parts[:3], "", "")).rstrip("/"), parts.fragment or None)
