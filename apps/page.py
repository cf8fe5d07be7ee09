"""The page that shows both models, and the server that shows the page."""

from collections.abc import Sequence

import gradio as gr
from starlette.middleware import Middleware

from apps import side_by_side
from apps.form import MAXIMUM_CHARACTERS
from apps.guarding.guard import Guard, Rules
from apps.guarding.hosts import hosts_of, is_loopback
from apps.guarding.queue_requests import CLOSED, checks_of
from apps.pair import Pair
from apps.showing.look import CSS, escape, theme

WAITING_REQUESTS = 16
# JSON can spell a character in 12 bytes. Four times the longest prompt, so that one a little too long gets its count.
BODY_BYTES = 4 * 12 * MAXIMUM_CHARACTERS


def build_page(pair: Pair, examples: list[str]) -> gr.Blocks:
    """The whole page."""
    base, assistant = pair.names.titles
    with gr.Blocks(title=f"{assistant} beside {base}", analytics_enabled=False) as page:
        gr.HTML(
            f"<h1>Base {escape(base)} beside assistant {escape(assistant)}</h1><p>{escape(explain(pair))}</p>",
            elem_id="heading",
        )
        side_by_side.build(page, pair, examples)
    return page.queue(max_size=WAITING_REQUESTS, api_open=False)


def explain(pair: Pair) -> str:
    """What can be read off the replies."""
    if all(side.is_local for side in pair.sides):
        return "Both answer the same prompt with the same noise, so the replies differ only where the models do."
    return (
        "Both answer the same prompt. A server draws with noise of its own: at temperature 0 there is none, and the "
        "replies differ only where the models do."
    )


def serve(page: gr.Blocks, host: str, port: int, allowed_hosts: Sequence[str] = ()) -> None:
    """Serves the page until it is interrupted, to requests that name this machine or one of the `allowed_hosts`."""
    rules = Rules(hosts=hosts_of(host, allowed_hosts), takes=checks_of(page), closed=CLOSED, body_bytes=BODY_BYTES)
    _, address, _ = page.launch(
        server_name=host,
        server_port=port,
        share=False,
        quiet=True,
        prevent_thread_lock=True,
        theme=theme(),
        css=CSS,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        enable_monitoring=False,
        app_kwargs={"middleware": [Middleware(Guard, rules=rules)]},
    )
    print(f"Playground: {address}  (Ctrl+C ends it)", flush=True)
    if not is_loopback(host):
        print("Other machines can reach this page, and there is no password.", flush=True)
    page.block_thread()
