"""Compresses a long prompt into the rows of a few new control tokens; every weight of the base stays as it is.

    python -m finetune.gist --prompt system_prompt.txt --base smollm2 --tokens 8
    python -m finetune.gist --prompt system_prompt.txt --base runs/sft-1 --data my_chats.jsonl
    python -m finetune.gist --prompt system_prompt.txt --base smollm2 --dry_run

Replies after `<|gist_0|>...<|gist_7|>` learn to be distributed as the base's own after the whole prompt. Questions come
from `--data`, their replies from the base. It leaves the model in `<run>/final`, its new rows alone in `<run>/delta`,
and what is left of the difference in `<run>/report.html`. What can be set stands in `gisting/settings.py`, what happens
in which order in `gisting/run.py`.
"""

from configs import run_entry
from finetune.gisting.settings import GistSettings


def main(settings: GistSettings) -> None:
    """Trains the rows; torch and transformers are imported here, so that `--help` need not wait for them."""
    from finetune.gisting.run import train_gist

    train_gist(settings)


if __name__ == "__main__":
    run_entry(main, GistSettings)
