"""The studio's page: its tabs in their order, and its heading."""

import gradio as gr

from apps.showing.light_blocks import LightBlocks
from apps.showing.look import escape
from apps.showing.studio_parts import StudioParts
from apps.tabs import compare, difference, extend, inside, runs, tokens, vote

TABS = {
    "Compare": compare.build,
    "Difference": difference.build,
    "Tokens": tokens.build,
    "Extend": extend.build,
    "Runs": runs.build,
    "Vote": vote.build,
    "Inside": inside.build,
}
WAITING_REQUESTS = 16
"""So many may wait behind those that are answered; Gradio counts both until they begin."""


def build_page(studio: StudioParts) -> gr.Blocks:
    """The whole page."""
    title = f"{studio.assistant} beside {studio.base}" if studio.assistant else studio.base
    with LightBlocks(title=f"Graft: {title}", analytics_enabled=False) as page:
        gr.HTML(f"<h1>Graft studio</h1><p>{escape(title)}</p>", elem_id="heading")
        with gr.Tabs():
            for name, build in TABS.items():
                with gr.Tab(name, id=name.lower(), elem_id=f"tab-{name.lower()}", render_children=True):
                    build(studio)
    return page.queue(max_size=compare.REQUESTS_AT_ONCE + WAITING_REQUESTS, api_open=False)
