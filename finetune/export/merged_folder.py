"""What the folder of a merged model is called, holds and may be stored as, which settings need before any library."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

MERGED = "merged"
"""Its name inside the folder of a run."""
RECEIPT = "receipt.json"
Stored = Literal["float32", "bfloat16"]
Onto = Literal["stored", "quantised"]


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What was compared after a merge, and with what outcome."""

    largest_difference: float
    """Between a logit of the adapter model and of the merged one."""
    limit: float
    """What it may be at most."""
    compared_in: str
    """What both were merged and computed in: float32, or float64 where rounding to float32 alone is above the limit."""
    positions: int
    """At which all logits were compared."""
    stored_as: str
    """The type of the weights on disk; where it is not that of the comparison they are the merged ones rounded."""
    same_choice: float
    """Share of the positions at which the model that was read back finds the same token likeliest."""
    merged_onto: Onto = "stored"
    """The base as it is stored, or rounded as it was in training, where it was quantised then."""
    trained_in_bits: int | None = None
    """Of a base that was quantised while the adapter was trained."""
    from_trained: float | None = None
    """Largest difference between a logit of the merged model and one of the model that was trained, quantised."""
    same_choice_as_trained: float | None = None
    """Share of the positions at which both find the same token likeliest."""
    tied: bool
    """Whether head and embedding share one matrix."""
    stop_ids: list[int]
    """Ids that end a reply, in `generation_config.json`."""
    adapter_sha256: str
    """Of the adapter's file."""
    weights_sha256: str
    """Of the merged weights, by name and shape."""
    files_sha256: Mapping[str, str]
    """Of each file of the merged folder; `sha256sum` gives the same."""
    reopened: bool = True
    """Whether the folder was opened again from the disk before this was written; it holds a manifest then."""

    def describe(self) -> str:
        """The receipt in one line."""
        rounded = f"; stored as {self.stored_as}, same choice at {self.same_choice:.1%} of the positions"
        trained = ""
        if self.from_trained is not None and self.same_choice_as_trained is not None:
            trained = (
                f"; trained on a base of {self.trained_in_bits} bits, from which its logits differ by at most "
                f"{self.from_trained:.1e}, same choice at {self.same_choice_as_trained:.1%}"
            )
        return (
            f"Merged and read back from disk: at {self.positions} positions its logits differ from the adapter's by at "
            f"most {self.largest_difference:.1e} in {self.compared_in}, the limit is {self.limit:.0e}"
            f"{rounded if self.stored_as != self.compared_in else ''}"
            f"{trained}"
        )
