"""The README of the embedded base: what it is, what it read and how well it does."""

from configs import InputError
from scratch_models.corpus.embedded_corpus import BASE_PACKAGES, embedded_corpus
from scratch_models.loop.run_folder import RunFolder
from scratch_models.rungs.gpt import GPT

README = """# The embedded base

A GPT-2-shaped model of {parameters:,} parameters ({layers} layers, {heads} heads, width {width}, {positions} positions,
{vocabulary} tokens), trained from scratch on documentation that every installation of the project has on its disk.

| | |
|---|---|
| recipe | `configs/embedded_base.yaml` |
| rebuilt by | `make embedded-base` |
| read | docstrings and help topics of {packages}; {documents:,} documents, one of each near-duplicate group |
| sha256 of those documents | `{corpus}` |
| tokens seen | {tokens:,} in {steps:,} steps |
| held-out loss | {nats:.4f} nats per token, {bits:.4f} bits per byte |
| measured on | {held_out:,} documents of other near-duplicate groups |
| made with | {versions} |
| weights | bfloat16 |

It has not read torch's documentation, and neither has its tokenizer: that is the domain which the demo teaches it.
The texts are under the licences of their packages (PSF, BSD, Apache-2.0, MIT).
"""


def describe(run: RunFolder, model: GPT) -> str:
    """The README of the embedded base."""
    record = run.record()
    metrics = run.read_metrics()
    corpus = embedded_corpus()
    if record["data_sha256"] != corpus.sha256("base"):
        raise InputError(
            f"run {run.path}: read another corpus than this machine's: install the versions of constraints.txt"
        )
    return README.format(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        layers=model.config.layers,
        heads=model.config.heads,
        width=model.config.width,
        positions=model.config.block_size,
        vocabulary=model.config.vocabulary_size,
        packages=", ".join(BASE_PACKAGES),
        documents=len(corpus.base),
        corpus=record["data_sha256"],
        tokens=sum(entry["tokens"] for entry in metrics),
        steps=metrics[-1]["step"],
        nats=metrics[-1]["held_out_loss_nats"],
        bits=metrics[-1]["held_out_bits_per_byte"],
        held_out=len(corpus.base_held_out),
        versions=", ".join(f"{name} {version}" for name, version in record["versions"].items()),
    )
