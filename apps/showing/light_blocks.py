"""Gradio's page without what it would do for each visitor and each unchanged value, though nothing here reads it."""

import contextlib
import copy
from types import SimpleNamespace
from typing import Any, cast

import gradio as gr
from fastapi import FastAPI
from gradio.block_function import BlockFunction
from gradio.state_holder import SessionState, StateHolder
from starlette.routing import Mount

UNCHANGED = {"__type__": "update"}


def lighten(app: FastAPI, page: gr.Blocks) -> None:
    """Leaves out, of a page that is mounted alone in an application, what is done beside the events that it answers.

    Gradio reads all of matplotlib's pyplot before the first event, for seconds, and sets its backend before and after
    each state of a reply (`call_process_api` in route_utils.py); nothing here draws with pyplot. After each event it
    makes a table of all the last ones (`compute_analytics_summary` in queueing.py) for a page of figures that is off.
    """
    (inner,) = (route.app for route in app.routes if isinstance(route, Mount))
    assert isinstance(inner, gr.routes.App), "Gradio mounts its own"
    inner.state_holder = LightSessions()
    inner.state_holder.set_blocks(page)
    page._queue.compute_analytics_summary = lambda _: {}  # type: ignore[method-assign]
    gr.utils.MatplotlibBackendMananger = contextlib.nullcontext  # type: ignore[assignment,misc]


class LightBlocks(gr.Blocks):
    """A page that sends `gr.skip()` on as it is.

    Gradio makes the component anew for it, which takes a millisecond of the event loop for each output of each state of
    a reply. https://github.com/gradio-app/gradio/blob/main/gradio/blocks.py, Blocks.postprocess_data
    """

    async def postprocess_data(
        self, block_fn: BlockFunction, predictions: list[Any] | dict[Any, Any], state: SessionState | None
    ) -> list[Any]:
        """What the browser gets for each output."""
        outputs = block_fn.outputs
        if not isinstance(predictions, list | tuple) or len(predictions) != len(outputs) or len(outputs) < 2:
            return await super().postprocess_data(block_fn, predictions, state)
        changed = [n for n, value in enumerate(predictions) if value != UNCHANGED or outputs[n].stateful]
        data: list[Any] = [dict(UNCHANGED) for _ in outputs]
        if changed:
            part = copy.copy(block_fn)
            part.outputs = [outputs[n] for n in changed]
            values = [predictions[n] for n in changed]
            sent = await super().postprocess_data(part, values if len(values) > 1 else values[0], state)
            for n, value in zip(changed, sent, strict=True):
                data[n] = value
        return data


class LightSessions(StateHolder):
    """What is held for each visitor, without a copy of what every component is like.

    Only links to a state of the page read it (`deep_link`), which are off here. Making it takes 60 ms of the event loop
    for each new visitor. https://github.com/gradio-app/gradio/blob/main/gradio/state_holder.py, SessionState
    """

    def __getitem__(self, session_id: str) -> SessionState:
        """What is held for a visitor, from now on if it is a new one."""
        if session_id not in self.session_data:
            self.session_data[session_id] = _light_session(self.blocks)
        return super().__getitem__(session_id)


def _light_session(blocks: gr.Blocks) -> SessionState:
    without = SimpleNamespace(default_config=blocks.default_config, blocks=())
    session = SessionState(cast(gr.Blocks, without))
    session.blocks_config.config_for_block = lambda *_: {}  # type: ignore[method-assign]
    return session
