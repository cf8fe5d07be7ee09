"""How the page looks: fonts of the reader's own system, colours for light and dark, one column on a phone."""

import html

import gradio as gr

CSS = """
.gradio-container { max-width: 1360px !important; margin: 0 auto !important; }
#heading .html-container, .status .html-container { padding: 0 2px; }
#heading h1 { font-size: 1.4rem; font-weight: 650; line-height: 1.3; margin: 0; overflow-wrap: anywhere; }
#heading p { color: var(--body-text-color-subdued); margin: .3rem 0 0; }
.reply { gap: .4rem !important; }
.reply textarea { font-family: var(--font-mono); font-size: .9rem; line-height: 1.5; }
.reply textarea:disabled { -webkit-text-fill-color: var(--body-text-color); opacity: 1; }
.status { color: var(--body-text-color-subdued); font-size: .875rem; min-height: 1.3em; }
.status { font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.status .refused { color: var(--error-text-color); }
.gallery-item { min-width: 0; max-width: 100%; overflow-wrap: anywhere; text-align: left; }
@media (max-width: 640px) {
  .gradio-container .app { padding: 12px !important; }
  .reply textarea { height: 13rem !important; }
}
"""


def theme() -> gr.Theme:
    """The default theme in teal, dark enough to read on white. Its fonts are the system's, so none is fetched."""
    return gr.themes.Default(
        primary_hue="teal",
        neutral_hue="slate",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "Menlo", "Consolas", "monospace"],
    ).set(
        body_text_color_subdued="*neutral_500",
        block_info_text_color="*neutral_500",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_600",
        slider_color="*primary_600",
    )


def escape(text: str) -> str:
    """`text` as HTML that shows it; also inert in Gradio's templates, which read `{{` and `${` after the value is in.

    >>> escape("<b>{{x}}")
    '&lt;b&gt;&#123;&#123;x&#125;&#125;'
    """
    return html.escape(text).replace("{", "&#123;").replace("}", "&#125;")
