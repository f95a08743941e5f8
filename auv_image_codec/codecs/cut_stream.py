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
Range coding of decisions, wherever the stream is cut.

What a decoder has of a cut stream is every decision that no continuation of it could change.
"""
from typing import Protocol

import constriction
import numpy as np

from auv_image_codec.codecs.entropy import coded_bytes, continuations

WORD_BYTES = 4              # of the range coder
OPEN_WORDS = 3              # at its end, that what comes later can change


class Coder(Protocol):
    """Either end: takes the probabilities of decisions, returns the decisions."""

    ended: bool

    def code(self, probabilities: np.ndarray, outcomes: np.ndarray) -> np.ndarray:
        """
        Return outcomes, int32 [n]; fewer than n where a cut stream ends.

        :param probabilities: float64 [n, k], of k outcomes each: integers by a power of two.
        :param outcomes: int32 [n], known to an encoder only.
        """


class StreamEncoder:
    """
    Encodes decisions until a stream of max_bytes is full.

    ``ended`` says that it is: what comes later is behind its end.
    """

    def __init__(self, max_bytes: int):
        self._coder = constriction.stream.queue.RangeEncoder()
        self._most_bits = 8 * (max_bytes + OPEN_WORDS * WORD_BYTES)
        self.ended = False

    def code(self, probabilities: np.ndarray, outcomes: np.ndarray) -> np.ndarray:
        """Encode outcomes, and return them; see Coder."""
        self._coder.encode(outcomes, _CATEGORICAL, probabilities)
        self.ended = self._coder.num_bits() > self._most_bits
        return outcomes

    def stream(self) -> bytes:
        """Return all that was encoded, perhaps a few bytes more than max_bytes."""
        return coded_bytes(self._coder)


class StreamDecoder:
    """Decodes both continuations() of a stream at once, as far as they agree."""

    def __init__(self, stream: bytes):
        self._coders = list(continuations(stream))
        self.ended = False

    def code(self, probabilities: np.ndarray, outcomes: np.ndarray) -> np.ndarray:
        """Return the outcomes that are certain; outcomes is not read; see Coder."""
        low, high = (self._decode(index, probabilities) for index in range(2))
        count = min(len(low), len(high))
        different = np.flatnonzero(low[:count] != high[:count])
        certain = int(different[0]) if len(different) else count
        self.ended = certain < len(probabilities)
        return low[:certain]

    def _decode(self, index: int, probabilities: np.ndarray) -> np.ndarray:
        before = self._coders[index].clone()
        try:
            return self._coders[index].decode(_CATEGORICAL, probabilities)
        except AssertionError:      # constriction: no outcome lies there. Return those before.
            self._coders[index] = before
            half = len(probabilities) // 2
            if half == 0:
                return np.zeros(0, np.int32)
            first = self._decode(index, probabilities[:half])
            if len(first) < half:
                return first
            return np.concatenate([first, self._decode(index, probabilities[half:])])


_CATEGORICAL = constriction.stream.model.Categorical(perfect=False)
