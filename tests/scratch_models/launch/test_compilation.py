"""Compiled blocks train the model that others train; a machine without a compiler refuses by name."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from configs import InputError
from scratch_models.launch.compilation import compile_blocks, expect_compiler, release_blocks
from scratch_models.rungs.gpt import GPT, GPTConfig
from scratch_models.rungs.megabyte import Megabyte, MegabyteConfig
from tests.house.repository import ROOT

TINY: dict[str, Any] = {"vocabulary_size": 40, "block_size": 16, "layers": 3, "heads": 2, "width": 16}
NO_COMPILER = """
import torch
from configs import InputError
from scratch_models.launch.compilation import expect_compiler
try:
    expect_compiler(torch.device("cpu"))
except InputError as error:
    print(error)
"""


def test_a_compiler_that_fails_is_an_error_of_one_line(monkeypatch: pytest.MonkeyPatch):
    def fail(*arguments: object, **settings: object) -> None:
        raise RuntimeError("No working C++ compiler found\nin g++")

    monkeypatch.setattr(torch, "compile", fail)
    with pytest.raises(
        InputError, match=r"compile: found True.*No working C\+\+ compiler found in g\+\+.*False"
    ) as said:
        expect_compiler(torch.device("cpu"))
    assert "\n" not in str(said.value)


def test_every_block_is_compiled_under_its_own_name_and_released():
    of_patches = MegabyteConfig(**TINY, patch_size=4, local_layers=2, local_width=16)
    models: list[tuple[torch.nn.Module, int]] = [(GPT(GPTConfig(**TINY)), 3), (Megabyte(of_patches), 5)]
    for model, blocks in models:
        names = list(model.state_dict())
        assert compile_blocks(model) == blocks
        assert sum(module._compiled_call_impl is not None for module in model.modules()) == blocks
        assert list(model.state_dict()) == names
        release_blocks(model)
        assert all(module._compiled_call_impl is None for module in model.modules())


@pytest.mark.long
def test_a_machine_without_a_compiler_refuses(tmp_path: Path):
    nowhere = {"CXX": "/nowhere/g++", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [sys.executable, "-c", NO_COMPILER], capture_output=True, text=True, env={**os.environ, **nowhere}, cwd=tmp_path
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("compile: found True, but torch.compile fails here on cpu ("), ended.stdout
    assert ended.stdout.count("\n") == 1


@pytest.mark.long
def test_compiled_blocks_give_the_gradients_of_others():
    torch.manual_seed(0)
    model, ids = GPT(GPTConfig(**TINY)), torch.randint(40, (4, 16))

    def gradients() -> dict[str, torch.Tensor]:
        model.zero_grad()
        model(ids).logsumexp(-1).sum().backward()
        named = model.named_parameters()
        return {name: parameter.grad.clone() for name, parameter in named if parameter.grad is not None}

    expected = gradients()
    expect_compiler(torch.device("cpu"))
    compile_blocks(model)
    found = gradients()
    assert found.keys() == dict(model.named_parameters()).keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-5)
