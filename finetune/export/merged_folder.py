"""What the folder of a merged model is called, holds and may be stored as, which settings need before any library."""

from typing import Literal

MERGED = "merged"
"""Its name inside the folder of a run."""
RECEIPT = "receipt.json"
Stored = Literal["float32", "bfloat16"]
