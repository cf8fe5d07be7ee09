"""From base model to assistant: chat format, supervised loss, adapters, evaluation, replies.

from finetune import finetune, open_run, prefer

run = finetune("smollm2", [{"question": "1+1?", "answer": "2"}, ...], epochs=1)
run.chat("2+2?")
better = prefer(run, [{"prompt": "2+2?", "chosen": "4", "rejected": "5"}, ...])
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from finetune.api.calls import finetune, open_run, prefer
    from finetune.api.tuned_run import TunedRun

__all__ = ["finetune", "prefer", "open_run", "TunedRun"]


def __getattr__(name: str) -> Any:
    # At first use: what is imported here is imported by every entry before it reads its settings.
    if name in __all__:
        return getattr(importlib.import_module(f"finetune.api.{'tuned_run' if name == 'TunedRun' else 'calls'}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
