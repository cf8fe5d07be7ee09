"""A GPT that learns words for pictures: its vocabulary extended by codes, their rows trained, all else frozen."""

from torch import nn

from configs import InputError
from scratch_models.image_words.autoencoder import PLACES
from scratch_models.image_words.code_words import NamedImages, code_tokens, prompt_of
from scratch_models.image_words.digit_images import NAMES
from scratch_models.loop.devices import make_accelerator
from scratch_models.loop.loop_settings import LoopSettings
from scratch_models.loop.optimizers import make_optimizers
from scratch_models.loop.run_folder import RunFolder
from scratch_models.loop.training import SummedLoss, held_out_loss, train
from scratch_models.rungs.gpt2_weights import load_gpt2
from tokenizer_ext.embeddings.tables import fold, new_row_parameters, separate_new_rows
from tokenizer_ext.extension.certificate import hash_weights
from tokenizer_ext.extension.extension import Extended, extend_vocabulary
from tokenizer_ext.huggingface.hf_model import load_tokenizer


def extend_by_codes(base: str, codes: int, seed: int) -> Extended:
    """The base with a token for each code at each place, whose rows are noise like the old rows.

    Raises:
        InputError: there is no such base, or it is no GPT-2, or it has too few positions.
    """
    tokenizer, model = load_tokenizer(base), load_gpt2(base)
    needed = max(len(tokenizer.encode(prompt_of(label))) for label in range(len(NAMES))) + PLACES
    if needed > model.config.block_size:
        raise InputError(f"{base}: has {model.config.block_size} positions, expected {needed} for a name and its codes")
    new = code_tokens(codes)
    return extend_vocabulary((model, tokenizer), new_tokens=0, control_tokens=new, start="normal", seed=seed)


def train_codes(
    extended: Extended, read: NamedImages, held_out: NamedImages, settings: LoopSettings, run: RunFolder
) -> dict[str, float]:
    """Trains the rows of the new tokens in place, and says what came of it.

    Returns the numbers trained and frozen, the held-out loss, and whether every old weight kept its bits (1 or 0).
    """
    model: nn.Module = extended.model
    accelerator = make_accelerator("fp32")
    separate_new_rows(model, extended.first_new_id, extended.certificate.control_tokens)
    loss_model = SummedLoss(model).to(accelerator.device)
    trained = sum(rows.numel() for rows in new_row_parameters(model).values())

    def evaluate(_step: int) -> dict[str, float]:
        nats, targets = held_out_loss(loss_model, held_out.all_rows(), accelerator)
        return {"held_out_loss_nats": nats / targets}

    optimizers = make_optimizers(loss_model, settings)
    train(loss_model, read, optimizers, settings, accelerator=accelerator, run=run, evaluate=evaluate)
    fold(model)
    kept = hash_weights(model, extended.first_new_id) == extended.certificate.weights_before
    return {
        "trained_numbers": trained,
        "frozen_numbers": sum(tensor.numel() for tensor in model.parameters()) - trained,
        "frozen_numbers_kept": float(kept),
        "held_out_loss_nats": run.read_metrics()[-1]["held_out_loss_nats"],
    }
