"""Requests of every shape that the service's own document allows, and many that it does not: none is a server error."""

import subprocess
import sys

import httpx
import pytest

from tests.apps.service.served import Service

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


def tried(service: Service, seconds: int, *arguments: str) -> subprocess.CompletedProcess:
    """What schemathesis says after so many seconds."""
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{service.address}/openapi.json", "--seed", "1"]
    command += ["--checks", CHECKS, "--max-time", str(seconds), "--request-timeout", "60", *arguments]
    return subprocess.run(command, cwd=service.folder, capture_output=True, text=True, timeout=seconds + 120)


@pytest.mark.long
def test_no_request_of_ten_minutes_is_a_server_error(service):
    ended = tried(service, 600)
    assert ended.returncode == 0, ended.stdout[-6000:]


def test_the_document_names_every_route_with_what_it_takes_and_gives(service):
    document = httpx.get(f"{service.address}/openapi.json").json()
    operations = {(method, path) for path, found in document["paths"].items() for method in found}
    assert {("post", "/v1/chat/completions"), ("post", "/v1/fine_tuning/jobs"), ("post", "/v1/files")} <= operations
    assert len(operations) >= 28
    body = document["components"]["schemas"]["ChatBody"]
    assert body["additionalProperties"] is False and {"messages", "temperature", "stop"} <= body["properties"].keys()
