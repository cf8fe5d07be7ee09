"""Whatever names a model, a training starts from it as one plain model."""

from pathlib import Path

import pytest
import torch

from configs import InputError
from finetune.compare import CompareSettings
from finetune.export.opened_sides import choose_base, open_both
from finetune.export.saved_model import load_assistant, load_start
from finetune.replies.local_side import LocalSide
from finetune.rows.extended_base import read_extended_base
from finetune.rows.report import carry_on
from tests.finetune.trained_runs import save_run, tuned
from tokenizer_ext.extension.certificate import hash_weights, read_certificate
from tokenizer_ext.huggingface import hub_folder as hub

IDS = torch.arange(40).view(2, 20)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return save_run(tuned(), tmp_path_factory.mktemp("runs") / "sft-1", certified=True).parent


@pytest.fixture
def uploaded(run, monkeypatch):
    """The name on the Hub of the run, as `--push_to_hub` leaves it, and no other."""

    def download(name, *, revision, allow_patterns, ignore_patterns):
        assert name == "me/chat" and revision is None and allow_patterns
        return str(run / "final")

    monkeypatch.setattr(hub, "snapshot_download", download)
    return "me/chat"


def _logits(model):
    with torch.no_grad():
        return model(IDS).logits


@pytest.mark.parametrize(
    "name", ["run", *(pytest.param(one, marks=pytest.mark.long) for one in ("final", "final/adapter")), "uploaded"]
)
def test_an_adapter_is_merged_wherever_its_run_lies(run, uploaded, name):
    named = {"run": run, "uploaded": uploaded}.get(name) or run / name
    model, tokenizer = load_start(named, torch.device("cpu"))
    expected, _ = load_assistant(run)
    torch.testing.assert_close(_logits(model), _logits(expected), rtol=1e-5, atol=1e-5)
    assert not hasattr(model, "peft_config") and not [name for name, _ in model.named_modules() if "lora" in name]
    assert tokenizer.chat_template


def test_a_plain_folder_is_what_it_is_and_embedded_is_the_base_that_ships(run):
    base, _ = load_start(run / "final" / "base")
    assert not torch.allclose(_logits(base), _logits(load_start(run)[0]), atol=1e-3)
    model, tokenizer = load_start("embedded")
    assert torch.equal(_logits(model), _logits(load_assistant("embedded")[0])) and tokenizer.vocab_size == 6144


@pytest.mark.parametrize("name", ["no/such/run", "/no/such/run", "run-9"])
def test_what_is_not_there_is_refused_in_one_line(name):
    with pytest.raises(InputError, match=name) as refused:
        load_start(name)
    assert "\n" not in str(refused.value)


def test_what_a_run_started_from_is_compared_with_also_where_that_is_a_run_on_the_hub(run, uploaded, tmp_path):
    second = save_run(tuned(seed=3), tmp_path / "dpo-1").parent
    (second / "run.json").write_text(f'{{"settings": {{"base": "{uploaded}"}}}}')
    settings = CompareSettings(tuned=str(second), prompt="Why?")
    base, assistant = open_both(choose_base(settings.base, settings.tuned), settings.tuned, settings)
    assert isinstance(base, LocalSide) and torch.equal(_logits(base.model), _logits(load_assistant(run)[0]))
    assert isinstance(assistant, LocalSide)
    assert torch.equal(_logits(assistant.model), _logits(load_assistant(second)[0]))


@pytest.mark.parametrize("name", ["run", "uploaded"])
def test_new_rows_are_trained_on_a_run_whose_adapter_is_merged_and_the_certificate_says_so(run, uploaded, name):
    base = read_extended_base(str({"run": run, "uploaded": uploaded}[name]), None)
    model = base.load()
    torch.testing.assert_close(_logits(model), _logits(load_assistant(run)[0]), rtol=1e-5, atol=1e-5)
    before = hash_weights(model, base.first_new_id)
    base.check_weights(before)  # they are not those of the certificate, which was written before the merge
    certificate, of_base = carry_on(base, before, before), read_certificate(run / "final" / "base")
    assert of_base is not None and certificate.base_tokens == of_base.base_tokens == base.first_new_id
    assert certificate.weights_after == before != of_base.weights_after
    assert certificate.all_weights_trained and certificate.holds


def test_the_rows_of_a_plain_folder_keep_to_its_certificate(run: Path):
    base = read_extended_base(str(run / "final" / "base"), None)
    before = hash_weights(base.load(), base.first_new_id)
    base.check_weights(before)
    assert not carry_on(base, before, before).all_weights_trained
