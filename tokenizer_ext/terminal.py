"""What the libraries underneath print, kept out of the terminal of a run."""

import warnings

import transformers


def quiet_libraries() -> None:
    """Leaves the terminal to the run: no second progress bar, no advice that is meant for the authors of other loops."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers|peft")
