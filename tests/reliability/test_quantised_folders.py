"""A quantised base is refused by every command that would write a folder of it: no certificate is written falsely."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from finetune.merge import MergeSettings
from finetune.merge import main as merge
from finetune.new_rows import main as train_new_rows
from finetune.rows.settings import NewRowsSettings
from finetune.sft import main as fine_tune
from finetune.supervised.settings import SftSettings
from tests.finetune.entry_runs import run_here
from tests.finetune.tiny_models import save_tiny_base, write_questions
from tests.said_lines import without_progress
from tokenizer_ext.extend import ExtendSettings
from tokenizer_ext.extend import main as extend
from tokenizer_ext.trim import TrimSettings
from tokenizer_ext.trim import main as trim

LAYER = "transformer.h.0.mlp.c_fc"


def _int32(*shape: int) -> torch.Tensor:
    return torch.ones(shape, dtype=torch.int32)


def _bytes(*shape: int) -> torch.Tensor:
    return torch.ones(shape, dtype=torch.uint8)


KINDS: dict[str, tuple[dict[str, Any], dict[str, torch.Tensor]]] = {
    "FP8": (
        {"quant_method": "fp8", "activation_scheme": "dynamic", "fmt": "e4m3", "weight_block_size": [128, 128]},
        {"weight": torch.ones(32, 128).to(torch.float8_e4m3fn), "weight_scale_inv": torch.ones(1, 1)},
    ),
    "MXFP4": (
        {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]},
        {"weight_blocks": _bytes(32, 4, 16), "weight_scales": _bytes(32, 4)},
    ),
    "bitsandbytes": (
        {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
        {
            "weight": _bytes(2048, 1),
            "weight.absmax": torch.ones(64),
            "weight.quant_map": torch.ones(16),
            "weight.quant_state.bitsandbytes__nf4": _bytes(80),
        },
    ),
    "GPTQ": (
        {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False},
        {"qweight": _int32(4, 128), "qzeros": _int32(1, 16), "scales": torch.ones(1, 128), "g_idx": _int32(32)},
    ),
    "AWQ": (
        {"quant_method": "awq", "bits": 4, "group_size": 32, "zero_point": True, "version": "gemm"},
        {"qweight": _int32(32, 16), "qzeros": _int32(1, 16), "scales": torch.ones(1, 128)},
    ),
    "compressed-tensors": (
        {"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": {}},
        {"weight_packed": _int32(32, 16), "weight_scale": torch.ones(32, 1), "weight_shape": _int32(2)},
    ),
}
"""The `quantization_config` that each tool writes, and what it stores in the place of a layer's weight."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    return save_tiny_base(tmp_path_factory.mktemp("whole"))


def _quantise(whole: Path, folder: Path, kind: str, *, say_so: bool) -> Path:
    """A folder as the tool of this kind leaves it; without `say_so` its config has lost what it is."""
    config, tensors = KINDS[kind]
    shutil.copytree(whole, folder)
    stored = load_file(folder / "model.safetensors")
    stored.pop(f"{LAYER}.weight")
    stored |= {f"{LAYER}.{name}": tensor for name, tensor in tensors.items()}
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    if say_so:
        fields = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(fields | {"quantization_config": config}))
    return folder


def _adapter_on(base: Path, folder: Path) -> Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "base_model_name_or_path": str(base), "target_modules": ["c_fc"], "r": 2})
    )
    save_file({"x": torch.ones(2)}, folder / "adapter_model.safetensors")
    return folder


COMMANDS: dict[str, tuple[Callable[[Any], None], type, dict[str, str]]] = {
    "extend": (extend, ExtendSettings, {"base": "base", "corpus": "corpus.txt", "new_tokens": "3"}),
    "trim": (trim, TrimSettings, {"model": "base", "corpus": "corpus.txt"}),
    "sft": (fine_tune, SftSettings, {"base": "base", "data": "data.jsonl", "max_steps": "1"}),
    "new_rows": (train_new_rows, NewRowsSettings, {"base": "base", "corpus": "corpus.txt", "first_new_id": "300"}),
    "merge": (merge, MergeSettings, {"tuned": "adapter"}),
}


@pytest.mark.parametrize(
    "say_so", [pytest.param(True, marks=pytest.mark.long), False], ids=["as it says", "as its weights are"]
)
@pytest.mark.parametrize("kind", KINDS)
def test_no_command_makes_a_folder_of_a_quantised_base(whole, tmp_path, monkeypatch, capsys, kind, say_so):
    base = _quantise(whole, tmp_path / "base", kind, say_so=say_so)
    _adapter_on(base, tmp_path / "adapter")
    (tmp_path / "corpus.txt").write_text("It is red and blue. " * 500)
    write_questions(tmp_path / "data.jsonl")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    for main, schema, settings in COMMANDS.values():
        with pytest.raises(SystemExit) as end:
            run_here(main, schema, **settings, output_dir="made")
        said = without_progress(capsys.readouterr().err)
        assert end.value.code == 2 and said.count("\n") == 1, said
        assert "its weights are quantised" in said and "base" in said
        assert not say_so or kind in said
        assert sorted(tmp_path.rglob("*")) == before, "nothing is written"
