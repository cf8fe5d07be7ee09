"""What the Compare tab's form sends, checked: a request that bypasses the page can hold anything that JSON can."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from apps.showing.field_values import MOST_CHARACTERS, choice, flag, number, text, whole
from apps.showing.studio_models import FORMATS
from configs import InputError
from finetune.serving.dialogue import MOST_SIDES, Dialogue, read_dialogue
from scratch_models.decoding.sampling_settings import Sampling

MOST_TOKENS = 1024
HOTTEST = 2.0
MOST_TOP_K = 200
MOST_SEED = 2**32 - 1
SHARED, OF_EACH_SIDE = 10, 5


@dataclass(frozen=True, kw_only=True)
class AskedSide:
    """One side as the form has it."""

    model: str
    prompt_format: str
    sampling: Sampling


@dataclass(frozen=True, kw_only=True)
class AskedOfAll:
    """One prompt for all sides."""

    prompt: str
    system: str
    sides: tuple[AskedSide, ...]
    reply_tokens: int
    dialogue: Dialogue

    @property
    def names(self) -> list[str]:
        """Of the models."""
        return [side.model for side in self.sides]

    def with_seeds_moved(self, by: int) -> "AskedOfAll":
        """The same with the next noise."""
        sides = [
            replace(side, sampling=replace(side.sampling, seed=(side.sampling.seed + by) % (MOST_SEED + 1)))
            for side in self.sides
        ]
        return replace(self, sides=tuple(sides))


def read_form(names: Sequence[str], values: Sequence[object], *, needs_prompt: bool = True) -> AskedOfAll:
    """The request in the form's values.

    They are: prompt, dialogue, number of sides, system, temperature, top-k, top-p, seed, most tokens, whether each side
    is sampled in its own way; then for each of four sides model, format, temperature, top-p, seed.

    Raises:
        InputError: a value is of another type or out of its range.
    """
    prompt, dialogue, sides, system, temperature, top_k, top_p, seed, tokens, apart = values[:SHARED]
    count = whole("sides", sides, 1, MOST_SIDES)
    of_each = [values[SHARED + OF_EACH_SIDE * i :][:OF_EACH_SIDE] for i in range(count)]
    top_k, apart = whole("top-k", top_k, 0, MOST_TOP_K), flag("sampling of each side", apart)
    shared = _sampling("", temperature, top_k, top_p, seed)
    found = []
    for letter, (model, prompt_format, own_temperature, own_top_p, own_seed) in zip("ABCD", of_each, strict=False):
        own = _sampling(f"side {letter}: ", own_temperature, top_k, own_top_p, own_seed) if apart else shared
        side_format = choice(f"side {letter}: format", prompt_format, list(FORMATS))
        found.append(AskedSide(model=choice(f"side {letter}", model, names), prompt_format=side_format, sampling=own))
    said = text("prompt", prompt, MOST_CHARACTERS) if needs_prompt else ""
    if needs_prompt and not said.strip():
        raise InputError("prompt: is empty, expected a question or a text to continue")
    return AskedOfAll(
        prompt=said,
        system=text("system", system, MOST_CHARACTERS),
        sides=tuple(found),
        reply_tokens=whole("most tokens", tokens, 1, MOST_TOKENS),
        dialogue=read_dialogue(dialogue),
    )


def _sampling(where: str, temperature: object, top_k: int, top_p: object, seed: object) -> Sampling:
    return Sampling(
        temperature=number(f"{where}temperature", temperature, 0, HOTTEST),
        top_k=top_k,
        top_p=number(f"{where}top-p", top_p, 0.01, 1),
        seed=whole(f"{where}seed", seed, 0, MOST_SEED),
    )
