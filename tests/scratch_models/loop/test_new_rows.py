from collections.abc import Callable
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from scratch_models.corpus.blocks import RandomBlocks, held_out_blocks, split_by_position
from scratch_models.loop.devices import make_accelerator
from scratch_models.loop.loop_settings import LoopSettings
from scratch_models.loop.optimizers import make_optimizers
from scratch_models.loop.run_folder import RunFolder
from scratch_models.loop.training import SummedLoss, held_out_loss, train
from scratch_models.rungs.all_rungs import ScratchModel
from scratch_models.rungs.bigram import BigramLanguageModel
from scratch_models.rungs.gpt import GPT, GPTConfig
from scratch_models.scratch_folder import load_scratch_model, save_scratch_model
from tokenizer_ext.bpe.bpe import train_bpe
from tokenizer_ext.embeddings.tables import fold, new_row_parameters, separate_new_rows
from tokenizer_ext.extension.certificate import hash_weights
from tokenizer_ext.extension.extension import Extended, extend_vocabulary
from tokenizer_ext.huggingface.hf_tokenizer import to_hf_tokenizer
from tokenizer_ext.huggingface.plain_text import plain_text_encoder

V = 400
NEW_TOKENS = 100
BLOCK_SIZE = 32

TEXT = "\n\n".join(topics[name] for name in ("strings", "class", "import", "yield", "formatstrings"))[:60_000]
TRAINING_TEXT, HELD_OUT_TEXT = split_by_position(TEXT)


def gpt(tied: bool) -> GPT:
    return GPT(GPTConfig(vocabulary_size=V, block_size=BLOCK_SIZE, layers=1, heads=2, width=32, tied=tied))


KINDS: dict[str, Callable[[], ScratchModel]] = {
    "tied GPT": lambda: gpt(tied=True),
    "untied GPT": lambda: gpt(tied=False),
    "bigram": lambda: BigramLanguageModel(V),
}


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """400 ids learned from the text."""
    bpe = train_bpe([TRAINING_TEXT], V, special_tokens=["<|endoftext|>"])
    return to_hf_tokenizer(bpe.ranks, bpe.special_tokens)


def encode(tokenizer: PreTrainedTokenizerFast, text: str) -> Tensor:
    return torch.tensor(plain_text_encoder(tokenizer).encode(text).ids)


def train_on(ids: Tensor, model: ScratchModel, steps: int, folder: Path) -> None:
    """Trains what requires a gradient, with the loop and optimizers of `scratch_models/train.py`, decay on."""
    settings = LoopSettings(
        max_steps=steps, learning_rate=0.01, weight_decay=0.1, evaluation_steps=0, checkpoint_steps=0
    )
    folder.mkdir()
    train(
        SummedLoss(model),
        RandomBlocks(ids, BLOCK_SIZE, blocks_per_batch=16, seed=0),
        make_optimizers(model, settings),
        settings,
        accelerator=make_accelerator("fp32"),
        run=RunFolder(folder),
        evaluate=lambda step: {},
    )


def held_out_nats(model: ScratchModel, tokenizer: PreTrainedTokenizerFast) -> float:
    """Nats per token of held-out text."""
    blocks = held_out_blocks(encode(tokenizer, HELD_OUT_TEXT), BLOCK_SIZE, 16)
    nats, targets = held_out_loss(SummedLoss(model), blocks, make_accelerator("fp32"))
    return nats / targets


def logits_of(model: ScratchModel, ids: Tensor) -> Tensor:
    with torch.no_grad():
        return model.eval()(ids)


@pytest.fixture(
    scope="module",
    params=[pytest.param(kind, marks=[] if kind == "tied GPT" else pytest.mark.long) for kind in KINDS],
)
def base(request: pytest.FixtureRequest, tokenizer, tmp_path_factory) -> tuple[Callable[[], ScratchModel], dict]:
    """A way to build a model, and weights trained for it on the text in the base's tokens."""
    torch.manual_seed(0)
    model = KINDS[request.param]()
    train_on(encode(tokenizer, TRAINING_TEXT), model, 150, tmp_path_factory.mktemp("base") / "run")
    return KINDS[request.param], model.state_dict()


@pytest.fixture
def extended(base, tokenizer) -> Extended:
    """The trained model with 100 tokens learned from the text by continued BPE."""
    build, weights = base
    model = build()
    model.load_state_dict(weights)
    return extend_vocabulary((model, tokenizer), corpus=TRAINING_TEXT.split("\n\n"), new_tokens=NEW_TOKENS)


def test_after_200_steps_on_the_new_rows_nothing_else_moved_and_the_loss_fell(extended: Extended, base, tmp_path):
    model: Any = extended.model
    before = hash_weights(model, V)
    old = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    loss_before = held_out_nats(model, extended.tokenizer)
    ids = encode(extended.tokenizer, TRAINING_TEXT)
    assert (ids >= V).float().mean() > 0.1  # a tenth of the text and more is in new tokens
    separate_new_rows(model, V, NEW_TOKENS)
    train_on(ids, model, 200, tmp_path / "run")
    fold(model)
    assert hash_weights(model, V) == before == extended.certificate.weights_before
    for name, tensor in model.state_dict().items():
        of_tokens = name in ("token_embedding_table.weight", "lm_head.weight")
        columns = V if isinstance(model, BigramLanguageModel) else None
        kept = (slice(0, V), slice(0, columns)) if of_tokens else ...
        assert torch.equal(tensor[kept], old[name][kept]), name
        assert torch.equal(tensor[kept], base[1][name][kept]), name  # as the base was before it had new tokens at all
        assert not of_tokens or (tensor[V:] != old[name][V:]).any(dim=1).all()  # no new row stayed where it was
    assert held_out_nats(model, extended.tokenizer) < loss_before


def test_trained_rows_are_saved_with_the_model_and_give_the_same_logits(extended: Extended, tmp_path):
    model: Any = extended.model
    separate_new_rows(model, V, NEW_TOKENS)
    ids = encode(extended.tokenizer, TRAINING_TEXT)
    train_on(ids, model, 3, tmp_path / "run")
    row = ids[None, :BLOCK_SIZE]
    apart = logits_of(model, row)
    fold(model)
    save_scratch_model(model, extended.tokenizer, tmp_path / "model")
    reloaded, tokenizer = load_scratch_model(tmp_path / "model")
    assert reloaded.token_embedding_table.num_embeddings == V + NEW_TOKENS
    assert torch.equal(logits_of(reloaded, row), logits_of(model, row))
    torch.testing.assert_close(logits_of(reloaded, row), apart, rtol=1e-6, atol=1e-6)
    assert encode(tokenizer, HELD_OUT_TEXT).equal(encode(extended.tokenizer, HELD_OUT_TEXT))
    if isinstance(reloaded, GPT):
        assert (reloaded.lm_head.weight is reloaded.token_embedding_table.weight) == model.config.tied
        theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()
        torch.testing.assert_close(theirs(row).logits, logits_of(model, row), rtol=0, atol=1e-4)


def test_a_run_on_new_rows_alone_starts_with_nothing_else_in_the_optimizer(extended: Extended):
    model: Any = extended.model
    separate_new_rows(model, V, NEW_TOKENS)
    (optimizer,) = make_optimizers(model, LoopSettings(max_steps=1, learning_rate=0.01, weight_decay=0.1))
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    assert {id(parameter) for parameter in held} == {id(rows) for rows in new_row_parameters(model).values()}


def test_zeroed_gradients_would_not_have_kept_the_old_rows(extended: Extended):
    # Why the rows are separated at all: AdamW decays what it holds, whatever the gradient.
    model: Any = extended.model
    before = hash_weights(model, V)
    settings = LoopSettings(max_steps=1, learning_rate=0.01, weight_decay=0.1)
    model.requires_grad_(False)
    model.token_embedding_table.requires_grad_(True)
    (optimizer,) = make_optimizers(model, settings)
    ids = encode(extended.tokenizer, TRAINING_TEXT)[None, : BLOCK_SIZE + 1]
    F.cross_entropy(model(ids[:, :-1])[0], ids[0, 1:]).backward()
    gradient = model.token_embedding_table.weight.grad
    assert gradient is not None
    gradient[:V] = 0
    optimizer.step()
    assert hash_weights(model, V).base_rows != before.base_rows
