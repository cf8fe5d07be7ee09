"""What lies on the disk is opened from there: no network is asked, though nobody said that there is none."""

import json
import shutil
import socket
from pathlib import Path

import huggingface_hub
import pytest
import torch

from finetune.compare import CompareSettings
from finetune.export.adapter_set import save_adapters
from finetune.export.opened_sides import open_both
from finetune.export.receipt import merge_with_receipt
from finetune.export.saved_model import load_assistant, load_start
from finetune.replies.local_side import LocalSide
from finetune.replies.prompts import PLAIN_PROMPTS
from tests.finetune.trained_runs import base_model, base_tokenizer, save_run, tuned
from tests.without_manifest import forget_manifests
from tokenizer_ext.huggingface.hub_folder import fetch, is_whole

IDS = torch.arange(20)[None]


@pytest.fixture
def cut_off(tmp_path, monkeypatch):
    """The Hub's cache in a folder of its own, and no way out: whoever tries fails the test."""

    def refuse(*arguments, **_):
        pytest.fail(f"the network was asked: {arguments[1:]}")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return tmp_path / "hub"


def _publish(folder: Path, name: str, hub: Path) -> Path:
    """The folder where the Hub's client keeps a copy of the repository `name`."""
    repository = hub / f"models--{name.replace('/', '--')}"
    shutil.copytree(folder, repository / "snapshots" / "607a30d")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("607a30d")
    return repository / "snapshots" / "607a30d"


@pytest.fixture
def base(tmp_path, cut_off) -> str:
    """The name on the Hub of a base that is in the cache."""
    tokenizer = base_tokenizer(with_control_tokens=True)
    base_model("gpt2", tokenizer, tied=True).save_pretrained(tmp_path / "made")
    tokenizer.save_pretrained(tmp_path / "made")
    _publish(tmp_path / "made", "me/small", cut_off)
    return "me/small"


def _adapter(final: Path, folder: Path, base: str) -> Path:
    shutil.copytree(final / "adapter", folder)
    forget_manifests(folder)
    config = folder / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "base_model_name_or_path": base}))
    return folder


def test_a_base_and_adapters_that_are_in_the_cache_are_compared_merged_and_gathered(base, tmp_path, cut_off):
    finals = [save_run(tuned(new_tokens=None, seed=seed), tmp_path / f"run-{seed}") for seed in (1, 2)]
    local = _adapter(finals[0], tmp_path / "local", base)
    _publish(_adapter(finals[1], tmp_path / "second", base), "me/chat", cut_off)
    shutil.copy(tmp_path / "made" / "tokenizer.json", cut_off / "models--me--chat" / "snapshots" / "607a30d")
    reference, assistant = open_both(base, str(local), CompareSettings(base=base, tuned=str(local), prompt="Why?"))
    assert isinstance(reference, LocalSide) and isinstance(assistant, LocalSide)
    assert reference.model is assistant.model
    with reference.in_plain_text(PLAIN_PROMPTS["bare"]).as_asked():
        of_base = reference.model(IDS).logits
    assert torch.equal(of_base, load_start(base)[0](IDS).logits)
    assert not torch.equal(of_base, assistant.model(IDS).logits)
    assert not torch.equal(load_assistant("me/chat")[0](IDS).logits, assistant.model(IDS).logits)
    assert load_start(base)[0].base_on_disk.place == (base, "607a30d")
    merge_with_receipt(local, tmp_path / "merged")
    assert save_adapters({"one": local, "two": "me/chat"}, tmp_path / "both") < 1e-4


def test_an_uploaded_run_in_the_cache_is_opened_whole(tmp_path, cut_off):
    final = save_run(tuned(), tmp_path / "run")
    snapshot = _publish(final, "me/assistant", cut_off)
    assert fetch("me/assistant") == fetch("me/assistant", "607a30d") == snapshot
    assert torch.equal(load_assistant("me/assistant")[0](IDS).logits, load_assistant(final)[0](IDS).logits)


@pytest.mark.parametrize("lacking", ["model.safetensors", "tokenizer.json"])
def test_a_copy_that_lacks_a_file_is_not_taken_for_the_model(base, cut_off, lacking):
    snapshot = fetch(base)
    assert is_whole(snapshot)
    (snapshot / lacking).unlink()
    assert not is_whole(snapshot)


def test_a_model_in_shards_is_whole_with_every_shard(base, tmp_path):
    snapshot = fetch(base)
    (snapshot / "model.safetensors").rename(snapshot / "model-00001-of-00002.safetensors")
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (snapshot / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    assert not is_whole(snapshot)
    (snapshot / "model-00002-of-00002.safetensors").write_bytes(b"")
    assert is_whole(snapshot)
