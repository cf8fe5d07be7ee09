"""The model card of a finished run: how to use it, how it compares with its base, what it was made of.

A card is read by strangers, so it names no folder of this machine: of a path it keeps the last part.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from configs.file_hash import file_sha256
from scratch_models.loop.run_folder import RECORD, find_run
from tokenizer_ext.foreign.adapter_folder import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from tokenizer_ext.huggingface.hub_names import is_on_hub
from tokenizer_ext.pages.markdown_text import as_text, fence_for

CARD = """---
{front}---

# {title}

{opening}

```python
{usage}
```

{paths}

{sections}"""
SECTIONS = """## {heading}

{comparison}
## Made of

{facts}

## Settings

{fence}yaml
{settings}
{fence}

## Hashes

{hashes}
"""
FILE = "README.md"
OF_THIS_MACHINE = ("output_dir", "resume", "dry_run")
BESIDE_OPENING = "`base/` is the extended model with the trained rows of its new tokens, `adapter/` the LoRA adapter."
ADAPTER_OPENING = (
    "An adapter, with its tokenizer. Nothing of its base is copied, since nothing of it changed: `adapter_config.json` "
    "names it, and `base.json` holds the hash of its weights."
)
BASE_KEPT = "the base"
"""The fact of what became of the base, among those that a card is made of."""
PATHS = "The paths are relative to this folder."
BESIDE_PATHS = (
    PATHS
    + ' From the Hub, give the name of the repository and `subfolder="base"` or `subfolder="adapter"` in their place.'
)
MERGED_OPENING = (
    "The adapter is merged into the base, as one model. `receipt.json` says how far its logits lie from the adapter's, "
    "compared after it was read back from disk."
)
OPEN_ADAPTER = """from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer, GenerationConfig

model = AutoPeftModelForCausalLM.from_pretrained(".")
model.generation_config = GenerationConfig.from_pretrained(".")
tokenizer = AutoTokenizer.from_pretrained(".")
"""
OPEN_BESIDE = """from peft import PeftModel
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
CONTINUE = """
inputs = tokenizer("...", return_tensors="pt")
text = model.generate(**inputs, max_new_tokens=96)[0]
print(tokenizer.decode(text, skip_special_tokens=True))"""
CONVERSATIONAL = "conversational"
"""The tag of a model that was tuned on conversations."""
SHA256 = re.compile(r"_sha256$")


@dataclass(frozen=True, kw_only=True)
class Form:
    """How the folder beside a card holds its model, and what the card says of that."""

    library: str
    opening: str
    usage: str
    paths: str

    def of_kind(self, *, conversational: bool) -> "Form":
        """The form of a model that is asked, or of one that continues text."""
        return self if conversational else replace(self, usage=self.usage.replace(USE, CONTINUE))


ADAPTER = Form(library="peft", opening=ADAPTER_OPENING, usage=OPEN_ADAPTER + USE, paths=PATHS)
BESIDE = Form(library="peft", opening=BESIDE_OPENING, usage=OPEN_BESIDE + USE, paths=BESIDE_PATHS)
WHOLE = Form(library="transformers", opening="Every weight was trained.", usage=OPEN_MODEL + USE, paths=PATHS)
MERGED = replace(WHOLE, opening=MERGED_OPENING)


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """A card, of which only the beginning depends on how the folder holds the model."""

    front: Mapping[str, Any]
    """What the Hub reads; the library is that of the form."""
    title: str
    form: Form
    sections: str
    """The comparison, and what the model was made of."""

    def render(self) -> str:
        """The text of the card."""
        front = yaml.safe_dump({**self.front, "library_name": self.form.library}, sort_keys=False)
        parts = {"opening": self.form.opening, "usage": self.form.usage, "paths": self.form.paths}
        return CARD.format(front=front, title=self.title, sections=self.sections, **parts)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What a card says of the model beside the one that it was made from."""

    heading: str
    text: str
    """Markdown, with a line break at its end."""


def write_model_card(
    final: Path,
    *,
    title: str,
    base: str,
    comparison: Comparison,
    facts: Mapping[str, str],
    record: Mapping[str, Any] | None = None,
    conversational: bool = True,
    form: Form | None = None,
) -> None:
    """Writes `final/README.md`; settings and hashes are those of `record`, by default of the `run.json` beside it.

    It shows how to chat with the model, where that is not `conversational` how to continue a text, or what `form` says.
    """
    if record is None:
        record = {} if (run := find_run(final)) is None else run.record()
    settings = {name: value for name, value in record.get("settings", {}).items() if name not in OF_THIS_MACHINE}
    written = yaml.safe_dump({name: _public(value) for name, value in settings.items()}, sort_keys=False).strip()
    sections = SECTIONS.format(
        heading=comparison.heading,
        comparison=comparison.text,
        facts=_facts(facts, record.get("versions", {})),
        settings=written,
        fence=fence_for(written),
        hashes=_hashes(record, final),
    )
    own = BESIDE if (final / "adapter").is_dir() else ADAPTER if (final / ADAPTER_CONFIG).is_file() else WHOLE
    front = _front(base, settings.get("data"), conversational=conversational)
    form = (form or own).of_kind(conversational=conversational)
    card = ModelCard(front=front, title=as_text(title), form=form, sections=sections)
    (final / FILE).write_text(card.render(), encoding="utf-8")


def write_merged_card(adapter: Path, merged: Path) -> None:
    """Writes the card of an adapter's run, beside or above it, into the merged folder; others have none of ours."""
    card = _read_card(adapter / FILE) or _read_card(adapter.parent / FILE)
    if card is not None:
        form = MERGED.of_kind(conversational=CONVERSATIONAL in card.front.get("tags", ()))
        (merged / FILE).write_text(replace(card, form=form).render(), encoding="utf-8")


def _read_card(path: Path) -> ModelCard | None:
    """The card of a run with an adapter; None where there is none, or another's."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    beginning, mark, sections = text.partition("\n## ")
    form = next((form for form in (ADAPTER, BESIDE) if form.opening in beginning), None)
    if form is None or not mark:
        return None
    try:
        _, front, title = beginning.split("---\n", 2)
        fields = yaml.safe_load(front)
    except (ValueError, yaml.YAMLError, RecursionError):
        return None
    return ModelCard(
        front=fields,
        title=title.split("\n# ", 1)[1].partition("\n")[0],
        form=form,
        sections=f"## {sections}",
    )


def public_name(name: str) -> str:
    """A name on the Hub as it is, of a path its last part.

    >>> public_name("openai-community/gpt2"), public_name("/home/somebody/chats.jsonl"), public_name("embedded")
    ('openai-community/gpt2', 'chats.jsonl', 'embedded')
    """
    return name if is_on_hub(name) or "/" not in name else Path(name).name


def _public(value: Any) -> Any:
    # A sentence is no path, though it may hold a slash.
    if isinstance(value, list):
        return [_public(one) for one in value]
    return public_name(value) if isinstance(value, str) and " " not in value else value


def _facts(facts: Mapping[str, str], versions: Mapping[str, str]) -> str:
    said = {name: as_text(_public(value)) for name, value in facts.items() if value != RECORD}  # it stays where it is
    if versions:
        said["versions"] = ", ".join(f"{name} {version}" for name, version in versions.items())
    return "\n".join(f"- {name}: {str(value).replace(chr(10), '; ')}" for name, value in said.items())


def _hashes(record: Mapping[str, Any], final: Path) -> str:
    hashes = {SHA256.sub("", name): value for name, value in record.items() if SHA256.search(name)}
    for adapter in (final / "adapter" / ADAPTER_WEIGHTS, final / ADAPTER_WEIGHTS):
        if adapter.is_file():
            hashes["adapter"] = file_sha256(adapter)
    return "\n".join(f"- {name}: sha256 `{value}`" for name, value in hashes.items())


def _front(base: str, data: str | list[str] | None, *, conversational: bool) -> dict[str, Any]:
    front: dict[str, Any] = {}
    if is_on_hub(base):
        front["base_model"] = base
    named = [data or ""] if data is None or isinstance(data, str) else data
    if on_hub := [name for name in (one.partition(":")[0] for one in named) if is_on_hub(name)]:
        front["datasets"] = on_hub
    # Its value, the library, depends on how the folder holds the model; its place does not.
    tags = ["graft", *([CONVERSATIONAL] if conversational else [])]
    return {**front, "library_name": "", "pipeline_tag": "text-generation", "tags": tags}
