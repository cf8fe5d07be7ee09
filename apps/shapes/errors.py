"""Whatever goes wrong as an error of OpenAI's shape, with the project's one line as its message.

{"error": {"message": "temperature: ...", "type": "invalid_request_error", "param": "temperature", "code": null}}
"""

import logging
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from configs import InputError
from configs.errors import FullDisk

LOG = logging.getLogger("graft.service")
KINDS = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
"""Types of errors by status; any other below 500 is an invalid request."""
LONGEST = 1_000


class ApiError(Exception):
    """A request that is refused: the status, and in words why."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param, self.retry = status, message, code, param, retry


def error_body(status: int, message: str, code: str | None = None, param: str | None = None) -> dict[str, Any]:
    """The JSON of a refusal.

    >>> error_body(404, "model x: no such model", code="model_not_found")["error"]["type"]
    'invalid_request_error'
    """
    kind = "server_error" if status >= 500 else KINDS.get(status, "invalid_request_error")
    line = " ".join(message.split())[:LONGEST]
    return {"error": {"message": line, "type": kind, "param": param, "code": code}}


def respond(error: ApiError) -> JSONResponse:
    """The refusal as an answer."""
    headers = {} if error.retry is None else {"Retry-After": str(max(1, round(error.retry)))}
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(error_body(error.status, error.message, error.code, error.param), error.status, headers)


def install(app: FastAPI) -> None:
    """Has every error of the application answered in this shape."""

    @app.exception_handler(ApiError)
    async def refused(_request: Request, error: ApiError) -> JSONResponse:
        return respond(error)

    @app.exception_handler(InputError)
    async def cannot_be(_request: Request, error: InputError) -> JSONResponse:
        return respond(of_input(error))

    @app.exception_handler(RequestValidationError)
    async def of_another_shape(_request: Request, error: RequestValidationError) -> JSONResponse:
        return respond(of_shape(error.errors()))

    @app.exception_handler(HTTPException)
    async def no_such_place(request: Request, error: HTTPException) -> JSONResponse:
        path = reprlib.repr(request.url.path)
        said = {
            404: f"{request.method} {path}: there is nothing here: /openapi.json lists what is",
            405: f"{path}: does not take {request.method}: /openapi.json says what it takes",
        }
        refusal = respond(ApiError(error.status_code, said.get(error.status_code, str(error.detail))))
        refusal.headers.update(error.headers or {})
        return refusal

    @app.exception_handler(Exception)
    async def a_fault(_request: Request, error: Exception) -> JSONResponse:
        LOG.exception("a fault of the program", exc_info=error)
        said = f"a fault of the program, not of the request ({type(error).__name__}): the server's log has more"
        return respond(ApiError(500, said))


def of_input(error: InputError) -> ApiError:
    """What a user can mend."""
    return ApiError(507 if isinstance(error, FullDisk) else 400, str(error))


def of_shape(errors: Sequence[Mapping[str, Any]]) -> ApiError:
    """The first thing in a request that has another shape than it should, and how many others there are.

    >>> found = {"loc": ("body", "n"), "msg": "Input should be a valid integer", "input": "x", "type": "int_type"}
    >>> of_shape([found]).message
    "n: found 'x': input should be a valid integer"
    """
    first = errors[0]
    if first["type"] == "json_invalid":
        return ApiError(400, f"body: is no JSON ({first.get('ctx', {}).get('error', first['msg'])})")
    place = _place(first["loc"])
    found = "nothing" if first["type"] == "missing" else reprlib.repr(first.get("input"))
    wanted = first["msg"].removeprefix("Value error, ")
    message = f"{place}: found {found}: {wanted[:1].lower()}{wanted[1:]}"
    if first["type"] == "extra_forbidden":
        message = f"{place}: no such field, or one that this server does not know: leave it out"
    others = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return ApiError(400, message + others, param=place)


def _place(location: Sequence[int | str]) -> str:
    """A place in a request as one writes it in Python.

    >>> _place(("body", "messages", 0, "role")), _place(("query", "limit")), _place(("body",))
    ('messages[0].role', 'limit', 'body')
    """
    inner = [part for part in location[1:] if not str(part).startswith("function-")]
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in inner).lstrip(".")
    return place or str(location[0])
