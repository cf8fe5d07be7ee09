"""A dialogue as HTML: prompts as they were typed, replies as Markdown of which nothing runs, links or loads."""

import html
import math
from collections.abc import Sequence

from markdown_it import MarkdownIt

from apps.showing.look import escape, inert
from finetune.replies.asked_model import PartialReply
from finetune.serving.asked_together import SideState
from finetune.serving.dialogue import Turn

COPY = '<button type="button" class="copy" aria-label="{}">Copy</button>'
COPIES = """
element.addEventListener('click', event => {
  const button = event.target.closest('button.copy');
  if (!button) return;
  const from = button.closest('[data-text]');
  navigator.clipboard.writeText(from.dataset.text).then(() => {
    button.textContent = 'Copied';
    setTimeout(() => { button.textContent = 'Copy'; }, 1500);
  });
});
"""
"""For an HTML component that shows a transcript: its Copy buttons copy what stands behind them."""


def _markdown() -> MarkdownIt:
    made = MarkdownIt("commonmark", {"html": False, "breaks": True}).enable("table")
    made.disable(["image", "link", "autolink", "reference", "html_block", "html_inline"])

    def code(_self, tokens, number, _options, _env):  # type: ignore[no-untyped-def]
        text = tokens[number].content
        shown = f"<pre tabindex='0'><code>{html.escape(text)}</code></pre>"
        return f'<div class="code" data-text="{html.escape(text)}">{COPY.format("Copy this code")}{shown}</div>'

    made.add_render_rule("fence", code)
    made.add_render_rule("code_block", code)
    return made


MARKDOWN = _markdown()


def render_turns(turns: Sequence[Turn], side: int) -> str:
    """What was said before, with one side."""
    parts = []
    for turn in turns:
        reply = turn.replies[side] if len(turn.replies) > side else ""
        note = turn.notes[side] if len(turn.notes) > side else ""
        parts.append(f"{_prompt(turn.prompt)}{_reply(reply, escape(note))}")
    return "".join(parts)


def render_now(prompt: str, state: SideState) -> str:
    """The turn under way of one side."""
    if state.refused:
        return f'{_prompt(prompt)}<div class="turn"><p class="refused">{escape(state.refused)}</p></div>'
    note = escape(figures_of(state.reply))
    if not state.reply.text and not state.reply.ended:
        waiting = escape(state.reply.waits_for or "asking …")
        return f'{_prompt(prompt)}<div class="turn" aria-busy="true"><p class="waiting">{waiting}</p></div>'
    return f"{_prompt(prompt)}{_reply(state.reply.text, note)}"


def figures_of(reply: PartialReply) -> str:
    """The line under a reply.

    >>> figures_of(PartialReply(text="Two", pieces=1, seconds=0.5, first_seconds=0.25, ended="end of turn"))
    '1 token · first after 0.25 s · 2.0 tokens/s · end of turn'
    """
    unit = f"{reply.piece}{'' if reply.pieces == 1 else 's'}"
    parts = [f"{reply.pieces} {unit}"]
    if reply.first_seconds is not None:
        parts.append(f"first after {reply.first_seconds:.2f} s")
    if reply.pieces and reply.seconds:
        parts.append(f"{reply.pieces / reply.seconds:.1f} {reply.piece}s/s")
    if reply.nats is not None and reply.own_tokens:
        parts.append(f"perplexity {math.exp(min(700.0, reply.nats / reply.own_tokens)):.2f}")
    if reply.nats is not None and reply.own_bytes:
        parts.append(f"{reply.nats / math.log(2) / reply.own_bytes:.2f} bits/byte")
    return " · ".join([*parts, reply.ended or "…"])


def _prompt(text: str) -> str:
    return f'<div class="turn asked"><p>{escape(text)}</p></div>'


def _reply(text: str, note: str) -> str:
    said = inert(MARKDOWN.render(text)) if text.strip() else '<p class="waiting">(nothing)</p>'
    copy = COPY.format("Copy this reply")
    return (
        f'<div class="turn" data-text="{escape(text)}"><div class="said">{said}</div>'
        f'<p class="status">{note} {copy}</p></div>'
    )
