"""Settings of the service that cannot be are refused in one line before anything starts; keys from the terminal."""

import os
import runpy
import socket
import subprocess
import sys

import pytest

from tests.house.repository import ROOT


def run(folder, *arguments: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "apps.service", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, timeout=120)


@pytest.fixture
def here(tmp_path, monkeypatch, capfd):
    """The same in this process."""

    def start(*arguments: str) -> subprocess.CompletedProcess:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["apps.service", *arguments])
        status = 0
        try:
            runpy.run_module("apps.service", run_name="__main__", alter_sys=True)
        except SystemExit as ended:
            status = int(ended.code or 0)
        said = capfd.readouterr()
        return subprocess.CompletedProcess(arguments, status, said.out, said.err)

    return start


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
def test_a_setting_that_cannot_be_is_one_line(here, arguments, said):
    ended = here(*arguments)
    assert ended.returncode == 2 and said in ended.stderr and len(ended.stderr.splitlines()) == 1, ended.stderr


def test_other_machines_reach_no_service_without_a_key(tmp_path):
    with socket.socket() as probe:
        probe.bind(("0.0.0.0", 0))
        port = probe.getsockname()[1]
    ended = run(tmp_path, "--host", "0.0.0.0", "--port", str(port))
    assert ended.returncode == 2 and "there is no key: python -m apps.service keys --add" in ended.stderr


def test_a_key_is_added_listed_and_removed(here, tmp_path):
    added = here("keys", "--add", "alice", "--may", "train")
    secret = added.stdout.splitlines()[-1]
    assert secret.startswith("graft-") and len(secret) > 40
    assert oct((tmp_path / "service/keys.json").stat().st_mode)[-3:] == "600"
    assert here("keys").stdout.startswith("alice\ttrain\tkey-")
    assert here("keys", "--remove", "alice").returncode == 0
    assert "No keys" in here("keys").stdout
