"""Runs of a few steps on a tiny base, every step of which leaves a checkpoint."""

from pathlib import Path
from typing import Any

from finetune.supervised.run import fine_tune
from finetune.supervised.settings import SftSettings
from tests.finetune.tiny_models import save_tiny_base, write_questions


def tune(folder: Path, steps: int, **way) -> Path:
    """The folder of a run under `folder`, on a base there that is made once; nothing of it is drawn by chance."""
    base, data = folder / "base", folder / "data.jsonl"
    if not base.is_dir():
        save_tiny_base(base)
        write_questions(data)
    settings: dict[str, Any] = {
        **{"new_tokens": 0, "learning_rate": 0.01, **way},
        **{"schedule": "constant", "warmup_share": 0.0, "lora_rank": 4, "lora_dropout": 0.0, "evaluation_steps": 0},
        **{"checkpoint_steps": 1, "checkpoints_kept": 0, "evaluation_conversations": 1, "reply_tokens": 2},
        **{"base": str(base), "data": str(data), "max_steps": steps, "output_dir": str(folder / f"run-{steps}")},
    }
    run = fine_tune(SftSettings(**settings))
    assert run is not None
    return run.path
