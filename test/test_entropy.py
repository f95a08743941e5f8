# Copyright 2026 auv_image_codec maintainers
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""Entropy coding: golden bytes, any symbols, hostile bytes."""
import contextlib
import hashlib

from hypothesis import given, strategies
import numpy as np
import pytest

from auv_image_codec.codecs.entropy import frequencies_from_counts, LatentEntropyModel
from auv_image_codec.errors import LatentError, PacketCorruptError

DIMENSIONS = 64


def triangular_tables() -> np.ndarray:
    """Return integer tables that are the same on every machine."""
    symbols = np.arange(256)
    peaks = np.arange(DIMENSIONS)[:, None] * 4
    return frequencies_from_counts((1 + np.maximum(0, 64 - abs(symbols - peaks))) ** 2)


@pytest.fixture(scope='module')
def model():
    """Return an entropy model of 64 dimensions."""
    return LatentEntropyModel(triangular_tables())


def golden_symbols() -> np.ndarray:
    return (np.arange(DIMENSIONS) * 4 + np.arange(DIMENSIONS) ** 2 % 31).astype(np.uint8)


def test_golden_bytes(model):
    coded = model.encode(golden_symbols())
    assert (len(coded), hashlib.sha256(coded).hexdigest()[:16]) == (48, '966246e24fec32e3')
    assert np.array_equal(model.decode(coded, DIMENSIONS), golden_symbols())


@given(symbols=strategies.lists(strategies.integers(0, 255), max_size=DIMENSIONS))
def test_any_symbols_survive(model, symbols):
    symbols = np.array(symbols, np.uint8)
    assert np.array_equal(model.decode(model.encode(symbols), len(symbols)), symbols)


def test_the_length_is_what_the_tables_say(model):
    ideal = model.cumulative_bits(golden_symbols())
    assert (np.diff(ideal) > 0).all()
    for count in (1, 10, 40, DIMENSIONS):
        coded = 8 * len(model.encode(golden_symbols()[:count]))
        assert ideal[count - 1] - 8 <= coded <= ideal[count - 1] + 40


def test_likely_symbols_cost_less(model):
    likely = (np.arange(DIMENSIONS) * 4).astype(np.uint8)
    assert len(model.encode(likely)) < 0.6 * len(model.encode(255 - likely))


@given(coded=strategies.binary(max_size=200), count=strategies.integers(0, DIMENSIONS))
def test_hostile_bytes_give_symbols_or_a_clear_error(model, coded, count):
    try:
        assert model.decode(coded, count).shape == (count,)
    except PacketCorruptError:
        pass


@given(symbols=strategies.lists(strategies.integers(0, 255), max_size=DIMENSIONS),
       data=strategies.data())
def test_a_prefix_gives_symbols_that_are_certain(model, symbols, data):
    coded = model.encode(np.array(symbols, np.uint8))
    prefix = coded[:data.draw(strategies.integers(0, len(coded)))]
    certain = model.decode_certain(prefix, len(symbols))
    assert certain.tolist() == symbols[:len(certain)]
    # Whatever follows, and not one symbol less than that allows.
    for end in (data.draw(strategies.binary(max_size=80)), b'', b'\xff' * 60):
        with contextlib.suppress(PacketCorruptError):
            assert model.decode(prefix + end, len(certain)).tolist() == certain.tolist()


def test_a_prefix_loses_only_its_end(model):
    coded = model.encode(golden_symbols())
    counts = [len(model.decode_certain(coded[:n], DIMENSIONS)) for n in range(len(coded) + 1)]
    assert counts == sorted(counts) and counts[0] == 0 and counts[-1] >= DIMENSIONS - 3
    bits = model.cumulative_bits(golden_symbols())
    for length, count in enumerate(counts[:-1]):
        assert bits[count] > 8 * length - 24, 'bytes that decide more symbols were not used'


def test_a_prefix_of_more_symbols_than_dimensions_is_refused(model):
    with pytest.raises(PacketCorruptError, match='65'):
        model.decode_certain(b'1234', DIMENSIONS + 1)


@given(prefix=strategies.binary(max_size=100), count=strategies.integers(0, DIMENSIONS))
def test_a_hostile_prefix_gives_symbols(model, prefix, count):
    assert len(model.decode_certain(prefix, count)) <= count


def test_more_symbols_than_dimensions_are_refused(model):
    with pytest.raises(LatentError, match='65 symbols, at most 64'):
        model.encode(np.zeros(DIMENSIONS + 1, np.uint8))
    with pytest.raises(PacketCorruptError, match='65 coded dimensions, at most 64'):
        model.decode(b'', DIMENSIONS + 1)


def test_tables_leave_no_symbol_out():
    counts = np.zeros((2, 256))
    counts[0, 7] = 1000
    counts[1] = 1
    tables = frequencies_from_counts(counts)
    assert (tables >= 1).all() and (tables.sum(1) == 65536).all()
    assert tables[0].argmax() == 7


@pytest.mark.parametrize('tables', [
    np.full((3, 255), 256), np.full((3, 256), 255), np.full((3, 256), 0),
    np.concatenate([[[0, 512]], np.full((1, 254), 256).reshape(127, 2)]).reshape(1, 256)])
def test_malformed_tables_are_refused(tables):
    with pytest.raises(ValueError, match='must'):
        LatentEntropyModel(tables)


def test_numbers_of_a_table_are_checked():
    tables = np.array(triangular_tables())
    tables[3, 5] += 1
    with pytest.raises(ValueError, match='sum to 65536'):
        LatentEntropyModel(tables)
