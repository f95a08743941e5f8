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
Bit planes of transform coefficients, and which of them a cut packet leaves known.

A plane halves the threshold of the one before it. First come its significance decisions, from the
coarsest level to the finest: which coefficients not yet significant reach the threshold, and with
which sign. Then come the refinements of those found in earlier planes, in the same order of
levels. J. M. Shapiro, Embedded image coding using zerotrees of wavelet coefficients (1993).
"""
from typing import NamedTuple

import torch

PLANES = 14
LARGEST_THRESHOLD = 128.0   # of coefficients of images in 0..1: none reaches twice as much


def threshold(plane: int) -> float:
    """Return the threshold of a bit plane."""
    return LARGEST_THRESHOLD * 0.5**plane


class KnownLevel(NamedTuple):
    """
    What is known of a level's coefficients, inside bit plane p.

    ``values``: float [N, bands, h, w], signed magnitudes in thresholds, rounded towards zero.
    ``behind``: bool [N, bands, h, w], true where the threshold is that of plane p - 1, as plane p
    has not reached the coefficient yet.
    """

    values: torch.Tensor
    behind: torch.Tensor


def cut(levels: list[torch.Tensor], planes: torch.Tensor, reached: torch.Tensor,
        refining: torch.Tensor) -> list[KnownLevel]:
    """
    Return what is known of coefficients where a packet ends.

    :param levels: coefficients, float [N, bands, h, w] each, coarsest first.
    :param planes: the bit plane that the packet ends in, int64 [N].
    :param reached: how many levels the last pass of that plane has coded, int64 [N].
    :param refining: whether that pass is the refinement, bool [N]; else it is the significance.
    """
    thresholds = (LARGEST_THRESHOLD * 0.5**planes.float())[:, None, None, None]
    refining = refining[:, None, None, None]
    known = []
    for index, level in enumerate(levels):
        magnitudes = level.abs()
        fine = torch.floor(magnitudes / thresholds)
        coarse = torch.floor(magnitudes / (2 * thresholds))
        passed = (index < reached)[:, None, None, None]
        behind = torch.where(coarse > 0, ~(refining & passed), ~(refining | passed))
        known.append(KnownLevel(torch.sign(level) * torch.where(behind, coarse, fine), behind))
    return known
