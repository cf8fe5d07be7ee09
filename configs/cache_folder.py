"""Where a machine keeps what can be made again."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Where things that can be made again are kept: `$XDG_CACHE_HOME/graft`, or `~/.cache/graft`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "graft"
