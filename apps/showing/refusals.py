"""Errors that whoever uses the page can mend, shown on it in words."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import gradio as gr

from apps.shapes.errors import ApiError
from apps.showing.look import escape
from configs import InputError

P = ParamSpec("P")
T = TypeVar("T")


def says_errors(function: Callable[P, T]) -> Callable[P, T]:
    """The function of an event, whose errors of that kind become errors of the page, their words text."""

    @wraps(function)
    def call(*values: P.args, **named: P.kwargs) -> T:
        try:
            return function(*values, **named)
        except (InputError, ApiError) as error:
            raise gr.Error(escape(str(error)), duration=10, print_exception=False) from None

    return call
