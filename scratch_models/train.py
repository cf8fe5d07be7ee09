"""Trains a model from scratch: a bigram table or a GPT, on characters or on BPE ids.

    python -m scratch_models.train --config configs/bigram.yaml
    accelerate launch scratch_models/train.py --config configs/gpt_char.yaml --data my_text.txt

It reads the text, makes the model, trains it with the loop of `loop/training.py`, saves it to `<run>/final`, and
prints the loss and a sample. What can be set stands in `train_settings.py`, what happens in which order in
`from_scratch.py`.
"""

from configs import run_entry
from scratch_models.train_settings import TrainSettings


def main(settings: TrainSettings) -> None:
    """Trains; torch is imported here, so that `--help` and a mistake need not wait for it."""
    from scratch_models.from_scratch import train_from_scratch

    train_from_scratch(settings)


if __name__ == "__main__":
    run_entry(main, TrainSettings)
