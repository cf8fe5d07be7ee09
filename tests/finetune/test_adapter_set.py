"""Adapters that were trained on one base share it: each says what it says alone, and the base is still there."""

import json
import shutil
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from configs import InputError
from finetune.adapter_set import AdapterSetSettings, main
from finetune.export import saved_model
from finetune.export.adapter_set import load_adapters, save_adapters
from finetune.export.saved_model import load_assistant
from finetune.lora.adapter_shape import Lora
from finetune.lora.trainable_model import make_trainable_model
from tests.finetune.entry_runs import run_here
from tests.finetune.trained_runs import save_run, tuned
from tests.without_manifest import forget_manifests
from tokenizer_ext.huggingface import hub_folder as hub
from tokenizer_ext.huggingface.hf_model import load_model, load_tokenizer

IDS = torch.arange(40).view(2, 20)


def _tune_on(base, seed, **options):
    """An adapter that was trained on the base of a finished run, as `--base runs/sums/final/base` does."""
    lora = Lora(rank=4, alpha=8.0, dropout=0.0, options=options)
    trainable = make_trainable_model(load_model(str(base)), load_tokenizer(str(base)), [], new_tokens=0, lora=lora)
    torch.manual_seed(seed)
    with torch.no_grad():
        for one in trainable.model.parameters():
            if one.requires_grad:
                one.add_(torch.randn_like(one), alpha=0.1)
    return trainable


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    sums = save_run(tuned(), folder / "sums")
    save_run(_tune_on(sums / "base", 2, use_dora=True), folder / "prose")
    save_run(_tune_on(sums / "base", 3, init_lora_weights="pissa"), folder / "verse")
    return {name: folder / name for name in ("sums", "prose", "verse")}


def _logits(model):
    with torch.no_grad():
        return model(IDS).logits


def test_a_second_run_leaves_the_base_of_the_first_as_it_is(runs):
    first, second = ((runs[name] / "final" / "base").iterdir() for name in ("sums", "verse"))
    files = {path.name: path.read_bytes() for path in first}
    assert {path.name: path.read_bytes() for path in second} == files
    assert {"model.safetensors", "tokenizer.json", "generation_config.json"} <= files.keys()


def test_each_adapter_says_what_it_says_alone_and_without_any_it_is_the_base(runs):
    together, _ = load_adapters(runs)
    for name, run in (*runs.items(), ("sums", runs["sums"])):  # the first once more, after the others
        together.set_adapter(name)
        assert torch.equal(_logits(together), _logits(load_assistant(run)[0])), name
    with together.disable_adapter():
        assert torch.equal(_logits(together), _logits(load_model(str(runs["sums"] / "final" / "base"))))


def test_the_saved_folder_opens_with_peft_alone_and_each_adapter_is_an_assistant(runs, tmp_path, capsys):
    arguments = {f"tuned.{name}": run for name, run in runs.items()}
    run_here(main, AdapterSetSettings, **arguments, output_dir=tmp_path / "all")
    assert "one base and 3 adapters: sums, prose, verse" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == ["README.md", "base", *sorted(runs)]
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "all" / "base")
    together = PeftModel.from_pretrained(base, tmp_path / "all" / "sums", adapter_name="sums")
    together.load_adapter(tmp_path / "all" / "verse", adapter_name="verse")
    for name in ("verse", "sums"):
        together.set_adapter(name)
        expected = _logits(load_assistant(runs[name])[0])
        torch.testing.assert_close(_logits(together.eval()), expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(_logits(load_assistant(tmp_path / "all" / name)[0]), expected, rtol=1e-5, atol=1e-5)


def test_the_card_has_code_that_runs_and_the_command_that_serves_what_vllm_can_serve(runs, tmp_path, monkeypatch):
    save_adapters(runs, tmp_path / "all")
    config = json.loads((runs["verse"] / "final/adapter/adapter_config.json").read_text())
    card = (tmp_path / "all" / "README.md").read_text()
    assert f"--max-lora-rank {config['r']} --lora-modules sums=sums verse=verse\n" in card  # prose is a DoRA
    monkeypatch.chdir(tmp_path / "all")
    names: dict[str, Any] = {}
    exec(compile(card.split("```python\n")[1].split("```")[0], "README.md", "exec"), names)
    assert list(names["model"].peft_config) == ["sums", "prose", "verse"] and names["tokenizer"].chat_template


def test_names_that_contain_one_another_keep_their_tensors_apart_also_when_one_is_saved_again(runs, tmp_path):
    # Public report of peft (PR 3282): saving `foo` also saved `foobar`.
    names = ("sum", "sums", "sum_2", "lora", "A", "default")
    of_name = dict(zip(names, [runs["sums"], runs["verse"]] * 3, strict=True))
    together, _ = load_adapters(of_name)
    for name, run in of_name.items():
        together.set_adapter(name)
        assert torch.equal(_logits(together), _logits(load_assistant(run)[0])), name
        together.save_pretrained(tmp_path / name, selected_adapters=[name], save_embedding_layers=False)
        (file,) = (tmp_path / name).rglob("*.safetensors")
        saved, own = load_file(file), load_file(run / "final" / "adapter" / "adapter_model.safetensors")
        assert saved.keys() == own.keys() and all(torch.equal(saved[key], own[key]) for key in own), name


def _of_another_base(runs, tmp_path):
    return {"sums": runs["sums"], "other": save_run(tuned(seed=5), tmp_path / "other")}


def _with_biases(runs, tmp_path):
    base = runs["sums"] / "final" / "base"
    return {"sums": runs["sums"], "biased": save_run(_tune_on(base, 4, bias="all"), tmp_path / "biased")}


def _with_rows(runs, tmp_path):
    """An adapter of another tool that saved the tables of tokens too."""
    shutil.copytree(runs["sums"] / "final" / "adapter", tmp_path / "grown")
    forget_manifests(tmp_path / "grown")
    tensors = load_file(tmp_path / "grown" / "adapter_model.safetensors")
    save_file(
        {**tensors, "base_model.model.lm_head.weight": torch.zeros(2, 2)}, tmp_path / "grown/adapter_model.safetensors"
    )
    return {"sums": runs["sums"], "grown": tmp_path / "grown"}


@pytest.mark.parametrize(
    ("choose", "message"),
    [
        (lambda runs, _: {"sums": runs["sums"]}, "tuned: found 1 adapters, expected two or more"),
        (lambda runs, _: {**runs, "a.b": runs["sums"]}, "tuned: found the name 'a.b'"),
        # peft 0.21 saves an adapter without the tensors whose names hold the name of another one.
        (lambda runs, _: {"sums": runs["sums"], "h": runs["verse"]}, "found the name 'h', a part of the names of its"),
        (lambda runs, _: {**runs, "base": runs["sums"]}, "tuned: found the name 'base'"),
        (lambda runs, _: {**runs, "x": runs["sums"] / "final" / "base"}, "holds no adapter"),
        (_of_another_base, r"other: its base is not that of sums \(model\.safetensors differs\): train it on the base"),
        (_with_biases, "trained biases of the base"),
        (_with_rows, r"trained base_model\.model\.lm_head of the base, which the adapters would share"),
    ],
)
def test_adapters_that_cannot_share_a_base_are_refused_and_nothing_is_written(runs, tmp_path, choose, message):
    chosen = choose(runs, tmp_path)
    with pytest.raises(InputError, match=message):
        save_adapters(chosen, tmp_path / "all")
    assert not list(tmp_path.glob("*all*"))


def test_a_folder_that_holds_something_is_not_written_over(runs, tmp_path):
    shutil.copy(runs["sums"] / "run.json", tmp_path)
    with pytest.raises(InputError, match="is not an empty folder"):
        save_adapters(runs, tmp_path)


@pytest.fixture
def on_hub(runs, tmp_path, monkeypatch):
    """Adapters that name their base on the Hub, as peft leaves them; the Hub has it."""
    monkeypatch.setattr(hub, "snapshot_download", lambda name, **_: str(runs["sums"] / "final" / "base"))
    found = {}
    for name in ("sums", "verse"):
        found[name] = tmp_path / "hub" / name
        shutil.copytree(runs[name] / "final" / "adapter", found[name])
        forget_manifests(found[name])
        config = found[name] / "adapter_config.json"
        fields = json.loads(config.read_text())
        config.write_text(json.dumps({**fields, "base_model_name_or_path": "somebody/base"}))
    return found


def test_adapters_whose_base_is_on_the_hub_get_it_beside_them(runs, on_hub, tmp_path, monkeypatch):
    monkeypatch.setattr(saved_model, "load_model", lambda name, dtype: load_model(_local(runs, name), dtype))
    monkeypatch.setattr(saved_model, "load_tokenizer", lambda name: load_tokenizer(_local(runs, name)))
    assert save_adapters(on_hub, tmp_path / "all") < 1e-4
    together, _ = load_adapters({name: tmp_path / "all" / name for name in on_hub})
    for name in on_hub:
        together.set_adapter(name)
        expected = _logits(load_assistant(runs[name])[0])
        torch.testing.assert_close(_logits(together), expected, rtol=1e-5, atol=1e-5)


def _local(runs, name):
    return str(runs["sums"] / "final" / "base") if name == "somebody/base" else name


def test_a_base_that_the_hub_does_not_give_is_one_line(on_hub, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError("Repository Not Found")

    monkeypatch.setattr(hub, "snapshot_download", fail)
    with pytest.raises(InputError, match=r"somebody/base: no such folder, and not fetched from the Hub"):
        save_adapters(on_hub, tmp_path / "all")
