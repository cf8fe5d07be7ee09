"""Several adapters on one base: found, checked, loaded as one model or saved as one folder that is proved."""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from peft import PeftModel
from transformers import PreTrainedTokenizerFast

from configs import InputError, MissingInput
from configs.file_hash import file_sha256
from configs.manifest import MANIFEST, check_manifest, seal, sealed_folder
from configs.read_in_one_line import read_in_one_line
from configs.whole_folder import check_new_folder
from finetune.export.adapter_base import adapter_fields, base_of_adapter
from finetune.export.logit_comparison import compare_logits, logits_of, probe_ids
from finetune.export.receipt import LIMIT
from finetune.export.saved_model import find_model, load_adapted, tokenizer_folder
from tokenizer_ext.foreign.adapter_folder import ADAPTER_CONFIG, ADAPTER_WEIGHTS, check_adapter_folder
from tokenizer_ext.foreign.files_in_folder import PICKLES
from tokenizer_ext.foreign.template_trial import check_templates
from tokenizer_ext.foreign.weight_headers import read_headers
from tokenizer_ext.huggingface.hf_model import positions_of
from tokenizer_ext.huggingface.hf_tokenizer import next_token_id
from tokenizer_ext.pages.progress import shown

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
NOT_COPIED = shutil.ignore_patterns(*(f"*{suffix}" for suffix in (*PICKLES, ".py")), MANIFEST)
"""What is not copied on: files of a foreign folder, which nothing here opened, and the manifest of another folder."""
CARD = """# {title}

`base/` is the model, each other folder an adapter on it.

```python
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "{first}", adapter_name="{first}")
{others}
model.set_adapter("{first}")
tokenizer = AutoTokenizer.from_pretrained("{tokenizer}")
```
"""
SERVE = """
    vllm serve base --enable-lora --max-lora-rank {rank} --lora-modules {modules}
"""


def load_adapters(tuned: Mapping[str, str | Path]) -> tuple[PeftModel, PreTrainedTokenizerFast]:
    """One model with every adapter under its name, the first of them active, and the tokenizer of the base.

    `set_adapter(name)` switches; `disable_adapter()` gives the base; `generate(adapter_names=[...])` takes one a row.

    Raises:
        InputError: there are no two adapters, a name cannot be used, or they were not trained on one base.

    """
    adapters = find_adapters(tuned)
    (first, path), *others = adapters.items()
    adapted, tokenizer = load_adapted(path, first)
    modules = [module for module, _ in adapted.get_base_model().named_modules()]
    for name, other in others:
        check_adapter_folder(other, modules)
        with read_in_one_line(f"{other}: no adapter for the base of {first}", "expected what a run wrote to final/"):
            adapted.load_adapter(str(other), adapter_name=name)
    return adapted.eval(), tokenizer


@shown("gathering the adapters")
def save_adapters(tuned: Mapping[str, str | Path], target: str | Path) -> float:
    """Writes the base once and every adapter, complete or not at all; the largest difference to each one alone.

    Raises:
        InputError: as `load_adapters`, or `target` holds something.

    """
    check_new_folder(target)
    adapters, target = find_adapters(tuned), Path(target)
    with sealed_folder(target) as partial:
        shutil.copytree(_base_of(next(iter(adapters.values()))), partial / "base", ignore=NOT_COPIED)
        for name, adapter in adapters.items():
            _copy_adapter(adapter, partial / name)
        (partial / "README.md").write_text(_card(target.name, adapters), encoding="utf-8")
        seal(partial)  # what is opened again must have one
        return _largest_difference(adapters, {name: partial / name for name in adapters})


def find_adapters(tuned: Mapping[str, str | Path]) -> dict[str, Path]:
    """The folder of each adapter by name, all of them trained on one base.

    Raises:
        InputError: they are fewer than two, one is missing, a name cannot be used, or the bases differ.

    """
    if len(tuned) < 2:
        raise InputError(f"tuned: found {len(tuned)} adapters, expected two or more, such as --tuned.sums runs/sft-1")
    adapters = {}
    for name, given in tuned.items():
        if not NAME.fullmatch(name) or name == "base":
            raise InputError(f"tuned: found the name {name!r}, expected letters, digits, _ and -, and not base")
        adapters[name] = find_model(given)
        if not (adapters[name] / ADAPTER_CONFIG).is_file():
            raise MissingInput(f"{given}: holds no adapter, expected a run that was tuned with LoRA")
        tensors = _tensor_names(adapters[name])
        if name in {part for tensor in tensors for part in tensor.split(".")}:
            raise InputError(
                f"tuned: found the name {name!r}, a part of the names of its tensors, by which peft would lose "
                "those of the others when it saves them: choose another"
            )
        if parts := _parts_of_base(adapters[name], tensors):
            raise InputError(f"{given}: trained {parts} of the base, which the adapters would share: merge it instead")
    _check_one_base(adapters)
    return adapters


def _check_one_base(adapters: Mapping[str, Path]) -> None:
    (first, path), *others = adapters.items()
    elsewhere = {name: other for name, other in others if _base_of(other).resolve() != _base_of(path).resolve()}
    expected = _base_files(path) if elsewhere else {}
    for name, other in elsewhere.items():
        found = _base_files(other)
        if different := sorted(file for file in expected | found if expected.get(file) != found.get(file)):
            raise InputError(
                f"{name}: its base is not that of {first} ({different[0]} differs): train it on the base of {first} "
                "and add no tokens to it, since their rows are trained with the adapter: "
                f"--base {base_of_adapter(path)} --new_tokens 0"
            )


def _tensor_names(adapter: Path) -> list[str]:
    if not (adapter / ADAPTER_WEIGHTS).is_file():
        raise MissingInput(f"{adapter}: holds no {ADAPTER_WEIGHTS}, expected what peft writes")
    return list(read_headers([adapter / ADAPTER_WEIGHTS]))


def _parts_of_base(adapter: Path, tensors: Sequence[str]) -> str | None:
    """What of the base itself an adapter trained, and would bring to all others; None where it is nothing."""
    fields = adapter_fields(adapter)
    if fields.get("bias", "none") != "none":
        return "biases"
    if fields.get("peft_type") != "LORA":
        return None
    own = tuple(f".{name}" for name in fields.get("modules_to_save") or ())
    names = [name for name in tensors if "lora_" not in name and "trainable_tokens" not in name]
    trained = [name.rpartition(".")[0] for name in names]
    return next((name for name in trained if not name.endswith(own)), None)


def _base_of(adapter: Path) -> Path:
    """The folder of the base that an adapter names, fetched where that is a name on the Hub.

    Raises:
        InputError: there is none.

    """
    base = Path(base_of_adapter(adapter))
    if not base.is_dir():
        raise MissingInput(f"{adapter}: its base {base} is not there: get it, or name it in {ADAPTER_CONFIG}")
    check_manifest(base)
    return base


def _base_files(adapter: Path) -> dict[str, str]:
    """What decides what a base says: the hashes of its weights and of its tokenizer."""
    base = _base_of(adapter)
    decisive = (*base.glob("*.safetensors"), *base.glob("tokenizer.json"))
    return {path.name: file_sha256(path) for path in decisive}


def _copy_adapter(adapter: Path, folder: Path) -> None:
    shutil.copytree(adapter, folder, ignore=NOT_COPIED)
    config = {**adapter_fields(adapter), "base_model_name_or_path": "../base", "revision": None}
    (folder / ADAPTER_CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _largest_difference(adapters: Mapping[str, Path], gathered: Mapping[str, Path]) -> float:
    together, tokenizer = load_adapters(gathered)
    check_templates(tokenizer)
    ids = probe_ids(next_token_id(tokenizer), positions_of(together.get_base_model()))
    largest = 0.0
    for name, adapter in adapters.items():
        together.set_adapter(name)
        opened, own_tokenizer = load_adapted(adapter)
        check_templates(own_tokenizer)
        alone = logits_of(opened.get_base_model(), ids)
        largest = max(largest, compare_logits(together.get_base_model(), ids, alone).largest_difference)
    assert largest <= LIMIT, f"adapters disturb each other: logits differ by {largest}"
    return largest


def _card(title: str, adapters: Mapping[str, Path]) -> str:
    first, *others = adapters
    loaded = "\n".join(f'model.load_adapter("{name}", adapter_name="{name}")' for name in others)
    tokenizer = first if tokenizer_folder(adapters[first], "base") == adapters[first] else "base"
    card = CARD.format(title=title, first=first, others=loaded, tokenizer=tokenizer)
    configs = {name: adapter_fields(adapter) for name, adapter in adapters.items()}
    # vLLM serves plain LoRA; a DoRA, or one with whole modules beside it, has to be merged for it.
    plain = {
        name: one["r"]
        for name, one in configs.items()
        if one.get("peft_type") == "LORA" and not one.get("use_dora") and not one.get("modules_to_save")
    }
    if plain:
        card += SERVE.format(rank=max(plain.values()), modules=" ".join(f"{name}={name}" for name in plain))
    return card
