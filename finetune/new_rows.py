"""Trains only the rows of new tokens; every other weight of the model stays as it is, bit for bit.

    python -m finetune.new_rows
    python -m tokenizer_ext.extend --base DIR --corpus FILE --new_tokens 1000 --output_dir extended
    python -m finetune.new_rows --base extended --corpus FILE
    accelerate launch finetune/new_rows.py --base extended --data my_chats.jsonl --probe

With no argument it extends the embedded base by 1,000 tokens of a documentation that it never read, and trains their
rows on that. `--probe` first finds out which start of the rows is best. It leaves the trained model in `<run>/final`,
with a certificate that compares the old weights before and after, and what was measured in `<run>/new_rows.json`.
What can be set stands in `rows/settings.py`, what happens in which order in `rows/run.py`.
"""

from configs import run_entry
from finetune.rows.settings import NewRowsSettings


def main(settings: NewRowsSettings) -> None:
    """Trains the rows; torch and transformers are imported here, so that `--help` need not wait for them."""
    from finetune.rows.run import train_new_rows

    train_new_rows(settings)


if __name__ == "__main__":
    run_entry(main, NewRowsSettings)
