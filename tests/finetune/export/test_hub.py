"""A finished folder is uploaded whole, private unless told, and what stands in the way is said before training."""

import json
from fnmatch import fnmatch

import huggingface_hub
import pytest
import torch

from configs import InputError
from finetune.export.hub import check_repository, push
from finetune.export.saved_model import load_assistant
from tests.finetune.local_hub import serve_hub
from tests.finetune.trained_runs import save_run, tuned
from tokenizer_ext.huggingface import hub_folder


@pytest.fixture
def local(monkeypatch):
    with serve_hub() as served:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", served.address)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", "hf_1")
        yield served


@pytest.fixture
def final(tmp_path):
    for name in ("README.md", "base/config.json", "base/model.safetensors", "adapter/adapter_config.json"):
        (tmp_path / "final" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "final" / name).write_text(f"content of {name}")
    return tmp_path / "final"


@pytest.mark.parametrize("private", [True, False])
def test_the_client_uploads_every_byte_to_a_repository_that_is_private_unless_told(final, local, private):
    address = push(final, "me/chat") if private else push(final, "me/chat", private=False)
    assert address == f"{local.address}/me/chat"
    assert local.private == {"me/chat": private} and local.tokens == {"Bearer hf_1"}
    paths = [path for path in final.rglob("*") if path.is_file()]
    assert local.files["me/chat"] == {str(path.relative_to(final)): path.read_bytes() for path in paths}


@pytest.mark.parametrize("name", ["", "a/b/c", "me/", "me/my model", "me/..", "/home/me/model"])
def test_a_name_that_the_hub_would_not_take_is_refused(local, name):
    with pytest.raises(InputError, match=r"push_to_hub: found .*, expected the name of a repository such as"):
        check_repository(name)


def test_a_machine_that_is_not_logged_in_is_told_before_anything_is_sent(final, local, monkeypatch):
    monkeypatch.setattr("finetune.export.hub.get_token", lambda: None)
    with pytest.raises(InputError, match="push_to_hub me/chat: this machine is not logged in to the Hub"):
        push(final, "me/chat")
    assert local.private == {}


def test_a_refusal_of_the_hub_is_one_line_that_says_where_the_model_is(final, local):
    local.refusal = (403, "no rights")
    with pytest.raises(InputError, match=r"push_to_hub me/chat: not uploaded \(.*403") as refused:
        push(final, "me/chat")
    assert f"hf upload me/chat {final}" in str(refused.value) and "\n" not in str(refused.value)


def test_a_folder_without_a_model_is_not_uploaded(tmp_path, local):
    with pytest.raises(InputError, match="holds no finished model"):
        push(tmp_path, "me/chat")
    assert local.private == {}


@pytest.mark.parametrize(("base", "taken"), [("me/small", True), ("/home/somebody/models/small", False)])
def test_an_adapter_is_uploaded_alone_where_its_base_is_on_the_hub(tmp_path, local, base, taken):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
    if taken:
        push(tmp_path, "me/chat")
        assert local.files["me/chat"].keys() == {"adapter_config.json"}
        return
    with pytest.raises(InputError, match=r"python -m finetune\.merge --tuned .* --push_to_hub me/chat") as refused:
        push(tmp_path, "me/chat")
    assert local.private == {} and "\n" not in str(refused.value)


def test_a_pushed_run_is_opened_by_its_name_with_base_and_adapter_side_by_side(tmp_path, monkeypatch):
    final = save_run(tuned(), tmp_path / "run")
    asked = []

    def download(name, *, revision, allow_patterns, ignore_patterns):
        asked.append((name, allow_patterns))
        return str(final)

    monkeypatch.setattr(hub_folder, "snapshot_download", download)
    ids = torch.arange(20)[None]
    model, tokenizer = load_assistant("my-name/my-assistant")
    assert torch.equal(model(ids).logits, load_assistant(final)[0](ids).logits) and tokenizer.chat_template
    ((name, patterns),) = asked
    files = [path.name for path in final.rglob("*") if path.is_file()]
    assert name == "my-name/my-assistant"
    assert all(any(fnmatch(file, pattern) for pattern in patterns) for file in files)


def test_a_mistyped_path_is_not_looked_for_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.setattr(hub_folder, "snapshot_download", lambda *_, **__: pytest.fail("the Hub was asked"))
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    for name in ("runs/sft-9", str(tmp_path / "a" / "b")):
        with pytest.raises(InputError):
            load_assistant(name)


def test_what_the_hub_does_not_give_is_one_line(monkeypatch):
    def fail(*_, **__):
        raise OSError("Repository Not Found\nRequest ID: 7")

    monkeypatch.setattr(hub_folder, "snapshot_download", fail)
    with pytest.raises(
        InputError, match=r"me/chat: no such folder, and not fetched from the Hub \(Repository Not Found\)"
    ):
        load_assistant("me/chat")
