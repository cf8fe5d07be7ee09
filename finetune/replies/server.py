"""A model on an OpenAI-compatible server, by the official client: chosen, tried with one token, and asked.

The client is loaded when a server is asked, it comes with the extra `server`. A request that fails for a passing reason
is sent twice more. Whatever else goes wrong between here and the server becomes one line that names it.
"""

import ipaddress
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from configs import InputError
from configs.errors import on_one_line
from finetune.replies.server_address import ServerAddress
from tokenizer_ext.pages.terminal import printable

SECONDS_TO_CONNECT, SECONDS_TO_LIST, RETRIES = 5.0, 10.0, 2
LONGEST_REASON = 200
NO_KEY = "none"  # the client has to send one, and a server that asks for none does not look at it


@dataclass(frozen=True)
class Server:
    """A client and the name of one model."""

    client: Any
    url: str
    model: str
    requests_at_once: int = 1

    @contextmanager
    def asked(self, for_what: str) -> Iterator[None]:
        """Turns whatever goes wrong inside into one line.

        Raises:
            InputError: something did.

        """
        with reported(self.url, f"{self.model}: {for_what}"):
            yield


@contextmanager
def reported(url: str, what: str) -> Iterator[None]:
    """Turns whatever goes wrong while a server is asked into one line.

    Raises:
        InputError: something did.

    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # whatever the network or the server did: the answer is the same
        raise InputError(f"{url}: {what}: {reason_of(error)}") from None


def connect(address: ServerAddress, key: str | None, seconds: float, requests_at_once: int) -> Server:
    """The server with the model that is meant: the one that the address names, else the first that the server lists.

    Raises:
        InputError: the client is not installed, the server does not answer, or names no model.

    """
    client = _client(address.url, key, seconds)
    listed = _list_models(client, address)
    model = address.model or (listed[0] if listed else None)
    if model is None:
        raise _unnamed(address.url)
    if address.model is None and len(listed) > 1:
        print(f"{address.url}: asking {printable(model)}, the first of {len(listed)} models; #MODEL names another")
    return Server(client, address.url, model, requests_at_once)


def reason_of(error: Exception) -> str:
    """What a failed request says, on one line that a terminal can show."""
    status, body = getattr(error, "status_code", None), getattr(error, "body", None)
    if status is not None:
        named = (
            next((body[key] for key in ("message", "detail") if key in body), None) if isinstance(body, dict) else body
        )
        reason = f"HTTP {status}{': ' if named else ''}{named or ''}"
    elif type(error).__name__ == "APITimeoutError":
        reason = "no answer in time"
    elif type(error).__name__ == "APIConnectionError":
        reason = f"no connection ({error.__cause__ or error})"
    else:
        reason = f"not what an OpenAI-compatible server answers ({type(error).__name__}: {error})"
    return printable(on_one_line(Exception(reason), LONGEST_REASON))


def _client(url: str, key: str | None, seconds: float) -> Any:
    try:
        import openai
    except ImportError:
        raise InputError(f"{url}: a server is asked by the openai package: pip install 'graft-lm[server]'") from None
    timeout = openai.Timeout(seconds, connect=min(seconds, SECONDS_TO_CONNECT))
    # Questions go where the user sent them and nowhere else: no redirects, and to this machine by no proxy.
    transport = openai.DefaultHttpxClient(timeout=timeout, follow_redirects=False, trust_env=not _is_this_machine(url))
    return openai.OpenAI(
        base_url=url,
        api_key=key or NO_KEY,
        timeout=timeout,
        max_retries=RETRIES,
        http_client=transport,
    )


def _list_models(client: Any, address: ServerAddress) -> list[str]:
    """The names of the server's models; none where it has no list and the address names the model."""
    import openai

    with reported(address.url, "listing its models"):
        try:
            found = client.with_options(timeout=SECONDS_TO_LIST, max_retries=0).models.list()
            return [str(one.id) for one in found.data]
        except openai.APIStatusError as error:
            if address.model is None:
                raise _unnamed(address.url, f" ({reason_of(error)})") from None
            return []


def _unnamed(url: str, reason: str = "") -> InputError:
    return InputError(f"{url}: lists no model{reason}, expected one: name it as {url}#MODEL")


def _is_this_machine(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
