"""Turns a base model into an assistant.

    accelerate launch finetune/sft.py
    accelerate launch finetune/sft.py --base openai-community/gpt2 --data my_chats.jsonl
    python -m finetune.sft --data my_chats.jsonl --dry_run    # what it would take; one process needs no launcher
    python -m finetune.sft --lora_options.use_dora --target_modules "[c_attn, c_proj]"
    python -m finetune.sft --help

With no argument it takes the embedded base, teaches it the words of a domain that it never read, trains LoRA and the
rows of the new tokens on questions about that domain, and shows base and assistant side by side. It leaves `run.json`,
`metrics.jsonl`, `checkpoints/`, `final/` and `report.html` in a new folder under `runs/`. What can be set stands in
`supervised/settings.py`, what happens in which order in `supervised/run.py`.
"""

from configs import run_entry
from finetune.supervised.settings import SftSettings


def main(settings: SftSettings) -> None:
    """Fine-tunes; torch and transformers are imported here, so that `--help` and a mistake need not wait for them."""
    from finetune.supervised.run import fine_tune

    fine_tune(settings)


if __name__ == "__main__":
    run_entry(main, SftSettings)
