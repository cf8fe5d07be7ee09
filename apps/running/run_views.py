"""Runs as HTML: the table of all, and what is known of one."""

import time
from collections.abc import Callable, Sequence

from apps.showing.look import escape
from apps.showing.tables import table_as_html
from finetune.service.watched_runs import WatchedRun, describe, plot

EMPTY = '<p class="waiting">No run yet. Start one below, or in a terminal: accelerate launch finetune/sft.py</p>'
SECONDS_BETWEEN_DRAWINGS = 20.0
MOST_DRAWINGS = 50
HEAD = ("run", "kind", "state", "how far", "begun")


def table_of(runs: Sequence[WatchedRun]) -> str:
    """All runs, the newest first."""
    if not runs:
        return EMPTY
    return table_as_html("Runs", HEAD, [_row(run) for run in runs])


def details_of(run: WatchedRun) -> str:
    """What is known of one run."""
    facts = [run.kind, run.state, *describe(run, run.figures), str(run.folder)]
    error = f'<p class="refused">{escape(run.error)}</p>' if run.error else ""
    return f'<p class="status">{escape(" · ".join(facts))}</p>{error}'


class Drawings:
    """The losses of one run, or of two, as last drawn: a drawing takes processor from what trains beside it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._last: dict[tuple[tuple[str, str], ...], tuple[float, str]] = {}

    def of(self, runs: Sequence[WatchedRun]) -> str:
        """The drawing, a new one where runs have another state or the last is `SECONDS_BETWEEN_DRAWINGS` old."""
        key, now = tuple((run.name, run.state) for run in runs), self.clock()
        drawn_at, drawing = self._last.get(key, (now, ""))
        if not drawing or now - drawn_at >= SECONDS_BETWEEN_DRAWINGS:
            drawing = _plot_of(runs)
            self._last = dict(list(self._last.items())[-MOST_DRAWINGS:]) | {key: (now, drawing)}
        return drawing


def _plot_of(runs: Sequence[WatchedRun]) -> str:
    image = plot(runs)
    words = f"Losses by step of {' and '.join(run.label or run.name for run in runs)}"
    return f'<img class="plot" src="{image}" alt="{escape(words)}">' if image else ""


def title_of(run: WatchedRun) -> str:
    """What a run is called in a list of choices."""
    return f"{run.label or run.name} · {run.kind} · {run.state}"


def _row(run: WatchedRun) -> tuple[str, ...]:
    far = ", ".join(describe(run, run.figures)) or run.error[:120]
    begun = time.strftime("%Y-%m-%d %H:%M", time.localtime(run.began))
    return (f"{run.label} ({run.name})" if run.label else run.name, run.kind, run.state, far, begun)
