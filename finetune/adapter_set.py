"""Several adapters on one base: one model in memory, or on disk, that says what any of them taught it.

    python -m finetune.sft --data sums.jsonl --output_dir runs/sums
    python -m finetune.sft --base runs/sums/final/base --new_tokens 0 --data prose.jsonl --output_dir runs/prose
    python -m finetune.adapter_set --tuned.sums runs/sums --tuned.prose runs/prose --output_dir both

The second run starts from the base of the first, which has the chat's tokens already, and leaves it as it is: two runs
that each add tokens train the rows of these, so that no base is that of both. The new folder holds the base once and an
adapter a name, so that peft switches between them and vLLM serves them side by side. It is opened again before it is
put in its place, and each adapter must say there what it says alone.
"""

from dataclasses import dataclass

from configs import run_entry


@dataclass(frozen=True, kw_only=True)
class AdapterSetSettings:
    """Gathering of adapters that were trained on one base."""

    tuned: dict[str, str]
    """Runs, or adapters that name their base, each by the name that it gets: `--tuned.sums runs/sft-1`."""
    output_dir: str
    """New folder."""


def main(settings: AdapterSetSettings) -> None:
    """Finds the adapters, checks that they have one base, gathers and proves them."""
    from finetune.export.adapter_set import save_adapters
    from tokenizer_ext.pages.terminal import quiet_libraries

    quiet_libraries()
    difference = save_adapters(settings.tuned, settings.output_dir)
    print(
        f"Saved: {settings.output_dir}, one base and {len(settings.tuned)} adapters: {', '.join(settings.tuned)}; "
        f"each says there what it says alone (logits differ by at most {difference:.1e})"
    )


if __name__ == "__main__":
    run_entry(main, AdapterSetSettings)
