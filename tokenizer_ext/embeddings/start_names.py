"""The starts of new rows by name, which settings read before any library is loaded; `row_init.py` says what each is."""

from typing import Literal

Start = Literal["zero", "normal", "mean", "subtoken_mean", "asymmetric"]
# The embedded base with 1,000 new tokens, bits per byte before training and after 50 steps (`new_rows.py --probe`):
# subtoken_mean 1.649 and 1.626, asymmetric 1.839 and 1.607. An extension may be used before its rows are trained.
DEFAULT_START: Start = "subtoken_mean"
