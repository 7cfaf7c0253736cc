"""Which numbers occur, against Python's sets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossops.kernels.dense import dense, distinct


@given(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 3)))
def test_distinct(numbers: list[int]) -> None:
    given_numbers = np.array(numbers, dtype=np.uint64)
    assert distinct(given_numbers).tolist() == sorted(set(numbers))
    assert given_numbers.tolist() == numbers


@pytest.mark.parametrize("size", [10, 1 << 23])
@given(numbers=st.lists(st.integers(0, 9)))
def test_dense(numbers: list[int], size: int) -> None:
    found, places = dense(np.array(numbers, dtype=np.int64), size)
    assert found.tolist() == sorted(set(numbers))
    assert found[places].tolist() == numbers
