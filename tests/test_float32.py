"""The float32 numbers next to a bound, on the side that is inside."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hindsight_rl.float32 import inward


@given(st.floats(-1e38, 1e38), st.booleans())
def test_the_nearest_number_that_is_not_outside(bound: float, low: bool) -> None:
    found = inward(bound, low=low)
    assert found == float(np.float32(found)) and (found >= bound if low else found <= bound)
    before = float(np.nextafter(np.float32(found), np.float32(-np.inf if low else np.inf)))
    assert before < bound if low else before > bound  # the next one is outside


@pytest.mark.parametrize(
    ("bound", "low", "high"),
    [
        (0.1, 0.10000000149011612, 0.09999999403953552),
        (-0.1, -0.09999999403953552, -0.10000000149011612),
        (1.0, 1.0, 1.0),
        (0.0, 0.0, 0.0),
        (1e-60, 2.0**-149, 0.0),
        (-1e-60, 0.0, -(2.0**-149)),
        (2**63 - 1, 2.0**63, 2.0**63 - 2.0**39),  # as float64 the bound is 2**63
        (1e39, math.inf, math.inf),
        (-math.inf, -math.inf, -math.inf),
    ],
)
def test_values(bound: float, low: float, high: float) -> None:
    assert (inward(bound, low=True), inward(bound, low=False)) == (low, high)
    assert math.isnan(inward(math.nan, low=True))
