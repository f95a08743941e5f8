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
"""An image as the entropy coder sees it: known to the encoder, unknown to the decoder."""
from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple, Protocol

import numpy as np
import torch

from auv_image_codec.codecs.wavelet_layout import Group, LevelLayout
from auv_image_codec.codecs.wavelet_state import LevelState, NEGATIVE, POSITIVE
from auv_image_codec.networks.bit_planes import PLANES, threshold
from auv_image_codec.networks.tiles import largest_of_tiles, TILE, Tiles
from auv_image_codec.networks.wavelet_context import features, MARGIN

SMALL_LEVEL = 9 * 14 * 14   # coefficients: an encoder asks for several planes of it at once
USUAL_PLANES = 10           # up to here, where most packets end,
MORE_PLANES = 3             # and then so many at a time

SCALES = torch.tensor([1 / threshold(plane) for plane in range(PLANES)])[:, None, None, None]


class ImageView(Protocol):
    """
    What either end knows of an image; a decoder does not know the outcomes, and gives zeros.

    ``index`` is that of a level, coarsest first, ``plane`` the bit plane.
    """

    def activity(self, index: int, plane: int) -> np.ndarray:
        """Return whether anything in a level is significant, int32 [1]."""

    def outcomes(self, index: int, plane: int) -> np.ndarray:
        """Return the outcomes of all significance decisions of a level, int32 [9 * h * w]."""

    def refinements(self, index: int, plane: int, places: np.ndarray) -> np.ndarray:
        """Return the outcomes of refinements at places (see Group), int32 [n]."""

    def steps(self, index: int, plane: int, group: int) -> np.ndarray:
        """Return the logits of a level for a group, a row of those of a LevelLayout."""


class UnknownImage:
    """
    A decoder's ImageView: its logits are those of what is known so far.

    :param states: of the levels, coarsest first; read again at every call.
    """

    def __init__(self, states: list[LevelState]):
        self._states = states
        self._above_sums = {}       # of the level and plane in work
        self._nothing = [np.zeros(state.layout.size, np.int32) for state in states]

    def activity(self, index: int, plane: int) -> np.ndarray:
        """Return whether a level is active; see ImageView."""
        return np.zeros(1, np.int32)

    def outcomes(self, index: int, plane: int) -> np.ndarray:
        """Return the outcomes of significance decisions; see ImageView."""
        return self._nothing[index]

    def refinements(self, index: int, plane: int, places: np.ndarray) -> np.ndarray:
        """Return the outcomes of refinements; see ImageView."""
        return np.zeros(len(places), np.int32)

    def steps(self, index: int, plane: int, group: int) -> np.ndarray:
        """Return the logits of a level for its next group; see ImageView."""
        layout = self._states[index].layout
        own, signs = self._known(index)
        if layout.is_tiled:
            parent, parent_signs = self._known(index - 1)
            tiles = torch.nonzero(_largest_of_tiles(own, parent))[:, 0]
            if len(tiles) <= layout.most_tiles:
                own, signs = (Tiles(part, MARGIN).read(tiles) for part in (own, signs))
                parent, parent_signs = (Tiles(part, MARGIN // 2, TILE // 2).read(tiles)
                                        for part in (parent, parent_signs))
                above_sums = layout.above_sums_of_tiles(features(parent, parent_signs, -1), plane)
                return layout.steps_of_tiles(tiles, own, own, signs, above_sums, plane,
                                             [group])[0]
        if (index, plane) not in self._above_sums:
            parent = features(*self._known(index - 1), -1) if index else None
            self._above_sums = {(index, plane): layout.above_sums(parent, [plane])}
        return layout.steps(own, own, signs, self._above_sums[index, plane], [plane], [group])[0]

    def _known(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return magnitudes and signs of a level, [1, h, w, 9]."""
        state = self._states[index]
        return tuple(torch.from_numpy(part)[None] for part in (state.magnitudes, state.signs))


class KnownImage:
    """
    An encoder's ImageView: as all is known, many logits come from one call of a network.

    :param levels: coefficients, float [1, 9, h, w] each, coarsest first.
    :param layouts: of the levels.
    """

    def __init__(self, levels: list[torch.Tensor], layouts: list[LevelLayout]):
        self._layouts = layouts
        self.levels = levels
        self._steps = [{} for _ in levels]
        self._magnitudes, self._signs = zip(*(
            (last.abs(), last.sign()) for last in (
                level.permute(0, 2, 3, 1).contiguous() for level in levels)))
        self._tiles_of_levels = {}
        # in units of the last threshold: halving rounds down to those of the planes before
        finest = [torch.trunc(level.flatten() / threshold(PLANES - 1)).numpy() for level in levels]
        self._units = [np.abs(units).astype(np.int32) for units in finest]
        self._largest = [units.max() for units in self._units]
        self._found = [_Found(units) for units in finest]

    def activity(self, index: int, plane: int) -> np.ndarray:
        """Return whether a level is active; see ImageView."""
        return np.array([self._largest[index] >> (PLANES - 1 - plane) > 0], np.int32)

    def outcomes(self, index: int, plane: int) -> np.ndarray:
        """Return the outcomes of significance decisions; see ImageView."""
        return self._found[index].outcomes(plane)

    def refinements(self, index: int, plane: int, places: np.ndarray) -> np.ndarray:
        """Return the outcomes of refinements; see ImageView."""
        return self._units[index][places] >> (PLANES - 1 - plane) & 1

    def steps(self, index: int, plane: int, group: int) -> np.ndarray:
        """Return the logits of a level for a group; see ImageView."""
        known = self._steps[index]
        if (plane, group) not in known:
            layout = self._layouts[index]
            planes, groups = [plane], range(len(layout.groups))
            if layout.size <= SMALL_LEVEL:
                planes = range(plane, USUAL_PLANES if plane < USUAL_PLANES else
                               min(plane + MORE_PLANES, PLANES))
            known.update(zip(product(planes, groups), self._steps_of(index, planes, groups)))
        return known[plane, group]

    def steps_of_groups(self, index: int, plane: int) -> Iterator[tuple[Group, np.ndarray]]:
        """Yield the groups that steps() was asked for, and what it gave."""
        for number, group in enumerate(self._layouts[index].groups):
            if (plane, number) in self._steps[index]:
                yield group, self._steps[index][plane, number]

    def _steps_of(self, index: int, planes: Sequence[int], groups: Sequence[int]) -> np.ndarray:
        """Return the logits of a level for groups of the first plane, then of the next."""
        layout = self._layouts[index]
        if layout.is_tiled:
            tiles = torch.nonzero(self._tiles(index).largest >= threshold(planes[0]))[:, 0]
            if len(tiles) <= layout.most_tiles:
                return self._steps_of_tiles(index, planes[0], groups, tiles)
        before, after = _known(self._magnitudes[index], planes)
        above = None
        if index:
            _, above = _known(self._magnitudes[index - 1], planes)
            above = features(above, self._signs[index - 1], -1)
        return layout.steps(before, after, self._signs[index], layout.above_sums(above, planes),
                            planes, groups)

    def _steps_of_tiles(self, index: int, plane: int, groups: Sequence[int],
                        tiles: torch.Tensor) -> np.ndarray:
        """Return the same of one plane, where tiles hold all that is not zero."""
        layout, parts = self._layouts[index], self._tiles(index)
        before, after = _known(parts.magnitudes[tiles], [plane])
        _, above = _known(parts.parent_magnitudes[tiles], [plane])
        above = features(above, parts.parent_signs[tiles], -1)
        return layout.steps_of_tiles(tiles, before, after, parts.signs[tiles],
                                     layout.above_sums_of_tiles(above, plane), plane, groups)

    def _tiles(self, index: int) -> '_KnownTiles':
        if index not in self._tiles_of_levels:
            parts = [[part[number] for part in (self._magnitudes, self._signs)]
                     for number in (index, index - 1)]
            self._tiles_of_levels[index] = _KnownTiles(
                *(Tiles(part, MARGIN).read_all() for part in parts[0]),
                *(Tiles(part, MARGIN // 2, TILE // 2).read_all() for part in parts[1]),
                _largest_of_tiles(*(magnitudes for magnitudes, _ in parts)))
        return self._tiles_of_levels[index]


class _KnownTiles(NamedTuple):
    """
    A level in tiles, see LevelLayout.steps_of_tiles(), and the next coarser one.

    ``largest`` is the largest magnitude that the network sees for each tile, float [tiles].
    """

    magnitudes: torch.Tensor
    signs: torch.Tensor
    parent_magnitudes: torch.Tensor
    parent_signs: torch.Tensor
    largest: torch.Tensor


class _Found:
    """
    Which coefficients of a level become significant in each plane.

    :param units: coefficients in units of the last threshold, rounded towards zero, float [size].
    """

    def __init__(self, units: np.ndarray):
        size = len(units)
        self._places = np.flatnonzero(units)
        units = units[self._places]
        self._planes = PLANES - np.frexp(units)[1]
        self._signs = np.where(units < 0, NEGATIVE, POSITIVE)
        self._outcomes = np.zeros(size, np.int32)
        self._plane = None

    def outcomes(self, plane: int) -> np.ndarray:
        """Return the outcomes of a plane's decisions, int32 [size]; overwritten by the next."""
        if plane != self._plane:
            self._outcomes[self._places] = self._signs * (self._planes == plane)
            self._plane = plane
        return self._outcomes


def _largest_of_tiles(own: torch.Tensor, parent: torch.Tensor) -> torch.Tensor:
    """Return the largest magnitude that the network sees for each tile, float [tiles]."""
    return torch.maximum(largest_of_tiles(own[0].amax(-1), MARGIN),
                         largest_of_tiles(parent[0].amax(-1), MARGIN // 2, TILE // 2))


def _known(magnitudes: torch.Tensor, planes: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Return known magnitudes before and after the significance pass of planes in a row.

    :param magnitudes: of coefficients, float [1, h, w, 9], or of any shape if there is one plane.
    :returns: float [N, h, w, 9] of N planes, or the shape of magnitudes, in thresholds.
    """
    magnitudes = torch.floor(magnitudes * SCALES[planes[0]:planes[-1] + 1])
    before = 2 * torch.floor(magnitudes / 2)
    return before, torch.maximum(before, magnitudes.clamp(max=1))
