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
Refinement at encode time: which coefficients a packet spends its last bits on.

Bit planes send every coefficient above a threshold. Some of them cost more bits than they are
worth, some below it would be worth theirs, and only the decoder's network knows, since it
restores a part of what was not sent. So its gradient proposes which coefficients to drop or to
add, the packet that results is made and decoded, and what lowers the squared error is kept: a
rate-distortion optimized quantization as of T. Wiegand and H. Schwarz, Source coding (2011),
with the real coder and the real decoder as the judges.
"""
from collections.abc import Callable, Sequence
from dataclasses import dataclass
import math
import time

import torch

from auv_image_codec.codecs.wavelet_entropy import Trial, WaveletEntropyModel
from auv_image_codec.networks.bit_planes import threshold
from auv_image_codec.networks.wavelet_restoration import WaveletRestoration
from auv_image_codec.networks.wavelet_transform import synthesis

RATE_EXPONENT = 0.6         # the squared error falls about with this power of the rate
PRICES = (0.8, 0.6, 1.1)    # of a bit, times what that exponent says, in turn
NEW_MAGNITUDE = 1.4         # thresholds, that a decoder makes of a coefficient just significant
SMALLEST_ADDED = 0.75       # thresholds
FIRST_SHARE = 0.6           # of the changes that a proposal makes
SHARE_DECAY = 0.75          # where it fails
LEAST_SHARE = 0.05
JUST_BELOW, JUST_ABOVE = 0.98, 1.001    # thresholds


@dataclass(frozen=True)
class _Attempt:
    """Coefficients, their trial, and the decoded image's squared error with its gradient."""

    coefficients: list[torch.Tensor]
    trial: Trial
    error: float
    gradients: Sequence[torch.Tensor]


class WaveletRefinement:
    """
    Refines the streams of one codec.

    :param entropy_model: of the codec.
    :param restoration: of its decoder, on the CPU.
    """

    def __init__(self, entropy_model: WaveletEntropyModel, restoration: WaveletRestoration):
        self._entropy_model = entropy_model
        self._restoration = restoration

    def refine(self, images: torch.Tensor, original: list[torch.Tensor], bases: torch.Tensor,
               max_bytes: int, steps: int, seconds: float = math.inf,
               stop: Callable[[], bool] = lambda: False) -> bytes:
        """
        Return the coded bytes, at most max_bytes, of an image's coefficients.

        The same image gives the same bytes, unless the time limit or stop() ends the search.

        :param images: float [1, 3, H, W] in 0..1.
        :param original: its coefficients, float [1, 9, h, w] each.
        :param bases: of its colours, float [1, 3, 3].
        :param steps: packets to try, each as long as an encoding and three decodings or so.
        :param seconds: no step begins that would probably end later.
        :param stop: asked before each step; none begins once it returns true.
        """
        began = time.monotonic()
        generator = torch.Generator().manual_seed(0)
        best = self._attempt(original, images, bases, max_bytes)
        share = FIRST_SHARE
        for step in range(steps):
            if stop() or (time.monotonic() - began) * (step + 2) / (step + 1) > seconds:
                break
            price = PRICES[step % len(PRICES)] * RATE_EXPONENT * best.error / max(1, 8 * max_bytes)
            attempt = self._attempt(self._proposal(best, original, price, share, generator),
                                    images, bases, max_bytes)
            if attempt.error < best.error:
                best = attempt
            else:
                share = max(share * SHARE_DECAY, LEAST_SHARE)
        return best.trial.stream

    def _attempt(self, coefficients: list[torch.Tensor], images: torch.Tensor,
                 bases: torch.Tensor, max_bytes: int) -> _Attempt:
        height, width = images.shape[2:]
        trial = self._entropy_model.try_out(coefficients, height, width, max_bytes)
        network, planes = self._restoration, torch.tensor([trial.plane])
        with torch.no_grad():
            points = network.dequantize(trial.levels, planes)
        with torch.enable_grad():
            points = [part.requires_grad_() for part in points]
            inverse = synthesis(points, bases, height, width)
            restored = synthesis(network.correct(points, trial.levels, planes, inverse), bases,
                                 height, width)
            error = (restored - images).square().sum()
            gradients = torch.autograd.grad(error, points)
        return _Attempt(coefficients, trial, float(error.detach()), gradients)

    @staticmethod
    def _proposal(best: _Attempt, original: list[torch.Tensor], price: float, share: float,
                  generator: torch.Generator) -> list[torch.Tensor]:
        """Return coefficients, some of them moved to the other side of their threshold."""
        proposal = []
        for index, coefficients in enumerate(best.coefficients):
            values, behind = best.trial.levels[index]
            signs = torch.sign(original[index])
            magnitudes = coefficients.abs()
            chosen = torch.rand(coefficients.shape, generator=generator) < share
            for plane, cost in best.trial.costs[index].items():
                here = behind if plane < best.trial.plane else ~behind
                change = NEW_MAGNITUDE * threshold(plane)
                # of the squared error, when the coefficient becomes significant or zero: the
                # transform is nearly orthogonal, so the second derivative is nearly 2
                slope = best.gradients[index] * signs * change
                drop = ((values.abs() == 1) & here & chosen
                        & (change**2 - slope < price * cost))
                add = ((values == 0) & here & chosen
                       & (magnitudes >= SMALLEST_ADDED * threshold(plane))
                       & (change**2 + slope < -price * cost))
                coefficients = torch.where(drop, signs * JUST_BELOW * threshold(plane),
                                           coefficients)
                coefficients = torch.where(add, signs * JUST_ABOVE * threshold(plane),
                                           coefficients)
            proposal.append(coefficients)
        return proposal
