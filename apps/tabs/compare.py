"""The tab that asks several models the same and streams their replies side by side."""

import gradio as gr

from apps.tabs.studio_parts import StudioParts


def build(studio: StudioParts) -> None:
    """Lays out the tab and wires it."""
    gr.Markdown(f"{studio.base}")
