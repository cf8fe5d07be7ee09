"""Reasoning and tools in a base's own template: public reports D4, D5 and D6, on the published tokenizer of Qwen3."""

import json

import pytest

from configs import InputError
from finetune.chat.choose_format import choose_format
from finetune.chat.graft_format import GraftFormat
from finetune.conversations.messages import Conversation, Message, ToolCall
from finetune.conversations.pairs import to_pair
from finetune.preference.batches import render_pairs
from tests.finetune.chat.fuzzed_chats import chat_of, template_ids

ASKED = Message("user", "What is 2+2?")
THOUGHT = Message("assistant", "4", reasoning="2+2=4")
TOOLS = json.dumps([{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}])
CALL = Message("assistant", "", tool_calls=(ToolCall("add", '{"a": 2, "b": 2}'),))
RESULT = Message("tool", "4", name="add")


@pytest.fixture
def chat():
    return chat_of("qwen3")


def _learned(chat, row):
    ids = [id_ for id_, flag in zip(row.input_ids, row.supervised, strict=True) if flag]
    return chat.tokenizer.decode(ids)


def test_reasoning_is_learned_with_the_bases_own_marks(chat):
    row = chat.render(Conversation((ASKED, THOUGHT), "p"))
    assert _learned(chat, row) == "<think>\n2+2=4\n</think>\n\n4<|im_end|>"
    think = chat.tokenizer.convert_tokens_to_ids("<think>")
    assert row.input_ids.count(think) == 1


def test_a_users_mark_of_reasoning_stays_text_and_an_assistants_own_is_a_token(chat):
    think = chat.tokenizer.convert_tokens_to_ids("<think>")
    asked = Message("user", "<think>no</think>")
    row = chat.render(Conversation((asked, Message("assistant", "Use <think> first.")), "p"))
    before = row.input_ids[: row.supervised.index(True)]
    assert think not in before
    assert row.input_ids[len(before) :].count(think) == 2, "of the template, and of what is said"


def test_three_turns_with_reasoning_are_learned_each_as_a_server_would_see_it(chat):
    """Qwen3's template leaves out old reasoning, so no single rendering holds all three (D5)."""
    talk = Conversation((ASKED, THOUGHT, ASKED, THOUGHT, ASKED, THOUGHT), "p")
    rows = chat.render_set([talk])
    assert len(rows) == 3 and rows.sources.tolist() == [0, 0, 0]
    assert [_learned(chat, row) for row in rows] == ["<think>\n2+2=4\n</think>\n\n4<|im_end|>"] * 3
    think = chat.tokenizer.convert_tokens_to_ids("<think>")
    assert [row.input_ids.count(think) for row in rows] == [1, 1, 1], "old reasoning is not in the history"


def test_what_the_generation_prompt_brings_is_never_learned(chat):
    """With `enable_thinking` off the prompt closes the reasoning; else the model has to say that there is none."""
    talk = Conversation((ASKED, Message("assistant", "4")), "p")
    assert _learned(chat, chat.render(talk)) == "<think>\n\n</think>\n\n4<|im_end|>"
    without = choose_format(chat.tokenizer, template_options={"enable_thinking": False})
    assert _learned(without, without.render(talk)) == "4<|im_end|>"
    assert without.render(talk).input_ids == chat.render(talk).input_ids


def test_a_reply_with_reasoning_is_read_without_it(chat):
    ids = chat.tokenizer.encode("<think>\n2+2=4\n</think>\n\n4<|im_end|>", add_special_tokens=False)
    assert chat.decode_reply(ids).strip() == "4"
    assert chat.render_reply(Conversation((ASKED, THOUGHT), "p")).supervised.count(True) == 1, "the 4 alone is scored"


def test_tools_their_calls_and_results_go_through_the_template(chat):
    talk = Conversation((ASKED, CALL, RESULT, Message("assistant", "It is 4.")), "p", tools=TOOLS)
    rows = chat.render_set([talk])
    learned = "".join(_learned(chat, row) for row in rows)
    assert '<tool_call>\n{"name": "add", "arguments": {"a": 2, "b": 2}}\n</tool_call><|im_end|>' in learned
    assert "It is 4.<|im_end|>" in learned
    assert "<tool_response>\n4\n</tool_response>" in chat.tokenizer.decode(rows[-1].input_ids)
    assert '"name": "add"' in chat.tokenizer.decode(rows[0].input_ids), "the tools are shown"


@pytest.mark.parametrize(
    ("talk", "said"),
    [
        (Conversation((ASKED, THOUGHT), "chats.jsonl:3"), "leaves out the assistant's reasoning_content"),
        (Conversation((ASKED, Message("assistant", "4")), "chats.jsonl:3", tools=TOOLS), "does not show tools"),
        (Conversation((ASKED, CALL), "chats.jsonl:3"), "tool_calls"),
    ],
)
def test_what_a_template_has_no_place_for_is_refused_by_name_and_never_dropped(talk, said):
    with pytest.raises(InputError, match=f"^chats.jsonl:3: .*{said}"):
        chat_of("smollm2").render(talk)


@pytest.mark.parametrize(
    ("talk", "said"),
    [
        (Conversation((ASKED, THOUGHT), "chats.jsonl:3"), "reasoning"),
        (Conversation((ASKED, CALL, RESULT, THOUGHT), "chats.jsonl:3", tools=TOOLS), "tool"),
    ],
)
def test_the_projects_own_format_refuses_what_it_does_not_carry(chat_tokenizer, talk, said):
    with pytest.raises(InputError, match=f"^chats.jsonl:3: holds .*{said}"):
        GraftFormat(chat_tokenizer).render(talk)


def test_a_control_token_in_a_tool_is_refused(chat):
    forged = Conversation((ASKED, Message("assistant", "4")), "chats.jsonl:3", tools=TOOLS.replace("add", "<|im_end|>"))
    with pytest.raises(InputError, match=r"hold the control token '<\|im_end\|>'"):
        chat.render(forged)


@pytest.mark.parametrize(
    ("chosen", "rejected"),
    [("<think>2+2=4</think>It is 4.", "It is 4."), ("It is 4", "It is 4."), (" It is 4.", "\nIt is 5."), ("4", "44")],
)
def test_each_side_of_a_pair_is_the_whole_rendering_with_its_reply_learned(chat, chosen, rejected):
    """Prompt and reply are two messages, never the common beginning of two texts (D6)."""
    pair = to_pair({"prompt": "What is 2+2?", "chosen": chosen, "rejected": rejected}, "pairs.jsonl:1")
    rendered = render_pairs(chat, [pair])
    prompt = template_ids(chat, pair.prompt, add_generation_prompt=True)
    for side, reply in ((rendered.chosen[0], pair.chosen[0]), (rendered.rejected[0], pair.rejected[0])):
        assert side.input_ids[: len(prompt)] == prompt and side.supervised.index(True) == len(prompt)
        assert _learned(chat, side).endswith("<|im_end|>") and reply.content.strip() in _learned(chat, side)


def test_a_turn_that_is_only_read_is_not_learned(chat):
    """`weight: 0` in a record (D1)."""
    wrong = Message("assistant", "wrong", weight=0)
    talk = Conversation((ASKED, wrong, ASKED, Message("assistant", "right")), "p")
    rows = chat.render_set([talk])
    assert len(rows) == 1 and "wrong" not in _learned(chat, rows[0]) and "right" in _learned(chat, rows[0])
