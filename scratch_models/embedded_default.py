"""What ships with the project and stands for itself where no other base or data is named."""

from pathlib import Path

EMBEDDED_BASE = Path(__file__).parent / "assets" / "embedded_base"
EMBEDDED = "embedded"
