"""The calculator from the data to the reply: trained by the entry, loaded back, and used while the assistant speaks."""

import json

import pytest

from finetune.chat.annotations import count_annotations
from finetune.compare import CompareSettings
from finetune.compare import main as compare
from finetune.sft import main
from finetune.supervised.settings import SftSettings
from tests.finetune.entry_runs import SMALL, run_here
from tests.finetune.tiny_models import save_tiny_base
from tests.said_lines import without_progress


def _write(path, answers):
    lines = [json.dumps({"question": f"Add {n}!", "answer": answer}) for n, answer in enumerate(answers)]
    path.write_text("\n".join(lines))
    return path


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """What `compare` writes of an assistant that learned to add with the calculator."""
    folder = tmp_path_factory.mktemp("calculator")
    data = _write(folder / "sums.jsonl", [f"<<{n}+{n}={2 * n}>>{2 * n}" for n in range(40)])
    base, run = save_tiny_base(folder / "base"), folder / "run"
    settings = SMALL | {"max_steps": 40, "checkpoint_steps": 0, "evaluation_steps": 0, "method": "full"}
    run_here(main, SftSettings, base=base, data=data, calculator="true", output_dir=run, **settings)
    run_here(compare, CompareSettings, tuned=run, data=data, reply_tokens=24, output=folder / "figures.json")
    return json.loads((folder / "figures.json").read_text())


@pytest.mark.long
def test_an_assistant_that_learned_with_the_calculator_gets_every_result_right(compared):
    assert compared["calculator"] is True, "as the run recorded it"
    counts = count_annotations(one["tuned"]["chat"]["reply"] for one in compared["replies"]["questions"])
    assert counts.right >= 20 and counts.wrong == 0


@pytest.mark.long
def test_its_known_replies_cost_fewer_bits_per_byte_than_the_bases(compared):
    bits = compared["replies"]["figures"][0]
    assert bits["difference_interval"]["high"] < 0


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("<<__import__('os').system('touch owned')=0>>0", "is no arithmetic"),
        ("<<9**9**9**9=1>>1", "has no value"),
        ("<<2+2=5>>5", "is wrong, the calculator gives 4"),
    ],
)
def test_data_that_the_calculator_cannot_give_is_refused_in_one_line_and_nothing_is_written_or_run(
    tmp_path, monkeypatch, capsys, answer, reason
):
    monkeypatch.chdir(tmp_path)
    data = _write(tmp_path / "sums.jsonl", ["<<1+1=2>>2"] * 24 + [answer])
    with pytest.raises(SystemExit) as end:
        run_here(main, SftSettings, data=data, calculator="true", **SMALL)
    (line,) = without_progress(capsys.readouterr().err).strip().splitlines()
    assert end.value.code == 2 and f"sums.jsonl:25: {answer[:-1]} {reason}" in line
    assert [path.name for path in tmp_path.iterdir()] == ["sums.jsonl"]
