"""What can be mended is said on the page, as text."""

import gradio as gr
import pytest

from apps.shapes.errors import ApiError
from apps.showing.refusals import says_errors
from configs import InputError


@pytest.mark.parametrize("error", [InputError("model: found <b>"), ApiError(429, "model: found <b>")])
def test_what_can_be_mended_is_shown_as_text(error: Exception):
    @says_errors
    def event() -> None:
        raise error

    with pytest.raises(gr.Error, match="&lt;b&gt;") as raised:
        event()
    assert not raised.value.print_exception
