"""Reports what is wrong with the tokens of a model, without changing anything.

    python -m tokenizer_ext.audit --model DIR_OR_HUB_NAME [--corpus FILE] [--output_dir DIR]

It sorts all ids by what text can do with them, finds duplicates and rows that look untrained, counts the tokens of a
corpus, and shows the neighbours of new rows. With `--output_dir` it writes `audit.json` and `audit.html`.
"""

from dataclasses import dataclass

from configs import run_entry
from configs.whole_folder import check_new_folder, whole_folder
from tokenizer_ext.extension.corpus_files import read_documents


@dataclass(frozen=True, kw_only=True)
class AuditSettings:
    """What is looked at, and where the report goes."""

    model: str
    """Model to look at: a Hugging Face folder or Hub name with a byte-level BPE tokenizer (GPT-2, Llama 3, Qwen)."""
    corpus: str | None = None
    """Text file (UTF-8) whose tokens are counted; documents are separated by blank lines."""
    base_tokens: int | None = None
    """First id whose row is new, for the neighbours of new rows; by default as `certificate.json` says."""
    output_dir: str | None = None
    """New folder for `audit.json` and `audit.html`; by default the report is only printed."""


def main(settings: AuditSettings) -> None:
    """Loads, looks, prints, writes the report."""
    from tokenizer_ext.extension.certificate import read_certificate
    from tokenizer_ext.huggingface.byte_level_backend import check_byte_level
    from tokenizer_ext.huggingface.hf_model import load_model, load_tokenizer
    from tokenizer_ext.inspection.audit import audit_tokens
    from tokenizer_ext.inspection.audit_report import describe_audit, to_html
    from tokenizer_ext.pages.json_records import write_record
    from tokenizer_ext.pages.terminal import quiet_libraries

    quiet_libraries()
    if settings.output_dir is not None:
        check_new_folder(settings.output_dir)
    corpus = None if settings.corpus is None else read_documents(settings.corpus)
    base_tokens = settings.base_tokens
    if base_tokens is None and (certificate := read_certificate(settings.model)):
        base_tokens = certificate.base_tokens
    tokenizer = load_tokenizer(settings.model)
    check_byte_level(tokenizer)  # refuses another family before the weights load
    audit = audit_tokens(load_model(settings.model, dtype="auto"), tokenizer, corpus=corpus, base_tokens=base_tokens)
    print(describe_audit(audit))
    if settings.output_dir is not None:
        with whole_folder(settings.output_dir) as folder:
            write_record(audit, folder / "audit.json", indent=None)
            (folder / "audit.html").write_text(to_html(audit, settings.model), encoding="utf-8")
        print(f"Saved: {settings.output_dir}")


if __name__ == "__main__":
    run_entry(main, AuditSettings)
