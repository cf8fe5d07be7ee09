"""The embedded base: the small GPT that ships with the project, so that everything runs where there is no network.

    make embedded-base

trains it anew by `configs/embedded_base.yaml` and writes `scratch_models/assets/embedded_base/`: a Hugging Face folder
with bf16 weights and a README that says what it read. This module does the second half:

    python -m scratch_models.embedded_base
"""

from dataclasses import dataclass
from pathlib import Path

from configs import InputError, run_entry
from configs.manifest import sealed_folder
from scratch_models.embedded.default import EMBEDDED_BASE
from scratch_models.loop.run_folder import RunFolder, newest_run


@dataclass(frozen=True, kw_only=True)
class PublishSettings:
    """Which run becomes the embedded base."""

    run: str | None = None
    """Folder of a finished run of `configs/embedded_base.yaml`; by default the newest one."""
    folder: str = str(EMBEDDED_BASE)
    """Where the model goes."""


def main(settings: PublishSettings) -> None:
    """Loads the run's model, describes it, rounds it to bf16, saves it with its README."""
    import torch

    from scratch_models.embedded.base_readme import describe
    from scratch_models.rungs.gpt import GPT
    from scratch_models.rungs.gpt2_weights import save_gpt2
    from scratch_models.scratch_folder import load_scratch_model
    from tokenizer_ext.pages.terminal import quiet_libraries

    quiet_libraries()
    run = newest_run("embedded-base") if settings.run is None else RunFolder(Path(settings.run))
    model, tokenizer = load_scratch_model(run.path)
    if not isinstance(model, GPT):
        raise InputError(f"run {run.path}: holds a {type(model).__name__}, expected a GPT")
    readme = describe(run, model)
    folder = Path(settings.folder)
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "config.json").is_file():
        raise InputError(f"folder {folder}: holds no model that this one would replace: choose a new folder")
    with sealed_folder(folder) as partial:
        save_gpt2(model, partial, tokenizer, dtype=torch.bfloat16)
        (partial / "README.md").write_text(readme, encoding="utf-8")
    megabytes = sum(path.stat().st_size for path in folder.rglob("*")) / 1e6
    print(f"Saved: {folder} ({megabytes:.1f} MB)")


if __name__ == "__main__":
    run_entry(main, PublishSettings)
