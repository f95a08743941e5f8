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
networks how likely each outcome is, in arithmetic that is exact on every machine.
"""
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from auv_image_codec.codecs.cut_stream import Coder, StreamDecoder, StreamEncoder
from auv_image_codec.codecs.entropy import TOTAL_FREQUENCY
from auv_image_codec.codecs.wavelet_layout import LevelLayout
from auv_image_codec.codecs.wavelet_state import LevelState, NEGATIVE, POSITIVE, ZERO
from auv_image_codec.codecs.wavelet_views import ImageView, KnownImage, UnknownImage
from auv_image_codec.networks.bit_planes import KnownLevel, PLANES
from auv_image_codec.networks.exact import ACTIVATION_STEP, BIAS_STEP, WEIGHT_STEP
from auv_image_codec.networks.frozen_context import FrozenContext, LOGITS
from auv_image_codec.networks.wavelet_context import (
    fineness, HIDDEN_CHANNELS, LARGEST_LOGIT, WaveletContext,
)
from auv_image_codec.networks.wavelet_transform import band_masks

KEPT_LAYOUTS = 4            # sizes of images whose layouts are kept, up to 30 MB each
MAGNITUDE_CLASSES = 3       # known magnitudes of 1, of 2 or 3, and larger ones
CONTEXT_PREFIX = 'context.'


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
    tensors = {}
    for key, tensor in network.state_dict().items():
        step, kind = ((WEIGHT_STEP, np.int16) if key.endswith('weight') else (BIAS_STEP, np.int32))
        tensors[CONTEXT_PREFIX + key] = np.floor(
            tensor.double().numpy() / step + 0.5).astype(kind)
    logits = np.arange(-LARGEST_LOGIT, LARGEST_LOGIT + ACTIVATION_STEP, ACTIVATION_STEP)
    return {**tensors,
            'entropy_model.logistic': frequencies_of(1 / (1 + np.exp(-logits))),
            'entropy_model.activity': frequencies_of(activity),
            'entropy_model.refinement': frequencies_of(refinement)}


@dataclass(frozen=True)
class Trial:
    """
    A stream, and what an encoder can learn from it.

    ``levels`` and ``plane`` are what decode() returns. ``costs``, of each level in each of the
    last two planes, are the bits that it costs a coefficient to become significant, with its
    sign, and not to stay zero: float [1, 9, h, w], not a number where that was not asked.
    """

    stream: bytes
    levels: list[KnownLevel]
    plane: int
    costs: list[dict[int, torch.Tensor]]


class WaveletEntropyModel:
    """
    Codes wavelet coefficients from the most to the least significant decision.

    ``network`` is its WaveletContext, ``frozen`` the same as it is run.

    :param tensors: of a weights file, as entropy_tensors made them.
    :raises KeyError, ValueError, RuntimeError: if they are not.
    """

    def __init__(self, tensors: dict[str, np.ndarray]):
        self.network = WaveletContext().requires_grad_(False)
        self.network.load_state_dict({
            key.removeprefix(CONTEXT_PREFIX): torch.from_numpy(
                tensor * (WEIGHT_STEP if key.endswith('weight') else BIAS_STEP)).float()
            for key, tensor in tensors.items() if key.startswith(CONTEXT_PREFIX)})
        if not self.network.is_exact():
            raise ValueError('sums of the context network can leave the exact range')
        self.frozen = FrozenContext(self.network)
        if not self.frozen.is_exact_here():
            raise ValueError("this machine's convolutions round: packets would not decode")
        # a camera's images all have the same size
        self._layouts = lru_cache(KEPT_LAYOUTS)(self._lay_out)
        self._logistic = _table(tensors, 'logistic', (LOGITS,))
        # 16 bits sort faster; equal probabilities keep their order
        self._rank = np.uint16(TOTAL_FREQUENCY * (1 - self._logistic))
        self._activity = _table(tensors, 'activity', (len(HIDDEN_CHANNELS), PLANES))
        self._refinement = _table(tensors, 'refinement',
                                  (len(HIDDEN_CHANNELS), PLANES, MAGNITUDE_CLASSES))

    def encode(self, levels: list[torch.Tensor], height: int, width: int,
               max_bytes: int) -> bytes:
        """
        Return the coded bytes, at most max_bytes, of an image's coefficients.

        :param levels: float [1, 9, h, w] each, as networks.wavelet_transform.analysis returns them.
        :param height: of the image.
        :param width: of the image.
        """
        with torch.inference_mode():
            return self._encode(levels, height, width, max_bytes)[0]

    def try_out(self, levels: list[torch.Tensor], height: int, width: int,
                max_bytes: int) -> 'Trial':
        """Return encode()'s bytes, what decode() makes of them, and what decisions cost."""
        with torch.no_grad():
            stream, image = self._encode(levels, height, width, max_bytes)
            states = self._new_states(height, width)
            # an encoder's logits are the decoder's, and known already
            plane = self._walk(StreamDecoder(stream), states, image)
            costs = [{known: self._cost(image, index, known) for known in (plane - 1, plane)
                      if known >= 0} for index in range(len(levels))]
            return Trial(stream, [state.known_level() for state in states], plane, costs)

    def _encode(self, levels: list[torch.Tensor], height: int, width: int,
                max_bytes: int) -> tuple[bytes, KnownImage]:
        coder = StreamEncoder(max_bytes)
        states = self._new_states(height, width)
        image = KnownImage(levels, self._layouts(height, width))
        self._walk(coder, states, image)
        return coder.stream()[:max_bytes], image

    def _cost(self, image: KnownImage, index: int, plane: int) -> torch.Tensor:
        """Return Trial.costs of a level and plane."""
        level = image.levels[index]
        cost = np.full(level.numel(), np.nan, np.float32)
        for group, steps in image.steps_of_groups(index, plane):
            significant, positive = self._logistic[steps[group.steps_at]].T
            sign = np.where(level.flatten().numpy()[group.places] > 0, positive, 1 - positive)
            cost[group.places] = np.log2((1 - significant) / (significant * sign))
        return torch.from_numpy(cost).view_as(level)

    def decode(self, stream: bytes, height: int,
               width: int) -> tuple[list[KnownLevel], int]:
        """
        Return what a stream, cut anywhere, says of an image's coefficients.

        :returns: the levels, and the bit plane that the stream ends in.
        """
        with torch.inference_mode():
            states = self._new_states(height, width)
            plane = self._walk(StreamDecoder(stream), states, UnknownImage(states))
            return [state.known_level() for state in states], plane

    def _new_states(self, height: int, width: int) -> list[LevelState]:
        return [LevelState.of_nothing(layout) for layout in self._layouts(height, width)]

    def _lay_out(self, height: int, width: int) -> list[LevelLayout]:
        masks = band_masks(height, width)
        kinds = [fineness(index, len(masks)) for index in range(len(masks))]
        return [LevelLayout(self.frozen.levels[kind], kind, mask)
                for kind, mask in zip(kinds, masks)]

    def _walk(self, coder: Coder, states: list[LevelState], image: ImageView) -> int:
        """Make all decisions until the coder ends; return the bit plane where it did."""
        for plane in range(PLANES):
            for state in states:
                state.begin_plane()
            for step in (self._code_significance, self._code_refinement):
                for index, state in enumerate(states):
                    step(coder, state, image, index, plane)
                    if coder.ended:
                        return plane
        return plane

    def _code_significance(self, coder: Coder, state: LevelState, image: ImageView, index: int,
                           plane: int) -> None:
        if not state.active:
            active = self._activity[state.layout.kind, plane]
            outcome = coder.code(np.array([[1 - active, active]]), image.activity(index, plane))
            if coder.ended:
                return
            state.active = bool(outcome[0])
        if not state.active:
            state.decided.append(slice(None))
            return
        for number in range(len(state.layout.groups)):
            places, steps_at = state.undecided(number)
            if len(places):
                self._code_group(coder, state, places, steps_at,
                                 image.steps(index, plane, number),
                                 image.outcomes(index, plane))
            if coder.ended:
                return

    def _code_group(self, coder: Coder, state: LevelState, places: np.ndarray,
                    steps_at: np.ndarray, steps: np.ndarray, outcomes: np.ndarray) -> None:
        """
        Code significance and sign of coefficients, the likeliest first.

        :param places: of the coefficients, see Group.
        :param steps_at: likewise.
        :param steps: logits of the level, as LevelLayout.steps() returns them, int16 [size, 2].
        :param outcomes: what the decisions of the level are, int32 [9 * h * w].
        """
        steps = steps.take(steps_at, 0)
        order = self._rank.take(steps[:, 0]).argsort(kind='stable')
        significant, positive = self._logistic.take(steps.take(order, 0)).T
        probabilities = np.empty((len(order), 3))
        np.subtract(1, significant, out=probabilities[:, ZERO])
        np.multiply(significant, positive, out=probabilities[:, POSITIVE])
        np.subtract(significant, probabilities[:, POSITIVE], out=probabilities[:, NEGATIVE])
        outcomes = coder.code(probabilities, outcomes.take(places).take(order))
        state.add(places, order[:len(outcomes)], outcomes)

    def _code_refinement(self, coder: Coder, state: LevelState, image: ImageView, index: int,
                         plane: int) -> None:
        """Code in which half of what was known of them the magnitudes lie."""
        if len(state.old):
            classes = magnitude_class(state.old_magnitudes // 2)
            upper = self._refinement[state.layout.kind, plane][classes]
            state.refine(coder.code(np.stack([1 - upper, upper], 1),
                                    image.refinements(index, plane, state.old)))


def _table(tensors: dict[str, np.ndarray], name: str, shape: tuple[int, ...]) -> np.ndarray:
    table = tensors[f'entropy_model.{name}']
    if table.shape != shape or table.dtype != np.uint16 or (table == 0).any():
        raise ValueError(f'entropy_model.{name} must be positive uint16 of shape {shape}')
    return table / TOTAL_FREQUENCY
