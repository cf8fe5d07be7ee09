"""Writes a model, extended or tuned, as a GGUF file, which llama.cpp and what builds on it open.

    python -m finetune.to_gguf --model extended --output_dir gguf
    python -m finetune.to_gguf --model runs/sft-1 --stored_as Q8_0
    python -m finetune.to_gguf --model extended --output_dir gguf --prompts questions.txt

It leaves the file and `gguf.json`: what was compared after the file was read again, tensor by tensor and token by
token. Where llama-cpp-python is installed, llama.cpp itself reads tens of thousands of texts, every token among them,
beside the tokenizer. Families that llama.cpp cannot compute here, and tokenizers that it cannot cut as, are refused.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from configs import InputError, run_entry
from scratch_models.loop.run_folder import find_run

FOLDER = "gguf"


@dataclass(frozen=True, kw_only=True)
class GgufSettings:
    """A model as a GGUF file."""

    model: str
    """What to write: a folder, a Hub name, `smollm2`, a run or a checkpoint of it; an adapter is merged in memory."""
    output_dir: str | None = None
    """New folder of the file; by default `gguf/` in the run's folder."""
    stored_as: Literal["F32", "F16", "Q8_0"] = "F16"
    """What matrices are rounded to; vectors stay in float32."""
    prompts: str | None = None
    """File with a prompt a line, from which transformers and llama.cpp go on greedily, to be compared."""
    reply_tokens: int = 32
    """How many tokens each goes on for."""

    def __post_init__(self) -> None:
        if self.reply_tokens < 1:
            raise InputError(f"reply_tokens: found {self.reply_tokens}, expected at least 1")


def main(settings: GgufSettings) -> None:
    """Reads, writes, reads again, compares."""
    target = choose_target(settings)
    from finetune.gguf_files.conversion import RECORD, convert
    from finetune.gguf_files.llama_cpp_proof import GET
    from tokenizer_ext.pages.terminal import quiet_libraries

    quiet_libraries()
    found = convert(
        settings.model,
        target,
        stored_as=settings.stored_as,
        prompts=settings.prompts,
        reply_tokens=settings.reply_tokens,
    )
    print(f"Weights, tokens and merges were read again and are what was written; pre-tokenizer {found.pre_tokenizer}")
    proof = found.llama_cpp
    print(f"Not read with llama.cpp itself, which is not installed: {GET}" if proof is None else proof.describe())
    print(f"Saved: {target / found.file}; what was compared: {target / RECORD}")


def choose_target(settings: GgufSettings) -> Path:
    """The folder that the file goes to.

    Raises:
        InputError: no folder is given, and the model is of no run.

    """
    if settings.output_dir is not None:
        return Path(settings.output_dir)
    run = find_run(settings.model)
    if run is None:
        raise InputError(f"output_dir: {settings.model} belongs to no run, expected the new folder of the GGUF file")
    return run.path / FOLDER


if __name__ == "__main__":
    run_entry(main, GgufSettings)
