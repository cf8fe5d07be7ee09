"""Settings as a form shows them: the words under their fields, what each takes, and what its entries stand for."""

import dataclasses
from dataclasses import dataclass
from typing import Literal

import pytest

from configs import InputError
from finetune.preference.settings import DpoSettings
from finetune.service.setting_fields import SettingField, setting_fields
from finetune.supervised.settings import SftSettings


@dataclass(frozen=True, kw_only=True)
class _Base:
    """A base."""

    steps: int = 3
    """Steps,
    of a run."""


@dataclass(frozen=True, kw_only=True)
class _Example(_Base):
    """An example."""

    rate: float | None = None
    """A rate."""
    kind: Literal["a", "b"] = "a"
    """A kind."""
    quick: bool = False
    """Quickly."""
    place: str = "here"
    """A place."""


def test_fields_have_the_words_under_them_also_those_of_a_base():
    assert setting_fields(_Example) == [
        SettingField("steps", "number", 3, "Steps, of a run."),
        SettingField("rate", "number", None, "A rate."),
        SettingField("kind", "choice", "a", "A kind.", ("a", "b")),
        SettingField("quick", "flag", False, "Quickly."),
        SettingField("place", "other", "here", "A place."),
    ]


@pytest.mark.parametrize("schema", [SftSettings, DpoSettings])
def test_every_setting_of_a_run_has_words_and_a_kind(schema):
    found = setting_fields(schema)
    assert [one.name for one in found] == [field.name for field in dataclasses.fields(schema)]
    assert all(one.help for one in found) and {one.takes for one in found} == {"flag", "choice", "number", "other"}


def test_entries_are_read_and_an_empty_one_is_the_default():
    rate, kind, quick = setting_fields(_Example)[1:4]
    assert [rate.read(given) for given in ("", None, "3", "1e-4", "-0.5")] == [None, None, 3, 1e-4, -0.5]
    assert (kind.read("b"), quick.read(True), rate.read("0.5")) == ("b", True, 0.5)


@pytest.mark.parametrize(
    "given", ["x", "[1]", "true", "0x3", "!!python/object:os.system {}", "1" * 41, 5, [], float("nan")]
)
def test_what_is_no_number_is_refused_with_its_name(given):
    with pytest.raises(InputError, match=r"rate: found .*, expected a number"):
        setting_fields(_Example)[1].read(given)


@pytest.mark.parametrize(("place", "given"), [(2, "c"), (2, 1), (3, "yes"), (3, 1), (4, "there")])
def test_what_is_none_of_the_choices_is_refused(place, given):
    with pytest.raises(InputError, match=r"found .*, expected (one of|true or false|a number)"):
        setting_fields(_Example)[place].read(given)
