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
from copy import deepcopy

import torch
from torch import nn
from torch.nn import functional

from auv_image_codec.networks.bit_planes import PLANES
from auv_image_codec.networks.exact import (
    activation, BIAS_STEP, ExactConv2d, LARGEST_SUM, rounded,
)
from auv_image_codec.networks.tiles import read_tiles
from auv_image_codec.networks.wavelet_transform import BANDS, COLOURS

KNOWN_MAGNITUDE = 7.0       # magnitudes are told apart up to here, in thresholds
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


def features(magnitudes: torch.Tensor, signs: torch.Tensor) -> torch.Tensor:
    """
    Return what networks see of coefficients, float [N, 18, h, w].

    :param magnitudes: known magnitudes in thresholds of this plane, rounded down, [N, 9, h, w].
    :param signs: -1, 0 (not known) or 1, [N, 9, h, w].
    """
    known = magnitudes.clamp(max=KNOWN_MAGNITUDE)
    return torch.cat([known * signs, known], 1)


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
        self._frozen = False

    def freeze(self) -> None:
        """Keep rounded parameters for all later calls; they must not change any more."""
        for layer in (self.first, self.second, self.last):
            layer.freeze()
        for bias in (self.first_bias, self.second_bias, self.last_bias):
            bias.copy_(rounded(bias, BIAS_STEP))
        self._frozen = True

    def _column(self, bias: torch.Tensor) -> torch.Tensor:
        return (bias if self._frozen else rounded(bias, BIAS_STEP))[..., None, None]

    def coded_sums(self, coded: torch.Tensor) -> torch.Tensor:
        """Return what known significance adds to the first sums; see WaveletContext."""
        return self.first(coded, CODED)

    def above_sums(self, above: torch.Tensor, planes: torch.Tensor) -> torch.Tensor:
        """Return what the next coarser level adds to the first sums; see WaveletContext."""
        return self.first(above, ABOVE) + self._column(self.first_bias[planes])

    def forward(self, own: torch.Tensor, coded_sums: torch.Tensor, above_sums: torch.Tensor,
                planes: torch.Tensor) -> torch.Tensor:
        """Return logits; see WaveletContext."""
        sums = self.first(own, OWN) + (above_sums[:, None] + coded_sums).flatten(0, 1)
        first = activation(sums)
        second = activation(self.second(first) + self._column(self.second_bias))
        return self.last(torch.cat([first, second], 1)) + self._column(
            self.last_bias[planes.repeat_interleave(len(coded_sums))])

    def of_tiles(self, own: torch.Tensor, coded_sums: torch.Tensor, above: torch.Tensor,
                 plane: int, tiles: torch.Tensor) -> torch.Tensor:
        """Return logits of some tiles; see WaveletContext."""
        sums = read_tiles(coded_sums, tiles, 1)
        sums += self.first(own.flatten(0, 1), OWN, padded=False).unflatten(0, own.shape[:2])
        sums += self.first(above, ABOVE, padded=False)[:, None]
        first = activation(sums.add_(self._column(self.first_bias[plane])))
        # beyond the edge of the level there are zeros, not what the network makes of zeros
        first *= read_tiles(torch.ones(1, 1, *coded_sums.shape[2:]), tiles, 1)
        first = first.flatten(0, 1)
        second = activation(self.second(first, padded=False) + self._column(self.second_bias))
        logits = self.last(torch.cat([first[:, :, 1:-1, 1:-1], second], 1))
        return (logits + self._column(self.last_bias[plane])).unflatten(0, own.shape[:2])

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

    def of_tiles(self, kind: int, own: torch.Tensor, coded_sums: torch.Tensor,
                 above: torch.Tensor, plane: int, tiles: torch.Tensor) -> torch.Tensor:
        """
        Return the logits of forward() in some tiles of an image, float [K, G, 18, TILE, TILE].

        :param kind: of the level, see fineness().
        :param own: what forward() takes, in the tiles with a MARGIN, float [K, G, 18, 12, 12].
        :param coded_sums: of the groups, [G, hidden, h, w].
        :param above: what above_sums() takes, in the tiles with a MARGIN, float [K, 18, 12, 12].
        :param plane: the bit plane.
        :param tiles: their numbers, see networks.tiles, int64 [K].
        """
        return self.levels[kind].of_tiles(own, coded_sums, above, plane, tiles)

    def freeze(self) -> None:
        """Prepare for speed; the parameters must not change any more."""
        self.eval().requires_grad_(False)
        for level in self.levels:
            level.freeze()

    def is_exact(self) -> bool:
        """Return whether no sum can leave the range that float32 holds exactly."""
        return all(bool((sums < LARGEST_SUM).all())
                   for level in self.levels for sums in level.largest_sums())

    def is_exact_here(self) -> bool:
        """Return whether this machine's convolutions sum exactly, by trying them."""
        generator = torch.Generator().manual_seed(0)
        count, side = 16, 8         # as many as libraries have fast algorithms for
        own, above = (torch.randint(0, 8, (count, 2 * BANDS, side, side), generator=generator)
                      for _ in range(2))
        coded = torch.ones(1, BANDS, side, side)
        planes = torch.full((count,), PLANES // 2)
        with torch.no_grad():
            for level in self.levels:
                single, double = (
                    network(own.to(kind), network.coded_sums(coded.to(kind)),
                            network.above_sums(above.to(kind), planes), planes)
                    for network, kind in ((level, torch.float32),
                                          (deepcopy(level).double(), torch.float64)))
                if not torch.equal(single.double(), double):
                    return False
        return True
