"""The asymmetric start of new rows against the mean start, on an untied model of the embedded recipe.

    accelerate launch scratch_models/train.py --config configs/embedded_base.yaml --tied false --name untied-base \
        --max_steps 600 --warmup_steps 30 --output_dir runs/untied-base
    python -m scratch_models.embedded_base --run runs/untied-base --folder runs/untied-base-folder
    python -m tests.benchmarks.row_starts runs/untied-base-folder

Both starts get 1,000 tokens of documentation like that which the model has read, so that what it knows of the words in
their parts is all there is to gain, the same blocks in the same order, and each of a few learning rates; each is judged
by its best one. Shown is when the asymmetric start reaches the held-out bits per byte that the mean start reaches in
500 steps. 4 to 10 minutes on one core. With `--text domain` the tokens and blocks are of torch's documentation, which
the model never read: there the rows also learn the domain, which takes as long from any start. The more text a step
reads, the sooner the mean start catches up: `--blocks_per_batch 4` shows it.
"""

import argparse
from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from accelerate import Accelerator
from tqdm import tqdm
from transformers import PreTrainedModel

from finetune.losses.supervised_loss import SupervisedLoss
from finetune.rows.base_reading import read_parts
from finetune.rows.dataset import RowDataset, Texts, read_texts, text_dataset
from finetune.rows.training import HeldOutEvaluation, fill_new_rows, make_row_optimizer, make_start
from scratch_models.corpus.embedded_corpus import embedded_corpus
from scratch_models.loop.micro_batches import count_targets
from tokenizer_ext.embeddings.start_names import Start
from tokenizer_ext.embeddings.tables import separate_new_rows
from tokenizer_ext.extension.extension import extend_vocabulary
from tokenizer_ext.huggingface.hf_tokenizer import character_counts
from tokenizer_ext.pages.terminal import quiet_libraries

NEW_TOKENS, STEPS, WANTED_SHARE = 1000, 500, 1 / 3
RATES = (1e-3, 3e-3)
SHAPE = {"block_size": 128, "evaluation_blocks": 48}
EVALUATION_STEPS = (0, 10, 25, 50, 75, 100, 133, 166, 250, 375, 500)

Curve = dict[int, float]
"""Step -> held-out bits per byte."""


class Bench:
    """A model whose new rows are filled and trained again and again."""

    def __init__(self, folder: str, text: Literal["base", "domain"], blocks_per_batch: int) -> None:
        texts = read_texts(None) if text == "domain" else read_texts_of_base()
        extended = extend_vocabulary(folder, corpus=texts.training, new_tokens=NEW_TOKENS)
        self.model: PreTrainedModel = extended.model.float()
        parts = read_parts(extended.tokenizer, extended.first_new_id)
        self.sub_tokens = [parts[merge.token] for merge in extended.merges]
        self.characters = character_counts(extended.tokenizer)
        self.dataset: RowDataset = text_dataset(texts, extended.tokenizer, blocks_per_batch=blocks_per_batch, **SHAPE)
        separate_new_rows(self.model, extended.first_new_id, NEW_TOKENS)
        self.accelerator = Accelerator(cpu=True, mixed_precision="bf16")
        self.loss_model = SupervisedLoss(self.model)
        self.evaluate = HeldOutEvaluation(self.loss_model, self.dataset.held_out, self.accelerator)

    def train(self, start: Start, rate: float, wanted: float = 0.0) -> Iterator[tuple[int, float]]:
        """The curve from a start, to its end or until it is as low as `wanted`."""
        fill_new_rows(self.model, make_start(self.model, self.sub_tokens, start, 0, self.characters))
        optimizer = make_row_optimizer(self.model, rate, None, 0.0)
        batches = self.dataset.make_batches(0)
        for step in tqdm(range(STEPS + 1), desc=f"{start} at {rate:g}"):
            if step in EVALUATION_STEPS:
                figure = self.evaluate(step)["held_out_bits_per_byte"]
                tqdm.write(f"{start} at {rate:g}, step {step}: {figure:.4f}")
                yield step, figure
                if figure <= wanted:
                    return
            (micro_batch,) = batches.micro_batches(step, 0, 1)
            with self.accelerator.autocast():
                loss = self.loss_model(**micro_batch)
            (loss / count_targets(micro_batch)).backward()
            torch.nn.utils.clip_grad_norm_(self.loss_model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()


def read_texts_of_base() -> Texts:
    """An eighth of what the embedded base reads, and what is held out of that."""
    corpus = embedded_corpus()
    read = [document.text for document in corpus.base[::8]]
    return Texts(read, [document.text for document in corpus.base_held_out], corpus.sha256("base"))


def main() -> None:
    """Trains from both starts and prints the curves."""
    quiet_libraries()
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", help="the untied model")
    parser.add_argument("--text", choices=("base", "domain"), default="base", help="what new tokens come from")
    parser.add_argument("--blocks_per_batch", type=int, default=2, help="blocks of 128 tokens that a step reads")
    given = parser.parse_args()
    if given.folder is None:
        print("skipped: no folder of an untied model given; the head of this file says how to train one")
        return
    bench = Bench(given.folder, given.text, given.blocks_per_batch)
    of_mean = {rate: dict(bench.train("mean", rate)) for rate in RATES}
    wanted = min(curve[STEPS] for curve in of_mean.values())
    of_asymmetric = {rate: dict(bench.train("asymmetric", rate, wanted)) for rate in RATES}
    print(f"\nheld-out bits per byte, {bench.dataset.describe()}")
    show("mean", of_mean)
    show("asymmetric", of_asymmetric)
    reached = [step for curve in of_asymmetric.values() for step, figure in curve.items() if figure <= wanted]
    print(f"mean reaches {wanted:.4f} in {STEPS} steps at its best rate")
    print(
        f"asymmetric reaches it   wanted: <= {int(STEPS * WANTED_SHARE)} steps   seen: {min(reached, default='never')}"
    )


def show(start: str, curves: dict[float, Curve]) -> None:
    """One line a learning rate."""
    print(f"{start:<16}{''.join(f'{step:>8}' for step in EVALUATION_STEPS)}")
    for rate, curve in curves.items():
        print(f"    rate {rate:<7g}{_line([curve.get(step) for step in EVALUATION_STEPS])}")


def _line(figures: Sequence[float | None]) -> str:
    return "".join("        " if figure is None else f"{figure:8.4f}" for figure in figures)


if __name__ == "__main__":
    main()
