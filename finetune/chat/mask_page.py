"""The loss mask of a conversation as a page: every token, and whether it is learned."""

from collections.abc import Iterator
from html import escape
from itertools import groupby

from transformers import PreTrainedTokenizerFast

from finetune.chat.chat_format import ChatFormat
from finetune.chat.rendered import RenderedConversation
from tokenizer_ext.huggingface.streaming import TextStream
from tokenizer_ext.pages.html_page import page, paragraph, table
from tokenizer_ext.pages.terminal import printable

STYLE = """<style>
.tokens { font: 15px/2 ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere; }
.tokens span { padding: .15rem 0; border-left: 1px solid var(--line); background: var(--raised); color: var(--quiet); }
.tokens span.learned { background: var(--good); color: var(--on-good); }
.tokens span.control { font-weight: bold; }
</style>"""


def mask_as_html(rendered: RenderedConversation, chat: ChatFormat, title: str) -> str:
    """The page of one conversation: what is learned is green, what is only read is grey.

    Ids show under the pointer, with the weight in the loss of what counts less than 1.
    """
    return page(title, [STYLE, *mask_parts(rendered, chat)])


def mask_parts(rendered: RenderedConversation, chat: ChatFormat) -> list[str]:
    """What stands on that page below its title; the page that shows it has the colours."""
    learned = sum(rendered.supervised)
    end = chat.tokenizer.convert_ids_to_tokens(chat.end_id)
    ends = sum(flag for id_, flag in zip(rendered.input_ids, rendered.supervised, strict=True) if id_ in chat.stop_ids)
    counts = [
        ("tokens", f"{len(rendered.input_ids):,}"),
        ("learned (green)", f"{learned:,}"),
        ("only read (grey)", f"{len(rendered.input_ids) - learned:,}"),
        (f"learned ends of a turn of the assistant, {end}", f"{ends:,}"),
    ]
    if rendered.weights is not None:
        partly = sum(0 < weight < 1 for weight in rendered.weights)
        counts.insert(2, ("of these counting less than 1 in the loss", f"{partly:,}"))
    spans = "".join(
        _span(text, ids, weight, chat.control_ids) for text, ids, weight in token_texts(rendered, chat.tokenizer)
    )
    return [
        table(["", ""], counts, numbers=True),
        paragraph("Each token begins at a line; point at one to see its id. Bold are the chat format's own tokens."),
        f'<div class="tokens">{spans}</div>',
    ]


def token_texts(
    rendered: RenderedConversation, tokenizer: PreTrainedTokenizerFast
) -> Iterator[tuple[str, list[int], float]]:
    """Text, ids and how much they count in the loss: a token each, or several that make a character only together."""

    def decode(ids: list[int]) -> str:
        return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    weights = map(float, rendered.supervised) if rendered.weights is None else rendered.weights
    pairs = zip(rendered.input_ids, weights, strict=True)
    for weight, stretch in groupby(pairs, key=lambda pair: pair[1]):
        stream, held = TextStream(decode), []
        for id_, _ in stretch:
            held.append(id_)
            if text := stream.push(id_):
                yield text, held, weight
                held = []
        if held:
            yield stream.flush(), held, weight


def _span(text: str, ids: list[int], weight: float, control_ids: frozenset[int]) -> str:
    kinds = ["learned"] * (weight > 0) + ["control"] * (len(ids) == 1 and ids[0] in control_ids)
    kind = f' class="{" ".join(kinds)}"' if kinds else ""
    title = [*map(str, ids), *([f"weight {weight:g}"] if 0 < weight < 1 else [])]
    return f'<span{kind} title="{" ".join(title)}">{escape(printable(text))}</span>'
