"""The tokens that an extension would learn from a text: what each saves, and what any number of them is worth."""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerFast

from tokenizer_ext.bpe.merge_learning import PairIndex, base_ids
from tokenizer_ext.extension.corpus_files import sort_texts
from tokenizer_ext.extension.plan import Plan, make_plan
from tokenizer_ext.extension.wanted import Wanted
from tokenizer_ext.huggingface.byte_level_backend import writing_of
from tokenizer_ext.huggingface.hf_tokenizer import token_bytes


@dataclass(frozen=True, kw_only=True)
class ProposedToken:
    """A token that would be new."""

    written: str
    """As `tokenizer.json` writes it, and as a file of tokens to leave out does."""
    content: bytes
    saves: int
    """By how many tokens the text to learn from gets shorter where it is joined."""
    uses: int
    """How often it stands there in the end; less where longer tokens hold it."""
    parts: Sequence[bytes]
    """The tokens of the base that it is made of."""
    is_word: bool
    """Whether it was asked for, and not found."""


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """What an extension would add, and what that is worth on text that it did not learn from."""

    tokens: Sequence[ProposedToken]
    points: Sequence[tuple[int, float]]
    """Numbers of new tokens, and what share of the tokens of the measured text each saves."""
    knee: int
    """Where further tokens begin to save less than on average; one of these numbers."""
    documents: int
    """Read to learn from."""
    held_out: int
    """Read to measure; 0 where the text is too short to hold some out, so that it is measured itself."""
    duplicates: int

    @property
    def saved_at_knee(self) -> float:
        """The share that the knee saves."""
        return dict(self.points)[self.knee]


def propose(tokenizer: PreTrainedTokenizerFast, documents: Sequence[str], wanted: Wanted) -> Proposal:
    """What an extension would add; nothing is written, and no weight read.

    Raises:
        InputError: the tokenizer takes no merges, a word cannot be a token, or the text supports fewer tokens.

    """
    plan = make_plan(tokenizer, sort_texts(documents, None, ()), wanted)
    return Proposal(
        tokens=_tokens(plan),
        points=_points(plan),
        knee=plan.curve.knee.new_tokens if plan.curve else 0,
        documents=len(plan.texts.to_learn),
        held_out=len(plan.texts.held_out),
        duplicates=plan.texts.duplicates,
    )


def _tokens(plan: Plan) -> list[ProposedToken]:
    known, index = token_bytes(plan.base), PairIndex(plan.pieces)
    saves = [one.count * (len(one.parts) - 1) for one in plan.characters]
    saves += [index.apply((merge.left, merge.right), merge.token) for merge in plan.merges]
    uses = plan.curve.uses if plan.curve else [0] * len(saves)
    write, first_word = writing_of(plan.base).write, len(plan.characters)
    return [
        ProposedToken(
            written=write(new.token_bytes),
            content=new.token_bytes,
            saves=saved,
            uses=int(used),
            parts=[known[id_] for id_ in ids],
            is_word=first_word <= place < first_word + plan.word_tokens,
        )
        for place, (new, saved, used, ids) in enumerate(
            zip(plan.tokens, saves, uses, base_ids(plan.tokens), strict=True)
        )
    ]


def _points(plan: Plan) -> list[tuple[int, float]]:
    """Bytes per token at each number of tokens, as the share of tokens that are saved."""
    if plan.curve is None:
        return []
    before = plan.curve.points[0].bytes_per_token
    return [(point.new_tokens, 1 - before / point.bytes_per_token) for point in plan.curve.points]
