"""Log-sums and softmax of rows: any length, any magnitude, and rows that hold no number."""

from __future__ import annotations

import math

import numpy as np
import pytest

from wfst_losses.compiled.rows import row_log_sums, row_peak, write_softmax

TYPES = [(np.float32, 2e-7), (np.float64, 2e-14)]


def log_sums(rows: np.ndarray) -> np.ndarray:
    found = np.zeros((1, len(rows)), rows.dtype)
    row_log_sums(0, 1, rows[None], np.array([len(rows)]), found)
    return found[0]


@pytest.mark.parametrize("num_labels", [1, 2, 7, 8, 15, 16, 17, 31, 33, 500])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_largest_number_is_found_wherever_it_stands(num_labels, dtype):
    places = np.arange(num_labels)
    rows = -np.abs(places[:, None] - places).astype(dtype)
    np.testing.assert_array_equal([row_peak(row) for row in rows], rows.max(1))


@pytest.mark.parametrize(("dtype", "tolerance"), TYPES)
@pytest.mark.parametrize("num_labels", [1, 15, 16, 500])
@pytest.mark.parametrize("shift", [-1000.0, 0.0, 1000.0])
def test_log_sums_are_those_of_float64(dtype, tolerance, num_labels, shift):
    rows = (10 * np.random.default_rng(0).standard_normal((20, num_labels)) + shift).astype(dtype)
    exact = [row.max() + math.log(math.fsum(np.exp(row - row.max()))) for row in rows.astype(np.float64)]
    # The value itself is rounded to its type.
    np.testing.assert_allclose(log_sums(rows), exact, rtol=np.finfo(dtype).eps, atol=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), TYPES)
def test_exponentials_hold_over_their_whole_range_and_lean_to_neither_side(dtype, tolerance):
    row = np.linspace(-87.0, 0.0, 100_001).astype(dtype)
    out = np.empty_like(row)
    write_softmax(row, 0.0, 1.0, out)
    exact = np.exp(row.astype(np.float64))
    errors = out / exact - 1.0
    assert np.abs(errors).max() < tolerance
    assert np.abs(errors.mean()) < tolerance / 10


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exponentials_of_what_is_no_small_number(dtype):
    row = np.array([-np.inf, -1e30, -800.0, np.nan, 0.0], dtype)
    out = np.empty_like(row)
    write_softmax(row, 0.0, 2.0, out)
    np.testing.assert_array_equal(out, [0.0, 0.0, 0.0, np.nan, 2.0])


@pytest.mark.parametrize("num_labels", [3, 40])
@pytest.mark.parametrize("place", [0, 2, -1])
def test_rows_without_numbers(num_labels, place):
    rows = np.full((4, num_labels), -np.inf, np.float32)
    rows[1, place] = np.nan
    rows[2, place] = np.inf
    rows[3] = 1.0
    rows[3, place] = np.nan
    np.testing.assert_array_equal(log_sums(rows), [-np.inf, np.nan, np.nan, np.nan])
