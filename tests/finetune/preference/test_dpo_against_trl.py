"""Loss and gradients of preference pairs are those of TRL's DPOTrainer."""

import pytest
import torch

from finetune.chat.graft_format import GraftFormat
from finetune.chat.packing import to_row
from finetune.preference.batches import PreferenceBatches, render_pairs
from finetune.preference.dpo_loss import Objective, PreferenceLoss
from finetune.preference.reference import pair_log_probabilities, reference_model
from scratch_models.loop.devices import make_accelerator
from scratch_models.loop.micro_batches import IGNORED_TARGET
from tests.finetune.dpo_peer import make_peer, peer_batch
from tests.finetune.preference_models import adapted, pairs

pytest.importorskip("trl")


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def both(request, chat_tokenizer):
    """A subject with the trainer of TRL beside it, and our batches of the same pairs with their reference."""
    trainable = adapted(chat_tokenizer, request.param)
    trainer = make_peer(trainable, pairs(12), beta=0.3)
    rendered = render_pairs(GraftFormat(chat_tokenizer), pairs(12))
    batches = PreferenceBatches(rendered, 12, tokens_per_micro_batch=200, seed=0)
    with reference_model(trainable, None, lambda: (trainable.model, None)) as (reference, _):
        asking = PreferenceLoss(reference, Objective())
        batches.reference = pair_log_probabilities(asking, batches, range(12), make_accelerator("fp32"))
    return trainable, trainer, batches


def test_trl_reads_the_same_ids_and_compares_the_same_of_them(both):
    _, trainer, batches = both
    theirs = peer_batch(trainer)
    for number in range(len(batches)):
        for side, rendered in enumerate((batches.rendered.chosen, batches.rendered.rejected)):
            ids, targets, *_ = to_row(rendered[number])
            row = number + side * len(batches)
            length = int(theirs["attention_mask"][row].sum())
            assert theirs["input_ids"][row, : length - 1].tolist() == ids
            compared = theirs["completion_mask"][row, 1:length].bool()
            assert [target != IGNORED_TARGET for target in targets] == compared.tolist()


@pytest.mark.parametrize("kind", ["sigmoid", "ipo"])
def test_loss_and_gradients_equal_those_of_trl(both, kind):
    trainable, trainer, batches = both
    trainer.loss_types = [kind]
    trainer.model.train()
    trainer.model.zero_grad()
    theirs = trainer.compute_loss(trainer.model, peer_batch(trainer))
    theirs.backward()
    trainable.model.zero_grad()
    loss_model = PreferenceLoss(trainable.model, Objective(kind=kind, beta=0.3))
    ours = sum(loss_model(**micro_batch) for micro_batch in batches.micro_batches(0, 0, 1)) / 12
    ours.backward()
    assert float(ours.detach()) == pytest.approx(float(theirs.detach()), abs=1e-5)
    assert abs(float(theirs.detach()) - 0.6931) > 1e-3, "the adapter has moved, or nothing would be compared"
    weights = dict(trainable.adapted.named_parameters())
    compared = [(weights[name].grad, one.grad) for name, one in trainer.model.named_parameters() if one.requires_grad]
    assert compared
    left, right = (torch.cat([pair[side].flatten() for pair in compared]) for side in (0, 1))
    assert float((left - right).norm() / right.norm()) < 1e-4
    for ours_alone, theirs_alone in compared:
        assert float((ours_alone - theirs_alone).norm() / theirs_alone.norm()) < 1e-4
