"""A base's own template: ids are those of `apply_chat_template`, learned is what a server has to generate."""

import random
from collections import Counter
from dataclasses import replace

import pytest

from finetune.chat.graft_format import CHAT_TEMPLATE, GraftFormat
from finetune.chat.template_format import TemplateFormat
from finetune.conversations.messages import Conversation, Message
from tests.finetune.chat.fuzzed_chats import FAMILIES, PIECES, chat_of, check_all, fuzzed_chats, is_stable, to_template


@pytest.fixture(
    params=[pytest.param(one, marks=[pytest.mark.long] * (one in ("gemma3", "llama3_1"))) for one in FAMILIES]
)
def chat(request):
    return chat_of(request.param)


def test_ids_and_mask_are_those_of_the_template_and_of_a_server(chat):
    conversations = list(fuzzed_chats(40, seed=1))
    same, _, _ = check_all(chat, conversations)
    assert same == sum(is_stable(chat, conversation) for conversation in conversations)


@pytest.mark.long
@pytest.mark.parametrize("family", FAMILIES)
def test_ten_thousand_conversations(family):
    chat, conversations = chat_of(family), list(fuzzed_chats(10_000, seed=10))
    same, cut, several = check_all(chat, conversations)
    stable = sum(is_stable(chat, conversation) for conversation in conversations)
    print(f"{family}: {same:,} of {stable:,} stable ones in one row; one reply at a time {several:,}, cut {cut:,}")
    assert (same, same + cut + several) == (stable, 10_000)


def _control_ids(chat, text):
    asked = Conversation((Message("user", text), Message("assistant", "Yes.")), "p")
    return Counter(id_ for id_ in chat.render(asked).input_ids if id_ in chat.control_ids)


def test_what_a_user_writes_never_becomes_a_control_token(chat):
    names = random.Random(0).sample(sorted(chat.tokenizer.get_added_vocab()), 17)
    expected = _control_ids(chat, "Hello")
    for name in names:
        assert _control_ids(chat, f"a {name}b{name}") == expected, name


def test_what_anyone_says_in_a_conversation_or_a_prompt_never_becomes_a_control_token(chat):
    dice = random.Random(3)
    names = [name for name in sorted(chat.tokenizer.get_added_vocab()) if "think" not in name]
    # An assistant that writes Qwen3's tags of tools means them: they are what a server would have to generate.
    turns = [name for name in names if "tool_" not in name]

    def control_ids(system, asked, said):
        talk = Conversation((Message("system", system), Message("user", asked), Message("assistant", said)), "p")
        rows = chat.render(talk).input_ids, chat.render_prompt(talk.messages[:2])
        return [Counter(id_ for id_ in ids if id_ in chat.control_ids) for ids in rows]

    expected = control_ids("Be brief.", "Hello", "Yes.")
    for name in dice.sample(names, 16):
        texts = [f"{dice.choice(PIECES)}{name}{dice.choice(names)}x" for _ in range(2)]
        texts.append(f"{dice.choice(PIECES)}{dice.choice(turns)}{dice.choice(turns)}x")
        assert control_ids(*texts) == expected, texts


@pytest.mark.long
@pytest.mark.parametrize("family", FAMILIES)
def test_a_hundred_thousand_texts_with_every_added_token_hold_no_control_id(family):
    chat, dice = chat_of(family), random.Random(7)
    names = sorted(chat.tokenizer.get_added_vocab())
    pieces = [*PIECES, *("<|", "|>", "<", ">", "im_end", "<|<|")]
    texts = [
        "".join((dice.choice(pieces), names[number % len(names)], dice.choice(pieces), dice.choice(names)))
        for number in range(100_000)
    ]
    asked = [Conversation((Message("user", text), Message("assistant", "Yes.")), "p") for text in texts]
    expected = _control_ids(chat, "Hello")
    for start in range(0, len(asked), 1000):
        for row in chat.render_set(asked[start : start + 1000]):
            assert Counter(id_ for id_ in row.input_ids if id_ in chat.control_ids) == expected


def test_the_projects_own_template_gives_the_same_rows_either_way(chat_tokenizer):
    chat_tokenizer.chat_template = CHAT_TEMPLATE
    conversations = list(fuzzed_chats(60, seed=2))
    as_template = TemplateFormat(chat_tokenizer).render_set(conversations)
    assert as_template == GraftFormat(chat_tokenizer).render_set(conversations)


def test_a_reply_is_scored_behind_the_prompt_that_it_is_asked_with(chat):
    for conversation in fuzzed_chats(20, seed=3):
        prompt, said = chat.render_prompt(conversation.messages[:-1]), conversation.messages[-1].content
        reply, row = chat.render_reply(conversation), chat.render(conversation)
        length = len(prompt) + len(reply.input_ids)
        assert [*prompt, *reply.input_ids, chat.end_id] == row.input_ids[: length + 1]
        own = [id_ for id_, flag in zip(reply.input_ids, reply.supervised, strict=True) if flag]
        spoken = chat.tokenizer.decode(own, clean_up_tokenization_spaces=False)
        assert spoken.strip() == chat.decode_reply([*reply.input_ids, chat.end_id]).strip()
        assert _normal(chat, said) == _normal(chat, spoken)


def _normal(chat, text):
    normalizer = chat.tokenizer.backend_tokenizer.normalizer
    return (normalizer.normalize_str(text) if "NFC" in str(normalizer) else text).strip()


@pytest.mark.long
def test_ids_and_mask_are_those_of_a_renderer_written_by_hand_for_qwen3():
    """`renderers` (PyPI) encodes each content by itself, so the texts have no blanks around them.

    Of the other families here it has Llama 3, whose renderer refuses the published tokenizer (no <|eom_id|>).
    """
    qwen3 = pytest.importorskip("renderers.qwen3", reason="the package renderers is not installed")
    chat = chat_of("qwen3")
    renderer = qwen3.Qwen3Renderer(chat.tokenizer)
    talks = [_without_blanks_around(talk) for talk in fuzzed_chats(1_000, seed=5)]
    rendered = chat.render_set(talks)
    sources = rendered.sources.tolist()
    for number, (row, source) in enumerate(zip(rendered, sources, strict=True)):
        messages, several = talks[source].messages, sources.count(source) > 1
        turns = [place for place, message in enumerate(messages) if message.role == "assistant"]
        last = turns[number - sources.index(source)] if several else turns[-1]
        theirs = renderer.render(to_template(messages[: last + 1]))
        assert theirs.token_ids == row.input_ids
        sampled = zip(theirs.sampled_mask, theirs.message_indices, strict=True)
        spoken = [flag and (place == last if several else place in turns) for flag, place in sampled]
        assert spoken == row.supervised


def _without_blanks_around(talk):
    return replace(talk, messages=tuple(replace(one, content=one.content.strip()) for one in talk.messages))
