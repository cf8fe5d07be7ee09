"""A page made light answers as Gradio's own does, and does nothing for what nobody reads."""

import sys

import gradio as gr
import pytest
from fastapi import FastAPI
from gradio.state_holder import SessionState
from starlette.testclient import TestClient

from apps.showing.light_blocks import LightBlocks, lighten
from tests import own_loop

VALUES = ["said", gr.skip(), gr.update(visible=False), 3, gr.skip()]


def _page(kind: type[gr.Blocks]) -> gr.Blocks:
    """A page whose one event gives some new values, and leaves others as they are."""
    with kind() as page:
        shown = [gr.HTML(), gr.Textbox("kept"), gr.Button("ask"), gr.Number(), gr.State("held")]
        gr.Button().click(lambda: VALUES, None, shown, api_name="ask")
    return page


def _sent(page: gr.Blocks, values: list[object]) -> list[object]:
    return own_loop.run(page.postprocess_data(page.fns[0], list(values), SessionState(page)))


@pytest.mark.parametrize("values", [VALUES, ["said", *[gr.skip()] * 4], ["", *[gr.skip()] * 2, 1, gr.skip()]])
def test_what_is_sent_equals_what_gradio_sends(values):
    assert _sent(_page(LightBlocks), values) == _sent(_page(gr.Blocks), values)


def test_a_component_that_is_left_as_it_is_is_not_made_anew(monkeypatch):
    page, made = _page(LightBlocks), []
    monkeypatch.setattr(gr.Textbox, "__init__", lambda self, **_: made.append(self))
    _sent(page, VALUES)
    assert made == []


def test_an_event_of_a_light_page_is_answered_without_reading_pyplot_or_copying_every_component(monkeypatch):
    page = _page(LightBlocks).queue()
    app = gr.mount_gradio_app(FastAPI(), page, path="", ssr_mode=False)
    lighten(app, page)
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    with TestClient(app) as client:
        asked = {"data": [], "fn_index": 0, "session_hash": "one"}
        assert client.post("/gradio_api/run/predict", json=asked).json()["data"][0] == "said"
    assert "matplotlib" not in sys.modules
    assert not any(page.state_holder["one"].config_values.values())
