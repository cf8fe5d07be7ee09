"""What ships with the project and stands for itself where no other base or data is named."""

from pathlib import Path

EMBEDDED_BASE = Path(__file__).parents[1] / "assets" / "embedded_base"
EMBEDDED = "embedded"


def folder_of_base(name: str) -> str:
    """Where the base of this name is: `embedded` ships with the project, every other name is a folder or the Hub's.

    A GGUF file, also that of `smollm2`, becomes a folder in this machine's cache.

    Raises:
        InputError: there is no such file, or it cannot be read.

    """
    if name == EMBEDDED:
        return str(EMBEDDED_BASE)
    from tokenizer_ext.huggingface.gguf_base import plain_folder

    return plain_folder(name)
