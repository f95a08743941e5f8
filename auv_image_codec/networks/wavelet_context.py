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
"""How likely a coefficient becomes significant in a bit plane, from what is known already."""
import torch
from torch import nn
from torch.nn import functional

from auv_image_codec.networks.bit_planes import PLANES
from auv_image_codec.networks.exact import (
    activation, BIAS_STEP, ExactConv2d, LARGEST_SUM, rounded,
)
from auv_image_codec.networks.wavelet_transform import BANDS, COLOURS

KNOWN_MAGNITUDE = 7.0       # magnitudes are told apart up to here, in thresholds
LARGEST_LOGIT = 11          # that is told from larger ones: beyond, a probability rounds to 0 or 1
# by fineness: the low-pass samples, then levels of detail from the finest
HIDDEN_CHANNELS = (32, 24, 24, 32, 48, 64, 64, 64)
FEATURES = 5 * BANDS
# of the inputs: features of the level, features of the next coarser one, and what is coded
OWN, ABOVE, CODED = slice(2 * BANDS), slice(2 * BANDS, 4 * BANDS), slice(4 * BANDS, 5 * BANDS)
MARGIN = 2                  # coefficients around one that the network of a level sees
FINE_LEVELS = (1, 2)        # hardly ever more than zeros: coded in two steps, not in four


def fineness(level: int, levels: int) -> int:
    """Return which network serves an array of the transform, of ``levels`` arrays in all."""
    return 0 if level == 0 else min(levels - level, len(HIDDEN_CHANNELS) - 1)


def group_masks(kind: int, height: int, width: int) -> torch.Tensor:
    """
    Return which coefficients are coded together, bool [groups, 9, height, width].

    Coefficients of a group know all groups before it: a checkerboard of the lightness, then the
    other half of it, then the colours likewise; lightness and colours at once in the fine levels.

    :param kind: of the level, see fineness().
    """
    rows = torch.arange(height)[:, None] + torch.arange(width)[None]
    even = (rows % 2 == 0).expand(BANDS, height, width)
    if kind in FINE_LEVELS:
        return torch.stack([even, ~even])
    light = (torch.arange(BANDS) % COLOURS == 0)[:, None, None]
    return torch.stack([light & even, light & ~even, ~light & even, ~light & ~even])


def coded_before(groups: torch.Tensor) -> torch.Tensor:
    """Return what is coded before each of group_masks(), bool [groups, 9, height, width]."""
    return torch.cumsum(groups.int(), 0) - groups.int() > 0


def features(magnitudes: torch.Tensor, signs: torch.Tensor, axis: int = 1) -> torch.Tensor:
    """
    Return what networks see of coefficients, float [N, 18, h, w].

    :param magnitudes: known magnitudes in thresholds of this plane, rounded down, [N, 9, h, w].
    :param signs: -1, 0 (not known) or 1, [N, 9, h, w].
    :param axis: of the bands, where it is another one.
    """
    known = magnitudes.clamp(max=KNOWN_MAGNITUDE)
    return torch.cat([known * signs, known], axis)


def enlarged(parent: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Return features of the next coarser level at the size of a level, float [N, 18, h, w]."""
    if parent.shape[2:] == (height, width):     # of the low-pass samples
        return parent
    return functional.interpolate(parent, scale_factor=2, mode='nearest')[:, :, :height, :width]


class LevelContext(nn.Module):
    """The network of one level; see WaveletContext."""

    def __init__(self, hidden: int):
        super().__init__()
        self.first = ExactConv2d(FEATURES, hidden, 3)
        self.second = ExactConv2d(hidden, hidden, 3)
        self.last = ExactConv2d(2 * hidden, 2 * BANDS, 1)
        self.first_bias = nn.Parameter(torch.zeros(PLANES, hidden))
        self.second_bias = nn.Parameter(torch.zeros(hidden))
        self.last_bias = nn.Parameter(torch.zeros(PLANES, 2 * BANDS))
        nn.init.zeros_(self.last.weight)
        with torch.no_grad():
            self.last_bias[:, :BANDS] = -3

    def coded_sums(self, coded: torch.Tensor) -> torch.Tensor:
        """Return what known significance adds to the first sums; see WaveletContext."""
        return self.first(coded, CODED)

    def above_sums(self, above: torch.Tensor, planes: torch.Tensor) -> torch.Tensor:
        """Return what the next coarser level adds to the first sums; see WaveletContext."""
        return self.first(above, ABOVE) + _column(self.first_bias[planes])

    def forward(self, own: torch.Tensor, coded_sums: torch.Tensor, above_sums: torch.Tensor,
                planes: torch.Tensor) -> torch.Tensor:
        """Return logits; see WaveletContext."""
        sums = self.first(own, OWN) + (above_sums[:, None] + coded_sums).flatten(0, 1)
        first = activation(sums)
        second = activation(self.second(first) + _column(self.second_bias))
        return self.last(torch.cat([first, second], 1)) + _column(
            self.last_bias[planes.repeat_interleave(len(coded_sums))])

    def largest_sums(self) -> list[torch.Tensor]:
        """Return the largest sums that can occur in each layer; below LARGEST_SUM is exact."""
        return [self.first.largest_sum() + self.first_bias.abs().amax(0),
                self.second.largest_sum() + self.second_bias.abs(),
                self.last.largest_sum() + self.last_bias.abs().amax(0)]


class WaveletContext(nn.Module):
    """Significance and sign of the coefficients, a small network a level, in exact arithmetic."""

    def __init__(self):
        super().__init__()
        self.levels = nn.ModuleList(map(LevelContext, HIDDEN_CHANNELS))

    def coded_sums(self, kind: int, coded: torch.Tensor) -> torch.Tensor:
        """
        Return what known significance adds to the first sums, the same for all images and planes.

        :param kind: of the level, see fineness().
        :param coded: 1 where this plane's significance is known by then, else 0, [G, 9, h, w].
        """
        return self.levels[kind].coded_sums(coded)

    def above_sums(self, kind: int, above: torch.Tensor, planes: torch.Tensor) -> torch.Tensor:
        """
        Return what the next coarser level adds to the first sums, the same for all groups.

        :param above: features() of that level, enlarged(), float [N, 18, h, w].
        :param planes: the bit planes, int64 [N].
        """
        return self.levels[kind].above_sums(above, planes)

    def forward(self, kind: int, own: torch.Tensor, coded_sums: torch.Tensor,
                above_sums: torch.Tensor, planes: torch.Tensor) -> torch.Tensor:
        """
        Return logits of being significant, and of being positive then, float [N * G, 18, h, w].

        Exact sums may be split at will: what does not change is computed once.

        :param kind: of the level, see fineness().
        :param own: features() of the level, as far as they are known, float [N * G, 18, h, w]:
            the G groups of the first of N images, then of the next.
        :param coded_sums: of the groups, [G, hidden, h, w].
        :param above_sums: of the images, [N, hidden, h, w].
        :param planes: the bit planes, int64 [N].
        """
        return self.levels[kind](own, coded_sums, above_sums, planes)

    def is_exact(self) -> bool:
        """Return whether no sum can leave the range that float32 holds exactly."""
        # FrozenLevel adds a logit's range to the last sums before it rounds
        return all(bool((sums < LARGEST_SUM - LARGEST_LOGIT - 1).all())
                   for level in self.levels for sums in level.largest_sums())


def _column(bias: torch.Tensor) -> torch.Tensor:
    return rounded(bias, BIAS_STEP)[..., None, None]
