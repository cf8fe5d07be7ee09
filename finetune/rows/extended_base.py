"""The extended model whose new rows train: what `tokenizer_ext.extend` wrote, or the embedded base extended."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from configs import InputError
from finetune.export.adapter_base import base_of_adapter
from finetune.export.saved_model import find_model, load_start, tokenizer_folder
from scratch_models.corpus.embedded_corpus import embedded_corpus
from scratch_models.embedded.default import EMBEDDED
from tokenizer_ext.extension.certificate import CERTIFICATE, Certificate, WeightHashes, read_certificate
from tokenizer_ext.extension.extension import extend_vocabulary
from tokenizer_ext.foreign.adapter_folder import ADAPTER_CONFIG
from tokenizer_ext.huggingface.hf_model import load_tokenizer
from tokenizer_ext.huggingface.hf_tokenizer import next_token_id

EMBEDDED_NEW_TOKENS = 1000


@dataclass(frozen=True)
class ExtendedBase:
    """A model with new tokens, loaded when it is asked for."""

    name: str
    tokenizer: PreTrainedTokenizerFast
    first_new_id: int
    certificate: Certificate | None
    """What its extension proved; None for a folder of another origin."""
    extended_here: PreTrainedModel | None = None
    merged: bool = False
    """Whether an adapter is merged into it, so that its old weights are no longer those of its certificate."""

    @property
    def new_tokens(self) -> int:
        """Ids from the first new one on."""
        return next_token_id(self.tokenizer) - self.first_new_id

    def load(self) -> PreTrainedModel:
        """The model with start rows."""
        return load_start(self.name)[0] if self.extended_here is None else self.extended_here

    def check_weights(self, found: WeightHashes) -> None:
        """Refuses old weights that are not those of the certificate, which could not be carried on then.

        Raises:
            InputError: they are not.

        """
        certified = None if self.certificate is None or self.merged else self.certificate.weights_after
        if certified is not None and certified != found:
            raise InputError(
                f"{self.name}: its old weights are not those of its {CERTIFICATE} (rows sha256 "
                f"{found.base_rows[:12]}, others {found.other_weights[:12]}, it says {certified.base_rows[:12]} and "
                f"{certified.other_weights[:12]}): take the folder as it was written, or remove the file and pass "
                "first_new_id"
            )


def read_extended_base(base: str, first_new_id: int | None, control_tokens: Sequence[str] = ()) -> ExtendedBase:
    """The extended model that `base` names: `embedded`, a folder, a Hub name, or a run, its adapter merged.

    The embedded base gets tokens of torch's documentation, which it never read, and `control_tokens`.

    Raises:
        InputError: there is no such folder, or nothing says which of its tokens are new.

    """
    if base == EMBEDDED:
        corpus = [document.text for document in embedded_corpus().domain]
        extended = extend_vocabulary(
            load_start(base),
            corpus=corpus,
            new_tokens=EMBEDDED_NEW_TOKENS,
            control_tokens=control_tokens,
        )
        return ExtendedBase(base, extended.tokenizer, extended.first_new_id, extended.certificate, extended.model)
    path = find_model(base)
    merged = (path / ADAPTER_CONFIG).is_file()
    folder = base_of_adapter(path) if merged else str(path)
    tokenizer = load_tokenizer(str(tokenizer_folder(path, folder)) if merged else folder)
    certificate = read_certificate(folder) if Path(folder).is_dir() else None
    first = _find_first_new_id(first_new_id, tokenizer, certificate)
    return ExtendedBase(base, tokenizer, first, certificate, merged=merged)


def _find_first_new_id(given: int | None, tokenizer: PreTrainedTokenizerFast, certificate: Certificate | None) -> int:
    first = given if given is not None or certificate is None else certificate.base_tokens
    end = next_token_id(tokenizer)
    if first is None or not 0 < first < end:
        raise InputError(
            f"first_new_id: found {first}, expected an id from 1 to {end - 1}: pass it, or give a base that "
            f"`python -m tokenizer_ext.extend` wrote, whose {CERTIFICATE} says it"
        )
    return first
