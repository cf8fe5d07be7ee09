"""YAML values, and the one function that reads them into a settings dataclass."""

from configs.entry import load_config, run_entry
from configs.errors import InputError, MissingInput

__all__ = ["load_config", "run_entry", "InputError", "MissingInput"]
