"""The model card of a finished run: how to use it, how it compares with its base, what it was made of."""

import re
from pathlib import Path

from finetune.report import Report
from finetune.score_table import to_markdown

CARD = """---
{front}library_name: {library}
pipeline_tag: text-generation
tags: [graft, conversational]
---

# {title}

{opening}

```python
{usage}
```

The paths are relative to this folder.

## Against its base

{table}
The base is asked in three plain-text ways, and each of its figures is from the way that suits it best.

## Made of

{facts}
"""
ADAPTER_OPENING = "`base/` is the extended model with the trained rows of its new tokens, `adapter/` the LoRA adapter."
OPEN_ADAPTER = """from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "adapter")
tokenizer = AutoTokenizer.from_pretrained("base")
"""
OPEN_MODEL = """from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained(".")
tokenizer = AutoTokenizer.from_pretrained(".")
"""
USE = """
chat = [{"role": "user", "content": "..."}]
inputs = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
reply = model.generate(**inputs, max_new_tokens=96)[0, inputs["input_ids"].shape[1] :]
print(tokenizer.decode(reply, skip_special_tokens=True))"""
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def write_model_card(report: Report, base: str, final: Path) -> None:
    """Writes `final/README.md`; `base_model` is said only where the base has a name on the Hub."""
    has_adapter = (final / "adapter").is_dir()
    is_on_hub = HUB_NAME.fullmatch(base) and not Path(base).exists()
    card = CARD.format(
        front=f"base_model: {base}\n" if is_on_hub else "",
        library="peft" if has_adapter else "transformers",
        title=report.title,
        opening=ADAPTER_OPENING if has_adapter else "Every weight was trained.",
        usage=(OPEN_ADAPTER if has_adapter else OPEN_MODEL) + USE,
        table=to_markdown(report.base, report.assistant),
        facts="\n".join(f"- {name}: {value}" for name, value in report.facts.items()),
    )
    (final / "README.md").write_text(card, encoding="utf-8")
