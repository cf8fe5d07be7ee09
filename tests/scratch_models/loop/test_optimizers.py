import pytest
import torch
from torch import nn

from configs import InputError
from scratch_models.loop.loop_settings import LoopSettings
from scratch_models.loop.optimizers import BatchedMuon, learning_rate_factor, make_optimizers
from scratch_models.rungs.bigram import BigramLanguageModel
from scratch_models.rungs.gpt import GPT, GPTConfig
from scratch_models.rungs.speedrun import Speedrun, SpeedrunConfig

SETTINGS = LoopSettings(max_steps=50, learning_rate=0.1, warmup_steps=5, schedule="cosine", weight_decay=0.2)
SHAPE = GPTConfig(vocabulary_size=7, block_size=4, layers=2, heads=1, width=4, tied=False)


def parameters_of(optimizer: torch.optim.Optimizer) -> set[nn.Parameter]:
    return {parameter for group in optimizer.param_groups for parameter in group["params"]}


def test_the_warmup_rises_by_equal_steps_to_the_peak():
    factors = [learning_rate_factor(step, SETTINGS) for step in range(6)]
    assert factors == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])


def test_after_the_warmup_the_rate_is_that_of_torchs_cosine_down_to_a_tenth():
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=45, eta_min=0.1)
    for step in range(5, 51):
        assert learning_rate_factor(step, SETTINGS) == pytest.approx(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert learning_rate_factor(50, SETTINGS) == pytest.approx(0.1)


def test_a_constant_rate_stays_at_its_peak():
    settings = LoopSettings(max_steps=50, learning_rate=0.1)
    assert {learning_rate_factor(step, settings) for step in range(50)} == {1.0}


def test_adamw_decays_matrices_and_leaves_vectors_alone():
    model = GPT(SHAPE)
    (optimizer,) = make_optimizers(model, SETTINGS)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in model.named_parameters():
        factor = 1 - 0.1 * 0.2 if parameter.ndim == 2 else 1.0
        torch.testing.assert_close(parameter.detach(), before[name] * factor, msg=name)


@pytest.mark.parametrize("tied", [False, True])
def test_muon_trains_the_matrices_inside_the_blocks_and_adamw_everything_else(tied: bool):
    model = GPT(GPTConfig(vocabulary_size=7, block_size=4, layers=2, heads=1, width=4, tied=tied))
    muon, adamw = make_optimizers(model, SETTINGS, muon_learning_rate=0.02)
    outside = {model.token_embedding_table.weight, model.position_embedding_table.weight, model.lm_head.weight}
    vectors = {parameter for parameter in model.parameters() if parameter.ndim == 1}
    assert isinstance(muon, torch.optim.Muon)
    assert parameters_of(adamw) == outside | vectors
    assert parameters_of(muon) == set(model.parameters()) - outside - vectors
    assert len(parameters_of(muon)) == 2 * 4  # attention's two matrices and the feed-forward's two, in each block


def test_tables_learn_at_a_rate_of_their_own_where_they_have_one():
    model = Speedrun(SpeedrunConfig(vocabulary_size=7, block_size=4, layers=1, heads=1, width=4, value_tables=True))
    muon, adamw = make_optimizers(model, SETTINGS, muon_learning_rate=0.02, table_learning_rate=0.5)
    at_that_rate = {parameter for group in adamw.param_groups if group["lr"] == 0.5 for parameter in group["params"]}
    assert at_that_rate == {module.weight for module in model.modules() if isinstance(module, torch.nn.Embedding)}
    assert not at_that_rate & parameters_of(muon)


def test_batched_muon_steps_as_torch_does_up_to_the_rounding_of_bfloat16():
    torch.manual_seed(0)
    shapes = [(8, 8), (8, 8), (24, 8), (8, 32)]
    sides = [[torch.nn.Parameter(torch.zeros(shape)) for shape in shapes] for _ in range(2)]
    optimizers = BatchedMuon(sides[0], lr=0.1, weight_decay=0.1), torch.optim.Muon(sides[1], lr=0.1, weight_decay=0.1)
    for _ in range(3):
        for one, other in zip(*sides, strict=True):
            one.grad = torch.randn_like(one)
            other.grad = one.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for one, other in zip(*sides, strict=True):
        assert (one - other).norm() < 0.03 * other.norm()
    assert optimizers[0].state_dict()["param_groups"] == optimizers[1].state_dict()["param_groups"]


def test_what_is_frozen_is_in_no_optimizer():
    model = GPT(SHAPE)
    model.lm_head.requires_grad_(False)
    model.blocks[0].requires_grad_(False)
    trained = {parameter for parameter in model.parameters() if parameter.requires_grad}
    muon, adamw = make_optimizers(model, SETTINGS, muon_learning_rate=0.02)
    assert parameters_of(muon) | parameters_of(adamw) == trained


def test_a_model_that_is_frozen_whole_is_refused():
    with pytest.raises(InputError, match="every parameter is frozen"):
        make_optimizers(BigramLanguageModel(3).requires_grad_(False), SETTINGS)


def test_muon_for_a_model_without_blocks_is_refused():
    with pytest.raises(InputError, match="muon_learning_rate: the model has no blocks"):
        make_optimizers(BigramLanguageModel(3), SETTINGS, muon_learning_rate=0.02)
