"""How the page looks: fonts of the reader's own system, colours for light and dark, one column on a phone."""

import html

import gradio as gr

from tokenizer_ext.pages.palette import FONT, MONO, PALETTE

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
/* Difference */
.tokens { line-height: 2; overflow-wrap: anywhere; --up: #3b82f6; --down: #f97316; }
.token { font: .875rem/1.4 var(--font-mono); padding: .05rem .1rem; margin: 0 1px; border-radius: 3px; cursor: pointer;
  white-space: pre-wrap; text-align: left; color: var(--body-text-color); border-bottom: 1px solid transparent; }
.token.up { background: color-mix(in srgb, var(--up) calc(var(--heat) * .65), transparent); }
.token.down { background: color-mix(in srgb, var(--down) calc(var(--heat) * .65), transparent); }
.token:hover, .token:focus-visible { border-bottom-color: currentColor; outline: 2px solid var(--primary-600); }
.said[role=tooltip] { display: none; position: fixed; z-index: 50; right: 8px; bottom: 8px;
  width: max-content; max-width: calc(100vw - 16px); max-height: 50vh; overflow: hidden; padding: .6rem .8rem;
  white-space: pre; font: .78rem/1.45 var(--font-mono); text-align: left; pointer-events: none; border-radius: 8px;
  color: var(--body-text-color); background: var(--background-fill-primary);
  border: 1px solid var(--border-color-primary); box-shadow: 0 6px 24px rgb(0 0 0 / .25); }
.token:hover + .said, .token:focus-visible + .said { display: block; }
.likely-columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(240px, 1fr)); gap: 1rem; }
.likely-columns ol { list-style: none; padding: 0; margin: 0; }
.likely-columns h4 { margin: .3rem 0; overflow-wrap: anywhere; }
.likely-columns .likely { width: 100%; display: flex; justify-content: space-between; gap: 1rem; padding: .15rem .5rem;
  font: 400 .875rem/1.5 var(--font-mono) !important; border-radius: 4px; color: var(--body-text-color); cursor: pointer;
  border: 1px solid var(--border-color-primary); background: none; font-variant-numeric: tabular-nums; margin: 1px 0; }
.likely-columns .likely:hover, .likely-columns .likely:focus-visible { background: var(--background-fill-secondary); }
.wide { overflow-x: auto; max-width: 100%; }
.wide tr { border: 0 !important; }
.wide table { border: 0 !important; border-collapse: collapse; width: 100%; font-size: .875rem;
  font-variant-numeric: tabular-nums; }
.wide th, .wide td { text-align: left; padding: .3rem .6rem; white-space: nowrap; border: 0 !important;
  border-bottom: 1px solid var(--border-color-primary) !important; }
.wide mark { background: color-mix(in srgb, #f97316 35%, transparent); color: inherit; }
/* Runs */
.settings > .form { display: grid !important; grid-template-columns: repeat(auto-fill, minmax(220px, 1fr)); }
.plot { width: 100%; max-width: 60rem; background: white; border-radius: 8px; }
#run-log textarea { font: .8125rem/1.45 ui-monospace, Menlo, Consolas, monospace; }
/* Vote */
.blind { white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.55; }
#vote-pane-1, #vote-pane-2 { border: 1px solid var(--border-color-primary); border-radius: 8px; padding: .5rem .9rem; }
#vote-pane-1 h3, #vote-pane-2 h3 { margin: 0 0 .4rem; font-size: 1rem; overflow-wrap: anywhere; }
@media (max-width: 640px) {
  #vote-panes { flex-direction: column; }
  .gradio-container .app { padding: 12px !important; }
  .talk { min-height: 5rem; max-height: 34vh; }
}
/* Tokens, Inside, Extend */
.shown :is(h2, h3) { font-size: 1.05rem; font-weight: 650; margin: .6rem 0 .3rem; overflow-wrap: anywhere; }
.shown table { border-collapse: collapse; width: 100%; margin: .5rem 0 1rem; font-size: .9rem; }
.shown :is(th, td) { text-align: left; vertical-align: top; padding: .25rem .5rem; overflow-wrap: anywhere; }
.shown :is(th, td) { border: 0; border-bottom: 1px solid var(--border-color-primary); }
.shown :is(table, tr) { border: 0 !important; }
.shown .number { text-align: right !important; white-space: nowrap; font-variant-numeric: tabular-nums; }
.shown p { color: var(--body-text-color-subdued); font-size: .9rem; margin: .4rem 0; overflow-wrap: anywhere; }
/* Tokens */
.columns { display: grid; gap: 1.25rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); }
.columns section { min-width: 0; }
.pieces { font: .95rem/2 var(--font-mono); overflow-wrap: anywhere; }
.piece { font: inherit; line-height: 1.5; display: inline; padding: .1rem .12rem; margin: 0 1px 0 0; border: 0; }
.piece { border-radius: 4px; color: var(--body-text-color); white-space: pre-wrap; text-align: left; cursor: help; }
.piece i { font-style: normal; font-size: .85em; color: var(--body-text-color-subdued); }
.p0 { background: hsl(210 90% 50% / .2); }
.p1 { background: hsl(45 95% 50% / .25); }
.p2 { background: hsl(150 70% 40% / .22); }
.p3 { background: hsl(330 80% 55% / .2); }
.p4 { background: hsl(265 80% 60% / .22); }
.p5 { background: hsl(20 90% 50% / .22); }
.piece.only { box-shadow: inset 0 -3px 0 var(--primary-600); }
.piece.added { font-weight: 700; }
.piece:focus-visible { outline: 2px solid var(--primary-600); outline-offset: 1px; }
.piece .detail { display: none; position: fixed; z-index: 1000; left: 50%; bottom: 12px; transform: translateX(-50%); }
.piece .detail { width: max-content; max-width: min(94vw, 60rem); max-height: 45vh; overflow: auto; }
.piece .detail { font: .85rem/1.5 var(--font-mono); font-weight: 400; color: var(--body-text-color); }
.piece .detail { background: var(--background-fill-primary); border: 1px solid var(--border-color-primary); }
.piece .detail { padding: .6rem .9rem; border-radius: 8px; box-shadow: 0 4px 18px rgb(0 0 0 / .3); }
.piece .detail { pointer-events: none; }
.piece:is(:hover, :focus) .detail { display: block; }
.piece:hover .detail { z-index: 1001; }
.tokens { font: .95rem/2 var(--font-mono); white-space: pre-wrap; overflow-wrap: anywhere; }
.tokens span { color: var(--body-text-color); background: hsl(215 15% 50% / .14); padding: .15rem 0; }
.tokens span { border-left: 1px solid var(--border-color-primary); }
.tokens span.learned { background: hsl(140 65% 40% / .35); }
.tokens span.control { font-weight: 700; }
.steps :is(input[type=number], button, .min_value, .max_value) { display: none; }
/* Inside */
.shown caption { text-align: left; color: var(--body-text-color-subdued); padding: .2rem 0; }
.looked { display: flex; flex-wrap: wrap; gap: 4px; list-style: none; padding: 0; margin: .3rem 0; }
.looked li { font: .9rem var(--font-mono); padding: .1rem .35rem; border-radius: 4px; overflow-wrap: anywhere; }
.looked li { border: 1px solid var(--border-color-primary); }
.looked small { color: var(--body-text-color-subdued); margin-right: .3rem; }
.looked .marked { background: hsl(175 70% 40% / .3); border-color: var(--primary-600); }
.shown .bars :is(th, td) { border: 0; padding: .1rem .4rem; vertical-align: middle; font-weight: 400; }
.shown .bars th { font-family: var(--font-mono); text-align: right; width: 1%; white-space: nowrap; }
.bars .share { width: 99%; }
.bars i { display: block; height: .7rem; min-width: 1px; width: calc(100% * var(--share)); border-radius: 2px; }
.bars i { background: hsl(175 70% 40% / .7); }
.scrolled { overflow: auto; max-height: 46rem; }
.scrolled:focus-visible { outline: 2px solid var(--primary-600); }
.shown :is(.heads, .lens, .head) { width: auto; font-size: .78rem; border-collapse: separate; border-spacing: 1px; }
.shown :is(.heads, .lens, .head) :is(th, td) { border: 0; white-space: nowrap; padding: .1rem .35rem; }
.shown :is(.heads, .lens, .head) tbody th { position: sticky; left: 0; background: var(--background-fill-primary); }
.shown :is(.heads, .lens, .head) :is(td, th) { font-family: var(--font-mono); }
:is(.heads, .lens) td { background: hsl(140 65% 40% / calc(.75 * var(--share, 0))); }
.head td { background: hsl(215 75% 50% / var(--share, 0)); }
.shown .head tbody td { width: 1rem; min-width: 1rem; height: 1rem; padding: 0; }
.shown .head thead th { vertical-align: bottom; padding: 0; }
.head thead span { writing-mode: vertical-rl; transform: rotate(180deg); display: inline-block; }
.heads .marked { outline: 2px solid var(--primary-600); outline-offset: -2px; }
/* Extend */
.chart { width: 100%; max-width: 46rem; height: auto; color: var(--body-text-color-subdued); }
.chart text { font-size: 13px; fill: currentColor; }
@media (max-width: 640px) { .chart text { font-size: 20px; } }
.chart .grid { stroke: var(--border-color-primary); }
.chart .line { fill: none; stroke: var(--primary-600); stroke-width: 2.5; }
.chart .mark { fill: hsl(25 90% 50%); stroke: var(--background-fill-primary); stroke-width: 2; }
.shown .proposed td { font-family: var(--font-mono); }
.shown .scrolled :is(th, td) { overflow-wrap: normal; }
.shown .proposed :is(th, td) { white-space: nowrap; }
.shown .proposed button { border: 1px solid var(--border-color-primary); border-radius: 4px; padding: 0 .5rem; }
.shown .proposed button { color: var(--body-text-color); background: var(--background-fill-primary); }
.shown .log { white-space: pre-wrap; overflow-wrap: anywhere; max-height: 20rem; overflow: auto; font-size: .8rem; }
.shown .log { background: var(--background-fill-secondary); padding: .6rem; border-radius: 6px; }
.shown a { color: var(--link-text-color); text-decoration: underline; }
"""


def theme() -> gr.Theme:
    """Gradio's default theme in the colours and fonts that reports have too."""
    of_palette = {
        **dict.fromkeys(("body_text_color", "block_title_text_color", "block_label_text_color"), "text"),
        **dict.fromkeys(("body_text_color_subdued", "block_info_text_color"), "quiet"),
        **dict.fromkeys(("body_background_fill", "background_fill_primary", "block_background_fill"), "back"),
        **dict.fromkeys(("background_fill_secondary", "input_background_fill"), "raised"),
        **dict.fromkeys(("border_color_primary", "block_border_color", "input_border_color"), "line"),
        **dict.fromkeys(("link_text_color", "link_text_color_active"), "accent"),
    }
    colours = {
        f"{name}{mode}": value
        for name, of in of_palette.items()
        for mode, value in zip(("", "_dark"), PALETTE[of], strict=True)
    }
    return gr.themes.Default(
        primary_hue="teal", neutral_hue="slate", font=FONT.split(", "), font_mono=MONO.split(", ")
    ).set(
        **colours,
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
    return inert(html.escape(text))


def inert(markup: str) -> str:
    """HTML in which Gradio's templates find nothing to fill in.

    >>> inert("<p>${x}</p>")
    '<p>&#36;&#123;x&#125;</p>'
    """
    return markup.replace("{", "&#123;").replace("}", "&#125;").replace("$", "&#36;")
