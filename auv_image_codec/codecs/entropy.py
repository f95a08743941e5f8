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
"""
Entropy coding of latents: range coding with one integer frequency table a dimension.

The tables come from the training images and are stored with the weights, so both ends hold the
same integers; no probability is ever computed on the vehicle or the surface.
"""
import math

import constriction
import numpy as np

from auv_image_codec.errors import LatentError, PacketCorruptError

SYMBOLS = 256
TOTAL_FREQUENCY = 1 << 16
LOOKAHEAD_BYTES = 64        # ones that stand for any number of them: no coder looks this far


class LatentEntropyModel:
    """
    Independent symbols, each with a table of its own.

    :param frequencies: integer [latent_dim, 256]; every row positive, with the sum 65,536.
    :raises ValueError: if a row is not.
    """

    def __init__(self, frequencies: np.ndarray):
        frequencies = np.asarray(frequencies, np.int64)
        if frequencies.ndim != 2 or frequencies.shape[1] != SYMBOLS:
            raise ValueError(f'frequencies have shape {frequencies.shape}, must be (n, {SYMBOLS})')
        if (frequencies < 1).any() or (frequencies.sum(1) != TOTAL_FREQUENCY).any():
            raise ValueError(f'frequencies must be positive and sum to {TOTAL_FREQUENCY}')
        self.dimensions = len(frequencies)
        # quotients by a power of two are exact, and scaling an exact quotient is the same on
        # every machine with IEEE arithmetic: the models are as integer as the tables
        self._models = [constriction.stream.model.Categorical(row / TOTAL_FREQUENCY, perfect=False)
                        for row in frequencies]
        self._bits = np.log2(TOTAL_FREQUENCY / frequencies)

    def cumulative_bits(self, symbols: np.ndarray) -> np.ndarray:
        """Return the ideal code length, in bits, of the first 1..n of the uint8 symbols [n]."""
        return np.cumsum(self._bits[np.arange(len(symbols)), symbols])

    def encode(self, symbols: np.ndarray) -> bytes:
        """Return the range-coded bytes of uint8 symbols [n], n at most the dimensions."""
        if len(symbols) > self.dimensions:
            raise LatentError(f'{len(symbols)} symbols, at most {self.dimensions}')
        coder = constriction.stream.queue.RangeEncoder()
        for symbol, model in zip(symbols.tolist(), self._models):
            coder.encode(symbol, model)
        # most significant byte first: zeros at the end carry nothing
        return coded_bytes(coder).rstrip(b'\0')

    def decode(self, coded: bytes, count: int) -> np.ndarray:
        """
        Return the first ``count`` symbols, uint8 [count].

        :raises PacketCorruptError: if the bytes are not what encode makes of any symbols.
        """
        self._check_count(count)
        decoder = range_decoder(coded)
        try:
            symbols = [decoder.decode(model) for model in self._models[:count]]
        except AssertionError as error:         # how constriction reports invalid data
            raise PacketCorruptError(f'payload does not decode: {error}') from error
        return np.asarray(symbols, np.uint8)

    def decode_certain(self, prefix: bytes, count: int) -> np.ndarray:
        """
        Return those of ``count`` symbols, uint8 [0..count], that the first bytes decide.

        Those are what both continuations() decode to.

        :raises PacketCorruptError: if there are not so many dimensions.
        """
        self._check_count(count)
        lowest, highest = continuations(prefix)
        symbols = []
        for model in self._models[:count]:
            try:
                symbol = lowest.decode(model)
                if symbol != highest.decode(model):
                    break
            except AssertionError:              # no encoder makes such bytes
                break
            symbols.append(symbol)
        return np.asarray(symbols, np.uint8)

    def _check_count(self, count: int) -> None:
        if not 0 <= count <= self.dimensions:
            raise PacketCorruptError(
                f'payload names {count} coded dimensions, at most {self.dimensions}')


def coded_bytes(coder: constriction.stream.queue.RangeEncoder) -> bytes:
    """Return what an encoder has written, the most significant byte of each word first."""
    return coder.get_compressed().astype('>u4').tobytes()


def range_decoder(coded: bytes) -> constriction.stream.queue.RangeDecoder:
    """Return a decoder of bytes that coded_bytes returned, or of their beginning."""
    words = np.frombuffer(coded.ljust(4 * math.ceil(len(coded) / 4), b'\0'), '>u4')
    return constriction.stream.queue.RangeDecoder(words.astype(np.uint32))


def continuations(prefix: bytes) -> tuple[constriction.stream.queue.RangeDecoder,
                                          constriction.stream.queue.RangeDecoder]:
    """
    Return decoders of the lowest and the highest bytes that begin with a prefix.

    Range coding keeps the order of outcomes, so whatever bytes were cut lie between the two:
    what both decode to is certain, up to the first difference.
    """
    return range_decoder(prefix), range_decoder(prefix + b'\xff' * LOOKAHEAD_BYTES)


def frequencies_from_counts(counts: np.ndarray) -> np.ndarray:
    """
    Return integer tables for a matrix of counts or densities [latent_dim, 256].

    Every symbol keeps a frequency of at least 1, so that any latent can be coded.
    """
    spare = TOTAL_FREQUENCY - SYMBOLS
    shares = counts / counts.sum(1, keepdims=True) * spare
    frequencies = np.floor(shares).astype(np.int64) + 1
    # what rounding down left over goes to the most frequent symbol
    rows = np.arange(len(frequencies))
    frequencies[rows, frequencies.argmax(1)] += TOTAL_FREQUENCY - frequencies.sum(1)
    return frequencies
