"""Merged models read back from disk, against the adapter models in memory: every variant, architecture and head.

    python -m tests.benchmarks.merge_receipts
    python -m tests.benchmarks.merge_receipts --base openai-community/gpt2

Each of 32 models is trained for a few steps on conversations, saved as a run saves it, merged, and read back with
transformers alone; shown is the largest difference of a logit over 8 conversations. GPT-2 is the embedded base, whose
layers are Conv1D; Llama has its width and depth, nn.Linear, grouped heads and random weights. Last stands what comes of
PiSSA where it is saved as it lies in memory, adapter and base, which is what happens to those who save both: peft takes
the adapter's start out of that base once more. About 2 minutes on one core.
"""

import argparse
import itertools
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from peft import PeftModel
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from finetune.chat.graft_format import CONTROL_TOKENS, GraftFormat
from finetune.chat.packing import pad
from finetune.conversations.formats import Conversation
from finetune.conversations.splits import read_conversation_splits
from finetune.export.final_folder import save_assistant
from finetune.export.receipt import LIMIT, merge_with_receipt
from finetune.lora.adapter_shape import Lora
from finetune.lora.trainable_model import TrainableModel, make_optimizer, make_trainable_model
from finetune.losses.supervised_loss import SupervisedLoss
from scratch_models.embedded.default import EMBEDDED, EMBEDDED_BASE
from scratch_models.loop.micro_batches import IGNORED_TARGET
from tests.finetune.trained_runs import VARIANTS
from tokenizer_ext.embeddings.tables import find_tables
from tokenizer_ext.extension.extension import extend_vocabulary
from tokenizer_ext.huggingface.hf_model import load_model, load_tokenizer
from tokenizer_ext.pages.terminal import quiet_libraries

NEW_TOKENS, TRAINED_ON, COMPARED_ON, LONGEST = 100, 16, 8, 160


class Case(NamedTuple):
    """One of the models."""

    architecture: str
    tied: bool
    new_rows: bool
    variant: str


class Bench:
    """The base, the conversations, and the folder that runs are saved in."""

    def __init__(self, base: str, steps: int, folder: Path) -> None:
        self.base, self.steps, self.folder = base, steps, folder
        splits = read_conversation_splits(EMBEDDED)
        self.conversations = [*splits.training[:TRAINED_ON], *splits.held_out[:COMPARED_ON]]
        self.texts = [message.content for chat in splits.training[:60] for message in chat.messages]

    def make(self, architecture: str, *, tied: bool) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
        """A base and its tokenizer."""
        model = load_model(self.base)
        if architecture == "llama":
            model = _llama_like(model)
        tables = find_tables(model)
        assert tables.head is not None
        model.config.tie_word_embeddings = tied
        own = torch.nn.Parameter(tables.head.weight.detach().clone())
        tables.head.weight = tables.embedding.weight if tied else own
        return model, load_tokenizer(self.base)

    def train(self, case: Case) -> tuple[TrainableModel, list[Tensor], Tensor]:
        """A tuned model, ids to compare on, and its logits there."""
        base, tokenizer = self.make(case.architecture, tied=case.tied)
        if not case.new_rows:  # a base that can chat already
            known = extend_vocabulary((base, tokenizer), corpus=[], new_tokens=0, control_tokens=CONTROL_TOKENS)
            tokenizer = known.tokenizer
        lora = Lora(rank=8, alpha=16.0, dropout=0.0, options=VARIANTS[case.variant])
        texts = self.texts if case.new_rows else []
        trainable = make_trainable_model(base, tokenizer, texts, new_tokens=NEW_TOKENS, lora=lora)
        ids = train(trainable, self.conversations, self.steps)
        return trainable, ids, logits_of(trainable.model, ids)

    def measure(self, case: Case) -> tuple[float, float]:
        """The largest difference that we find ourselves, and the one on the receipt."""
        trainable, ids, expected = self.train(case)
        run = Path(tempfile.mkdtemp(dir=self.folder))
        save_assistant(trainable.model, trainable.adapted, trainable.tokenizer, run / "final")
        receipt = merge_with_receipt(run / "final", run / "merged")
        merged = AutoModelForCausalLM.from_pretrained(run / "merged", dtype=torch.float32)
        return difference(merged, ids, expected), receipt.largest_difference

    def measure_careless_pissa(self) -> float:
        """PiSSA's adapter, saved as peft saves it, read back on the base that it trained beside."""
        trainable, ids, expected = self.train(Case("gpt2", tied=True, new_rows=False, variant="PiSSA"))
        assert trainable.adapted is not None
        run = Path(tempfile.mkdtemp(dir=self.folder))
        trainable.adapted.save_pretrained(run / "adapter")
        trainable.adapted.unload().save_pretrained(run / "base")
        base = AutoModelForCausalLM.from_pretrained(run / "base", dtype=torch.float32)
        return difference(PeftModel.from_pretrained(base, run / "adapter"), ids, expected)


def train(trainable: TrainableModel, conversations: Sequence[Conversation], steps: int) -> list[Tensor]:
    """Trains on the first conversations; the ids of the last, (1, T) each."""
    rendered = [one.input_ids[:LONGEST] for one in GraftFormat(trainable.tokenizer).render_set(conversations)]
    optimizer = make_optimizer(trainable, 3e-3, 3e-3, 0.0)
    loss_model = SupervisedLoss(trainable.model)
    for step in range(steps):
        rows = [(ids, [*ids[1:], IGNORED_TARGET]) for ids in rendered[step % 4 : TRAINED_ON : 4]]
        micro_batch = pad(rows)
        loss = loss_model(**micro_batch) / (micro_batch["targets"] != IGNORED_TARGET).sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return [torch.tensor([ids]) for ids in rendered[TRAINED_ON:]]


@torch.no_grad()
def logits_of(model: torch.nn.Module, ids: Sequence[Tensor]) -> Tensor:
    """All logits of the rows, one under another."""
    return torch.cat([model.eval()(input_ids=row, use_cache=False).logits[0] for row in ids])


def difference(model: torch.nn.Module, ids: Sequence[Tensor], expected: Tensor) -> float:
    """The largest one of a logit."""
    return float((logits_of(model, ids) - expected).abs().max())


def _llama_like(model: PreTrainedModel) -> PreTrainedModel:
    config = model.config
    torch.manual_seed(0)
    shape = {
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": 2 * config.hidden_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": config.max_position_embeddings,
        "bos_token_id": config.bos_token_id,
        "eos_token_id": config.eos_token_id,
    }
    return LlamaForCausalLM(LlamaConfig(**shape)).eval()


def main() -> None:
    """Trains, merges, compares, shows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--base", default=str(EMBEDDED_BASE), help="a GPT-2: a folder or a Hub name")
    parser.add_argument("--steps", type=int, default=4, help="optimizer steps before a model is saved")
    arguments = parser.parse_args()
    quiet_libraries()
    warnings.simplefilter("ignore")
    started = time.perf_counter()
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(arguments.base, arguments.steps, Path(folder))
        print(f"{'model':<12}{'head':<8}{'new rows':<10}" + "".join(f"{name:>10}" for name in VARIANTS))
        for architecture, tied, new_rows in itertools.product(("gpt2", "llama"), (True, False), (True, False)):
            cases = [Case(architecture, tied, new_rows, variant) for variant in VARIANTS]
            found = [max(bench.measure(case)) for case in cases]
            worst = max(worst, *found)
            row = f"{architecture:<12}{'tied' if tied else 'untied':<8}{'yes' if new_rows else 'no':<10}"
            print(row + "".join(f"{one:>10.1e}" for one in found), flush=True)
        print(
            f"\nPiSSA's adapter, as peft saves it, beside the base that trained: {bench.measure_careless_pissa():.1e}"
        )
    print(f"\n{time.perf_counter() - started:.0f} s; largest difference of a logit, fp32, after reload from disk")
    print(f"wanted: <= {LIMIT:.0e}   seen: {worst:.1e}")


if __name__ == "__main__":
    main()
