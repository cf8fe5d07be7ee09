"""Merges the adapter of a finished run into its base, and proves that the one model says the same.

    python -m finetune.merge --tuned runs/sft-1
    python -m finetune.merge --tuned runs/sft-1 --output_dir assistant --stored_as bfloat16
    python -m finetune.merge --tuned runs/sft-1 --push_to_hub my-name/my-assistant

It leaves a plain Hugging Face folder that transformers' pipeline, vLLM and others open, with `receipt.json` beside the
weights: what was compared after reading the folder back. Where that differs it keeps nothing and ends with status 2.
"""

from dataclasses import dataclass
from pathlib import Path

from configs import InputError, run_entry
from finetune.export.merged_folder import MERGED, RECEIPT, Onto, Stored
from scratch_models.loop.run_folder import find_run


@dataclass(frozen=True, kw_only=True)
class MergeSettings:
    """Merging of an adapter into its base."""

    tuned: str
    """What to merge: a run's folder, its `final/`, or an adapter that names its base."""
    output_dir: str | None = None
    """New folder of the merged model; by default `merged/` in the run's folder."""
    stored_as: Stored = "float32"
    """What the weights are rounded to on disk; the merge itself is done and compared in float32."""
    onto: Onto = "stored"
    """What an adapter that was trained on a quantised base is merged into: the base as it is stored, or rounded so."""
    push_to_hub: str | None = None
    """Repository on the Hub to upload the merged model to, such as `my-name/my-assistant`."""
    private: bool = True
    """Whether a repository that is made is seen by its owner alone."""


def main(settings: MergeSettings) -> None:
    """Merges, proves, shows, and uploads where that is asked."""
    from finetune.export.hub import check_repository, push
    from finetune.export.receipt import merge_with_receipt
    from tokenizer_ext.pages.terminal import quiet_libraries

    quiet_libraries()
    check_repository(settings.push_to_hub)
    target = choose_target(settings)
    receipt = merge_with_receipt(settings.tuned, target, stored_as=settings.stored_as, onto=settings.onto)
    print(receipt.describe())
    print(f"Saved: {target}; receipt: {target / RECEIPT}")
    if settings.push_to_hub is not None:
        print(f"Uploaded: {push(target, settings.push_to_hub, private=settings.private)}")


def choose_target(settings: MergeSettings) -> Path:
    """The folder that the merged model goes to.

    Raises:
        InputError: no folder is given, and `tuned` is no run.

    """
    if settings.output_dir is not None:
        return Path(settings.output_dir)
    run = find_run(settings.tuned)
    if run is None:
        raise InputError(f"output_dir: {settings.tuned} belongs to no run, expected the new folder of the merged model")
    tuned = Path(settings.tuned)
    return (tuned if run.path == tuned.absolute() else run.path) / MERGED


if __name__ == "__main__":
    run_entry(main, MergeSettings)
