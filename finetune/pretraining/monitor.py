"""What is measured while a model reads on: bits per byte of each held-out text, and how it continues some of them."""

from collections.abc import Sequence
from typing import Any

from accelerate import Accelerator
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from finetune.engine.engine import Engine
from finetune.losses.supervised_loss import SupervisedLoss
from finetune.pretraining.dataset import PretrainDataset, Sample
from finetune.replies.generation import generate_ids
from scratch_models.corpus.bits_per_byte import bits_per_byte
from scratch_models.decoding.sampling_settings import Sampling
from scratch_models.loop.best_checkpoint import MEASURE
from scratch_models.loop.sharding import computes_in_step
from scratch_models.loop.training import held_out_loss
from tokenizer_ext.pages.progress import shown
from tokenizer_ext.pages.shortened import shorten
from tokenizer_ext.pages.terminal import printable

LOSS = "held_out_loss_nats"
LONGEST_LINE_CHARACTERS = 140


def measure_of(name: str, text: str) -> str:
    """What `metrics.jsonl` calls a figure of one text.

    >>> measure_of(MEASURE, "general.txt")
    'held_out_bits_per_byte/general.txt'
    """
    return f"{name}/{text}"


class TextMonitor:
    """The evaluation that the training loop calls, in every process; the main one also writes continuations."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerFast,
        dataset: PretrainDataset,
        accelerator: Accelerator,
        engine: Engine,
        sample_tokens: int,
    ) -> None:
        self.loss_model = SupervisedLoss(model, engine)
        if not computes_in_step(self.loss_model):
            self.loss_model.to(accelerator.device)
        self.model, self.tokenizer, self.accelerator = model, tokenizer, accelerator
        self.dataset, self.sample_tokens = dataset, sample_tokens
        self.micro_batches = [watched.micro_batches for watched in dataset.watched]

    def __call__(self, step: int) -> dict[str, Any]:
        """What the line of `metrics.jsonl` says of the held-out texts after a step."""
        figures: dict[str, Any] = self.held_out()
        if step and (self.accelerator.is_main_process or computes_in_step(self.loss_model)):
            figures |= self.write_on(step)
        return figures

    def held_out(self) -> dict[str, float]:
        """Nats per token and bits per byte of each text; those of the one that decides stand without its name too."""
        figures: dict[str, float] = {}
        for watched, micro_batches in zip(self.dataset.watched, self.micro_batches, strict=True):
            nats, targets = held_out_loss(self.loss_model, micro_batches, self.accelerator)
            found = {LOSS: nats / targets, MEASURE: bits_per_byte(nats, watched.text_bytes)}
            if watched.name == self.dataset.named.best_by:
                figures |= found
            figures |= {measure_of(name, watched.name): figure for name, figure in found.items()}
        return figures

    def write_on(self, step: int) -> dict[str, Any]:
        """How the model continues the first sample of each text, which is printed too."""
        firsts = {sample.text: sample for sample in reversed(self.dataset.samples)}
        samples = list(firsts.values())[::-1]
        written = continue_samples(self.model, self.tokenizer, samples, self.sample_tokens, self.dataset.ends.end_id)
        lines = [
            f"step {step}: {sample.text}: … {_on_one_line(text)}" for sample, text in zip(samples, written, strict=True)
        ]
        if self.accelerator.is_main_process:
            tqdm.write("\n".join(lines))
        return {"sample_texts": {sample.text: text for sample, text in zip(samples, written, strict=True)}}


@shown("continuing held-out texts")
def continue_samples(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, samples: Sequence[Sample], tokens: int, end_id: int
) -> list[str]:
    """The likeliest continuation of each sample, token by token, up to the end of a document."""
    replies = generate_ids(
        model,
        [sample.prompt for sample in samples],
        max_new_tokens=tokens,
        stop_ids=(end_id,),
        sampling=Sampling(temperature=0.0),
    )
    return [decode(tokenizer, reply.ids) for reply in replies]


def decode(tokenizer: PreTrainedTokenizerFast, ids: Sequence[int]) -> str:
    """The text of ids, without control tokens."""
    return str(tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))


def _on_one_line(text: str) -> str:
    return shorten(printable(" ".join(text.split())), LONGEST_LINE_CHARACTERS)
