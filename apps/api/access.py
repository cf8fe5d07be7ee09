"""Who may do what: a key that may read asks models and looks at runs, one that may train does both and changes them.

A service without any key takes every request; its entry lets it listen on this machine alone.
"""

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from apps.api.parts import Shared
from apps.shapes.errors import ApiError

BEARER = HTTPBearer(auto_error=False, description="A key of `python -m apps.service keys --add NAME --may train`.")
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)]


async def may_read(request: Request, parts: Shared, credentials: Credentials) -> str:
    """The id of the key that a request came with; empty where the service has no keys.

    Raises:
        ApiError: there is none, or it is no key of this service.
    """
    return _identify(request, parts, credentials)[0]


async def may_train(request: Request, parts: Shared, credentials: Credentials) -> str:
    """The same of a request that starts, changes or removes something.

    Raises:
        ApiError: the same, or the key may only read.
    """
    owner, may = _identify(request, parts, credentials)
    if may != "train":
        raise ApiError(
            403, "Authorization: this key may read, expected one that may train: keys --add NAME --may train"
        )
    return owner


def _identify(request: Request, parts: Shared, credentials: Credentials) -> tuple[str, str]:
    if not parts.keys.all():
        return "", "train"
    if credentials is None:
        raise ApiError(401, "Authorization: found none, expected 'Bearer KEY' with a key of this service")
    key = parts.keys.find(credentials.credentials)
    if key is None:
        raise ApiError(
            401, "Authorization: found a key that is none of this service, expected one", code="invalid_api_key"
        )
    request.state.key = key.id
    return key.id, key.may


Reader = Annotated[str, Depends(may_read)]
Trainer = Annotated[str, Depends(may_train)]
