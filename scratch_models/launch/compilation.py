"""Compiles the blocks of a model where the machine can, and refuses by name where it cannot."""

import torch
from torch import nn

from configs import InputError
from configs.errors import on_one_line


def expect_compiler(device: torch.device) -> None:
    """Refuses to compile on a machine that cannot, found by compiling something small.

    Raises:
        InputError: torch.compile fails; the message has the reason that it gives.

    """
    try:
        torch.compile(_small_work, fullgraph=True)(torch.ones(8, device=device))
    except Exception as error:  # each backend has failures of its own
        reason = on_one_line(error).partition(" Set TORCHDYNAMO")[0][:160]  # behind it stands advice to developers
        needed = "a C++ compiler such as g++" if device.type == "cpu" else "Triton and a C compiler"
        raise InputError(
            f"compile: found True, but torch.compile fails here on {device.type} ({reason}), expected "
            f"False, or {needed} on this machine"
        ) from None


def compile_blocks(model: nn.Module) -> int:
    """Compiles each block of a scratch model in place, names and weights unchanged; returns how many there are.

    Blocks have one code, so that the first is compiled for all.
    """
    blocks = [block for name, blocks in model.named_modules() if _holds_blocks(name) for block in blocks.children()]
    for block in blocks:
        block.compile()
    return len(blocks)


def release_blocks(model: nn.Module) -> None:
    """The blocks run as they are written again, with the same weights."""
    for module in model.modules():
        module._compiled_call_impl = None


def _holds_blocks(name: str) -> bool:
    return name.rpartition(".")[2] == "blocks"


def _small_work(numbers: torch.Tensor) -> torch.Tensor:
    return numbers.sin() + 1
