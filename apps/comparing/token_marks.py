"""Tokens of a text as coloured marks, each with what two models say of it; shown as text, whatever it holds."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from apps.showing.look import escape
from apps.showing.tables import framed
from finetune.evaluation.text_difference import Likely, ScoredToken, Span, TextDifference
from finetune.studio.most_changed import ChangedToken

COLOURS = {
    "change": "Change of log-probability",
    "divergence": "KL(base ‖ tuned)",
    "base probability": "Probability, base",
    "tuned probability": "Probability, tuned",
    "base rank": "Rank, base",
    "tuned rank": "Rank, tuned",
}
LEGENDS = {
    "change": "Blue: the tuned model finds it likelier; orange: less likely. Full colour at 3 nats.",
    "divergence": "The stronger, the more the two expect different tokens in this place. Full colour at 2 nats.",
    "base probability": "The stronger, the less likely to the base. Full colour at 1 in 1,000.",
    "tuned probability": "The stronger, the less likely to the tuned model. Full colour at 1 in 1,000.",
    "base rank": "None: the base's first choice. Full colour at rank 1,000.",
    "tuned rank": "None: the tuned model's first choice. Full colour at rank 1,000.",
}
Text = Callable[[int], str]


def marks_of(difference: TextDifference, colour: str, base_text: Text, tuned_text: Text) -> str:
    """The whole text as HTML: a button a stretch, what both say of it behind it."""
    shown = []
    for number, span in enumerate(difference.spans):
        heat, label = _heat(span, colour)
        direction = "up" if heat > 0 else "down"
        text = visible(span.bytes)
        breaks = "<br>" * span.bytes.count(b"\n")
        shown.append(
            f'<button type="button" class="token {direction}" style="--heat: {abs(heat):.0%}" data-token="{number}" '
            f'aria-describedby="token-said-{number}" aria-label="{escape(f"{text}: {label}")}">{escape(text)}</button>'
            f'<span class="said" role="tooltip" id="token-said-{number}">'
            f"{escape(_said(span, base_text, tuned_text))}</span>{breaks}"
        )
    return f'<div class="tokens" role="group" aria-label="Tokens of the text">{"".join(shown)}</div>'


@dataclass(frozen=True)
class LikelySide:
    """One of the two models in the place of a token."""

    side: str
    """`base` or `tuned`."""
    name: str
    place: int
    """Which of its own tokens stands there."""
    text: Text


def likely_of(span: Span, base: LikelySide, tuned: LikelySide) -> str:
    """What both find likeliest in the place of a token as buttons; each names side, place and id for a click."""
    columns = []
    for one, tokens in ((base, span.base), (tuned, span.tuned)):
        buttons = "".join(
            f'<li><button type="button" class="likely" data-force="{one.side} {one.place} {likely.id}">'
            f"<span>{escape(one.text(likely.id))}</span> {_percent(likely.logprob)}</button></li>"
            for likely in (tokens[0].likeliest if tokens else ())
        )
        shown = f"<ol>{buttons}</ol>" if buttons else "<p>Nothing stands before it, so nothing is expected.</p>"
        columns.append(f"<div><h4>{escape(one.name)}</h4>{shown}</div>")
    token = f"<code>{escape(visible(span.bytes))}</code>"
    heading = f"<p>In the place of {token}: press one, and its model goes on from there.</p>"
    return f'{heading}<div class="likely-columns">{"".join(columns)}</div>'


def changed_rows(tokens: Sequence[ChangedToken]) -> str:
    """The tokens that changed most as a table."""
    rows = []
    for token in tokens:
        divergence = token.mean_divergence
        most = token.most
        assert most is not None, "it was counted at a place"
        rows.append(
            f"<tr><td><code>{escape(visible(token.text))}</code></td><td>{token.times:,}</td>"
            f"<td>{token.mean_change:+.3f}</td><td>{token.sum_of_changes:+.2f}</td>"
            f"<td>{'' if divergence is None else f'{divergence:.3f}'}</td><td>{most.change:+.2f}</td>"
            f"<td>{escape(_before(most.before))}<mark>{escape(visible(token.text))}</mark></td>"
            f"<td>{escape(most.source)}</td></tr>"
        )
    head = ("token", "times", "mean change", "sum", "mean KL", "most, at one place", "which is", "in")
    return framed("Tokens that changed most", head, "".join(rows))


def visible(text: bytes) -> str:
    r"""Bytes as text on one line in which spaces, ends of line and broken characters can be seen.

    >>> visible(b"\n a\xc3")
    '⏎ a\\xc3'
    """
    shown = text.decode(errors="backslashreplace").replace("\n", "⏎").replace("\t", "⇥").replace("\r", "␍")
    if shown.startswith(" "):
        shown = "␣" * (len(shown) - len(shown.lstrip(" "))) + shown.lstrip(" ")
    return "".join(letter if letter.isprintable() else f"\\u{ord(letter):04x}" for letter in shown) or "∅"


def _before(text: str) -> str:
    return f"…{visible(text.encode())}" if text else ""


def _heat(span: Span, colour: str) -> tuple[float, str]:
    """How strong a stretch is coloured, from -1 to 1, and the number in words."""
    if colour == "change":
        change = span.change
        return (0, "not scored") if change is None else (max(-1.0, min(1.0, change / 3)), f"change {change:+.2f} nats")
    if colour == "divergence":
        nats = span.divergence
        return (0, "no divergence") if nats is None else (-min(1.0, nats / 2), f"KL {nats:.3f} nats")
    side, _, what = colour.partition(" ")
    tokens, logprob = (span.base, span.base_logprob) if side == "base" else (span.tuned, span.tuned_logprob)
    if logprob is None:
        return 0, "not scored"
    if what == "probability":
        return -min(1.0, -logprob / math.log(1000)), f"probability {_percent(logprob)}"
    rank = max(token.rank or 1 for token in tokens)
    return -min(1.0, math.log(rank) / math.log(1000)), f"rank {rank:,}"


def _said(span: Span, base_text: Text, tuned_text: Text) -> str:
    """What both models say of a stretch, as lines of text."""
    lines = [f"{visible(span.bytes)}"]
    for name, tokens in (("base", span.base), ("tuned", span.tuned)):
        said = ", ".join(_token_said(token) for token in tokens)
        lines.append(f"{name:6}{said or 'no token of its own'}")
    if span.change is not None:
        divergence = "" if span.divergence is None else f"   KL {span.divergence:.4f} nats"
        lines.append(f"change {span.change:+.3f} nats{divergence}")
    first, second = (tokens[0].likeliest if tokens else () for tokens in (span.base, span.tuned))
    if first or second:
        lines.append(f"{'likeliest, base':22}likeliest, tuned")
    for number in range(max(len(first), len(second))):
        lines.append(f"{_likely(first, number, base_text):22}{_likely(second, number, tuned_text)}".rstrip())
    return "\n".join(lines)


def _token_said(token: ScoredToken) -> str:
    if token.logprob is None or token.rank is None:
        return f"id {token.id}, not scored: nothing stands before it"
    return f"id {token.id}, {_percent(token.logprob)}, rank {token.rank:,}"


def _likely(likeliest: Sequence[Likely], number: int, text: Text) -> str:
    if number >= len(likeliest):
        return ""
    one = likeliest[number]
    return f"{_percent(one.logprob):>7} {text(one.id)[:13]}"


def _percent(logprob: float) -> str:
    share = math.exp(logprob)
    return f"{share:.1%}" if share >= 0.001 else f"{share:.0e}"
