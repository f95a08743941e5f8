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
Entropy coding of bit planes of wavelet coefficients, so that every prefix decodes.

Both ends walk through the same decisions (networks.bit_planes has their order) and ask the same
networks how likely each outcome is, in arithmetic that is exact on every machine. What a decoder
has of a cut stream is every decision that no continuation of it could change.
"""
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import constriction
import numpy as np
import torch

from auv_image_codec.networks.bit_planes import KnownLevel, PLANES, threshold
from auv_image_codec.networks.exact import ACTIVATION_STEP, BIAS_STEP, WEIGHT_STEP
from auv_image_codec.networks.wavelet_context import (
    features, fineness, group_masks, HIDDEN_CHANNELS, WaveletContext,
)
from auv_image_codec.networks.wavelet_transform import band_masks

TOTAL_FREQUENCY = 1 << 16
LARGEST_LOGIT = 11          # beyond, a probability rounds to 0 or 1
MAGNITUDE_CLASSES = 3       # known magnitudes of 1, of 2 or 3, and larger ones
CONTEXT_PREFIX = 'context.'
ZERO, POSITIVE, NEGATIVE = range(3)     # outcomes of a significance decision
WORD_BYTES = 4              # of the range coder
PADDING_WORDS = 4           # behind a cut stream: more than the range coder looks ahead


def magnitude_class(magnitudes: np.ndarray) -> np.ndarray:
    """Return the class, 0..2, of magnitudes of at least 1, as int64."""
    return (magnitudes >= 2).astype(np.int64) + (magnitudes >= 4)


def frequencies_of(probabilities: np.ndarray) -> np.ndarray:
    """Return probabilities as uint16, in units of 2**-16, never 0 or 1."""
    rounded = np.rint(np.asarray(probabilities) * TOTAL_FREQUENCY)
    return rounded.clip(1, TOTAL_FREQUENCY - 1).astype(np.uint16)


def entropy_tensors(network: WaveletContext, activity: np.ndarray,
                    refinement: np.ndarray) -> dict[str, np.ndarray]:
    """
    Return all that the entropy coder reads, in integers, as a weights file holds it.

    :param network: the trained network.
    :param activity: probability that a level becomes active, float [kinds, planes].
    :param refinement: probability of an upper half, float [kinds, planes, magnitude classes].
    :raises ValueError: if the network's sums can grow too large for exact arithmetic.
    """
    if not network.is_exact():
        raise ValueError('the sums of the context network can grow too large to be exact')
    tensors = {
        CONTEXT_PREFIX + key: torch.floor(
            tensor.double() / (WEIGHT_STEP if key.endswith('weight') else BIAS_STEP)
            + 0.5).to(torch.int32).numpy()
        for key, tensor in network.state_dict().items()}
    logits = np.arange(-LARGEST_LOGIT, LARGEST_LOGIT + ACTIVATION_STEP, ACTIVATION_STEP)
    return {**tensors,
            'entropy_model.logistic': frequencies_of(1 / (1 + np.exp(-logits))),
            'entropy_model.activity': frequencies_of(activity),
            'entropy_model.refinement': frequencies_of(refinement)}


class _Coder(Protocol):
    """Either end: takes the probabilities of decisions, returns the decisions."""

    ended: bool

    def code(self, frequencies: np.ndarray, outcomes: np.ndarray) -> np.ndarray:
        """
        Return outcomes, int32 [n]; fewer than n where a cut stream ends.

        :param frequencies: integers [n, k], of k outcomes each; every row has the same sum, a
            power of two.
        :param outcomes: int32 [n], known to an encoder only.
        """


class _Encoder:

    def __init__(self, max_bytes: int):
        self._coder = constriction.stream.queue.RangeEncoder()
        self._bits_left = 8.0 * (max_bytes + WORD_BYTES)
        self.ended = False

    def code(self, frequencies: np.ndarray, outcomes: np.ndarray) -> np.ndarray:
        probabilities = _probabilities(frequencies)
        self._coder.encode(outcomes, _CATEGORICAL, probabilities)
        self._bits_left += np.log2(probabilities[np.arange(len(outcomes)), outcomes]).sum()
        self.ended = self._bits_left < 0
        return outcomes

    def stream(self) -> bytes:
        return self._coder.get_compressed().astype('>u4').tobytes()


class _Decoder:
    """
    Decodes the lowest and the highest continuation of a stream at once.

    Range coding keeps the order of outcomes: whatever stream was cut lies between the two, so
    what they agree on is what was encoded.
    """

    def __init__(self, stream: bytes):
        self._coders = []
        for filler in (b'\x00', b'\xff'):
            padded = stream + filler * (-len(stream) % WORD_BYTES + PADDING_WORDS * WORD_BYTES)
            words = np.frombuffer(padded, '>u4').astype(np.uint32)
            self._coders.append(constriction.stream.queue.RangeDecoder(words))
        self.ended = False

    def code(self, frequencies: np.ndarray, outcomes: np.ndarray) -> np.ndarray:
        probabilities = _probabilities(frequencies)
        low, high = (self._decode(index, probabilities) for index in range(2))
        count = min(len(low), len(high))
        different = np.flatnonzero(low[:count] != high[:count])
        certain = int(different[0]) if len(different) else count
        self.ended = certain < len(frequencies)
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


def _probabilities(frequencies: np.ndarray) -> np.ndarray:
    """Return exact quotients: integers by a power of two."""
    return frequencies / float(frequencies[0].sum())


@dataclass
class _LevelState:
    """
    What both ends know of a level.

    ``magnitudes`` and ``signs`` are float [1, 9, h, w], in thresholds of the present plane;
    ``behind`` is networks.bit_planes.KnownLevel.behind; ``active`` says whether anything is
    significant; ``context`` is what finer levels see of it.
    """

    kind: int
    mask: torch.Tensor
    groups: torch.Tensor
    magnitudes: torch.Tensor
    signs: torch.Tensor
    behind: torch.Tensor
    active: bool = False
    context: torch.Tensor | None = None


class WaveletEntropyModel:
    """
    Codes wavelet coefficients from the most to the least significant decision.

    ``network`` is its WaveletContext.

    :param tensors: of a weights file, as entropy_tensors made them.
    :raises KeyError, ValueError, RuntimeError: if they are not.
    """

    def __init__(self, tensors: dict[str, np.ndarray]):
        self.network = WaveletContext()
        self.network.load_state_dict({
            key.removeprefix(CONTEXT_PREFIX): torch.from_numpy(
                tensor * (WEIGHT_STEP if key.endswith('weight') else BIAS_STEP)).float()
            for key, tensor in tensors.items() if key.startswith(CONTEXT_PREFIX)})
        self.network.eval().requires_grad_(False)
        if not self.network.is_exact():
            raise ValueError('sums of the context network can leave the exact range')
        self._logistic = _table(tensors, 'logistic',
                                (round(2 * LARGEST_LOGIT / ACTIVATION_STEP) + 1,))
        self._activity = _table(tensors, 'activity', (len(HIDDEN_CHANNELS), PLANES))
        self._refinement = _table(tensors, 'refinement',
                                  (len(HIDDEN_CHANNELS), PLANES, MAGNITUDE_CLASSES))

    def encode(self, levels: list[torch.Tensor], height: int, width: int,
               max_bytes: int) -> bytes:
        """
        Return the coded bytes, at most max_bytes, of an image's coefficients.

        :param levels: float [1, 9, h, w] each, as WaveletTransform.analysis returns them.
        :param height: of the image.
        :param width: of the image.
        """
        coder = _Encoder(max_bytes)
        with torch.inference_mode():
            for _ in self._walk(coder, height, width, levels):
                pass
        return coder.stream()[:max_bytes]

    def decode(self, stream: bytes, height: int,
               width: int) -> tuple[list[KnownLevel], int]:
        """
        Return what a stream, cut anywhere, says of an image's coefficients.

        :returns: the levels, and the bit plane that the stream ends in.
        """
        coder = _Decoder(stream)
        with torch.inference_mode():
            for plane, states in self._walk(coder, height, width, None):
                pass
        return [KnownLevel(state.signs * torch.where(state.behind, state.magnitudes / 2,
                                                     state.magnitudes), state.behind)
                for state in states], plane

    def _walk(self, coder: _Coder, height: int, width: int,
              levels: list[torch.Tensor] | None) -> Iterator[tuple[int, list[_LevelState]]]:
        """Make all decisions until the coder ends; yield plane and states after each pass."""
        masks = band_masks(height, width)
        states = []
        for index, mask in enumerate(masks):
            kind = fineness(index, len(masks))
            states.append(_LevelState(
                kind, mask, group_masks(kind, *mask.shape[1:]) & mask,
                *(torch.zeros(1, *mask.shape) for _ in range(2)),
                torch.ones(1, *mask.shape, dtype=torch.bool)))
        for plane in range(PLANES):
            for state in states:
                state.magnitudes *= 2
                state.behind.fill_(True)
            targets = [torch.floor(level.abs() / threshold(plane)) * torch.sign(level)
                       for level in levels] if levels else [None] * len(states)
            for step in (self._code_significance, self._code_refinement):
                parent = None
                for state, target in zip(states, targets):
                    step(coder, state, parent, plane, target)
                    if coder.ended:
                        yield plane, states
                        return
                    parent = state
            yield plane, states

    def _code_significance(self, coder: _Coder, state: _LevelState, parent: _LevelState | None,
                           plane: int, target: torch.Tensor | None) -> None:
        if not state.active:
            found = np.zeros(1, np.int32) if target is None else np.array(
                [bool((target != 0).any())], np.int32)
            frequency = self._activity[state.kind, plane]
            outcome = coder.code(np.array([[TOTAL_FREQUENCY - frequency, frequency]]), found)
            if coder.ended:
                return
            state.active = bool(outcome[0])
        context = parent.context if parent else None
        if state.active:
            old = state.magnitudes > 0
            known = torch.zeros_like(state.mask)
            for group in state.groups:
                values = features(state.magnitudes, state.signs,
                                  known.to(state.magnitudes.dtype)[None], context)
                self._code_group(coder, state, (group & ~old[0]).flatten().numpy().nonzero()[0],
                                 values, plane, target)
                if coder.ended:
                    return
                known |= group
        state.behind &= state.magnitudes > 1
        state.context = features(state.magnitudes, state.signs,
                                 torch.ones_like(state.magnitudes), context)

    def _code_group(self, coder: _Coder, state: _LevelState, places: np.ndarray,
                    values: torch.Tensor, plane: int, target: torch.Tensor | None) -> None:
        """Code significance and sign of coefficients, the likeliest first."""
        if not len(places):
            return
        significant, positive = (
            self._frequencies(logits, places) for logits in self.network(
                state.kind, plane, values))
        order = np.argsort(-significant, kind='stable')
        places, significant, positive = places[order], significant[order], positive[order]
        frequencies = np.stack([(TOTAL_FREQUENCY - significant) * TOTAL_FREQUENCY,
                                significant * positive,
                                significant * (TOTAL_FREQUENCY - positive)], 1)
        outcomes = np.zeros(len(places), np.int32)
        if target is not None:
            signed = target.flatten().numpy()[places]
            outcomes = np.select([signed > 0, signed < 0], [POSITIVE, NEGATIVE],
                                 ZERO).astype(np.int32)
        outcomes = coder.code(frequencies, outcomes)
        places = torch.from_numpy(places[:len(outcomes)])
        state.behind.view(-1)[places] = False
        state.magnitudes.view(-1)[places] = torch.from_numpy((outcomes != ZERO).astype(np.float32))
        state.signs.view(-1)[places] = torch.from_numpy(
            np.array([0, 1, -1], np.float32)[outcomes])

    def _code_refinement(self, coder: _Coder, state: _LevelState, parent: _LevelState | None,
                         plane: int, target: torch.Tensor | None) -> None:
        """Code in which half of what was known of them the magnitudes lie."""
        places = (state.magnitudes > 1).flatten().numpy().nonzero()[0]
        if not len(places):
            return
        magnitudes = state.magnitudes.view(-1)
        known = magnitudes.numpy()[places] // 2
        upper = self._refinement[state.kind, plane][magnitude_class(known)]
        outcomes = np.zeros(len(places), np.int32) if target is None else (
            target.abs().flatten().numpy()[places] % 2).astype(np.int32)
        outcomes = coder.code(np.stack([TOTAL_FREQUENCY - upper, upper], 1), outcomes)
        places = torch.from_numpy(places[:len(outcomes)])
        magnitudes[places] += torch.from_numpy(outcomes.astype(np.float32))
        state.behind.view(-1)[places] = False

    def _frequencies(self, logits: torch.Tensor, places: np.ndarray) -> np.ndarray:
        """Return the logistic function of logits at places, int64, in units of 2**-16."""
        steps = torch.floor(logits.flatten() / ACTIVATION_STEP + 0.5).numpy()[places]
        limit = round(LARGEST_LOGIT / ACTIVATION_STEP)
        return self._logistic[np.clip(steps, -limit, limit).astype(np.int64) + limit]


def _table(tensors: dict[str, np.ndarray], name: str, shape: tuple[int, ...]) -> np.ndarray:
    table = tensors[f'entropy_model.{name}']
    if table.shape != shape or table.dtype != np.uint16 or (table == 0).any():
        raise ValueError(f'entropy_model.{name} must be positive uint16 of shape {shape}')
    return table.astype(np.int64)
