"""A run that goes on under other circumstances is the same run, or it says that it is not, or it is refused."""

import json
import shutil

import pytest
import torch

from configs import InputError
from scratch_models.loop.resuming import has_dropout
from scratch_models.loop.run_folder import RunFolder
from tests.reliability.small_runs import metrics_of, run_bigram, run_sft, weights_of, write_inputs


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """Inputs, and a run that has some steps left."""
    folder = tmp_path_factory.mktemp("inputs")
    write_inputs(folder)
    run_sft(folder, folder / "run")
    return folder


def test_a_base_with_another_config_is_refused_by_name(stopped, tmp_path, capsys):
    path = stopped / "base" / "config.json"
    before = path.read_text()
    for change in ({"layer_norm_epsilon": 0.5}, {"activation_function": "relu"}):
        path.write_text(json.dumps({**json.loads(before), **change}))
        with pytest.raises(SystemExit) as refused:
            run_sft(stopped, stopped / "run", resume=True)
        assert refused.value.code == 2
        assert "base_config is not what the run was started with" in capsys.readouterr().err
    path.write_text(json.dumps({**json.loads(before), "transformers_version": "0"}))
    run_sft(stopped, stopped / "run", resume=True)
    path.write_text(before)


@pytest.mark.long
def test_another_number_of_processes_is_said_where_noise_is_drawn(stopped, capsys):
    run = RunFolder(stopped / "run")
    run.note(world_size=2)
    run_sft(stopped, run.path, resume=True)
    assert "was started with 2 processes and goes on with 1" in capsys.readouterr().out
    run.note(world_size=1)
    run_sft(stopped, run.path, resume=True)
    assert "was started with" not in capsys.readouterr().out


def test_a_checkpoint_that_a_killed_save_had_still_to_remove_goes_when_the_run_goes_on(stopped, tmp_path):
    run_bigram(stopped, tmp_path / "run")
    kept = sorted((tmp_path / "run" / "checkpoints").iterdir())
    shutil.copytree(kept[0], kept[0].with_name("step_00000005"))
    run_bigram(stopped, tmp_path / "run", resume=True)
    assert sorted((tmp_path / "run" / "checkpoints").iterdir()) == kept


def test_dropout_is_seen_in_layers_and_in_functions():
    from transformers import LlamaConfig, LlamaForCausalLM

    small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    small |= {"vocab_size": 11}
    assert not has_dropout(LlamaForCausalLM(LlamaConfig(**small)))
    assert has_dropout(LlamaForCausalLM(LlamaConfig(**small, attention_dropout=0.1)))
    assert has_dropout(torch.nn.Sequential(torch.nn.Dropout(0.1)))
    assert not has_dropout(torch.nn.Sequential(torch.nn.Dropout(0.0)))


BROKEN_LINES = {
    "half a last line": (b"", b'{"step": 13, "los'),
    "broken in the middle": (b'{"step": 3,, }\n', b""),
    "zeros": (b"\0" * 64 + b"\n", b""),
    "no step": (b'{"tokens": 3, "seconds": 1}\n', b""),
    "bytes": (b"\xff\xfe\x00\n", b""),
    "a list": (b"[1, 2]\n", b""),
    "a word": (b'"step"\n', b""),
    "text for a number": (b'{"step": "3", "tokens": 1, "seconds": 1}\n', b""),
    "deep": (b"[" * 100_000 + b"\n", b""),
}


QUICK = ("half a last line", "broken in the middle")


@pytest.mark.parametrize(
    "how", [pytest.param(how, marks=[pytest.mark.long] * (how not in QUICK)) for how in BROKEN_LINES]
)
def test_damaged_metrics_are_said_and_left_out(stopped, capsys, how):
    path = stopped / "run" / "metrics.jsonl"
    before = path.read_bytes()
    first, *others = before.splitlines(keepends=True)
    inside, at_the_end = BROKEN_LINES[how]
    path.write_bytes(first + inside + b"".join(others) + at_the_end)
    known, weights = metrics_of_bytes(before), weights_of(stopped / "run")
    run_sft(stopped, stopped / "run", resume=True)
    said = capsys.readouterr().out
    assert ("metrics.jsonl: 1 damaged line, the first is line 2" in said) == bool(inside)
    assert metrics_of(stopped / "run") == known
    left = weights_of(stopped / "run")
    assert all(torch.equal(left[name], one) for name, one in weights.items())


def metrics_of_bytes(content: bytes) -> list[dict]:
    lines = [json.loads(line) for line in content.splitlines()]
    return [{name: one for name, one in line.items() if name not in ("seconds", "tokens_per_second")} for line in lines]


@pytest.mark.parametrize(
    "content",
    [
        *("", "{", "[]", "{}", "\0" * 30, "[" * 100_000, '{"settings": []}'),
        *(
            '{"settings": {}, "engine": []}',
            '{"settings": {}, "data_sha256": 5}',
            '{"settings": {}, "world_size": "2"}',
        ),
    ],
)
def test_a_damaged_record_is_refused_in_one_line(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(InputError, match=r"run\.json") as refused:
        RunFolder(tmp_path).record()
    assert "\n" not in str(refused.value)
