"""The model under training: the base with new tokens, and what of it trains."""

from collections.abc import Sequence
from dataclasses import dataclass

from peft import PeftModel
from torch.optim import Optimizer
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from finetune.chat.choose_format import ChatChoice, resolve_choice
from finetune.chat.graft_format import CONTROL_TOKENS
from finetune.lora.adapter_shape import Lora
from finetune.lora.lora import attach_lora, check_lora
from scratch_models.loop.optimizers import adamw
from tokenizer_ext.embeddings.start_names import DEFAULT_START
from tokenizer_ext.embeddings.tables import new_row_parameters, separate_new_rows
from tokenizer_ext.embeddings.token_rows import check_rows
from tokenizer_ext.extension.certificate import tokenizer_sha256, weights_sha256
from tokenizer_ext.extension.corpus_files import sort_texts
from tokenizer_ext.extension.extension import Extended, grow
from tokenizer_ext.extension.plan import Plan, Wanted, make_plan
from tokenizer_ext.held_weights.mapped_weights import pieces
from tokenizer_ext.held_weights.quantised_layers import sizes_of
from tokenizer_ext.huggingface.hf_model import check_finite
from tokenizer_ext.pages.progress import shown


@dataclass(frozen=True)
class TrainableModel:
    """A causal model with adapters and separate new rows inside it, and what it was made of."""

    model: PreTrainedModel
    adapted: PeftModel | None
    """The same model as peft wraps it; None where every weight trains."""
    extended: Extended

    @property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The extended tokenizer."""
        return self.extended.tokenizer

    def count_parameters(self) -> tuple[int, int]:
        """All parameters, and those that train; rows that train apart are counted once."""
        packed = sizes_of(self.model)
        sizes = [(packed.get(id(one), one.numel()), one.requires_grad) for one in self.model.parameters()]
        apart = sum(rows.numel() for rows in new_row_parameters(self.model).values())
        return sum(size for size, _ in sizes) - apart, sum(size for size, trains in sizes if trains)

    def hashes(self) -> dict[str, str]:
        """What the model was made of, for `run.json`."""
        return {
            "base_sha256": weights_sha256(self.extended.certificate.weights_before),
            "tokenizer_sha256": tokenizer_sha256(self.extended.plan.base),
        }


def make_trainable_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    documents: Sequence[str],
    *,
    new_tokens: int,
    lora: Lora | None,
    chat: ChatChoice = "auto",
) -> TrainableModel:
    """The base, changed in place: tokens from the documents, control tokens, LoRA; without it every weight trains.

    Raises:
        InputError: the tokenizer takes no merges, or the documents support fewer tokens.

    """
    plan = plan_vocabulary(tokenizer, documents, new_tokens, chat)
    check_trainable(model, plan, lora)
    return train_from(model, plan, lora)


def plan_vocabulary(
    tokenizer: PreTrainedTokenizerFast, documents: Sequence[str], new_tokens: int, chat: ChatChoice = "auto"
) -> Plan:
    """The tokenizer with tokens from the documents, where there are any, and the control tokens that it lacks.

    It lacks none where it is trained in its own chat template.

    Raises:
        InputError: the tokenizer takes no merges, or the documents support fewer tokens.

    """
    known = tokenizer.get_added_vocab()
    needed = CONTROL_TOKENS if resolve_choice(tokenizer, chat) == "graft" else ()
    control_tokens = [token for token in needed if token not in known]
    wanted = Wanted(new_tokens=new_tokens if documents else 0, control_tokens=control_tokens)
    return make_plan(tokenizer, sort_texts(documents, None, ()), wanted)


def check_trainable(model: PreTrainedModel, plan: Plan, lora: Lora | None) -> None:
    """Refuses a base that cannot be trained so, before anything of it changes.

    Raises:
        InputError: it holds NaN, has no row for an id of its tokenizer, or cannot have such an adapter.

    """
    check_rows(model, plan.base, plan.new_ids)
    check_finite(model, type(model).__name__, pieces)
    if lora is not None:
        check_lora(model, lora)


@shown("making the model that trains")
def train_from(model: PreTrainedModel, plan: Plan, lora: Lora | None) -> TrainableModel:
    """The base, changed in place, with rows for the tokens of a plan and LoRA; without it every weight trains."""
    extended = grow((model, plan.base), plan, rows_multiple=1, start=DEFAULT_START, seed=0)
    if lora is None:
        for weight in model.parameters():
            weight.requires_grad_(weight.is_floating_point())  # packed numbers of a reference cannot train
        return TrainableModel(model, None, extended)
    if plan.new_ids:
        separate_new_rows(model, extended.first_new_id, plan.new_ids)
    return TrainableModel(model, attach_lora(model, lora), extended)


def make_optimizer(
    trainable: TrainableModel, learning_rate: float, new_rows_learning_rate: float, weight_decay: float
) -> Optimizer:
    """AdamW on what trains; vectors are not decayed, nor rows of new tokens, which have their own rate."""
    new_rows = list(new_row_parameters(trainable.model).values())
    theirs = {id(parameter) for parameter in new_rows}
    rest = [weight for weight in trainable.model.parameters() if weight.requires_grad and id(weight) not in theirs]
    matrices, vectors = [weight for weight in rest if weight.ndim >= 2], [weight for weight in rest if weight.ndim < 2]
    return adamw(
        [
            {"params": matrices, "lr": learning_rate, "weight_decay": weight_decay},
            {"params": vectors, "lr": learning_rate, "weight_decay": 0.0},
            {"params": new_rows, "lr": new_rows_learning_rate, "weight_decay": 0.0},
        ]
    )
