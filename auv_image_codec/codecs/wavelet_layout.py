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
"""What the entropy coder knows of a level before it sees an image: where things lie and count."""
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from auv_image_codec.networks.frozen_context import FrozenLevel, OUTSIDE
from auv_image_codec.networks.tiles import TILE, tile_counts, Tiles, write_tiles
from auv_image_codec.networks.wavelet_context import (
    coded_before, enlarged, features, group_masks, MARGIN,
)
from auv_image_codec.networks.wavelet_transform import BANDS

TILED_LEVEL = 9 * 40 * 40   # coefficients from which on tiles pay: most of them hold only zeros
MOST_TILES = 0.6            # of a level: with more, all of it at once is as fast


@dataclass(frozen=True)
class Group:
    """
    Coefficients that are coded together.

    ``places`` are those in the level's array [9, h, w], ascending; ``steps_at`` tells where
    LevelLayout.steps() has the logits of each. Both int64 [n].
    """

    places: np.ndarray
    steps_at: np.ndarray


class LevelLayout:
    """
    What is the same for all images of a size.

    Most of a fine level holds nothing but zeros, whose logits are known beforehand: there the
    network runs on the other tiles only. As its arithmetic is exact, the result is the same.

    ``kind`` is that of fineness(); ``groups`` are in the order that they are coded in;
    ``group_of`` and ``place_in_group`` say of each coefficient in which group it lies, and as
    which of its places, int64 [9 * h * w]; ``channels_last`` says where it lies in an array
    [h, w, 9], int64 [9 * h * w].

    :param network: of the level.
    :param kind: see fineness().
    :param mask: which values are coefficients, bool [9, h, w].
    """

    def __init__(self, network: FrozenLevel, kind: int, mask: torch.Tensor):
        self.network = network
        self.kind = kind
        self.height, self.width = mask.shape[1:]
        self.size = mask.numel()
        masks = group_masks(kind, self.height, self.width) & mask
        self._done = coded_before(masks).permute(0, 2, 3, 1).contiguous()
        self._coded_sums = network.coded_sums(self._done.float())
        self._zero_steps = {}
        rows, columns = tile_counts(self.height, self.width)
        self.most_tiles = MOST_TILES * rows * columns if self.is_tiled else -1
        self._padded = ((rows * TILE, columns * TILE) if self.is_tiled
                        else (self.height, self.width))
        if self.is_tiled:
            self._done_tiles = _tiles_of_groups(self._done, MARGIN)
            self._coded_sums_tiles = _tiles_of_groups(self._coded_sums, 1, outside=OUTSIDE)
        pixels = np.arange(self.height * self.width)
        self.channels_last = (pixels * BANDS + np.arange(BANDS)[:, None]).ravel()
        pixels = pixels + pixels // self.width * (self._padded[1] - self.width)
        steps_at = (pixels * BANDS + np.arange(BANDS)[:, None]).ravel()
        self.groups = []
        self.group_of, self.place_in_group = np.zeros((2, self.size), np.int64)
        for number, group in enumerate(masks):
            places = np.flatnonzero(group)
            self.groups.append(Group(places, steps_at[places]))
            self.group_of[places] = number
            self.place_in_group[places] = np.arange(len(places))

    @property
    def is_tiled(self) -> bool:
        """Whether most of the level usually holds nothing but zeros."""
        return self.size >= TILED_LEVEL

    def above_sums(self, parent: torch.Tensor | None, planes: Sequence[int]) -> torch.Tensor:
        """
        Return what the next coarser level adds to the network's first sums, [N, h, w, hidden].

        :param parent: its features, float [N, h / 2, w / 2, 18], rounded up; None for zeros, and
            where there is no coarser level.
        :param planes: their bit planes, in a row.
        """
        if parent is None:
            above = torch.zeros(len(planes), self.height, self.width, 2 * BANDS)
        else:
            above = enlarged(parent.permute(0, 3, 1, 2), self.height, self.width).permute(
                0, 2, 3, 1)
        return self.network.above_sums(above, planes)

    def steps(self, before: torch.Tensor, after: torch.Tensor, signs: torch.Tensor,
              above_sums: torch.Tensor, planes: Sequence[int],
              groups: Sequence[int]) -> np.ndarray:
        """
        Return logits as a FrozenLevel does, int16 [N * G, size, 2].

        Which of them are those of a coefficient, ``groups`` say.

        :param before: known magnitudes before the significance pass of N bit planes, in their
            thresholds, float [N, h, w, 9].
        :param after: those after it, likewise, for what other groups have coded by then.
        :param signs: -1, 0 (not known) or 1, float, of N planes or the same for all.
        :param above_sums: as above_sums() returns them.
        :param planes: the N bit planes, in a row.
        :param groups: the groups, G of them in a row.
        """
        chosen = slice(groups[0], groups[-1] + 1)
        known = torch.where(self._done[chosen], after[:, None], before[:, None])
        own = features(known, signs[:, None], -1).flatten(0, 1)
        steps = self.network.steps(own, self._coded_sums[chosen], above_sums, planes)
        if self.is_tiled:
            steps = functional.pad(steps, (0, 0, 0, 0, 0, self._padded[1] - self.width,
                                           0, self._padded[0] - self.height))
        return steps.reshape(len(steps), -1, 2).numpy()

    def above_sums_of_tiles(self, parent: torch.Tensor, plane: int) -> torch.Tensor:
        """
        Return what the next coarser level adds to the network's first sums, in tiles.

        :param parent: its features in the tiles, which are half as large there, with half the
            MARGIN, float [K, h, w, 18].
        :param plane: the bit plane.
        :returns: with a margin of 1, [K, 10, 10, hidden].
        """
        above = functional.interpolate(parent.permute(0, 3, 1, 2), scale_factor=2)
        return self.network.above_sums_of_tiles(above.permute(0, 2, 3, 1), plane)

    def steps_of_tiles(self, tiles: torch.Tensor, before: torch.Tensor, after: torch.Tensor,
                       signs: torch.Tensor, above_sums: torch.Tensor, plane: int,
                       groups: Sequence[int]) -> np.ndarray:
        """
        Return steps() of one plane, int16 [G, size, 2], where tiles hold all but zeros.

        :param tiles: their numbers; all that is not zero lies in them, and MARGIN inside.
        :param before: as of steps(), in the tiles with a MARGIN, float [K, 12, 12, 9].
        :param after: likewise.
        :param signs: likewise.
        :param above_sums: as above_sums_of_tiles() returns them.
        :param plane: the bit plane.
        :param groups: the groups, G of them in a row.
        """
        steps = torch.stack([self._steps_of_zeros(plane, group) for group in groups])
        if len(tiles):
            chosen = slice(groups[0], groups[-1] + 1)
            known = torch.where(self._done_tiles[chosen, tiles], after, before)
            sums = self._coded_sums_tiles[chosen, tiles].add_(above_sums)
            contents = self.network.steps_of_tiles(
                features(known, signs, -1).flatten(0, 1), sums.flatten(0, 1), plane)
            write_tiles(steps, tiles, contents.flatten(3).unflatten(0, known.shape[:2]))
        return steps.view(len(steps), -1, 2).numpy()

    def _steps_of_zeros(self, plane: int, group: int) -> torch.Tensor:
        """Return steps() of nothing but zeros, int16 [h, w, 18], computed once."""
        if (plane, group) not in self._zero_steps:
            zeros = torch.zeros(1, self.height, self.width, BANDS)
            steps = self.steps(zeros, zeros, zeros, self.above_sums(None, [plane]), [plane],
                               [group])
            self._zero_steps[plane, group] = torch.from_numpy(steps).view(*self._padded, -1)
        return self._zero_steps[plane, group]


def _tiles_of_groups(values: torch.Tensor, margin: int, outside: float = 0) -> torch.Tensor:
    """Return all tiles, [G, tiles, side, side, channels], of arrays [G, h, w, channels]."""
    return torch.stack([Tiles(group[None], margin, outside=outside).read_all()
                        for group in values])
