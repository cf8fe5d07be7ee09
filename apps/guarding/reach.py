"""Whether a service can begin on an address: it is free, and whoever reaches it from elsewhere needs a key."""

from pathlib import Path

from apps.guarding.hosts import check_address, is_loopback
from configs import InputError
from finetune.service.keys import KeyBook


def check_reach(host: str, port: int, folder: Path) -> None:
    """Refuses to begin where nobody could be answered, or where anybody would be.

    Raises:
        InputError: the address cannot be listened on, or other machines would reach a service without keys.
    """
    check_address(host, port)
    if not is_loopback(host) and not KeyBook(folder).all():
        raise InputError(
            f"host {host}: other machines reach it, and there is no key: "
            f"python -m apps.service keys --add NAME --may train --folder {folder}"
        )
