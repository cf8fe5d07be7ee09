"""Steps follow from epochs, the warm-up from the steps, the rate from the width of the base; zeros mean zero."""

import json

import pytest
from transformers import GPT2Config, GPT2LMHeadModel

from configs import InputError
from finetune.lora.resolved_settings import as_given, epochs_of, resolve, suited_learning_rate, take_recorded
from finetune.preference.settings import DpoSettings
from finetune.supervised.settings import SftSettings


class _Epochs:
    per_step, steps_per_epoch = 4, 12


@pytest.fixture(scope="module")
def model():
    return GPT2LMHeadModel(GPT2Config(vocab_size=11, n_embd=768, n_layer=1, n_head=4, n_positions=8))


def _length(settings, model):
    resolved = resolve(settings, model, _Epochs())
    assert resolved.epochs is resolved.warmup_share is None
    return resolved.max_steps, resolved.warmup_steps


def test_three_epochs_are_read_in_tuning_and_one_of_preferences_where_nothing_is_said(model):
    assert _length(SftSettings(), model) == (36, 2)
    assert _length(DpoSettings(), model) == (12, 1)


@pytest.mark.parametrize(
    ("given", "length"),
    [
        ({"epochs": 0.5}, (6, 0)),
        ({"epochs": 0.01}, (1, 0)),
        ({"epochs": 2, "warmup_share": 0.25}, (24, 6)),
        ({"max_steps": 100}, (100, 5)),
        ({"max_steps": 100, "warmup_steps": 0}, (100, 0)),
        ({"max_steps": 100, "warmup_share": 0.0}, (100, 0)),
        ({"warmup_steps": 7}, (36, 7)),
    ],
)
def test_steps_follow_from_epochs_and_a_share_of_them_warms_up(given, length, model):
    assert _length(SftSettings(**given), model) == length


def test_epochs_are_counted_for_steps_too(model):
    assert epochs_of(resolve(SftSettings(max_steps=30), model, _Epochs()), _Epochs()) == 2.5


def test_lora_has_ten_times_the_rate_of_full_tuning_and_a_wider_base_a_lower_one(model):
    def rate(settings):
        return resolve(settings, model, _Epochs()).loop.learning_rate

    lora, full = rate(SftSettings()), rate(SftSettings(method="full"))
    assert lora == pytest.approx(10 * full, rel=0.05)
    assert suited_learning_rate(4096, 5e-5, lora=True) < lora
    assert rate(DpoSettings()) < full and rate(SftSettings(learning_rate=0.5)) == 0.5


def test_a_multiplier_counts_from_the_usual_rate_and_stands_beside_no_other(model, tmp_path):
    usual, twice = (
        resolve(SftSettings(learning_rate_multiplier=factor), model, _Epochs()).loop.learning_rate for factor in (1, 2)
    )
    assert twice == 2 * usual
    with pytest.raises(InputError, match=r"^learning_rate_multiplier: found beside learning_rate 0\.5"):
        resolve(SftSettings(learning_rate_multiplier=2, learning_rate=0.5), model, _Epochs())
    # A run that goes on has the rate that it recorded, which the same command multiplies no further.
    going_on = SftSettings(learning_rate_multiplier=2, learning_rate=0.5, resume=True, output_dir=str(tmp_path))
    assert resolve(going_on, model, _Epochs()).learning_rate == 0.5
    with pytest.raises(InputError, match="learning_rate_multiplier: found 0, expected a finite number above 0"):
        SftSettings(learning_rate_multiplier=0)


def test_a_run_that_goes_on_takes_what_it_recorded_where_nothing_is_said(tmp_path):
    recorded = {"max_steps": 18, "warmup_steps": 0, "learning_rate": 0.25, "conversations_per_step": 8, "base": "b"}
    (tmp_path / "run.json").write_text(json.dumps({"settings": recorded}))
    taken = take_recorded(SftSettings(resume=True, output_dir=str(tmp_path)))
    assert (taken.max_steps, taken.warmup_steps, taken.learning_rate, taken.conversations_per_step) == (18, 0, 0.25, 8)
    assert taken.base == SftSettings().base  # no other setting is taken over
    other = take_recorded(SftSettings(resume=True, output_dir=str(tmp_path), epochs=2, learning_rate=0.5))
    assert (other.max_steps, other.epochs, other.learning_rate) == (None, 2, 0.5)
    assert take_recorded(SftSettings(output_dir=str(tmp_path))).max_steps is None


def test_what_is_open_is_not_compared_before_it_is_known():
    given = as_given(SftSettings(max_steps=3))
    assert given["max_steps"] == 3 and "learning_rate" not in given and given["corpus"] is None
