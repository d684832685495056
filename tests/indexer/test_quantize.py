"""Codes: a bounded error, symmetric, and a query that scores them without decoding."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longleaf.indexer.quantize import dequantize, fit_scale, quantize, scale_query


def unit_rows(seed: int, rows: int, dim: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(rows, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 160))
def test_round_trip_is_off_by_at_most_half_a_step(seed: int, rows: int, dim: int) -> None:
    vectors = unit_rows(seed, rows, dim)
    scale = fit_scale(vectors)
    codes = quantize(vectors, scale)
    assert codes.dtype == np.int8
    assert codes.shape == vectors.shape
    assert np.all(np.abs(dequantize(codes, scale) - vectors) <= scale * 0.5001)


@given(st.integers(0, 10_000))
def test_codes_are_symmetric(seed: int) -> None:
    vectors = unit_rows(seed, 5, 128)
    scale = fit_scale(vectors)
    assert np.array_equal(quantize(-vectors, scale), -quantize(vectors, scale))


def test_values_beyond_the_scale_are_clipped_and_never_wrap() -> None:
    codes = quantize(np.array([[9.0, -9.0]], np.float32), np.array([0.01, 0.01], np.float32))
    assert codes.tolist() == [[127, -127]]


def test_scaled_queries_score_codes_as_the_cosine() -> None:
    text, query = unit_rows(1, 200, 128), unit_rows(2, 12, 128)
    scale = fit_scale(text)
    scores = quantize(text, scale).astype(np.float32) @ scale_query(query, scale).T
    assert scores == pytest.approx(text @ query.T, abs=0.01)


def test_a_dimension_that_is_always_zero_divides_nothing_by_zero() -> None:
    vectors = np.array([[1.0, 0.0], [-1.0, 0.0]], np.float32)
    assert quantize(vectors, fit_scale(vectors)).tolist() == [[127, 0], [-127, 0]]


def test_no_rows_stay_no_rows() -> None:
    codes = quantize(np.zeros((0, 128), np.float32), np.ones(128, np.float32))
    assert codes.shape == (0, 128)
