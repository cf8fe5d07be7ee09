"""A curve as an inline drawing, with the colours of the page that shows it, so that light and dark can be read."""

from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 640, 260, 64, 44, 16, 20
STEPS = 4


def line_chart(
    points: Sequence[tuple[float, float]], title: str, labels: tuple[str, str], marked: float | None = None
) -> str:
    """A line through points that begin at 0, their second number a share; `marked` is the place of one of them.

    `title` says what it shows to those who do not see it; `labels` stand at the axes.
    """
    across, up = max([1, *(x for x, _ in points)]), max([1e-9, *(y for _, y in points)])

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            LEFT + (WIDTH - LEFT - RIGHT) * x / across,
            HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * max(y, 0) / up,
        )

    drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in points))
    shapes = [_grid(place(0, up * step / STEPS)[1], f"{up * step / STEPS:.1%}") for step in range(STEPS + 1)]
    shapes += [
        f'<text x="{place(across * step / STEPS, 0)[0]:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">'
        f"{across * step / STEPS:,.0f}</text>"
        for step in range(STEPS + 1)
    ]
    shapes.append(f'<polyline class="line" points="{drawn}"/>')
    if marked is not None:
        x, y = place(marked, dict(points)[marked])
        shapes.append(f'<circle class="mark" cx="{x:.1f}" cy="{y:.1f}" r="6"/>')
    shapes.append(f'<text x="{WIDTH / 2:.0f}" y="{HEIGHT - 6}" text-anchor="middle">{escape(labels[0])}</text>')
    shapes.append(f'<text x="{LEFT}" y="{TOP - 4}">{escape(labels[1])}</text>')
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"{''.join(shapes)}</svg>"
    )


def _grid(y: float, label: str) -> str:
    return (
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'
    )
