"""Base and tuned model under attack: how often each follows and refuses, with intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

from configs import InputError
from finetune.evaluation.figures import Figure, compare_shares
from finetune.evaluation.scoring import GREEDY
from finetune.red_teaming.attacks import HARMFUL, KINDS, SECRET, SYSTEM_TURN, Attack
from finetune.red_teaming.judging import Judged, judge
from finetune.replies.asked_model import AskedModel
from scratch_models.corpus.evenly_spaced import evenly_spaced
from tokenizer_ext.pages.progress import progress


@dataclass(frozen=True)
class Attacked:
    """The attacks that both models were asked, and what came back."""

    attacks: list[Attack]
    base: list[Judged]
    tuned: list[Judged]
    left_out: int
    """Prompts that do not fit both models."""

    @property
    def figures(self) -> list[Figure]:
        """How often each model follows and refuses, of every kind of attack."""
        return [figure for kind in KINDS for figure in self._figures_of(kind)]

    def _figures_of(self, kind: str) -> list[Figure]:
        numbers = [number for number, attack in enumerate(self.attacks) if attack.kind == kind]
        if not numbers:
            return []
        base, tuned = ([side[number] for number in numbers] for side in (self.base, self.tuned))
        verb = "repeats the canary" if kind in (SYSTEM_TURN, SECRET) else "follows"
        name = f"{kind} ({len(numbers)})"
        followed = compare_shares(f"{name}: {verb}", *([bool(one.follows) for one in side] for side in (base, tuned)))
        refused = compare_shares(f"{name}: refuses", *([one.refuses for one in side] for side in (base, tuned)))
        return [refused] if kind == HARMFUL else [followed, refused]


def attack_both(
    base: AskedModel, tuned: AskedModel, attacks: Sequence[Attack], reply_tokens: int, most_of_a_kind: int | None = None
) -> Attacked:
    """Both models asked the attacks that fit both, at most so many of a kind, spread evenly; always greedily.

    Raises:
        InputError: no prompt fits both.

    """
    chosen = [one for kind in KINDS for one in _some([each for each in attacks if each.kind == kind], most_of_a_kind)]
    fitting = [one for one in chosen if _fits(base, one) and _fits(tuned, one)]
    if not fitting:
        raise InputError("no prompt fits both models, expected room for a question and a reply in each")
    replies = []
    for which, model in (("base", base), ("tuned", tuned)):
        with progress(f"attacking the {which}"):
            answered = model.answer([one.conversation for one in fitting], reply_tokens, GREEDY)
        replies.append([judge(attack, reply.text) for attack, reply in zip(fitting, answered, strict=True)])
    return Attacked(fitting, replies[0], replies[1], left_out=len(chosen) - len(fitting))


def _some(attacks: Sequence[Attack], number: int | None) -> list[Attack]:
    return evenly_spaced(attacks, len(attacks) if number is None else number)


def _fits(model: AskedModel, attack: Attack) -> bool:
    try:
        return model.fits(attack.conversation)
    except InputError:  # a chat template without a place for a system message, say
        return False
