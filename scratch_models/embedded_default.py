"""What ships with the project and stands for itself where no other base or data is named."""

from pathlib import Path

EMBEDDED_BASE = Path(__file__).parent / "assets" / "embedded_base"
EMBEDDED = "embedded"


def folder_of_base(name: str) -> str:
    """Where the base of this name is: `embedded` ships with the project, every other name is a folder or the Hub's."""
    return str(EMBEDDED_BASE) if name == EMBEDDED else name
