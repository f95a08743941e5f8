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
The trained entropy model as both ends run it: the same numbers in fewer passes over memory.

Sums are kept in units of ACTIVATION_STEP, so that rounding them is one floor; biases contain the
half that rounds, and lie in the convolutions. All of these are multiples of powers of two that
float32 holds exactly (networks.exact), so the results are those of WaveletContext to the last bit.
Arrays have their channels last, as [N, h, w, channels].
"""
from collections.abc import Sequence
from copy import deepcopy

import torch
from torch.nn import functional

from auv_image_codec.networks.bit_planes import PLANES
from auv_image_codec.networks.exact import (
    ACTIVATION_STEP, BIAS_STEP, LARGEST_ACTIVATION, rounded, WEIGHT_STEP,
)
from auv_image_codec.networks.wavelet_context import (
    ABOVE, CODED, LARGEST_LOGIT, LevelContext, OWN, WaveletContext,
)
from auv_image_codec.networks.wavelet_transform import BANDS

LARGEST_STEP = round(LARGEST_ACTIVATION / ACTIVATION_STEP)      # of an activation
ZERO_LOGIT = round(LARGEST_LOGIT / ACTIVATION_STEP)             # where steps() has it
LOGITS = 2 * ZERO_LOGIT + 1         # that steps() tells apart
OUTSIDE = -2.0**16          # of sums that shall give an activation of zero, whatever is added


class FrozenLevel:
    """
    The network of a level, whose parameters do not change any more.

    :param level: the network.
    """

    def __init__(self, level: LevelContext):
        scale = 1 / ACTIVATION_STEP
        with torch.no_grad():
            first, second, last = (rounded(layer.weight, WEIGHT_STEP)
                                   for layer in (level.first, level.second, level.last))
            first_bias, second_bias, last_bias = (
                rounded(bias, BIAS_STEP) * scale + 0.5
                for bias in (level.first_bias, level.second_bias, level.last_bias))
        self.hidden = len(first)
        self._own, self._above, self._coded = (_kernel(first[:, part] * scale)
                                               for part in (OWN, ABOVE, CODED))
        self._second = _kernel(second)
        # what is asked together lies together
        last, last_bias = (part.unflatten(axis, (2, BANDS)).transpose(axis, axis + 1).flatten(
            axis, axis + 1) for part, axis in ((last.flatten(1), 0), (last_bias, 1)))
        self._last = [part.t().contiguous() for part in last.split(self.hidden, 1)]
        self._first_bias, self._second_bias = first_bias, second_bias
        self._last_bias = last_bias + ZERO_LOGIT

    def coded_sums(self, coded: torch.Tensor) -> torch.Tensor:
        """
        Return what known significance adds to the first sums, [G, h, w, hidden].

        :param coded: 1 where this plane's significance is known by then, else 0, [G, h, w, 9].
        """
        return _convolved(coded, self._coded, padding=1)

    def above_sums(self, above: torch.Tensor, planes: Sequence[int]) -> torch.Tensor:
        """
        Return what the next coarser level adds to the first sums, [N, h, w, hidden].

        :param above: features of that level, enlarged, float [N, h, w, 18].
        :param planes: their bit planes, in a row.
        """
        sums = _convolved(above, self._above, padding=1)
        return sums.add_(self._first_bias[_all_of(planes), None, None])

    def above_sums_of_tiles(self, above: torch.Tensor, plane: int) -> torch.Tensor:
        """Return the same without a border of 1, of one bit plane."""
        return _convolved(above, self._above, self._first_bias[plane])

    def steps(self, own: torch.Tensor, coded_sums: torch.Tensor, above_sums: torch.Tensor,
              planes: Sequence[int]) -> torch.Tensor:
        """
        Return logits in units of ACTIVATION_STEP from -LARGEST_LOGIT on, int16 [N * G, h, w, 9, 2].

        The last axis are those of being significant, and of being positive then.

        :param own: features of the level, as far as they are known, float [N * G, h, w, 18]: the
            G groups of the first of N bit planes, then of the next.
        :param coded_sums: of the groups, [G, h, w, hidden].
        :param above_sums: of the planes, [N, h, w, hidden].
        :param planes: the bit planes, in a row.
        """
        sums = _convolved(own, self._own, padding=1)
        sums = sums.add_((above_sums[:, None] + coded_sums).flatten(0, 1))
        first = _activation(sums)
        second = _activation(_convolved(first, self._second, self._second_bias, padding=1))
        return self._last_steps(first, second, planes)

    def steps_of_tiles(self, own: torch.Tensor, sums: torch.Tensor, plane: int) -> torch.Tensor:
        """
        Return steps() of the inside of some tiles, int16 [K, h - 4, w - 4, 9, 2].

        :param own: their features, with a border of 2, float [K, h, w, 18].
        :param sums: of what is known beside them, with a border of 1, [K, h - 2, w - 2, hidden];
            overwritten. OUTSIDE beyond the edges of the level.
        :param plane: the bit plane.
        """
        first = _activation(sums.add_(_convolved(own, self._own)))
        second = _activation(_convolved(first, self._second, self._second_bias))
        return self._last_steps(first[:, 1:-1, 1:-1], second, [plane])

    def _last_steps(self, first: torch.Tensor, second: torch.Tensor,
                    planes: Sequence[int]) -> torch.Tensor:
        steps = first.reshape(-1, self.hidden) @ self._last[0]
        steps.addmm_(second.reshape(-1, self.hidden), self._last[1])
        steps.view(len(planes), -1, 2 * BANDS).add_(self._last_bias[_all_of(planes), None])
        return steps.clamp_(0, LOGITS - 1).to(torch.int16).view(*second.shape[:3], BANDS, 2)


class FrozenContext:
    """
    The networks of all levels, by their fineness().

    :param network: trained.
    """

    def __init__(self, network: WaveletContext):
        self._network = network
        self.levels = [FrozenLevel(level) for level in network.levels]

    def is_exact_here(self) -> bool:
        """Return whether this machine's convolutions sum exactly, by trying them."""
        generator = torch.Generator().manual_seed(0)
        groups, side = 2, 8         # with all planes as many as libraries have fast algorithms for
        own, above = (torch.randint(0, 8, (count, side, side, 2 * BANDS), generator=generator)
                      for count in (PLANES * groups, PLANES))
        coded = torch.randint(0, 2, (groups, side, side, BANDS), generator=generator)
        planes = torch.arange(PLANES)
        with torch.no_grad():
            for level, frozen in zip(self._network.levels, self.levels):
                found = frozen.steps(own.float(), frozen.coded_sums(coded.float()),
                                     frozen.above_sums(above.float(), range(PLANES)),
                                     range(PLANES))
                double = deepcopy(level).double()
                expected = double(
                    _channels_first(own).double(),
                    double.coded_sums(_channels_first(coded).double()),
                    double.above_sums(_channels_first(above).double(), planes), planes)
                if not torch.equal(found, steps_of_logits(expected)):
                    return False
        return True


def steps_of_logits(logits: torch.Tensor) -> torch.Tensor:
    """Return what FrozenLevel.steps() makes of a LevelContext's logits [N, 18, h, w]."""
    steps = torch.floor(logits / ACTIVATION_STEP + 0.5) + ZERO_LOGIT
    steps = steps.clamp(0, LOGITS - 1).to(torch.int16).unflatten(1, (2, BANDS))
    return steps.permute(0, 3, 4, 2, 1)


def _channels_first(values: torch.Tensor) -> torch.Tensor:
    return values.permute(0, 3, 1, 2)


def _all_of(planes: Sequence[int]) -> slice:
    return slice(planes[0], planes[-1] + 1)


def _kernel(weight: torch.Tensor) -> torch.Tensor:
    return weight.contiguous(memory_format=torch.channels_last)


def _convolved(values: torch.Tensor, kernel: torch.Tensor, bias: torch.Tensor | None = None,
               padding: int = 0) -> torch.Tensor:
    return functional.conv2d(_channels_first(values), kernel, bias,
                             padding=padding).permute(0, 2, 3, 1)


def _activation(sums: torch.Tensor) -> torch.Tensor:
    """Return activations in steps; overwrites the sums, which contain the half that rounds."""
    return sums.floor_().clamp_(0, LARGEST_STEP)
