"""The model card of a finished run: what it is, how to use it, what it was made of, how it compares with its base."""

from pathlib import Path

from finetune.report import Report, to_markdown

HEADER = """---
base_model: {base}
library_name: {library}
pipeline_tag: text-generation
tags: [graft, conversational]
---

# {title}

{opening}

```python
{usage}
```

## Against its base

{table}
The base is asked in three plain-text ways, and each of its figures is from the way that suits it best.

## Made of

{facts}
"""
OPEN_ADAPTER = """from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "adapter")
tokenizer = AutoTokenizer.from_pretrained("base")"""
OPEN_MODEL = """from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained(".")
tokenizer = AutoTokenizer.from_pretrained(".")"""
USE = """
chat = [{"role": "user", "content": "..."}]
ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
print(tokenizer.decode(model.generate(**ids, max_new_tokens=96)[0]))"""


def write_model_card(report: Report, base: str, final: Path) -> None:
    """Writes `final/README.md`."""
    has_adapter = (final / "adapter").is_dir()
    opening = (
        "`base/` holds the extended model with the trained rows of its new tokens, `adapter/` the LoRA adapter on top of it."
        if has_adapter
        else "Every weight was trained."
    )
    card = HEADER.format(
        base=base,
        library="peft" if has_adapter else "transformers",
        title=report.title,
        opening=opening,
        usage=(OPEN_ADAPTER if has_adapter else OPEN_MODEL) + "\n" + USE,
        table=to_markdown(report.base, report.assistant),
        facts="\n".join(f"- {name}: {value}" for name, value in report.facts.items()),
    )
    (final / "README.md").write_text(card, encoding="utf-8")
