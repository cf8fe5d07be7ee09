"""How tokens changed over many texts, told after each one."""

from collections.abc import Iterable, Iterator

from configs import InputError
from finetune.serving.model_difference import MOST_TOKENS, ModelPair, TooLong
from finetune.serving.put_texts import AUTO
from finetune.studio.given_texts import GivenText
from finetune.studio.most_changed import MostChanged


def score_texts(
    pair: ModelPair, texts: Iterable[GivenText], prompt_format: str, most_texts: int
) -> Iterator[MostChanged]:
    """How tokens changed over texts: after each one that was read, the same object once more.

    Raises:
        InputError: the texts cannot be read.
    """
    found = MostChanged()
    for number, given in enumerate(texts):
        if number >= most_texts:
            found.left_out[f"not read: more than {most_texts:,}"] += 1
            continue
        if not given.text.strip():
            found.left_out["without a reply"] += 1
            continue
        try:
            # A text that follows nothing has no prompt format.
            own = prompt_format if given.messages else AUTO
            found.add(given.source, pair.score(given.messages, given.text, own).difference)
        except TooLong:
            found.left_out[f"longer than {MOST_TOKENS:,} tokens, or than the model reads"] += 1
        except InputError as error:
            found.left_out[str(error)] += 1
        yield found
    yield found
