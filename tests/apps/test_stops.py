"""The event that ends the replies of a page, and the labels of its examples."""

import gradio as gr
import pytest

from apps.comparing.compare_layout import LABEL_CHARACTERS, short_label
from apps.showing.stops import Stops


def _page(session: str) -> gr.Request:
    return gr.Request(session_hash=session)


@pytest.fixture
def stops() -> Stops:
    stops = Stops()
    for session in "ab":
        stops.begin(_page(session))
    return stops


def test_stop_ends_the_replies_of_its_own_page_alone(stops):
    events = [stops.current(_page(session)) for session in "ab"]
    stops.stop(_page("a"))
    assert [event.is_set() for event in events] == [True, False]


def test_asking_again_ends_what_is_under_way_and_starts_afresh(stops):
    before = stops.current(_page("a"))
    stops.begin(_page("a"))
    assert (before.is_set(), stops.current(_page("a")).is_set()) == (True, False)


def test_a_closed_page_ends_its_replies_and_is_forgotten(stops):
    event = stops.current(_page("a"))
    stops.leave(_page("a"))
    assert event.is_set()
    assert list(stops._events) == ["b"]


def test_a_request_without_a_page_leaves_nothing_behind(stops):
    stops.stop(_page("c"))
    stops.leave(_page("d"))
    assert not stops.current(_page("c")).is_set()
    assert list(stops._events) == ["a", "b"]


def test_a_long_label_is_cut_and_says_so():
    label = short_label(f"one\n{'two ' * 40}")
    assert len(label) == LABEL_CHARACTERS
    assert label.endswith("…")
