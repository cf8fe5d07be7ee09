"""GPT-2's real ranks and real text, from the folder beside the project."""

from pathlib import Path

import pytest

from tests.house.repository import ROOT
from tokenizer_ext.bpe.bpe import BytePairEncoding, train_bpe
from tokenizer_ext.bpe.tiktoken_files import read_ranks
from tokenizer_ext.huggingface.hf_tokenizer import to_hf_tokenizer

SHARED_DATA = ROOT.parent / "shared" / "data"


def _shared(name: str) -> Path:
    path = SHARED_DATA / name
    if not path.is_file():
        pytest.skip(f"{name} is not in the folder shared/data beside the repository")
    return path


@pytest.fixture(scope="session")
def gpt2_file():
    return _shared("gpt2.tiktoken")


@pytest.fixture(scope="session")
def gpt2_ranks(gpt2_file):
    """GPT-2's 50,256 ranks."""
    return read_ranks(gpt2_file)


@pytest.fixture(scope="session")
def gpt2_bpe(gpt2_ranks):
    return BytePairEncoding(gpt2_ranks, special_tokens={"<|endoftext|>": 50256})


@pytest.fixture(scope="session")
def gpt2_tokenizer(gpt2_ranks):
    return to_hf_tokenizer(gpt2_ranks, {"<|endoftext|>": 50256})


@pytest.fixture(scope="session")
def shakespeare():
    return _shared("tinyshakespeare.txt").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def prose():
    """About 40 kB of English that every Python has."""
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name] for name in ("strings", "class", "import", "yield", "operator-summary"))[:40_000]


@pytest.fixture(scope="session")
def small_bpe(prose):
    """400 ids learned from the prose, the last of them a special token."""
    return train_bpe([prose], 400, special_tokens=["<|endoftext|>"])


@pytest.fixture(scope="session")
def small_tokenizer(small_bpe):
    return to_hf_tokenizer(small_bpe.ranks, small_bpe.special_tokens)
