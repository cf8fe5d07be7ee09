"""Reports what is wrong with the tokens of a model, without changing anything.

    python -m tokenizer_ext.audit --model DIR_OR_HUB_NAME [--corpus FILE] [--output_dir DIR]

Of any model it says whether its parts agree: what AutoTokenizer of the installed transformers makes of tokenizer.json,
ids and rows, bytes that no token stands for, the end of a turn in the chat template and in the generation config. Of a
byte-level BPE it sorts all ids by what text can do with them, finds duplicates and rows that look untrained, counts the
tokens of a corpus, and shows the neighbours of new rows. With `--output_dir` it writes `agreement.json`, `audit.json`
and `audit.html`.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from configs import InputError, run_entry
from configs.whole_folder import check_new_folder, whole_folder
from tokenizer_ext.extension.corpus_files import read_documents

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True, kw_only=True)
class AuditSettings:
    """What is looked at, and where the report goes."""

    model: str
    """Model to look at: a Hugging Face folder or Hub name, a GGUF file, or `smollm2`."""
    corpus: str | None = None
    """Text file (UTF-8) whose tokens are counted; documents are separated by blank lines."""
    base_tokens: int | None = None
    """First id whose row is new, for the neighbours of new rows; by default as `certificate.json` says."""
    output_dir: str | None = None
    """New folder for `audit.json` and `audit.html`; by default the report is only printed."""


def main(settings: AuditSettings) -> None:
    """Loads, looks, prints, writes the report."""
    from tokenizer_ext.huggingface.hf_model import load_model, load_tokenizer
    from tokenizer_ext.inspection.audit import audit_tokens
    from tokenizer_ext.inspection.audit_report import describe_audit, to_html
    from tokenizer_ext.inspection.model_agreement import find_agreement
    from tokenizer_ext.pages.json_records import write_record
    from tokenizer_ext.pages.terminal import quiet_libraries

    quiet_libraries()
    if settings.output_dir is not None:
        check_new_folder(settings.output_dir)
    corpus = None if settings.corpus is None else read_documents(settings.corpus)
    tokenizer = load_tokenizer(settings.model)
    family = _other_than_bytes(tokenizer)
    if family and (corpus is not None or settings.base_tokens is not None):
        raise InputError(f"model: its tokenizer is {family}, expected byte-level BPE for corpus and base_tokens")
    model = load_model(settings.model, dtype="auto")
    agreement = find_agreement(settings.model, tokenizer, model)
    print(agreement.describe())
    audit = None
    if family:
        print(f"tokens: not sorted into kinds, which is done for byte-level BPE; found {family}")
    else:
        base_tokens = settings.base_tokens or _recorded(settings.model)
        audit = audit_tokens(model, tokenizer, corpus=corpus, base_tokens=base_tokens)
        print(describe_audit(audit))
    if settings.output_dir is not None:
        with whole_folder(settings.output_dir) as folder:
            write_record(agreement, folder / "agreement.json")
            if audit is not None:
                write_record(audit, folder / "audit.json", indent=None)
                (folder / "audit.html").write_text(to_html(audit, settings.model), encoding="utf-8")
        print(f"Saved: {settings.output_dir}")


def _other_than_bytes(tokenizer: "PreTrainedTokenizerFast") -> str:
    """The name of the tokenizer's family where it is no byte-level BPE, else nothing."""
    from tokenizer_ext.huggingface.byte_level_backend import check_byte_level, other_family

    try:
        check_byte_level(tokenizer)
    except InputError:
        return other_family(tokenizer)
    return ""


def _recorded(model: str) -> int | None:
    """The first new id, as the certificate of an extension says it."""
    from tokenizer_ext.extension.certificate import read_certificate

    certificate = read_certificate(model)
    return None if certificate is None else certificate.base_tokens


if __name__ == "__main__":
    run_entry(main, AuditSettings)
