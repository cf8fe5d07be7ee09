"""The embedded base: the small GPT that ships with the project, so that everything runs where there is no network.

    make embedded-base

trains it anew by `configs/embedded_base.yaml` and writes `scratch_models/assets/embedded_base/`: a Hugging Face folder
with bf16 weights and a README that says what it read. This module does the second half:

    python -m scratch_models.embedded_base
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from configs import InputError, run_entry
from configs.whole_folder import whole_folder
from scratch_models.corpus.embedded_corpus import BASE_PACKAGES, embedded_corpus
from scratch_models.embedded_default import EMBEDDED_BASE
from scratch_models.gpt import GPT
from scratch_models.gpt2_weights import save_gpt2
from scratch_models.loop.run_folder import RunFolder, newest_run
from scratch_models.scratch_folder import load_scratch_model
from tokenizer_ext.pages.terminal import quiet_libraries

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


@dataclass(frozen=True, kw_only=True)
class PublishSettings:
    """Which run becomes the embedded base."""

    run: str | None = None
    """Folder of a finished run of `configs/embedded_base.yaml`; by default the newest one."""
    folder: str = str(EMBEDDED_BASE)
    """Where the model goes."""


def main(settings: PublishSettings) -> None:
    """Loads the run's model, describes it, rounds it to bf16, saves it with its README."""
    quiet_libraries()
    run = newest_run("embedded-base") if settings.run is None else RunFolder(Path(settings.run))
    model, tokenizer = load_scratch_model(run.path)
    if not isinstance(model, GPT):
        raise InputError(f"run {run.path}: holds a {type(model).__name__}, expected a GPT")
    readme = describe(run, model)
    folder = Path(settings.folder)
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "config.json").is_file():
        raise InputError(f"folder {folder}: holds no model that this one would replace: choose a new folder")
    with whole_folder(folder) as partial:
        save_gpt2(model, partial, tokenizer, dtype=torch.bfloat16)
        (partial / "README.md").write_text(readme, encoding="utf-8")
    megabytes = sum(path.stat().st_size for path in folder.rglob("*")) / 1e6
    print(f"Saved: {folder} ({megabytes:.1f} MB)")


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


if __name__ == "__main__":
    run_entry(main, PublishSettings)
