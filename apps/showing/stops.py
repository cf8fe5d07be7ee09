"""What ends the replies that an open page has under way."""

import threading

import gradio as gr

MOST_PAGES = 1000


class Stops:
    """The event that ends the replies of each open page."""

    def __init__(self) -> None:
        self._events: dict[str | None, threading.Event] = {}

    def begin(self, request: gr.Request) -> None:
        """Makes a fresh event for the page; replies that it still has under way end."""
        self.stop(request)
        self._events.pop(request.session_hash, None)
        self._events[request.session_hash] = threading.Event()
        while len(self._events) > MOST_PAGES:  # not every page says that it leaves
            self._events.pop(next(iter(self._events)))

    def current(self, request: gr.Request) -> threading.Event:
        """The event that the page's replies watch."""
        return self._events.get(request.session_hash) or threading.Event()

    def stop(self, request: gr.Request) -> None:
        """Ends what the page has under way, also what still waits in the queue."""
        self.current(request).set()

    def leave(self, request: gr.Request) -> None:
        """Ends what a page that was closed had under way, and drops it."""
        self.stop(request)
        self._events.pop(request.session_hash, None)
