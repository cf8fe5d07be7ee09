"""Shows base and assistant side by side in the browser.

    python -m apps.playground
    python -m apps.playground --base openai-community/gpt2 --tuned runs/sft-2 --port 8000

With no argument it opens the newest finished run under `runs/` beside the base that the run was started from. Nothing
leaves this machine: the page listens on 127.0.0.1 and brings its own fonts and scripts.
"""

import ipaddress
import socket
from dataclasses import dataclass

import gradio as gr

from apps import side_by_side
from apps.look import CSS, escape, theme
from apps.pair import Pair, choose_names, read_examples
from configs import InputError, run_entry
from tokenizer_ext.pages.terminal import quiet_libraries

WAITING_REQUESTS = 16


@dataclass(frozen=True, kw_only=True)
class PlaygroundSettings:
    """Base and assistant in the browser."""

    base: str | None = None
    """Base model: `embedded`, a folder or a Hub name; by default what the assistant's run was started from."""
    tuned: str | None = None
    """Assistant: a run's folder, its `final/`, or a model with the chat format; by default the newest finished run."""
    port: int = 7860
    """Port that the page is served on."""
    host: str = "127.0.0.1"
    """Address that the page is served on; any other than 127.0.0.1 lets other machines in, without a password."""

    def __post_init__(self) -> None:
        if not 1 <= self.port <= 65535:
            raise InputError(f"port: found {self.port}, expected a number from 1 to 65535")


def main(settings: PlaygroundSettings) -> None:
    """Chooses and loads both models, lays out the page, serves it."""
    quiet_libraries()
    check_address(settings.host, settings.port)
    names = choose_names(settings.base, settings.tuned)
    examples = read_examples(names.tuned)
    page = build_page(Pair(names), examples)
    serve(page, settings.host, settings.port)


def check_address(host: str, port: int) -> None:
    """Refuses an address that cannot be listened on, before any weights load.

    Raises:
        InputError: the port is taken, or the host is no IPv4 address of this machine.
    """
    with socket.socket(socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise InputError(
                f"{host}:{port}: cannot be listened on ({error.strerror}): pass another --port, or end what uses it"
            ) from None


def build_page(pair: Pair, examples: list[str]) -> gr.Blocks:
    """The whole page."""
    base, assistant = pair.names.titles
    with gr.Blocks(title=f"{assistant} beside {base}", analytics_enabled=False) as page:
        gr.HTML(
            f"<h1>Base {escape(base)} beside assistant {escape(assistant)}</h1>"
            "<p>Both answer the same prompt with the same noise, so the replies differ only where the models do.</p>",
            elem_id="heading",
        )
        side_by_side.build(page, pair, examples)
    return page.queue(max_size=WAITING_REQUESTS, api_open=False)


def serve(page: gr.Blocks, host: str, port: int) -> None:
    """Serves the page until it is interrupted."""
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
    )
    print(f"Playground: {address}  (Ctrl+C ends it)", flush=True)
    if not _is_loopback(host):
        print("Other machines can reach this page, and there is no password.", flush=True)
    page.block_thread()


def _is_loopback(host: str) -> bool:
    return ipaddress.ip_address(socket.gethostbyname(host)).is_loopback


if __name__ == "__main__":
    run_entry(main, PlaygroundSettings)
