"""A model, found by its name, as a folder with its GGUF file and a record of what was compared."""

from dataclasses import dataclass
from pathlib import Path

from configs import InputError
from configs.file_hash import file_sha256
from configs.whole_folder import check_new_folder, whole_folder
from finetune.chat.choose_format import named_stops
from finetune.export.saved_model import load_start
from finetune.gguf_files import llama_cpp_proof
from finetune.gguf_files.llama_cpp_proof import LlamaCppProof
from finetune.gguf_files.written import Stored, write_gguf
from tokenizer_ext.pages.json_records import write_record

RECORD = "gguf.json"
MOST_PROMPTS = 1000


@dataclass(frozen=True, kw_only=True)
class Converted:
    """A GGUF file and what is known of it."""

    model: str
    """As the user named it."""
    file: str
    sha256: str
    pre_tokenizer: str
    """What llama.cpp calls it."""
    read_again: bool
    """Whether weights, tokens and merges were read from the file again and found to be those that were written."""
    llama_cpp: LlamaCppProof | None
    """What llama.cpp itself made of it; None where it is not installed."""


def convert(
    name: str, target: Path, *, stored_as: Stored, prompts: str | None = None, reply_tokens: int = 32
) -> Converted:
    """Writes the folder, complete or not at all.

    Args:
        name: A folder, a Hub name, a GGUF file, a run or a checkpoint; an adapter is merged in memory.
        target: The new folder.
        stored_as: What matrices are rounded to.
        prompts: A file with a prompt a line, from which transformers and llama.cpp go on greedily.
        reply_tokens: For so many tokens.

    Raises:
        InputError: there is no such model, llama.cpp has no such family or pre-tokenizer, or it cannot be asked.

    """
    asked = [] if prompts is None else read_prompts(Path(prompts))
    check_new_folder(target)
    model, tokenizer = load_start(name)
    called = Path(name).name.removesuffix(".gguf")
    with whole_folder(target, needed=model.get_memory_footprint()) as partial:
        file = partial / f"{called}-{stored_as}.gguf"
        stops = named_stops(model.generation_config)
        pre = write_gguf(model, tokenizer, file, name=called, stored_as=stored_as, stops=stops)
        is_asked = llama_cpp_proof.is_installed()
        proof = llama_cpp_proof.prove(file, model, tokenizer, asked, reply_tokens) if is_asked else None
        converted = Converted(
            model=name,
            file=file.name,
            sha256=file_sha256(file),
            pre_tokenizer=pre,
            read_again=True,
            llama_cpp=proof,
        )
        write_record(converted, partial / RECORD)
    return converted


def read_prompts(file: Path) -> list[str]:
    """The lines of a file that hold something.

    Raises:
        InputError: it is none, is not UTF-8, holds no prompt or too many, or llama.cpp is not there to be asked.

    """
    try:
        lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"prompts {file}: cannot be read ({error}), expected a prompt a line in UTF-8") from None
    if not 1 <= len(lines) <= MOST_PROMPTS:
        raise InputError(f"prompts {file}: found {len(lines):,} prompts, expected 1 to {MOST_PROMPTS:,}, one a line")
    if not llama_cpp_proof.is_installed():
        raise InputError(f"prompts: llama.cpp is not there to go on from them: {llama_cpp_proof.GET}")
    return lines
