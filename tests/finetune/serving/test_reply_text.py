"""The text of a reply that grows: put end to end it is the decoder's, and no stop text is ever part of it."""

from itertools import accumulate

import pytest
from transformers import PreTrainedTokenizerFast

from finetune.serving.reply_request import TokenScore
from finetune.serving.reply_text import ReplyText, TokenTexts
from tests.real_tokenizers import loaded_tokenizer, smollm2_folder
from tokenizer_ext.huggingface.hf_model import load_tokenizer

TEXT = "Voilà: l'été — 東京, 👩‍👩‍👧 and 🇫🇷;\n\n  three  spaces\tfind 12345 words. naïve ﬁ"
FAMILIES = ["qwen3", "llama2", "smollm2"]


def tokenizer_of(family: str) -> PreTrainedTokenizerFast:
    return load_tokenizer(str(smollm2_folder())) if family == "smollm2" else loaded_tokenizer(family)


def replied(tokenizer: PreTrainedTokenizerFast, ids: list[int], *stops: str) -> tuple[str, list[str], list[TokenScore]]:
    """The whole text, what was released after each id, and the scores that came with it."""
    texts = TokenTexts(tokenizer)
    reply, released = ReplyText(texts, stops), list[str]()
    scores: list[TokenScore] = []
    for id_ in ids:
        text, freed = reply.add(id_, TokenScore(*texts.of(id_), logprob=0.0))
        released.append(text)
        scores += freed
        if reply.stopped:
            break
    text, freed = reply.finish()
    return "".join([*released, text]), released, [*scores, *freed]


@pytest.mark.parametrize("family", FAMILIES)
def test_pieces_put_end_to_end_are_the_decoders_text_and_hold_whole_characters(family):
    tokenizer = tokenizer_of(family)
    ids = tokenizer.encode(TEXT, add_special_tokens=False)
    text, released, scores = replied(tokenizer, ids)
    assert text == tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    assert not any("\ufffd" in piece for piece in released)
    assert bytes(byte for score in scores for byte in score.bytes).decode().strip() == text.strip()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_stop_text_ends_the_reply_wherever_it_is_cut_into_ids(family):
    tokenizer = tokenizer_of(family)
    ids = tokenizer.encode(TEXT, add_special_tokens=False)
    whole = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    for stop in ("été", "👧", "s\tf", "words.", ";\n\n  t"):
        text, released, _ = replied(tokenizer, ids, stop, "never said")
        assert text == whole[: whole.index(stop)]
        assert all(text.startswith(so_far) for so_far in accumulate(released))


def test_what_may_begin_a_stop_text_is_held_back_and_given_when_it_does_not():
    tokenizer = tokenizer_of("smollm2")
    ids = tokenizer.encode("one END of ENDS", add_special_tokens=False)
    text, released, scores = replied(tokenizer, ids, " ENDED")
    assert text == "one END of ENDS"
    assert [len(so_far) for so_far in accumulate(released)][1] == 3
    assert len(scores) == len(ids)


def test_bytes_that_never_become_a_character_come_at_the_end():
    tokenizer = tokenizer_of("smollm2")
    ids = tokenizer.encode("so 東", add_special_tokens=False)[:-1]
    text, released, scores = replied(tokenizer, ids)
    assert text == tokenizer.decode(ids) and text.endswith("\ufffd")
    assert "\ufffd" not in "".join(released) and len(scores) == len(ids)
