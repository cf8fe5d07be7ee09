"""Two hosts on one machine: network namespaces with one cable between them, each with its own loopback and ports."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.house.repository import ROOT

MAIN_ADDRESS = "10.199.7.1"
PORT = "29500"
LAUNCHERS = {
    "torchrun": [
        *("-m", "torch.distributed.run", "--nnodes", "2", "--nproc_per_node", "1", "--master_port", PORT),
        *("--master_addr", MAIN_ADDRESS, "--node_rank"),
    ],
    "accelerate": [
        *("-m", "accelerate.commands.accelerate_cli", "launch", "--main_process_ip", MAIN_ADDRESS),
        *("--config_file", str(ROOT / "configs/accelerate/two_machines.yaml"), "--machine_rank"),
    ],
}
"""What stands before the number of a host."""


@dataclass(frozen=True)
class Host:
    """One of the two."""

    number: int

    @property
    def name(self) -> str:
        """Of the namespace; those of tests that run beside this one have others."""
        return f"graft-{os.getpid()}-{self.number}"

    @property
    def cable(self) -> str:
        """Its end of it, which gloo is told to speak through: the host's name leads to another one."""
        return f"gr{os.getpid()}e{self.number}"[:15]

    @property
    def address(self) -> str:
        """On the cable."""
        return f"{MAIN_ADDRESS[:-1]}{self.number + 1}"

    @property
    def names(self) -> Path:
        """Where `ip netns exec` looks for what the host sees as files of /etc."""
        return Path("/etc/netns") / self.name

    def start(self, launcher: str, command: list[str], log: Path) -> subprocess.Popen:
        """The launcher on this host."""
        with log.open("a") as file:
            return subprocess.Popen(
                ["ip", "netns", "exec", self.name, sys.executable, *LAUNCHERS[launcher], str(self.number), *command],
                stdout=file,
                stderr=file,
                env={**os.environ, "GLOO_SOCKET_IFNAME": self.cable, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            )

    def kill(self) -> None:
        """Ends all that runs on it, at once."""
        while pids := _ip("netns", "pids", self.name).split():
            subprocess.run(["kill", "-9", *pids], check=False)


@contextmanager
def two_hosts() -> Iterator[tuple[Host, Host]]:
    """The hosts, while the context lasts.

    Raises:
        PermissionError: namespaces cannot be made here.

    """
    hosts = Host(0), Host(1)
    try:
        try:
            for host in hosts:
                _ip("netns", "add", host.name)
                host.names.mkdir(parents=True)  # else names are asked of servers that nobody reaches from there
                known = "".join(f"{one.address} host-{one.number}\n" for one in hosts)
                (host.names / "hosts").write_text(f"127.0.0.1 localhost\n{known}")
                (host.names / "resolv.conf").write_text("nameserver 127.0.0.1\n")
            _ip("link", "add", hosts[0].cable, "type", "veth", "peer", "name", hosts[1].cable)
            for host in hosts:
                _ip("link", "set", host.cable, "netns", host.name)
                _ip("-n", host.name, "addr", "add", f"{host.address}/24", "dev", host.cable)
                for device in (host.cable, "lo"):
                    _ip("-n", host.name, "link", "set", device, "up")
        except (OSError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", "") or str(error)
            raise PermissionError(f"no network namespaces here: {said.strip()}") from error
        yield hosts
    finally:
        for host in hosts:
            shutil.rmtree(host.names, ignore_errors=True)
            if host.name in _names():
                host.kill()
                _ip("netns", "del", host.name)


def _names() -> list[str]:
    try:
        return [line.split()[0] for line in _ip("netns", "list").splitlines() if line]
    except (OSError, subprocess.CalledProcessError):
        return []


def _ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout
