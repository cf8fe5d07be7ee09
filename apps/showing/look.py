"""How the page looks: fonts of the reader's own system, colours for light and dark, one column on a phone."""

import html

import gradio as gr

CSS = """
.gradio-container { width: 100% !important; max-width: 1480px !important; margin: 0 auto !important; }
#heading .html-container, .status .html-container { padding: 0 2px; }
#heading h1 { font-size: 1.3rem; font-weight: 650; line-height: 1.3; margin: 0; overflow-wrap: anywhere; }
#heading p { color: var(--body-text-color-subdued); margin: .2rem 0 0; }
.status { color: var(--body-text-color-subdued); font-size: .8125rem; min-height: 1.2em; }
.status { font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.refused { color: var(--error-text-color); }
.waiting { color: var(--body-text-color-subdued); font-style: italic; }
/* Compare */
.side { gap: .5rem !important; }
.talk { gap: 0 !important; min-height: 11rem; max-height: 56vh; overflow-y: auto; padding: .25rem .75rem;
  border: 1px solid var(--border-color-primary); border-radius: 8px; background: var(--background-fill-primary); }
.talk .html-container { padding: 0; }
.talk .turn { padding: .5rem 0; overflow-wrap: anywhere; line-height: 1.55; }
.talk .turn p { margin: 0 0 .5rem; }
.talk .asked { border-top: 1px solid var(--border-color-primary); }
.talk .asked p { font-weight: 600; white-space: pre-wrap; margin: 0; }
.talk #past-0 .turn.asked:first-child, .talk [id^="past-"] .turn:first-child { border-top: 0; }
.talk .said pre { overflow-x: auto; padding: .6rem; border-radius: 6px; background: var(--background-fill-secondary);
  font: .8125rem/1.5 ui-monospace, Menlo, Consolas, monospace; }
.talk .said code { font-family: ui-monospace, Menlo, Consolas, monospace; font-size: .9em; }
.talk .said ul, .talk .said ol { padding-left: 1.4rem; margin: 0 0 .5rem; }
.talk .said table { border-collapse: collapse; display: block; overflow-x: auto; }
.talk .said td, .talk .said th { border: 1px solid var(--border-color-primary); padding: .2rem .5rem; }
.talk .said h1, .talk .said h2, .talk .said h3 { font-size: 1rem; margin: .5rem 0; }
.side [id^="keep-"] { align-self: flex-start; width: auto; flex-grow: 0; }
.code { position: relative; }
.code .copy { position: absolute; top: .35rem; right: .35rem; }
button.copy { font-size: .75rem; padding: .1rem .5rem; border-radius: 4px; cursor: pointer;
  border: 1px solid var(--border-color-primary); background: var(--background-fill-primary);
  color: var(--body-text-color); }
#composer { position: sticky; bottom: 0; z-index: 5; }
#examples button { white-space: normal; text-align: left; overflow-wrap: anywhere; }
@media (max-width: 640px) {
  .gradio-container .app { padding: 12px !important; }
  .talk { min-height: 5rem; max-height: 34vh; }
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
