"""Every kind of run, ended at every kind of place and gone on with, is the unbroken run to the bit."""

from pathlib import Path

import pytest
import torch

from tests.reliability.counted_calls import started
from tests.reliability.interrupted import PLACES, ended_at
from tests.reliability.launched_runs import SHARING
from tests.reliability.small_runs import ALL_RUNS, metrics_of, weights_of, write_extended, write_inputs


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> Path:
    """The inputs, and every kind of run without an end in between."""
    folder = tmp_path_factory.mktemp("inputs")
    write_inputs(folder)
    write_extended(folder)
    for kind, run in ALL_RUNS.items():
        run(folder, folder / f"unbroken {kind}")
    return folder


@pytest.mark.long
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", ALL_RUNS)
def test_a_run_that_goes_on_is_the_unbroken_one(unbroken, tmp_path, kind, place):
    with ended_at(place, PLACES[place]), pytest.raises(SystemExit) as ended:
        ALL_RUNS[kind](unbroken, tmp_path / "run")
    assert ended.value.code == 0
    ALL_RUNS[kind](unbroken, tmp_path / "run", resume=True)
    whole = unbroken / f"unbroken {kind}"
    assert metrics_of(tmp_path / "run") == metrics_of(whole)
    left, right = weights_of(tmp_path / "run"), weights_of(whole)
    assert left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.long
@pytest.mark.parametrize("sharing", SHARING)
@pytest.mark.parametrize("kind", ALL_RUNS)
def test_a_run_of_two_processes_that_goes_on_is_the_unbroken_one(tmp_path, file_events, kind, sharing):
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    write_inputs(inputs)
    write_extended(inputs)
    found = started(file_events, "resumed_in_two", tmp_path, sharing, kind)
    assert {one["place"]: one["came to"] for one in found} == dict.fromkeys(PLACES, "equal")
