"""Pretrains a model further on raw text: LoRA, or every weight.

    accelerate launch finetune/pretrain.py
    accelerate launch finetune/pretrain.py --base extended --corpus domain.txt:1 general.jsonl:0.3
    python -m finetune.pretrain --base smollm2 --corpus field.txt --watched other.txt --keep_best --best_by field.txt
    python -m finetune.pretrain --base runs/new-rows-1 --corpus field.txt --method full --dry_run

With no argument it reads torch's documentation into the embedded base, which never saw it, and 0.3 times as much of
what that base did read. Bits per byte of held-out text of each corpus are measured apart: what is gained in the one
and lost in the other. It leaves `run.json`, `metrics.jsonl`, `checkpoints/`, `final/` and `report.html` in a new folder
under `runs/`. What can be set stands in `pretraining/settings.py`, what happens in order in `pretraining/run.py`.
"""

from configs import run_entry
from finetune.pretraining.settings import PretrainSettings


def main(settings: PretrainSettings) -> None:
    """Pretrains; torch and transformers are imported here, so that `--help` and a mistake need not wait for them."""
    from finetune.pretraining.run import pretrain

    pretrain(settings)


if __name__ == "__main__":
    run_entry(main, PretrainSettings)
