"""A model with the words of a corpus: its vocabulary extended, its tables grown, and what is proved of it."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tiktoken
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from configs import InputError
from configs.manifest import sealed_folder
from configs.whole_folder import check_new_folder
from tokenizer_ext.bpe.merge_learning import Merge, base_ids
from tokenizer_ext.embeddings.row_init import start_tables
from tokenizer_ext.embeddings.saved_weights import reopen
from tokenizer_ext.embeddings.start_names import DEFAULT_START, Start
from tokenizer_ext.embeddings.tables import find_tables, grow_rows
from tokenizer_ext.encoders.spm_model import save_with_model_file
from tokenizer_ext.extension.certificate import Certificate, hash_weights, write_certificate
from tokenizer_ext.extension.checks import certify, certify_unchanged
from tokenizer_ext.extension.corpus_files import Texts, sort_texts
from tokenizer_ext.extension.growth_curve import GrowthCurve
from tokenizer_ext.extension.plan import Plan, make_plan
from tokenizer_ext.extension.report_page import write_report
from tokenizer_ext.extension.wanted import Wanted, check_multiple
from tokenizer_ext.huggingface.hf_model import check_finite, load_model, load_tokenizer
from tokenizer_ext.huggingface.hf_tokenizer import character_counts
from tokenizer_ext.huggingface.tiktoken_export import export_tiktoken
from tokenizer_ext.pages.progress import shown


@dataclass(frozen=True)
class Extended:
    """A model with more tokens than its base, and what is proved of it."""

    tokenizer: PreTrainedTokenizerFast
    model: PreTrainedModel
    certificate: Certificate
    plan: Plan
    """What was added, and from what."""

    @property
    def first_new_id(self) -> int:
        """Ids from here on are new: first the learned tokens, then the control tokens."""
        return self.certificate.base_tokens

    @property
    def merges(self) -> tuple[Merge, ...]:
        """The tokens of words and the learned tokens, in the order of their ids."""
        return self.plan.merges

    @property
    def curve(self) -> GrowthCurve | None:
        """What each further token gains on held-out text, and how often the corpus holds it; None without text."""
        return self.plan.curve

    @shown("writing the folder")
    def save(self, folder: str | Path) -> Path:
        """Writes a plain Hugging Face folder, with `certificate.json` and `report.html` beside the weights.

        They are written once the folder was opened again and found equal to what is in memory.

        Raises:
            InputError: the folder holds something, or the model is none of transformers'.

        """
        folder = Path(folder)
        check_new_folder(folder)
        if not isinstance(self.model, PreTrainedModel):
            raise InputError(f"{type(self.model).__name__}: is no Hugging Face model: save it as its own package does")
        with sealed_folder(folder, needed=self.model.get_memory_footprint()) as partial:
            self.model.save_pretrained(partial)
            save_with_model_file(self.tokenizer, partial)
            reopened = reopen(partial, self.model, self.tokenizer)
            weights = hash_weights(reopened, self.first_new_id)
            self.save_proof(partial, replace(self.certificate, weights_after=weights, reopened=True))
        return folder

    def to_tiktoken(self, name: str = "extended") -> tiktoken.Encoding:
        """The encoding of tiktoken that gives the ids of the extended tokenizer; control tokens by `allowed_special`.

        Ids that a tokenizer puts around a text, such as a bos, are not in it. Where the tokenizer normalises, the ids
        are those of normalised text, and the encoding's name says so.

        Raises:
            InputError: no encoding gives these ids; the message has the reason.

        """
        return export_tiktoken(self.tokenizer, name)

    def save_proof(self, folder: Path, certificate: Certificate | None = None) -> None:
        """Writes `certificate.json` and `report.html` into a folder; a later certificate may take the place of ours."""
        certificate = certificate or self.certificate
        write_certificate(certificate, folder)
        write_report(certificate, self.plan, folder)


def extend_vocabulary(  # noqa: PLR0913 - each is a choice of its own, and all have defaults
    base: str | Path | tuple[nn.Module, PreTrainedTokenizerFast],
    *,
    corpus: Iterable[str] = (),
    new_tokens: int = 1000,
    words: Sequence[str] = (),
    protect: Iterable[str] = (),
    held_out: Iterable[str] | None = None,
    control_tokens: Sequence[str] = (),
    minimum_count: int = 2,
    maximum_bytes: int | None = None,
    digits: bool = False,
    leave_out: Collection[bytes] = (),
    rows_multiple: int = 1,
    start: Start = DEFAULT_START,
    seed: int = 0,
) -> Extended:
    """The base with tokens for words, then tokens learned from the corpus, then control tokens, and rows for them.

    `base` is a folder or Hub name; or a model, of transformers or of `scratch_models`, and its tokenizer: then the
    model is changed in place. `corpus`, `protect` and `held_out` are documents: those to protect keep their ids, and
    bytes per token are measured on those held out, by default every tenth distinct one of the corpus. `Wanted` says
    what becomes a token. New rows begin as `start` says, and padding brings them to a multiple of `rows_multiple`.

    Raises:
        InputError: there is no such base or it holds NaN, its tokenizer is no byte-level BPE, a word cannot be a token
            or the corpus does not support so many tokens; the model is unchanged then.

    """
    wanted = Wanted(
        new_tokens=new_tokens if corpus != () else 0,
        words=words,
        control_tokens=control_tokens,
        minimum_count=minimum_count,
        maximum_bytes=maximum_bytes,
        digits=digits,
        leave_out=leave_out,
    )
    check_multiple(rows_multiple)
    return grow(base, _plan(base, sort_texts(corpus, held_out, protect), wanted), rows_multiple, start, seed)


def _plan(base: str | Path | tuple[nn.Module, PreTrainedTokenizerFast], texts: Texts, wanted: Wanted) -> Plan:
    """What will be added; all that can be refused for the text's sake comes before any weight is loaded."""
    if isinstance(base, tuple):
        check_finite(base[0], type(base[0]).__name__)
        return make_plan(base[1], texts, wanted)
    return make_plan(load_tokenizer(str(base)), texts, wanted)


def grow(
    base: str | Path | tuple[nn.Module, PreTrainedTokenizerFast],
    plan: Plan,
    rows_multiple: int,
    start: Start,
    seed: int,
) -> Extended:
    """The base's model with rows for the tokens of a plan; unchanged where there are none."""
    model: Any = base[0] if isinstance(base, tuple) else load_model(str(base), dtype="auto")
    first = plan.first_new_id
    weights_before = hash_weights(model, first)
    rows_before = find_tables(model).embedding.num_embeddings
    if not plan.new_ids and rows_multiple == 1:
        return Extended(plan.tokenizer, model, certify_unchanged(plan, model, weights_before), plan)
    sub_tokens = [*base_ids(plan.tokens), *([] for _ in plan.control_tokens)]
    characters = character_counts(plan.base) if start == "asymmetric" else None
    rows = start_tables(model, first, sub_tokens, start, seed, character_counts=characters)
    grow_rows(model, first, *rows, multiple=rows_multiple)
    return Extended(plan.tokenizer, model, certify(plan, model, weights_before, rows_before), plan)
