import json
from shutil import copy

import pytest
from tokenizers import Tokenizer, pre_tokenizers
from transformers import AutoTokenizer, GPT2Tokenizer, PreTrainedTokenizerFast

from tests.tokenizer_ext.families import EACH_FAMILY, write_family
from tokenizer_ext.bpe.merge_learning import learn_merges
from tokenizer_ext.extension.piece_counts import count_pieces
from tokenizer_ext.huggingface.hf_model import load_tokenizer
from tokenizer_ext.huggingface.hf_tokenizer import (
    add_control_tokens,
    append_merges,
    merges_from,
    next_token_id,
    token_bytes,
)

CONTROL = ["<|user|>", "<|reply|>"]
WORLD = "Größe 東京都は日本の首都。 Привет, мир! 🙂 e\u0301 12345 def f(x):\n        pass  \n\n\tIt'S <tool_call>"


@pytest.fixture(scope="module", params=EACH_FAMILY)
def folder(request, prose, tmp_path_factory):
    return write_family(request.param, tmp_path_factory.mktemp("family"), [prose])


@pytest.fixture(scope="module")
def tokenizer(folder):
    return load_tokenizer(str(folder))


@pytest.fixture(scope="module")
def texts(tokenizer, prose):
    added = list(tokenizer.get_added_vocab())
    return [prose, WORLD, WORLD.join(added), " ".join(added), "class " + " ".join(CONTROL) + CONTROL[0]]


@pytest.fixture(scope="module")
def extended(tokenizer, prose):
    pieces = count_pieces([prose, WORLD * 9], tokenizer)
    first_id = next_token_id(tokenizer)
    merges = learn_merges(pieces, token_bytes(tokenizer), new_tokens=60, first_id=first_id)
    extended = add_control_tokens(append_merges(tokenizer, merges), CONTROL)
    assert [merge.token for merge in merges_from(extended, first_id)] == list(range(first_id, first_id + 60))
    return extended


def _ids(tokenizer, texts):
    return [tokenizer.encode(text) for text in texts]


def test_a_folder_is_read_as_its_file_says_whatever_class_it_names(folder, tokenizer, texts):
    published = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert _ids(tokenizer, texts) == [published.encode(text).ids for text in texts]


def test_extended_saved_and_reloaded_it_is_the_same_and_so_in_a_second_round(folder, extended, texts, tmp_path):
    reloaded = extended
    for round_ in ("first", "second"):
        place = tmp_path / round_
        reloaded.save_pretrained(place)
        copy(folder / "config.json", place)  # the type of model has a say in the class of the tokenizer
        reloaded = AutoTokenizer.from_pretrained(place)
        assert type(reloaded) is type(extended)
        assert _ids(reloaded, texts) == _ids(extended, texts)
        assert reloaded.get_vocab() == extended.get_vocab()
        assert reloaded.all_special_ids == extended.all_special_ids
        assert reloaded.special_tokens_map == extended.special_tokens_map


def test_no_id_moves_and_old_text_without_new_tokens_keeps_its_ids(tokenizer, extended, texts):
    assert tokenizer.get_vocab().items() <= extended.get_vocab().items()
    assert tokenizer.get_added_vocab().items() <= extended.get_added_vocab().items()
    assert extended.all_special_ids == [*tokenizer.all_special_ids, *extended.convert_tokens_to_ids(CONTROL)]
    parts = {merge.token: (merge.left, merge.right) for merge in merges_from(extended, next_token_id(tokenizer))}

    def taken_apart(id_):
        return [part for half in parts[id_] for part in taken_apart(half)] if id_ in parts else [id_]

    assert [[part for id_ in ids for part in taken_apart(id_)] for ids in _ids(extended, texts[:-1])] == _ids(
        tokenizer, texts[:-1]
    )


def test_added_tokens_that_stand_in_tokenizer_config_alone_keep_their_ids(folder, prose, tmp_path):
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json"):
        copy(folder / name, tmp_path)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    last = max(AutoTokenizer.from_pretrained(folder).get_vocab().values())
    settings["added_tokens_decoder"][str(last + 1)] = {"content": "<|only here|>", "special": True, "normalized": False}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = load_tokenizer(str(tmp_path))
    assert tokenizer.convert_tokens_to_ids("<|only here|>") == last + 1
    merges = learn_merges(
        count_pieces([prose], tokenizer), token_bytes(tokenizer), new_tokens=9, first_id=next_token_id(tokenizer)
    )
    extended = append_merges(tokenizer, merges)
    extended.save_pretrained(tmp_path)
    reloaded = AutoTokenizer.from_pretrained(tmp_path)
    assert reloaded.convert_tokens_to_ids("<|only here|>") == last + 1
    assert reloaded.get_vocab() == extended.get_vocab()


def test_a_pipeline_that_was_changed_by_hand_survives_the_class_that_would_make_its_own(small_bpe, small_tokenizer):
    model = json.loads(small_tokenizer.backend_tokenizer.to_str())["model"]
    merges = [tuple(merge) for merge in model["merges"]]
    tokenizer = GPT2Tokenizer(vocab=model["vocab"], merges=merges)
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(False)])
    extended = add_control_tokens(tokenizer, CONTROL)
    assert type(extended) is PreTrainedTokenizerFast
    assert extended.encode("the 1234 <|endoftext|>") == tokenizer.encode("the 1234 <|endoftext|>")
