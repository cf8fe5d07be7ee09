import json
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, GPT2LMHeadModel, PreTrainedTokenizerFast
from transformers.utils import logging

from configs import InputError, run_entry
from scratch_models.corpus.vocabulary import ByteVocabulary, CharacterVocabulary, Vocabulary
from scratch_models.decoding.generation import generate
from scratch_models.decoding.sampling_settings import Sampling
from scratch_models.rungs.all_rungs import ScratchModel
from scratch_models.rungs.bigram import BigramLanguageModel
from scratch_models.rungs.gpt import GPT, GPTConfig
from scratch_models.rungs.llama import Llama, LlamaConfig
from scratch_models.rungs.megabyte import Megabyte, MegabyteConfig
from scratch_models.rungs.one_layer import OneLayerConfig, OneLayerModel
from scratch_models.sample import SampleSettings, main
from scratch_models.scratch_folder import load_scratch_model, save_scratch_model
from tests.said_lines import without_progress
from tests.without_manifest import forget_manifests

CHARACTERS = CharacterVocabulary.from_text("\n abcdefghij")


def bytes_tokenizer() -> PreTrainedTokenizerFast:
    """The 256 bytes and an end-of-text token."""
    tokenizer = Tokenizer(
        models.BPE({byte: i for i, byte in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, [])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>")


def character_bigram() -> tuple[ScratchModel, Vocabulary]:
    return BigramLanguageModel(len(CHARACTERS)), CHARACTERS


def bytes_bigram() -> tuple[ScratchModel, Vocabulary]:
    return BigramLanguageModel(257), bytes_tokenizer()


def character_gpt(tied: bool = True) -> tuple[ScratchModel, Vocabulary]:
    shape = GPTConfig(vocabulary_size=len(CHARACTERS), block_size=8, layers=2, heads=2, width=16, tied=tied)
    return GPT(shape), CHARACTERS


def untied_gpt() -> tuple[ScratchModel, Vocabulary]:
    return character_gpt(tied=False)


def bytes_gpt() -> tuple[ScratchModel, Vocabulary]:
    return GPT(GPTConfig(vocabulary_size=257, block_size=8, layers=2, heads=2, width=16)), bytes_tokenizer()


def average() -> tuple[ScratchModel, Vocabulary]:
    shape = OneLayerConfig(vocabulary_size=len(CHARACTERS), block_size=8, width=16, mixing="average")
    return OneLayerModel(shape), CHARACTERS


def bytes_heads() -> tuple[ScratchModel, Vocabulary]:
    shape = OneLayerConfig(vocabulary_size=257, block_size=8, width=16, mixing="attention", heads=2)
    return OneLayerModel(shape), bytes_tokenizer()


def llama(tied: bool = True) -> tuple[ScratchModel, Vocabulary]:
    shape = {"block_size": 8, "layers": 2, "heads": 4, "key_value_heads": 2, "width": 16, "hidden_width": 24}
    return Llama(LlamaConfig(vocabulary_size=len(CHARACTERS), **shape, tied=tied)), CHARACTERS  # type: ignore[arg-type]


def untied_llama() -> tuple[ScratchModel, Vocabulary]:
    return llama(tied=False)


def byte_level_gpt() -> tuple[ScratchModel, Vocabulary]:
    return GPT(GPTConfig(vocabulary_size=256, block_size=8, layers=2, heads=2, width=16)), ByteVocabulary()


def megabyte() -> tuple[ScratchModel, Vocabulary]:
    shape = {"block_size": 8, "patch_size": 4, "layers": 2, "heads": 2, "width": 16, "local_layers": 1}
    return Megabyte(MegabyteConfig(vocabulary_size=256, local_width=8, **shape)), ByteVocabulary()  # type: ignore[arg-type]


ALL_KINDS = [
    character_bigram,
    bytes_bigram,
    character_gpt,
    untied_gpt,
    bytes_gpt,
    average,
    bytes_heads,
    llama,
    untied_llama,
    byte_level_gpt,
    megabyte,
]


def printed(capsys: pytest.CaptureFixture[str], **fields: object) -> str:
    main(SampleSettings(**fields))  # type: ignore[arg-type]
    return capsys.readouterr().out


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_a_saved_model_loads_with_the_same_weights_and_vocabulary(kind, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, vocabulary = kind()
    save_scratch_model(model, vocabulary, tmp_path)
    loaded, loaded_vocabulary = load_scratch_model(tmp_path)
    assert type(loaded) is type(model)
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for name, weight in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weight), name
    assert loaded_vocabulary.encode("a bad\ncafe") == vocabulary.encode("a bad\ncafe")
    if isinstance(model, GPT) and isinstance(loaded, GPT):
        assert loaded.config == model.config
        assert (loaded.lm_head.weight is loaded.token_embedding_table.weight) == model.config.tied


def test_a_gpt_on_bpe_ids_is_a_folder_that_transformers_opens(tmp_path: Path) -> None:
    model, vocabulary = bytes_gpt()
    save_scratch_model(model, vocabulary, tmp_path)
    ids = AutoTokenizer.from_pretrained(tmp_path)("a é", return_tensors="pt").input_ids
    with torch.no_grad():
        theirs = GPT2LMHeadModel.from_pretrained(tmp_path)(ids).logits
        torch.testing.assert_close(theirs, model.eval()(ids), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_the_prompt_is_printed_and_continued(kind, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    model, vocabulary = kind()
    save_scratch_model(model, vocabulary, tmp_path / "final")
    expected_ids = list(generate(model, vocabulary.encode("a b"), 40, Sampling(temperature=1.0, top_k=5, seed=3)))
    end_id = getattr(vocabulary, "eos_token_id", None)
    if end_id in expected_ids:
        expected_ids = expected_ids[: expected_ids.index(end_id)]
    fields = {"prompt": "a b", "max_new_tokens": 40, "temperature": 1.0, "top_k": 5, "seed": 3}
    # A run's folder and the folder of its model name the same model.
    assert printed(capsys, checkpoint=str(tmp_path), **fields) == "a b" + vocabulary.decode(expected_ids) + "\n"
    assert printed(capsys, checkpoint=str(tmp_path / "final"), **fields).startswith("a b")


def test_printing_stops_before_the_end_of_text_token(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer = bytes_tokenizer()
    model = BigramLanguageModel(257)
    path = [*tokenizer.encode("abc"), tokenizer.eos_token_id]
    for id_, following in pairwise(path):
        model.token_embedding_table.weight.data[id_] = 100 * torch.eye(257)[following]
    save_scratch_model(model, tokenizer, tmp_path)
    assert printed(capsys, checkpoint=str(tmp_path), prompt="a", temperature=0.0) == "abc\n"


def broken_folder(tmp_path: Path, name: str) -> Path:
    folder = tmp_path / name
    save_scratch_model(*character_bigram(), folder)
    config, weights = folder / "config.json", folder / "model.safetensors"
    changes: dict[str, Callable[[], object]] = {
        "no config": config.unlink,
        "not json": lambda: config.write_text("{"),
        "a list": lambda: config.write_text("[]"),
        "other model": lambda: config.write_text(json.dumps({"model": "rnn"})),
        "other field": lambda: config.write_text(json.dumps({"model": "bigram", "vocabulary_size": 12, "depth": 3})),
        "other shape": lambda: config.write_text(json.dumps({"model": "bigram", "vocabulary_size": 13})),
        "no weights": weights.unlink,
        "broken weights": lambda: weights.write_bytes(b"no weights"),
        "no vocabulary": (folder / "characters.json").unlink,
        "larger vocabulary": lambda: CharacterVocabulary.from_text("\n abcdefghijklmn").save(
            folder / "characters.json"
        ),
    }
    forget_manifests(folder)
    changes[name]()
    return folder


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("no config", "holds no config.json"),
        ("not json", "not a valid JSON file"),
        ("a list", "holds a list, expected an object"),
        ("other model", "model is 'rnn', expected 'gpt', 'one_layer', 'llama', 'megabyte', 'speedrun' or 'bigram'"),
        ("other field", "depth"),
        ("other shape", "vocabulary_size is 13, and the stored weights have an embedding of 12 rows"),
        ("no weights", "holds no model.safetensors"),
        ("broken weights", "model.safetensors: no whole safetensors file"),
        ("no vocabulary", "holds no vocabulary"),
        ("larger vocabulary", "the vocabulary has 16 tokens and the model 12 rows"),
    ],
)
def test_a_folder_that_holds_no_model_is_refused_in_one_line(tmp_path: Path, name: str, found: str) -> None:
    with pytest.raises(InputError, match=found) as caught:
        load_scratch_model(broken_folder(tmp_path, name))
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [("prompt", ""), ("max_new_tokens", 0), ("temperature", -1.0), ("best_of", 0), ("top_k", -1), ("top_p", 0.0)],
)
def test_a_setting_out_of_range_is_refused_before_any_weights_load(field: str, value: object) -> None:
    with pytest.raises(InputError, match=f"{field} is"):
        SampleSettings(checkpoint="nowhere", **{field: value})  # type: ignore[arg-type]


def test_the_command_prints_text_and_refuses_bad_input_with_status_2_and_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    logging.enable_progress_bar()  # as in a new process
    logging.set_verbosity_warning()
    save_scratch_model(*bytes_gpt(), tmp_path)
    capfd.readouterr()
    command = ["sample.py", "--checkpoint", str(tmp_path), "--max_new_tokens", "20", "--prompt"]
    monkeypatch.setattr(sys, "argv", [*command, "abc"])
    run_entry(main, SampleSettings)
    good = capfd.readouterr()
    assert good.out.startswith("abc")
    assert without_progress(good.err) == ""
    monkeypatch.setattr(sys, "argv", [*command, "abc", "--checkpoint", str(tmp_path / "missing")])
    with pytest.raises(SystemExit) as leaving:
        run_entry(main, SampleSettings)
    bad = capfd.readouterr()
    assert leaving.value.code == 2
    assert bad.out == ""
    assert without_progress(bad.err).count("\n") == 1
    assert "no such folder" in bad.err
