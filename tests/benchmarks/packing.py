"""What packing saves and what it changes: GSM8K in steps of 32 conversations, GPT-2's vocabulary.

    python -m tests.benchmarks.packing

A table of the number wanted beside the number seen: how far packed logits are from those of each conversation alone,
how many places of a micro-batch are filling, and tokens a second of a step forwards and backwards in a model of 6
layers x 384 by each way to attend, taking turns, medians of three. Of the engine only its attention takes part. The
variable-length kernel of a GPU is measured where there is one. Reads `../shared/data`; about a minute and a half on one
core.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from finetune.chat.batches import ConversationBatches
from finetune.chat.graft_format import GraftFormat
from finetune.chat.packing import pad, to_row
from finetune.conversations.splits import read_conversation_splits
from finetune.engine.packed_attention import use_packed_attention, use_usual_attention
from finetune.losses.supervised_loss import SupervisedLoss
from scratch_models.loop.micro_batches import MicroBatch, count_tokens
from tests.benchmarks.tokenisation import GSM8K, save_tokenizer, show
from tokenizer_ext.pages.terminal import quiet_libraries

VOCABULARY = 50261
TOKENS_PER_MICRO_BATCH = 2048
ROUNDS = 3
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SHARE_OF_GSM8K = 20


def main() -> None:
    """Prints the table."""
    quiet_libraries()
    with TemporaryDirectory() as folder:
        chat = GraftFormat(save_tokenizer(Path(folder)))
    rendered = chat.render_set(read_conversation_splits(str(GSM8K)).training[::SHARE_OF_GSM8K])
    padded, packed = (ConversationBatches(rendered, 32, TOKENS_PER_MICRO_BATCH, 0, way) for way in (False, True))
    print(f"{len(rendered)} conversations of GSM8K, {DEVICE}\n\n{'':62}{'wanted':>12}{'seen':>12}")
    for name, make in (("GPT-2", gpt2), ("Llama, keys shared", llama)):
        for way, turn_on in WAYS.items():
            found = largest_difference(make(), packed, turn_on)
            show(f"packed logits against alone, {name}, {way}", "1e-5", f"{found:.1e}")
    in_order = [rendered[start : start + 32] for start in range(0, len(rendered), 32)]
    show(
        "filling, 32 conversations as they come",
        "",
        f"{filling([pad(list(map(to_row, one))) for one in in_order]):.1%}",
    )
    show("filling, rows of like length", "", f"{filling(all_of(padded)):.1%}")
    show("filling, packed", "0 %", f"{filling(all_of(packed)):.1%}")
    for name, rate in rates(padded, packed).items():
        show(f"tokens/s of a step, {name}", "", f"{rate:,.0f}")


def gpt2() -> PreTrainedModel:
    """A random GPT-2 of 6 layers x 384 without dropout."""
    torch.manual_seed(0)
    no_dropout = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, n_layer=6, n_embd=384, n_head=6, **no_dropout)).to(DEVICE)


def llama() -> PreTrainedModel:
    """A random Llama of 6 layers x 384."""
    torch.manual_seed(0)
    shape = {"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 6, "num_attention_heads": 6}
    config = LlamaConfig(vocab_size=VOCABULARY, num_key_value_heads=2, **shape)
    return LlamaForCausalLM(config).to(DEVICE)


def turn_on_packed_attention(model: PreTrainedModel) -> None:
    """Each conversation by itself."""
    assert use_packed_attention(model)


WAYS: dict[str, Callable[[PreTrainedModel], None]] = {
    "T x T mask": use_usual_attention,
    "packed": turn_on_packed_attention,
}


@torch.no_grad()
def largest_difference(
    model: PreTrainedModel, packed: ConversationBatches, turn_on: Callable[[PreTrainedModel], None]
) -> float:
    """Between the logits of a packed row and those of each of its conversations alone."""
    model.eval()
    turn_on(model)
    batch = to_device(packed.micro_batches(0, 0, 1)[0])
    ids, positions = batch["input_ids"], batch["position_ids"]
    logits = model(input_ids=ids, position_ids=positions, use_cache=False).logits[0]  # (T, V)
    starts = (positions[0] == 0).nonzero().flatten().tolist()
    use_usual_attention(model)
    largest = 0.0
    for start, end in zip(starts, [*starts[1:], ids.shape[1]], strict=True):
        alone = model(input_ids=ids[:, start:end], use_cache=False).logits[0]
        largest = max(largest, float((logits[start:end] - alone).abs().max()))
    assert len(starts) > 1
    return largest


def rates(padded: ConversationBatches, packed: ConversationBatches) -> dict[str, float]:
    """Tokens a second of one step in each way, taking turns."""
    loss_model = SupervisedLoss(gpt2())
    ways = {
        "rows of like length": (padded, use_usual_attention),
        "packed under a mask of T x T": (packed, use_usual_attention),
        "packed, each by itself": (packed, turn_on_packed_attention),
    }
    seen: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(ROUNDS):
        for name, (batches, turn_on) in ways.items():
            turn_on(loss_model.model)
            micro_batches = [to_device(one) for one in batches.micro_batches(round_, 0, 1)]
            start = time.perf_counter()
            for one in micro_batches:
                loss_model(**one).backward()
            if DEVICE.type == "cuda":
                torch.cuda.synchronize()
            seen[name].append(sum(map(count_tokens, micro_batches)) / (time.perf_counter() - start))
            use_usual_attention(loss_model.model)
    return {name: statistics.median(found) for name, found in seen.items()}


def all_of(batches: ConversationBatches) -> list[MicroBatch]:
    """The micro-batches of an epoch."""
    return [one for step in range(batches.steps_per_epoch) for one in batches.micro_batches(step, 0, 1)]


def filling(micro_batches: list[MicroBatch]) -> float:
    """The share of places behind the last target of a row, which in GSM8K is filling."""
    places = sum(one["input_ids"].numel() for one in micro_batches)
    return 1 - sum(map(count_tokens, micro_batches)) / places


def to_device(micro_batch: MicroBatch) -> MicroBatch:
    """The micro-batch where the model computes."""
    return {name: tensor.to(DEVICE) for name, tensor in micro_batch.items()}


if __name__ == "__main__":
    main()
