"""Lists in parts: `limit` items after the one that `after` names."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Query

from apps.shapes.errors import ApiError
from apps.shapes.objects import Page

Item = TypeVar("Item", bound=Any)
DEFAULT_ITEMS, MOST_ITEMS = 20, 1_000


@dataclass(frozen=True)
class Place:
    """Where a part of a list begins, and how long it is at most."""

    after: str | None
    limit: int


def _place(
    after: Annotated[str | None, Query(max_length=200)] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_ITEMS)] = DEFAULT_ITEMS,
) -> Place:
    return Place(after, limit)


Cursor = Annotated[Place, Depends(_place)]


def cut(items: Sequence[Item], place: Place) -> Page[Item]:
    """The part of a whole list.

    Raises:
        ApiError: nothing in it has the id that it is to begin after.
    """
    start = 0
    if place.after is not None:
        ids = [item.id for item in items]
        if place.after not in ids:
            raise ApiError(400, f"after: found {place.after!r}, expected the id of an item of this list", param="after")
        start = ids.index(place.after) + 1
    return page_of(list(items[start : start + place.limit]), has_more=start + place.limit < len(items))


def page_of(items: list[Item], *, has_more: bool) -> Page[Item]:
    """A part that was read already."""
    first, last = (items[0].id, items[-1].id) if items else (None, None)
    return Page(data=items, first_id=first, last_id=last, has_more=has_more)
