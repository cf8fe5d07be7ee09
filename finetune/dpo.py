"""Teaches a model which of two replies is preferred (direct preference optimization, Rafailov et al. 2023).

    python -m finetune.dpo --base runs/sft-1 --data my_pairs.jsonl
    accelerate launch finetune/dpo.py --base openai-community/gpt2 --data trl-lib/ultrafeedback_binarized
    python -m finetune.dpo --help

Each pair has a `prompt`, a `chosen` and a `rejected` reply. The reference is the model as it is before it learns: the
adapter switched off, so there is no second model, and its log-probabilities are computed once. With no argument it
takes the embedded base and pairs about Python signatures, the right answer against a wrong one. It leaves `run.json`,
`metrics.jsonl`, `checkpoints/`, `final/` and `report.html` in a new folder under `runs/`. What can be set stands in
`preference/settings.py`, what happens in which order in `preference/run.py`.
"""

from configs import run_entry
from finetune.preference.settings import DpoSettings


def main(settings: DpoSettings) -> None:
    """Teaches the preferences; torch and transformers are imported here, so that `--help` need not wait for them."""
    from finetune.preference.run import teach_preferences

    teach_preferences(settings)


if __name__ == "__main__":
    run_entry(main, DpoSettings)
