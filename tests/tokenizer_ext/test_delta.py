"""A delta: small, complete, for one base only, and harmless whatever was done to it."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from configs import InputError, run_entry
from configs.file_hash import file_sha256
from scratch_models.rungs.bigram import BigramLanguageModel
from tests.house.repository import ROOT
from tests.said_lines import without_progress
from tests.tokenizer_ext.extension.test_certificate import gpt2, llama
from tests.without_manifest import forget_manifests
from tokenizer_ext.delta import DeltaSettings, main
from tokenizer_ext.extension.delta import apply_delta, save_delta
from tokenizer_ext.extension.extension import Extended, extend_vocabulary
from tokenizer_ext.huggingface.hf_tokenizer import add_control_tokens

LEARNED, CONTROL = 40, ["<|user|>", "<|end|>"]


def extended_of(base: tuple[Any, Any], prose: str, **settings: Any) -> Extended:
    wanted = {"new_tokens": LEARNED, "control_tokens": CONTROL, "words": ["wyvern"], "start": "normal"}
    return extend_vocabulary(base, corpus=prose.split("\n\n"), **{**wanted, **settings})


def untied_with_bias() -> Any:
    model = llama(tied=False)
    model.lm_head.bias = torch.nn.Parameter(torch.randn(400))
    return model


MODELS = {
    "tied": lambda: gpt2(rows=420),
    "untied": lambda: llama(tied=False),
    "half precision": lambda: llama(tied=False).bfloat16(),
    "biases": untied_with_bias,
    "bigram": lambda: BigramLanguageModel(400),
}


@pytest.mark.parametrize("kind", MODELS)
def test_base_and_delta_give_every_bit_and_id_of_the_extended_model(kind: str, small_tokenizer, prose, tmp_path):
    multiple = 1 if kind == "bigram" else 64
    torch.manual_seed(0)
    extended = extended_of((MODELS[kind](), small_tokenizer), prose, rows_multiple=multiple)
    save_delta(extended.model, extended.tokenizer, 400, tmp_path / "delta")
    torch.manual_seed(0)
    applied = apply_delta((MODELS[kind](), small_tokenizer), tmp_path / "delta")
    weights, found = extended.model.state_dict(), applied.model.state_dict()
    assert set(found) == set(weights)
    assert all(torch.equal(found[name], weight) for name, weight in weights.items())
    assert all(found[name].dtype == weight.dtype for name, weight in weights.items())
    assert applied.tokenizer.get_vocab() == extended.tokenizer.get_vocab()
    assert applied.tokenizer.backend_tokenizer.to_str() == extended.tokenizer.backend_tokenizer.to_str()
    texts = [*prose.split("\n\n"), "".join(CONTROL)]
    assert applied.tokenizer(texts)["input_ids"] == extended.tokenizer(texts)["input_ids"]
    assert applied.certificate.holds
    assert applied.certificate.weights_after == extended.certificate.weights_after
    assert (applied.first_new_id, applied.certificate.control_tokens) == (400, 2)


@pytest.mark.parametrize(("kind", "matrices"), [("tied", 1), ("untied", 2), ("half precision", 2)])
def test_a_delta_is_as_small_as_its_rows(kind: str, matrices: int, small_tokenizer, prose, tmp_path):
    extended = extended_of((MODELS[kind](), small_tokenizer), prose)
    folder = save_delta(extended.model, extended.tokenizer, 400, tmp_path / "delta")
    size = sum(path.stat().st_size for path in folder.iterdir())
    rows = len(extended.merges) + len(CONTROL)
    element = 2 if kind == "half precision" else 4
    merges = sum(len(f"[{merge.left}, {merge.right}], ") for merge in extended.merges)
    assert size <= rows * 16 * element * matrices + merges + 16 * 1024


def test_an_extension_of_an_extension_is_one_delta(small_tokenizer, prose, tmp_path):
    once = extended_of((gpt2(), small_tokenizer), prose)
    twice = extended_of((once.model, once.tokenizer), prose, control_tokens=["<|tool|>"], words=["basilisk"])
    save_delta(twice.model, twice.tokenizer, 400, tmp_path / "delta")
    applied = apply_delta((gpt2(), small_tokenizer), tmp_path / "delta")
    assert applied.tokenizer.backend_tokenizer.to_str() == twice.tokenizer.backend_tokenizer.to_str()
    assert torch.equal(applied.model.transformer.wte.weight, twice.model.transformer.wte.weight)
    assert applied.certificate.control_tokens == 3 and applied.certificate.holds


@pytest.fixture(scope="module")
def folders(small_tokenizer, prose, tmp_path_factory) -> Path:
    """A base, another one, one with another tokenizer, the extended model, its delta."""
    folder = tmp_path_factory.mktemp("folders")
    for name, model, tokenizer in [
        ("base", llama(tied=False), small_tokenizer),
        ("other", llama(tied=False), small_tokenizer),
        ("longer", llama(tied=False, rows=401), add_control_tokens(small_tokenizer, ["<|x|>"])),
    ]:
        if name == "other":
            model.model.norm.weight.data[0] += 1
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    extended_of((llama(tied=False), small_tokenizer), prose).save(folder / "extended")
    run(folder, extended="extended", output_dir="delta")
    return folder


@pytest.fixture
def place(folders: Path, tmp_path: Path) -> Path:
    """The folders, to damage."""
    return Path(shutil.copytree(folders, tmp_path / "place"))


def run(place: Path, **settings: str) -> None:
    """The entry in this process."""
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(place)
        patched.setattr(sys, "argv", ["delta.py", *(f"--{name}={value}" for name, value in settings.items())])
        run_entry(main, DeltaSettings)


def refusal(place: Path, capfd: Any, **settings: str) -> str:
    """The one line with which the entry refuses; it writes nothing."""
    before = set(place.rglob("*"))
    capfd.readouterr()
    with pytest.raises(SystemExit) as ended:
        run(place, **settings)
    printed = capfd.readouterr()
    assert ended.value.code == 2
    assert (printed.out, without_progress(printed.err).count("\n")) == ("", 1)
    assert set(place.rglob("*")) == before
    return printed.err


APPLY = {"base": "base", "delta": "delta", "output_dir": "new"}


def test_the_entry_makes_a_delta_and_applies_it(place, capfd):
    run(place, **APPLY)
    printed = capfd.readouterr().out
    assert "certificate holds" in printed and "Saved: new (" in printed
    weights, found = load_file(place / "extended/model.safetensors"), load_file(place / "new/model.safetensors")
    assert set(found) == set(weights) and all(torch.equal(found[name], weights[name]) for name in weights)
    assert (place / "new/tokenizer.json").read_text() == (place / "extended/tokenizer.json").read_text()
    assert AutoModelForCausalLM.from_pretrained(place / "new").config.vocab_size == len(
        AutoTokenizer.from_pretrained(place / "new")
    )


@pytest.mark.parametrize(("base", "part"), [("other", "other weights"), ("longer", "tokenizer")])
def test_another_base_is_refused_with_both_hashes(place, base: str, part: str, capfd):
    delta = json.loads((place / "delta/delta.json").read_text())["base"]
    expected = delta["tokenizer"] if part == "tokenizer" else delta["weights"]["other_weights"]
    message = refusal(place, capfd, **{**APPLY, "base": base})
    assert message.startswith(f"{base}: is not the base of this delta: sha256 of its {part} is ")
    assert f"expected {expected}" in message
    found = message.split(f"{part} is ")[1][:64]
    assert found != expected and len(found) == 64


@pytest.mark.long
def test_the_command_refuses_another_base_in_one_line_with_status_2(place):
    command = [sys.executable, "-m", "tokenizer_ext.delta", f"--base={place / 'other'}", f"--delta={place / 'delta'}"]
    ended = subprocess.run(
        [*command, f"--output_dir={place / 'new'}"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    said = without_progress(ended.stderr)
    assert (ended.returncode, ended.stdout, said.count("\n")) == (2, "", 1)
    assert "is not the base of this delta" in ended.stderr
    assert not (place / "new").exists()


def rewrite(place: Path, **fields: Any) -> None:
    path = place / "delta/delta.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def rewrite_rows(place: Path, change: Any) -> None:
    """The rows changed by somebody who also wrote their new hash down."""
    path = place / "delta/new_rows.safetensors"
    save_file(change(load_file(path)), path)
    rewrite(place, rows_sha256=file_sha256(path))


def with_nan(rows: dict[str, Any]) -> dict[str, Any]:
    rows["output_rows"][3, 1] = float("nan")
    return rows


def flip_a_bit(place: Path) -> None:
    path = place / "delta/new_rows.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def pickled(place: Path) -> None:
    torch.save({"input_rows": torch.zeros(1)}, place / "delta/new_rows.safetensors")
    rewrite_hash(place)


def rewrite_hash(place: Path) -> None:
    rewrite(place, rows_sha256=file_sha256(place / "delta/new_rows.safetensors"))


TOKENS = [[300, 301], "<|user|>"]
DAMAGE = [
    (lambda place: (place / "delta/delta.json").unlink(), "delta: holds no delta.json, expected a delta that"),
    (lambda place: (place / "delta/new_rows.safetensors").unlink(), "delta: holds no new_rows.safetensors"),
    (lambda place: shutil.rmtree(place / "delta"), "delta: holds no delta.json"),
    (lambda place: (place / "delta/delta.json").write_text("{"), "delta.json: cannot be read"),
    (lambda place: rewrite(place, format=2), "delta.json: is of format 2, expected 1"),
    (lambda place: rewrite(place, code="import os"), "code is no field of it"),
    (lambda place: rewrite(place, tokens=[[1, 2, 3]]), "tokens is"),
    (lambda place: rewrite(place, tokens=[[1, "a"]]), "tokens is"),
    (lambda place: rewrite(place, tokens=[[-1, 9**20]]), "id 400 is made of ids -1 and"),
    (lambda place: rewrite(place, tokens=[[399, 5000]]), "id 400 is made of ids 399 and 5000"),
    (lambda place: rewrite(place, tokens=["<|endoftext|>"]), "which is id 399 already"),
    (lambda place: rewrite(place, tokens=["<|user|>"]), "new_rows.safetensors: found names, types, rows"),
    (lambda place: rewrite(place, dtype="int8"), "new_rows.safetensors: found names, types, rows"),
    (lambda place: rewrite(place, tied=True), "new_rows.safetensors: found names, types, rows"),
    (lambda place: rewrite(place, rows=10**15), "delta.json: rows is 1000000000000000, expected"),
    (lambda place: rewrite(place, rows=1), "delta.json: rows is 1, expected"),
    (flip_a_bit, "new_rows.safetensors: has sha256 "),
    (pickled, "new_rows.safetensors: no tensors"),
    (lambda place: rewrite_rows(place, with_nan), "output_rows holds NaN or infinity"),
    (lambda place: rewrite_rows(place, lambda rows: {"input_rows": rows["input_rows"]}), "found names, types, rows"),
    (
        lambda place: rewrite_rows(place, lambda rows: {name: part[:, :3].clone() for name, part in rows.items()}),
        "new_rows.safetensors: input_rows and output_rows: found shapes",
    ),
    (
        lambda place: rewrite_rows(place, lambda rows: {name: part.double() for name, part in rows.items()}),
        "found names, types, rows",
    ),
]


@pytest.mark.parametrize(("damage", "found"), DAMAGE, ids=[str(place) for place in range(len(DAMAGE))])
def test_a_damaged_delta_is_refused_in_one_line(place, damage, found: str, capfd):
    forget_manifests(place / "delta")
    damage(place)
    assert found in refusal(place, capfd, **APPLY)


WRONG = [
    ({"extended": "extended", "base": "base", "output_dir": "new"}, "expected --extended DIR to make a delta, or"),
    ({"base": "base", "output_dir": "new"}, "expected --extended DIR to make a delta, or"),
    ({"output_dir": "new"}, "expected --extended DIR to make a delta, or"),
    ({**APPLY, "first_new_id": "400"}, "first_new_id: belongs to --extended"),
    ({**APPLY, "output_dir": "base"}, "base: is not an empty folder"),
    ({"extended": "base", "output_dir": "new"}, "base: holds no certificate.json, which says what is new: pass"),
    (
        {"extended": "base", "first_new_id": "400", "output_dir": "new"},
        "first_new_id: found 400, expected an id from 1",
    ),
    ({"extended": "base/nowhere", "output_dir": "new"}, "base/nowhere: no such folder"),
]


@pytest.mark.parametrize(("settings", "found"), WRONG, ids=[found[:40] for _, found in WRONG])
def test_what_a_user_can_get_wrong_is_said_in_one_line(place, settings: dict[str, str], found: str, capfd):
    assert found in refusal(place, capfd, **settings)


def test_a_model_whose_old_weights_were_trained_has_no_delta(place, capfd):
    forget_manifests(place / "extended")
    path = place / "extended/model.safetensors"
    weights = load_file(path)
    weights["model.norm.weight"][0] += 1
    save_file(weights, path, metadata={"format": "pt"})
    message = refusal(place, capfd, extended="extended", output_dir="new")
    assert "its old weights are not those of its base, so a delta cannot hold what changed" in message


def test_a_token_that_is_neither_merge_nor_control_token_is_refused(small_tokenizer, prose, tmp_path):
    extended = extended_of((gpt2(), small_tokenizer), prose)
    extended.tokenizer.add_tokens(["plain"])
    extended.model.resize_token_embeddings(len(extended.tokenizer))
    with pytest.raises(InputError, match=r"id \d+ \('plain'\) is neither a merge nor a control token"):
        save_delta(extended.model, extended.tokenizer, 400, tmp_path / "delta")
    assert not (tmp_path / "delta").exists()


def test_rows_that_are_not_finite_are_not_shared(small_tokenizer, prose, tmp_path):
    extended = extended_of((gpt2(), small_tokenizer), prose)
    extended.model.transformer.wte.weight.data[405, 0] = float("inf")
    with pytest.raises(InputError, match="input_rows holds NaN or infinity"):
        save_delta(extended.model, extended.tokenizer, 400, tmp_path / "delta")


def test_a_refused_delta_leaves_the_model_as_it_was(place, small_tokenizer):
    rewrite(place, rows=10**15)
    model = llama(tied=False)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    with pytest.raises(InputError):
        apply_delta((model, small_tokenizer), place / "delta")
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    assert dataclasses.asdict(DeltaSettings(extended="x", output_dir="y"))["first_new_id"] is None
