"""The choice of a precision: by measurement, stable, and refused where the device lacks it."""

import pytest
import torch

from configs import InputError
from scratch_models.loop import precision
from scratch_models.loop.precision import LEAST_GAIN, Probe, expect_precision, has_bf16, probe_precision

CPU = torch.device("cpu")


def test_bf16_is_chosen_where_it_is_clearly_faster():
    assert Probe(100.0, 100.0 * LEAST_GAIN).faster == "bf16"
    assert Probe(100.0, 99.0 * LEAST_GAIN).faster == "fp32"
    assert Probe(100.0, None).faster == "fp32"


def test_the_probe_measures_both_and_bf16_only_where_the_device_has_it(monkeypatch):
    monkeypatch.setattr(precision, "_cpu_has_bf16", lambda: True)
    both = probe_precision(CPU, 64)
    assert both.fp32_gflops > 0
    assert both.bf16_gflops is not None
    assert both.bf16_gflops > 0
    monkeypatch.setattr(precision, "_cpu_has_bf16", lambda: False)
    assert probe_precision(CPU, 64).bf16_gflops is None


def test_bf16_is_refused_where_the_device_lacks_it(monkeypatch):
    monkeypatch.setattr(precision, "_cpu_has_bf16", lambda: False)
    expect_precision("fp32", CPU)
    expect_precision("auto", CPU)
    with pytest.raises(InputError, match="precision: found bf16, but cpu here has no bfloat16 arithmetic, expected"):
        expect_precision("bf16", CPU)
    assert not has_bf16(torch.device("meta"))
