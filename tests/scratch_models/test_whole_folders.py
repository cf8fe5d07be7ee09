"""The models from scratch are complete or absent, wherever their writer is killed."""

from pathlib import Path

import pytest

from scratch_models.corpus.vocabulary import CharacterVocabulary
from scratch_models.rungs.bigram import BigramLanguageModel
from scratch_models.rungs.gpt import GPT, GPTConfig
from scratch_models.scratch_folder import save_scratch_model
from tests.finetune.trained_runs import base_tokenizer
from tests.killed_writes import assert_complete_or_absent


@pytest.mark.long
@pytest.mark.parametrize("kind", ["bigram", "gpt"])
def test_a_model_and_its_vocabulary(tmp_path: Path, kind: str):
    characters, tokenizer = CharacterVocabulary(["a", "b", "c"]), base_tokenizer()
    shape = GPTConfig(vocabulary_size=len(tokenizer), block_size=8, layers=1, heads=2, width=8)
    model, vocabulary = (GPT(shape), tokenizer) if kind == "gpt" else (BigramLanguageModel(3), characters)
    assert_complete_or_absent(
        lambda folder: save_scratch_model(model, vocabulary, folder), tmp_path / "final", replaces=True
    )
