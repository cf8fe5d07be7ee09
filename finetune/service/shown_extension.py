"""A job that extends a vocabulary as HTML: its state, what it says, and its certificate once it has ended well."""

from html import escape

from finetune.runs.job import Job
from finetune.runs.job_store import JobStore
from finetune.service.model_names import name_of
from tokenizer_ext.extension.certificate import read_certificate
from tokenizer_ext.extension.report import describe, tokens_line, verdict
from tokenizer_ext.extension.report_page import claim_rows, hash_rows
from tokenizer_ext.pages.html_page import heading, paragraph, table

LAST_LINES = 12
WORDS = {
    "queued": "waits for its turn",
    "running": "runs",
    "paused": "is paused",
    "succeeded": "is done",
    "failed": "failed",
    "cancelled": "was cancelled",
}


def extension_as_html(job: Job, jobs: JobStore, *, can_download: bool) -> str:
    """How far a job is; `can_download` says whether the service gives its folder to whoever asks."""
    parts = [f'<p role="status"><strong>{escape(job.id)}</strong> {WORDS[job.state]}.</p>']
    if job.error:
        parts.append(paragraph(job.error))
    if job.state == "succeeded":
        parts += _result(job, can_download=can_download)
    else:
        said = "\n".join(jobs.log(job.id, LAST_LINES))
        parts += [f'<pre class="log" tabindex="0" aria-label="log">{escape(said)}</pre>'] if said else []
    return "".join(parts)


def _result(job: Job, *, can_download: bool) -> list[str]:
    certificate = read_certificate(job.output_dir)
    if certificate is None:
        return [paragraph("It left no certificate.")]
    download = f'<p><a href="/v1/vocabulary/extensions/{escape(job.id)}/download" download>Download the folder</a></p>'
    return [
        paragraph(f"{tokens_line(certificate)}; {verdict(certificate)}."),
        paragraph(f"It can be asked now as {name_of(job)}, and lies in {job.output_dir.absolute()} with report.html."),
        *([download] if can_download else []),
        heading("Certificate"),
        table(["claim", "found"], claim_rows(certificate), numbers=True),
        f'<div class="scrolled" tabindex="0" role="region" aria-label="hashes">'
        f"{table(['sha256', 'before', 'after'], hash_rows(certificate))}</div>",
        f'<pre class="log" tabindex="0" aria-label="certificate in words">{escape(describe(certificate))}</pre>',
    ]
