"""How many requests to one path are let in at the same time: the others are refused before anything is done."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from apps.guarding.guard import Refusal


class Entrance:
    """The way into a queue that holds so many, and takes so many at once."""

    def __init__(self, waiting: Callable[[], int], most_waiting: int, at_once: int) -> None:
        """Takes what says how many wait, how many may, and how many requests may be on their way into it."""
        self.waiting, self.most_waiting, self.at_once = waiting, most_waiting, at_once
        self.coming = 0
        """Requests on their way into it."""

    @contextmanager
    def pass_through(self) -> Iterator[None]:
        """Lets a request in until it has its answer.

        Raises:
            Refusal: as many wait as may, or as many are on their way.
        """
        if self.waiting() >= self.most_waiting or self.coming >= self.at_once:
            raise Refusal(503, f"Queue is full. {self.most_waiting} requests may wait, and no more: come again soon")
        self.coming += 1
        try:
            yield
        finally:
            self.coming -= 1
