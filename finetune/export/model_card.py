"""The model card of a finished run: how to use it, how it compares with its base, what it was made of.

A card is read by strangers, so it names no folder of this machine: of a path it keeps the last part.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from configs.file_hash import file_sha256
from finetune.evaluation.report import Report
from finetune.evaluation.tables import to_markdown
from scratch_models.loop.run_folder import RECORD, find_run
from tokenizer_ext.huggingface.hub_names import is_on_hub

CARD = """---
{front}---

# {title}

{opening}

```python
{usage}
```

{paths}

## Against its base

{table}
The base is asked in three plain-text prompt formats, and in the chat format where it knows it; each of its figures is
from the way that suits it best.

## Made of

{facts}

## Settings

```yaml
{settings}
```

## Hashes

{hashes}
"""
FILE = "README.md"
OF_THIS_MACHINE = ("output_dir", "resume", "dry_run")
ADAPTER_OPENING = "`base/` is the extended model with the trained rows of its new tokens, `adapter/` the LoRA adapter."
PATHS = "The paths are relative to this folder."
ADAPTER_PATHS = (
    PATHS
    + ' From the Hub, give the name of the repository and `subfolder="base"` or `subfolder="adapter"` in their place.'
)
MERGED_OPENING = (
    "The adapter is merged into the base, as one model. `receipt.json` says how far its logits lie from the adapter's, "
    "compared after it was read back from disk."
)
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


SHA256 = re.compile(r"_sha256$")


def write_model_card(report: Report, base: str, final: Path, record: Mapping[str, Any] | None = None) -> None:
    """Writes `final/README.md`; settings and hashes are those of `record`, by default of the `run.json` beside it."""
    has_adapter = (final / "adapter").is_dir()
    if record is None:
        run = find_run(final)
        record = {} if run is None else run.record()
    settings = {name: value for name, value in record.get("settings", {}).items() if name not in OF_THIS_MACHINE}
    card = CARD.format(
        front=_front(base, settings.get("data"), has_adapter=has_adapter),
        title=report.title.replace(base, public_name(base)),
        opening=ADAPTER_OPENING if has_adapter else "Every weight was trained.",
        usage=(OPEN_ADAPTER if has_adapter else OPEN_MODEL) + USE,
        paths=ADAPTER_PATHS if has_adapter else PATHS,
        table=to_markdown(report.base, report.assistant),
        facts=_facts(report.facts, record.get("versions", {})),
        settings=yaml.safe_dump({name: _public(value) for name, value in settings.items()}, sort_keys=False).strip(),
        hashes=_hashes(record, final / "adapter" / "adapter_model.safetensors"),
    )
    (final / FILE).write_text(card, encoding="utf-8")


def write_merged_card(final: Path, merged: Path) -> None:
    """Writes the card of a run into the folder of its merged model; above other adapters there is none of ours."""
    card = (final / FILE).read_text(encoding="utf-8") if (final / FILE).is_file() else ""
    if ADAPTER_OPENING not in card:
        return
    changes = {
        "library_name: peft": "library_name: transformers",
        ADAPTER_OPENING: MERGED_OPENING,
        OPEN_ADAPTER: OPEN_MODEL,
        ADAPTER_PATHS: PATHS,
    }
    for before, after in changes.items():
        card = card.replace(before, after, 1)
    (merged / FILE).write_text(card, encoding="utf-8")


def public_name(name: str) -> str:
    """A name on the Hub as it is, of a path its last part.

    >>> public_name("openai-community/gpt2"), public_name("/home/somebody/chats.jsonl"), public_name("embedded")
    ('openai-community/gpt2', 'chats.jsonl', 'embedded')
    """
    return name if is_on_hub(name) or "/" not in name else Path(name).name


def _public(value: Any) -> Any:
    # A sentence is no path, though it may hold a slash.
    return public_name(value) if isinstance(value, str) and " " not in value else value


def _facts(facts: Mapping[str, str], versions: Mapping[str, str]) -> str:
    said = {name: _public(value) for name, value in facts.items() if value != RECORD}  # it stays where it is
    if versions:
        said["versions"] = ", ".join(f"{name} {version}" for name, version in versions.items())
    return "\n".join(f"- {name}: {str(value).replace(chr(10), '; ')}" for name, value in said.items())


def _hashes(record: Mapping[str, Any], adapter: Path) -> str:
    hashes = {SHA256.sub("", name): value for name, value in record.items() if SHA256.search(name)}
    if adapter.is_file():
        hashes["adapter"] = file_sha256(adapter)
    return "\n".join(f"- {name}: sha256 `{value}`" for name, value in hashes.items())


def _front(base: str, data: str | None, *, has_adapter: bool) -> str:
    front: dict[str, Any] = {}
    if is_on_hub(base):
        front["base_model"] = base
    data = (data or "").partition(":")[0]
    if is_on_hub(data):
        front["datasets"] = [data]
    front["library_name"] = "peft" if has_adapter else "transformers"
    front |= {"pipeline_tag": "text-generation", "tags": ["graft", "conversational"]}
    return yaml.safe_dump(front, sort_keys=False)
