"""Settings of the service that cannot be are refused in one line before anything starts; keys from the terminal."""

import os
import socket
import subprocess
import sys

import pytest

from tests.house.repository import ROOT


def run(folder, *arguments: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "apps.service", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, timeout=120)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--port", "0"], "port: found 0, expected"),
        (["--models", '["a=x", "a=y"]'], "each name once"),
        (["--rows", "0"], "rows: found 0, expected at least 1"),
        (["keys", "--add", "a b"], "add: found 'a b', expected a name"),
        (["keys", "--remove", "nobody"], "there is no key 'nobody'"),
        (["keys", "--add", "a", "--remove", "a"], "add and remove: found both"),
    ],
)
def test_a_setting_that_cannot_be_is_one_line(tmp_path, arguments, said):
    ended = run(tmp_path, *arguments)
    assert ended.returncode == 2 and said in ended.stderr and len(ended.stderr.splitlines()) == 1, ended.stderr


def test_other_machines_reach_no_service_without_a_key(tmp_path):
    with socket.socket() as probe:
        probe.bind(("0.0.0.0", 0))
        port = probe.getsockname()[1]
    ended = run(tmp_path, "--host", "0.0.0.0", "--port", str(port))
    assert ended.returncode == 2 and "there is no key: python -m apps.service keys --add" in ended.stderr


def test_a_key_is_added_listed_and_removed(tmp_path):
    added = run(tmp_path, "keys", "--add", "alice", "--may", "train")
    secret = added.stdout.splitlines()[-1]
    assert secret.startswith("graft-") and len(secret) > 40
    assert oct((tmp_path / "service/keys.json").stat().st_mode)[-3:] == "600"
    assert run(tmp_path, "keys").stdout.startswith("alice\ttrain\tkey-")
    assert run(tmp_path, "keys", "--remove", "alice").returncode == 0
    assert "No keys" in run(tmp_path, "keys").stdout
