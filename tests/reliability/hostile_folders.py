"""Folders that somebody made to do harm, each from a whole small base, with what the one line about it says."""

import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy
import torch
from safetensors.torch import load_file, save_file

Change = Callable[[Path], object]
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"


class Hostile(NamedTuple):
    """What is done to a base, and what is said of it."""

    change: Change
    said: str


class Canary:
    """An object that writes a file when somebody unpickles it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        """What unpickling runs."""
        return (os.mkdir, (str(self.path),))


def canary_of(folder: Path) -> Path:
    """What is there once code of the folder has run."""
    return folder.parent / "ran"


def plant_pickles(folder: Path) -> None:
    """Pickles under every name that a loader might look for, beside what is there."""
    names = ("pytorch_model.bin", "adapter_model.bin", "training_args.bin", "optimizer.pt", "scheduler.pt", "model.pt")
    for name in (*names, "model.pkl", "rng_state.pth", "vocab.pkl", "custom_checkpoint_0.pkl"):
        (folder / name).write_bytes(pickle.dumps(Canary(canary_of(folder))))
    numpy.save(folder / "table.npy", numpy.array([Canary(canary_of(folder))], dtype=object), allow_pickle=True)
    (folder / "pytorch_model.bin.index.json").write_text('{"weight_map": {"x": "pytorch_model.bin"}}')
    (folder / "modeling_evil.py").write_text(f"import os\nos.mkdir({str(canary_of(folder))!r})\n")


def fields_of(path: Path) -> dict[str, Any]:
    """The object in a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def change_fields(name: str, **fields: Any) -> Change:
    """Sets fields of a JSON file."""
    return lambda folder: _write(folder / name, {**fields_of(folder / name), **fields})


def change_pipeline(**stages: Any) -> Change:
    """Sets stages of tokenizer.json."""
    return change_fields("tokenizer.json", **stages)


def index_to(name: str) -> Change:
    """Puts an index in the place of the weights, which names this file for them."""

    def change(folder: Path) -> None:
        names = list(load_file(folder / WEIGHTS))
        plant_pickles(folder)
        (folder / WEIGHTS).rename(folder.parent / "outside.safetensors")
        _write(folder / INDEX, {"metadata": {}, "weight_map": dict.fromkeys(names, name.format(folder=folder))})

    return change


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def _write_text(name: str, text: str) -> Change:
    return lambda folder: (folder / name).write_text(text, encoding="utf-8")


def _index_that_is_a_list(folder: Path) -> None:
    index_to("x")(folder)
    _write(folder / INDEX, [])


def _only_pickles(folder: Path) -> None:
    plant_pickles(folder)
    torch.save(load_file(folder / WEIGHTS), folder / "pytorch_model.bin")
    (folder / WEIGHTS).unlink()


def _link(name: str, target: str) -> Change:
    def change(folder: Path) -> None:
        outside = folder.parent / "elsewhere"
        outside.mkdir(exist_ok=True)
        (folder / name).rename(outside / name)
        (folder / name).symlink_to(target.format(outside=outside, name=name))

    return change


def _fifo(folder: Path) -> None:
    (folder / "generation_config.json").unlink()
    os.mkfifo(folder / "generation_config.json")


def _two_tokens_with_one_id(folder: Path) -> None:
    content = fields_of(folder / "tokenizer.json")
    first, second = list(content["model"]["vocab"])[40:42]
    content["model"]["vocab"][second] = content["model"]["vocab"][first]
    _write(folder / "tokenizer.json", content)


def _two_added_tokens_with_one_id(folder: Path) -> None:
    content = fields_of(folder / "tokenizer.json")
    content["added_tokens"].append({**content["added_tokens"][0], "content": "<evil>"})
    _write(folder / "tokenizer.json", content)


def _an_id_far_away(folder: Path) -> None:
    content = fields_of(folder / "tokenizer.json")
    content["model"]["vocab"]["evil"] = 2_000_000_000
    _write(folder / "tokenizer.json", content)


def _header(text: bytes) -> Change:
    return lambda folder: (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(text)) + text)


def _a_name_twice(folder: Path) -> None:
    tensor = b'{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
    _header(b'{"a":' + tensor + b',"a":' + tensor + b"}")(folder)


def _an_adapter_beside(folder: Path) -> None:
    _write(folder / "adapter_config.json", {"peft_type": "LORA", "base_model_name_or_path": "/somewhere/else"})


def _type_of_weights(dtype: torch.dtype) -> Change:
    def change(folder: Path) -> None:
        tensors = {name: tensor.to(dtype) for name, tensor in load_file(folder / WEIGHTS).items()}
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})

    return change


def _replace(pattern: dict[str, str], content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def _split(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


MANY_EXPERTS = {
    **{"model_type": "mixtral", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4},
    **{"num_key_value_heads": 4, "intermediate_size": 4000, "num_local_experts": 4000},
}
MODELS = {
    "only pickles": Hostile(_only_pickles, "a pickle, which can run code, is not opened, expected model.safetensors"),
    "index of a pickle": Hostile(index_to("pytorch_model.bin"), "names 'pytorch_model.bin', expected safetensors"),
    "index with ..": Hostile(index_to("../outside.safetensors"), "is outside of its folder"),
    "index with a path": Hostile(index_to("{folder}/../outside.safetensors"), "is outside of its folder"),
    "index of nothing": Hostile(index_to("none.safetensors"), "which is not there, expected every shard"),
    "index that is a list": Hostile(_index_that_is_a_list, "holds a list, expected an object"),
    "weights by another name": Hostile(
        change_fields("config.json", transformers_weights="pytorch_model.bin"), "transformers_weights names"
    ),
    "header that is huge": Hostile(
        lambda folder: (folder / WEIGHTS).write_bytes(struct.pack("<Q", 1 << 63)), "no whole safetensors"
    ),
    "header that is deep": Hostile(_header(b'{"a":' + b"[" * 90_000), "no whole safetensors file"),
    "a tensor twice": Hostile(_a_name_twice, "a name stands twice in its header"),
    "code of its own": Hostile(
        change_fields("config.json", model_type="evil", auto_map={"AutoConfig": "modeling_evil.Evil"}),
        "contains custom code (auto_map) for the model_type 'evil'",
    ),
    "custom generate": Hostile(lambda folder: (folder / "custom_generate").mkdir(), "custom code is not run"),
    "kernel of the Hub": Hostile(
        change_fields("config.json", _attn_implementation="evil/kernel"), "code on the Hub, which is not run"
    ),
    "kernel of the Hub, inside": Hostile(
        change_fields("config.json", text_config={"attn_implementation": "evil/kernel:run"}), "code on the Hub"
    ),
    "adapter beside": Hostile(_an_adapter_beside, "lies beside a whole model"),
    "20,000 layers": Hostile(
        change_fields("config.json", n_layer=20_000),
        "config.json: n_layer is 20,000, and the stored weights have those of 2 layers",
    ),
    "one layer of two": Hostile(change_fields("config.json", n_layer=1), "n_layer is 1, and the stored weights have"),
    "1e8 rows": Hostile(
        change_fields("config.json", vocab_size=10**8),
        "vocab_size is 100,000,000, and the stored weights have an embedding of",
    ),
    "1e12 layers": Hostile(change_fields("config.json", n_layer=10**12), "n_layer is 1,000,000,000,000"),
    "1e9 positions": Hostile(change_fields("config.json", n_positions=10**9), "have a table of 96 positions"),
    "1e6 wide": Hostile(change_fields("config.json", n_embd=10**6), "n_embd is 1,000,000"),
    "1e9 inside": Hostile(change_fields("config.json", n_inner=10**9), "n_inner is 1,000,000,000"),
    "4,000 experts": Hostile(change_fields("config.json", **MANY_EXPERTS), "describes a model of"),
    "type without a name": Hostile(change_fields("config.json", model_type=5), "no causal model ("),
    "layers that are text": Hostile(change_fields("config.json", n_layer="many"), "no causal model ("),
    "config of 70 MB": Hostile(
        lambda folder: os.truncate(folder / "config.json", 70_000_000), "bytes, expected at most 67,108,864"
    ),
    "config that is deep": Hostile(_write_text("config.json", "[" * 90_000), "is nested too deeply"),
    "config that is a list": Hostile(_write_text("config.json", "[]"), "holds a list, expected an object"),
    "file that never ends": Hostile(_fifo, "is no regular file"),
    "link to weights": Hostile(_link(WEIGHTS, "{outside}/{name}"), "is a link to"),
    "link to a secret": Hostile(_link("config.json", "/etc/passwd"), "is a link to /etc/passwd"),
    "link to itself": Hostile(_link("config.json", "{name}"), "config.json"),
    "bytes as weights": Hostile(_type_of_weights(torch.int8), "its weights are quantised ("),
}
"""What `load_model` refuses."""

TOKENIZERS = {
    "two tokens with one id": Hostile(_two_tokens_with_one_id, "both have id"),
    "two added tokens with one id": Hostile(_two_added_tokens_with_one_id, "both have id"),
    "an id far away": Hostile(_an_id_far_away, "'evil' has id 2,000,000,000"),
    "settings that are a list": Hostile(_write_text("tokenizer_config.json", "[]"), "holds a list, expected an object"),
    "no JSON": Hostile(_write_text("tokenizer.json", "{"), "not a valid JSON file"),
    "deep JSON": Hostile(_write_text("tokenizer.json", '{"a":' * 90_000), "is nested too deeply"),
    "no model": Hostile(change_pipeline(model=None), "no tokenizer (it holds no model)"),
    "model of another kind": Hostile(change_pipeline(model={"type": "Evil"}), "no tokenizer ("),
    "1 letter to 4e6": Hostile(
        change_pipeline(normalizer=_replace({"String": "a"}, "a" * 4_000_000)), "writes up to 4,000,000 letters for one"
    ),
    "1 letter to 2^40": Hostile(
        change_pipeline(normalizer={"type": "Sequence", "normalizers": 40 * [_replace({"String": "a"}, "aa")]}),
        "its normalizer writes up to 1,099,511,627,776 letters for one",
    ),
    "every letter to 1e6": Hostile(
        change_pipeline(normalizer=_replace({"Regex": "."}, "b" * 1_000_000)), "writes up to 1,000,000 letters"
    ),
    "decoder that grows": Hostile(
        change_pipeline(decoder=_replace({"String": "a"}, "a" * 10_000)), "its decoder writes up to"
    ),
    "pads to 1e9": Hostile(
        change_pipeline(
            padding={
                **{"strategy": {"Fixed": 10**9}, "direction": "Right", "pad_to_multiple_of": None},
                **{"pad_id": 0, "pad_type_id": 0, "pad_token": "x"},
            }
        ),
        "pads to 1,000,000,000 tokens",
    ),
    "backtracking": Hostile(change_pipeline(pre_tokenizer=_split(r"(a+)+$")), "its pipeline"),
    "backtracking in words": Hostile(change_pipeline(pre_tokenizer=_split(r"(?:\w+\s?)+;")), "its pipeline"),
    "backtracking normaliser": Hostile(
        change_pipeline(normalizer=_replace({"Regex": r"(x+x+)+y"}, "z")), "its pipeline"
    ),
    "no pattern": Hostile(change_pipeline(pre_tokenizer=_split("(")), "its pipeline fails"),
    "code of its own": Hostile(
        change_fields("config.json", model_type="evil", auto_map={"AutoConfig": "modeling_evil.Evil"}),
        "contains custom code",
    ),
}
"""What `load_tokenizer` refuses."""
