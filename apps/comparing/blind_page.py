"""What happens on the page of the blind vote: two replies without names, a vote, then the names and the standings."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from apps.comparing.compare_form import HOTTEST, MOST_SEED, MOST_TOKENS
from apps.showing.field_values import MOST_CHARACTERS, choice, number, text, whole
from apps.showing.look import escape
from apps.showing.refusals import says_errors
from apps.showing.stops import Stops
from apps.showing.studio_models import FORMATS, model_of, names_of, proof_of
from apps.showing.studio_parts import StudioParts
from apps.showing.tables import table_as_html
from configs import InputError
from finetune.conversations.messages import Conversation, Message
from finetune.serving.asked_together import SideAsked, SideState, ask_together
from finetune.studio.ballot import CHOICES, Asked, Ballot, next_question
from finetune.studio.vote_figures import PairFigures, figures_of_pairs
from finetune.studio.vote_pairs import WrittenPairs, queue_preference_run, write_pairs
from finetune.votes import VoteBook
from scratch_models.decoding.sampling_settings import Sampling

MOST_QUESTIONS = 200_000
"""Characters of all questions."""
BUTTONS = ("A is better (1)", "B is better (2)", "Tie (3)", "Both bad (4)")
NO_NAMES = ("<h3>A</h3>", "<h3>B</h3>")
NO_VOTES = "<p>No votes yet: ask both models something, read both replies, and press 1, 2, 3 or 4.</p>"
OFF = [gr.update(interactive=False)] * len(CHOICES)


@dataclass(frozen=True)
class BlindPage:
    """What the page does; what it shows is, in order: prompt, status, both replies, the buttons, the ballot."""

    studio: StudioParts
    book: VoteBook
    stops: Stops
    equal: set[tuple[object, ...]] = field(default_factory=set)
    """Prompts to which both replied the same, each with all that the replies come from."""

    @says_errors
    def ask(self, request: gr.Request, *values: object) -> Iterator[list[Any]]:
        """Asks both what the prompt says."""
        yield from self._ask(request, values, text("prompt", values[0] or "", MOST_CHARACTERS))

    @says_errors
    def ask_next(self, request: gr.Request, *values: object) -> Iterator[list[Any]]:
        """Asks both the next question that has no vote yet."""
        questions = text("questions", values[1] or "", MOST_QUESTIONS)
        voted = {vote.asked.prompt for vote in self.book.of_pair(self._models(values[2:4]))}
        voted |= {str(prompt) for prompt, *rest in self.equal if rest == list(self._settings(values))}
        yield from self._ask(request, values, next_question(questions, voted))

    @says_errors
    def vote(self, number: int, ballot: Ballot | None) -> list[Any]:
        """Keeps a vote, then says who is who."""
        if ballot is None:
            raise InputError("vote: there is nothing to vote on, expected two replies: ask both first")
        vote = self.book.add(ballot.cast(CHOICES[number]))
        heads = [f"<h3>{letter}: {escape(name)}</h3>" for letter, name in zip("AB", ballot.names, strict=True)]
        said = f"Kept: {BUTTONS[number].partition(' (')[0]}. " + (
            f"{vote.asked.models[vote.winner]} wins." if vote.winner is not None else "Neither wins."
        )
        shown = [f"{head}{_text(reply)}" for head, reply in zip(heads, ballot.shown, strict=True)]
        return [_said(said), *shown, *OFF, None, self.standings()]

    def standings(self) -> str:
        """All votes so far as a table."""
        pairs = figures_of_pairs(self.book.all())
        return _table(pairs) if pairs else NO_VOTES

    @says_errors
    def export(self, *values: object) -> str:
        """Writes the pairs of the two models into a file, and says where."""
        written = write_pairs(self.book.of_pair(self._models(values)), self.studio.folder)
        return _said(f"{_counted(written)} Train on them with --data {written.path}")

    @says_errors
    def queue(self, *values: object) -> str:
        """Queues preference tuning of the second model on the votes."""
        models, parts = self._models(values), self.studio.parts
        if models[1] in self.studio.servers:
            raise InputError(f"{models[1]}: is on another server, expected a model of this one to tune")
        job = queue_preference_run(
            parts.jobs,
            self.book.of_pair(models),
            base=models[1],
            place=parts.names.place_of(models[1]),
            most_waiting=parts.limits.queued_jobs,
        )
        return _said(f"Queued: {job.id}, preference tuning of {models[1]} on these votes. Its place is in Runs.")

    def _ask(self, request: gr.Request, values: Sequence[object], prompt: str) -> Iterator[list[Any]]:
        if not prompt.strip():
            raise InputError("prompt: is empty, expected a question for both")
        models, sampling, most, prompt_format = self._settings(values)
        sides = [
            SideAsked(
                model=model_of(self.studio, name, prompt_format),
                conversation=Conversation((Message("user", prompt), Message("assistant", "")), "vote"),
                reply_tokens=most,
                sampling=sampling,
            )
            for name in models
        ]
        yield [prompt, _said("Both are asked …"), *NO_NAMES, *OFF, None]
        stop, states = self.stops.current(request), tuple[SideState, ...]()
        for states in ask_together(sides, stop):
            yield [gr.skip(), _said(_progress(states)), *[gr.skip()] * 7]
        refused = next((state.refused for state in states if state.refused), "")
        if refused:
            raise InputError(refused)
        replies = states[0].reply.text.strip(), states[1].reply.text.strip()
        proofs = proof_of(self.studio, models[0]), proof_of(self.studio, models[1])
        asked = Asked(
            prompt=prompt,
            models=models,
            proofs=proofs,
            prompt_format=prompt_format,
            sampling=sampling,
            most_tokens=most,
            replies=replies,
        )
        ballot = Ballot(asked)
        if ballot.is_equal and not stop.is_set():
            self.equal.add((prompt, models, sampling, most, prompt_format))
        yield [gr.skip(), *_offered(ballot, is_stopped=stop.is_set())]

    def _models(self, values: Sequence[object]) -> tuple[str, str]:
        names = names_of(self.studio)
        first, second = choice("first model", values[0], names), choice("second model", values[1], names)
        if first == second:
            raise InputError(f"second model: is {second} too, expected another one than the first")
        return first, second

    def _settings(self, values: Sequence[object]) -> tuple[tuple[str, str], Sampling, int, str]:
        """Both models, how ids are chosen, the most tokens, and the prompt format."""
        sampling = Sampling(
            temperature=number("temperature", values[4], 0, HOTTEST), seed=whole("seed", values[5], 0, MOST_SEED)
        )
        most, prompt_format = whole("tokens", values[6], 1, MOST_TOKENS), choice("format", values[7], list(FORMATS))
        return self._models(values[2:4]), sampling, most, prompt_format


def _offered(ballot: Ballot, *, is_stopped: bool) -> list[Any]:
    """Both replies, and a vote on them where there is one to give."""
    shown = [f"{head}{_text(reply)}" for head, reply in zip(NO_NAMES, ballot.shown, strict=True)]
    if is_stopped:
        return [_said("Stopped: replies that are cut off are not voted on."), *shown, *OFF, None]
    if ballot.is_equal:
        return [_said("Both replied the same, so there is nothing to choose between: go on."), *shown, *OFF, None]
    said = "Which is better? Press 1 for A, 2 for B, 3 for a tie, 4 where both are bad."
    return [_said(said), *shown, *[gr.update(interactive=True)] * len(CHOICES), ballot]


def _progress(states: Sequence[SideState]) -> str:
    """How far both are together: how fast each is could tell which it is."""
    waiting = next((state.reply.waits_for for state in states if state.reply.waits_for), "")
    tokens = sum(state.reply.pieces for state in states)
    return f"Both are replying: {tokens} tokens so far." if tokens else f"Both wait: {waiting or 'they are asked'} …"


def _text(reply: str) -> str:
    return f'<div class="blind">{escape(reply) or "<em>an empty reply</em>"}</div>'


def _said(words: str) -> str:
    return f'<p role="status">{escape(words)}</p>'


def _counted(written: WrittenPairs) -> str:
    left_out = "".join(f"; left out: {count} {what}" for what, count in written.left_out.items())
    return f"{written.pairs:,} {'pair' if written.pairs == 1 else 'pairs'} written{left_out}."


def _table(pairs: Sequence[PairFigures]) -> str:
    names = (
        "models",
        "votes",
        "won",
        "ties",
        "both bad",
        "the first wins",
        "95 %",
        "the longer won",
        "mean characters",
    )
    rows = []
    for pair in pairs:
        low, high = pair.interval.low, pair.interval.high
        longer = "none differs"
        if pair.longer_interval is not None:
            longer_low, longer_high = pair.longer_interval.low, pair.longer_interval.high
            longer = f"{pair.longer_won} of {pair.decided} ({longer_low:.0%} to {longer_high:.0%})"
        cells = (
            f"{pair.models[0]} against {pair.models[1]}",
            f"{pair.votes:,}",
            f"{pair.wins[0]} : {pair.wins[1]}",
            str(pair.ties),
            str(pair.both_bad),
            f"{pair.share:.1%}",
            f"{low:.1%} to {high:.1%}",
            longer,
            f"{pair.mean_lengths[0]:.0f} : {pair.mean_lengths[1]:.0f}",
        )
        rows.append(cells)
    return (
        f"{table_as_html('Standings', names, rows)}"
        "<p>A tie, and both bad, is half a win for each; the interval is Wilson's of the wins with these halves, a "
        "little too wide where there are many. The longer reply, in characters, should win about half of the votes "
        "that are decided: where 50 % lies outside its interval, length may be what was voted on.</p>"
    )
