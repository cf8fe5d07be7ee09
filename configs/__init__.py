"""What every package stands on: settings, the errors that a user can mend, and files that are written whole."""

from configs.entry import load_config, run_entry
from configs.errors import InputError, MissingInput

__all__ = ["load_config", "run_entry", "InputError", "MissingInput"]
