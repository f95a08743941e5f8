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
# by fineness: the low-pass samples, then levels of detail from the finest
HIDDEN_CHANNELS = (32, 24, 24, 32, 48, 64, 64, 64)
FEATURES = 5 * BANDS
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


def features(magnitudes: torch.Tensor, signs: torch.Tensor, coded: torch.Tensor,
             parent: torch.Tensor | None) -> torch.Tensor:
    """
    Return what the network sees of a level, float [N, 45, h, w].

    :param magnitudes: known magnitudes in thresholds of this plane, rounded down, [N, 9, h, w].
    :param signs: -1, 0 (not known) or 1, [N, 9, h, w].
    :param coded: 1 where this plane's significance is known, else 0, [N, 9, h, w].
    :param parent: what this function returned of the next coarser level; None if there is none.
    """
    known = magnitudes.clamp(max=KNOWN_MAGNITUDE)
    own = torch.cat([known * signs, known], 1)
    height, width = magnitudes.shape[2:]
    if parent is None:
        above = torch.zeros_like(own)
    else:
        above = parent[:, :2 * BANDS]
        if above.shape[2:] != own.shape[2:]:
            above = functional.interpolate(above, scale_factor=2, mode='nearest')
            above = above[:, :, :height, :width]
    return torch.cat([own, above, coded], 1)


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

    def forward(self, values: torch.Tensor, plane: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits; see WaveletContext."""
        first = activation(self.first(values) + _column(self.first_bias[plane]))
        second = activation(self.second(first) + _column(self.second_bias))
        logits = self.last(torch.cat([first, second], 1)) + _column(self.last_bias[plane])
        return logits[:, :BANDS], logits[:, BANDS:]

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

    def forward(self, kind: int, plane: int,
                values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Return logits of being significant, and of being positive then, float [N, 9, h, w] each.

        :param kind: of the level, see fineness().
        :param plane: the bit plane, 0..PLANES-1.
        :param values: of features().
        """
        return self.levels[kind](values, plane)

    def is_exact(self) -> bool:
        """Return whether no sum can leave the range that float32 holds exactly."""
        return all(bool((sums < LARGEST_SUM).all())
                   for level in self.levels for sums in level.largest_sums())


def _column(bias: torch.Tensor) -> torch.Tensor:
    return rounded(bias, BIAS_STEP)[:, None, None]
