"""Figures of matplotlib, an extra, as images that a page can hold in itself."""

import base64
import importlib.util
import io
from pathlib import Path
from typing import Any

from configs import InputError
from configs.whole_folder import write_whole

HOW_TO_GET_PLOTS = "pip install 'graft-lm[report]'"
DOTS_PER_INCH = 150


def can_plot() -> bool:
    """Whether matplotlib is installed."""
    try:
        return importlib.util.find_spec("matplotlib") is not None
    except ValueError:  # it stands in sys.modules as None: somebody switched it off
        return False


def require_plots() -> None:
    """Checks, before anything takes long, that a report can be drawn.

    Raises:
        InputError: matplotlib is missing.

    """
    if not can_plot():
        raise InputError(f"the report's plots need matplotlib: {HOW_TO_GET_PLOTS}")


def new_figure(height: float) -> Any:
    """An empty figure, 8 inches wide and `height` inches high."""
    from matplotlib.figure import Figure  # without pyplot, which keeps every figure

    return Figure(figsize=(8, height), layout="constrained")


def save_figure(figure: Any, path: Path) -> None:
    """Writes the figure as a file, of the kind that its name says, whole or not at all."""
    write_whole(path, _drawn(figure, path.suffix.removeprefix("."), dpi=DOTS_PER_INCH))


def as_data_uri(figure: Any) -> str:
    """The figure as SVG inside a data URI."""
    return "data:image/svg+xml;base64," + base64.b64encode(_drawn(figure, "svg")).decode()


def _drawn(figure: Any, kind: str, **how: Any) -> bytes:
    """The same bytes for the same figure: without the time of day, and with ids in an SVG that are not drawn anew."""
    from matplotlib import rc_context

    dated = {"svg": "Date", "pdf": "CreationDate"}.get(kind)
    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "graft"}):
        figure.savefig(buffer, format=kind, metadata={dated: None} if dated else None, **how)
    return buffer.getvalue()
