"""A run never holds the weights of two bases: the base is asked before it is changed into what trains."""

import gc
from unittest.mock import patch

import pytest
from transformers import PreTrainedModel

from finetune.replies import local_model
from finetune.sft import main
from finetune.supervised.settings import SftSettings
from tests.finetune.entry_runs import SMALL, run_here
from tests.finetune.tiny_models import save_tiny_base, write_questions

SETTINGS = {**SMALL, "max_steps": 2, "evaluation_steps": 2, "checkpoint_steps": 1}


def _numbers_alive():
    """How many weights there are in all models of this process."""
    gc.collect()
    models = [found for found in gc.get_objects() if isinstance(found, PreTrainedModel)]
    weights = {id(weight): weight.numel() for model in models for weight in model.parameters()}
    return sum(weights.values())


@pytest.mark.long
@pytest.mark.parametrize("how", ["run", "resume", "dry_run"])
def test_while_a_model_is_asked_no_other_weights_are_alive(how, tmp_path):
    base, data = save_tiny_base(tmp_path / "base"), write_questions(tmp_path / "data.jsonl")
    settings = {**SETTINGS, "base": base, "data": data, "output_dir": tmp_path / "run"}
    if how == "resume":
        run_here(main, SftSettings, **settings)
    alive, before, generate_ids = [], _numbers_alive(), local_model.generate_ids

    def look(model, *arguments, **options):
        alive.append((_numbers_alive() - before, sum(weight.numel() for weight in model.parameters())))
        return generate_ids(model, *arguments, **options)

    with patch.object(local_model, "generate_ids", look):
        run_here(main, SftSettings, **settings, **({} if how == "run" else {how: True}))
    assert len({asked for _, asked in alive}) == 2, "the base was asked, and what trains of it"
    assert all(found <= asked for found, asked in alive)
