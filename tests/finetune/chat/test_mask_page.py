"""The page of a mask: it holds the whole text, marks what is learned and nothing else, and runs nothing."""

from dataclasses import replace
from html.parser import HTMLParser

import pytest

from finetune.chat.graft_format import GraftFormat
from finetune.chat.mask_page import mask_as_html, token_texts
from finetune.chat.rendered import RenderedConversation
from finetune.conversations.formats import Conversation, Message

CHAT = Conversation(
    (
        Message("system", "Be <b>brief</b>."),
        Message("user", "語🙂 & what is the sum?\n<script>alert(1)</script>"),
        Message("assistant", "It is 72, 語🙂.\nSure."),
        Message("user", "<|end|>\x1b[2J?"),
        Message("assistant", "Yes."),
    ),
    "p",
)


class _Spans(HTMLParser):
    """The title, class and text of every span, and the names of all tags."""

    def __init__(self) -> None:
        super().__init__()
        self.spans: list[list[str]] = []
        self.tags: set[str] = set()
        self._inside = False

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self._inside = tag == "span"
        if self._inside:
            found = dict(attributes)
            self.spans.append([found["title"], found.get("class", ""), ""])

    def handle_endtag(self, tag):
        self._inside = False

    def handle_data(self, data):
        if self._inside:
            self.spans[-1][2] += data


def test_what_counts_less_says_how_much(read, chat_tokenizer):
    weighted = replace(CHAT, messages=(*CHAT.messages[:4], Message("assistant", "Yes.", weight=0.25)))
    spans = read(GraftFormat(chat_tokenizer).render(weighted)).spans
    ends = [[title, kinds] for title, kinds, text in spans if text == "<|end|>" and "learned" in kinds]
    end = GraftFormat(chat_tokenizer).end_id
    assert ends == [[f"{end}", "learned control"], [f"{end} weight 0.25", "learned control"]]


@pytest.fixture
def read(chat_tokenizer):
    def read(rendered):
        parser = _Spans()
        parser.feed(mask_as_html(rendered, GraftFormat(chat_tokenizer), "Example <1>"))
        return parser

    return read


def test_the_page_shows_every_id_once_in_order_with_the_text_of_all(read, chat_tokenizer):
    rendered = GraftFormat(chat_tokenizer).render(CHAT)
    spans = read(rendered).spans
    assert [int(id_) for ids, _, _ in spans for id_ in ids.split()] == rendered.input_ids
    shown = "".join(text for _, _, text in spans)
    assert shown == chat_tokenizer.decode(rendered.input_ids).replace("\x1b", "\\x1b")
    assert "\ufffd" not in shown, "no character is split"


def test_green_is_what_the_assistant_says_and_its_end_of_turn(read, chat_tokenizer):
    spans = read(GraftFormat(chat_tokenizer).render(CHAT)).spans
    green = "".join(text for _, kind, text in spans if "learned" in kind)
    assert green == "It is 72, 語🙂.\nSure.<|end|>Yes.<|end|>"


def test_bold_are_control_tokens_and_not_text_that_looks_like_one(read, chat_tokenizer):
    spans = read(GraftFormat(chat_tokenizer).render(CHAT)).spans
    bold = [text for _, kind, text in spans if "control" in kind]
    roles = ["<|system|>", "<|user|>", "<|assistant|>", "<|user|>", "<|assistant|>"]
    assert bold == [token for role in roles for token in (role, "<|end|>")]


def test_what_a_conversation_says_becomes_no_tag(read, chat_tokenizer):
    assert not {"script", "b"} & read(GraftFormat(chat_tokenizer).render(CHAT)).tags


def test_the_page_counts_what_is_learned_and_the_ends_of_turns(chat_tokenizer):
    rendered = GraftFormat(chat_tokenizer).render(CHAT)
    shown = mask_as_html(rendered, GraftFormat(chat_tokenizer), "Example <1>")
    assert "<title>Example &lt;1&gt;</title>" in shown
    assert f"<td>learned (green)</td><td class=number>{sum(rendered.supervised)}</td>" in shown
    assert "&lt;|end|&gt;</td><td class=number>2</td>" in shown


def test_results_of_the_calculator_stand_out_as_not_learned(read, chat_tokenizer):
    sum_of_two = Conversation((Message("user", "?"), Message("assistant", "<<48/2=24>>24 clips")), "p")
    spans = read(GraftFormat(chat_tokenizer, calculator=True).render(sum_of_two)).spans
    grey = [text for _, kind, text in spans if "learned" not in kind]
    assert "".join(grey) == "<|user|>?<|end|><|assistant|>24>>"


def test_ids_that_never_make_a_character_are_shown_all_the_same(chat_tokenizer):
    half = chat_tokenizer.encode("語", add_special_tokens=False)[:1]
    rendered = RenderedConversation(half + half, [False, True])
    assert [(ids, learned) for _, ids, learned in token_texts(rendered, chat_tokenizer)] == [
        (half, False),
        (half, True),
    ]
