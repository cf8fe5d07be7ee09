"""Errors that whoever uses the page can mend, shown on it in words."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import gradio as gr

from apps.shapes.errors import ApiError
from apps.showing.look import escape
from configs import InputError
from finetune.serving.reply_request import Full

F = TypeVar("F", bound=Callable[..., Any])
MENDED = (InputError, ApiError, Full)


def says_errors(function: F) -> F:
    """The function of an event, or a generator, whose errors of these kinds become errors of the page."""
    if inspect.isgeneratorfunction(function):

        @wraps(function)
        def go(*values: Any, **named: Any) -> Any:
            try:
                yield from function(*values, **named)
            except MENDED as error:
                raise refuse(error) from None

        return cast(F, go)

    @wraps(function)
    def call(*values: Any, **named: Any) -> Any:
        try:
            return function(*values, **named)
        except MENDED as error:
            raise refuse(error) from None

    return cast(F, call)


def refuse(error: Exception) -> gr.Error:
    """An error for the page, shown as text."""
    return gr.Error(escape(str(error)), duration=10, print_exception=False)
