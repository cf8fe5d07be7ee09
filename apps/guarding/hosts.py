"""The address that a server listens on, and the names that it is asked under."""

import ipaddress
import socket
from collections.abc import Sequence

from configs import InputError

LOOPBACK_NAMES = ("127.0.0.1", "::1", "localhost")


def check_address(host: str, port: int) -> None:
    """Refuses an address that cannot be listened on, before any weights load.

    Raises:
        InputError: the port is taken, or the host is no IPv4 address of this machine.
    """
    with socket.socket(socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise InputError(
                f"{host}:{port}: cannot be listened on ({error.strerror}): pass another --port, or end what uses it"
            ) from None


def hosts_of(host: str, allowed: Sequence[str]) -> frozenset[str]:
    """The names that a server on an address is asked under: its own, those of this machine, and the allowed ones.

    >>> sorted(hosts_of("127.0.0.1", ["Demo.example"]))
    ['127.0.0.1', '::1', 'demo.example', 'localhost']
    """
    own = () if is_loopback(host) else (socket.gethostname(),)
    return frozenset(name.lower() for name in (host, *LOOPBACK_NAMES, *own, *allowed))


def is_loopback(host: str) -> bool:
    """Whether no other machine reaches the address."""
    return ipaddress.ip_address(socket.gethostbyname(host)).is_loopback
