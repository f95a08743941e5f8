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
Squares of an array, so that a network need not run where there is nothing but zeros.

Tiles are numbered row by row; those at the lower and right edge may reach beyond the array.
"""
import torch
from torch.nn import functional

TILE = 8                    # values a side


def tile_counts(height: int, width: int) -> tuple[int, int]:
    """Return how many rows and columns of tiles cover an array."""
    return -(-height // TILE), -(-width // TILE)


def largest_of_tiles(magnitudes: torch.Tensor, margin: int, side: int = TILE) -> torch.Tensor:
    """
    Return the largest value of each tile, float [tiles].

    :param magnitudes: of at least 0, float [h, w].
    :param margin: so many values around a tile count too.
    :param side: of a tile, in values.
    """
    height, width = magnitudes.shape
    padded = functional.pad(magnitudes, (margin, margin + -width % side,
                                         margin, margin + -height % side))
    return functional.max_pool2d(padded[None, None], side + 2 * margin, side).flatten()


class Tiles:
    """
    The tiles of an array, each with a margin around it.

    :param values: [1, h, w, channels].
    :param margin: in values.
    :param side: of a tile, in values.
    :param outside: what lies beyond the edges of the array.
    """

    def __init__(self, values: torch.Tensor, margin: int, side: int = TILE, outside: float = 0):
        height, width = values.shape[1:3]
        padded = functional.pad(values[0], (0, 0, margin, margin + -width % side,
                                            margin, margin + -height % side), value=outside)
        windows = padded.unfold(0, side + 2 * margin, side).unfold(1, side + 2 * margin, side)
        self._windows = windows.permute(0, 1, 3, 4, 2)

    def read(self, tiles: torch.Tensor) -> torch.Tensor:
        """
        Return some of them, [K, side + 2 * margin, side + 2 * margin, channels].

        :param tiles: their numbers, int64 [K].
        """
        columns = self._windows.shape[1]
        return self._windows[tiles // columns, tiles % columns]

    def read_all(self) -> torch.Tensor:
        """Return all of them, in the same shape."""
        return self._windows.flatten(0, 1).contiguous()


def write_tiles(values: torch.Tensor, tiles: torch.Tensor, contents: torch.Tensor) -> None:
    """
    Replace what lies in some tiles.

    :param values: [N, h, w, channels], sides multiples of TILE.
    :param tiles: their numbers, int64 [K].
    :param contents: [N, K, TILE, TILE, channels].
    """
    count, height, width, channels = values.shape
    rows, columns = tile_counts(height, width)
    windows = values.view(count, rows, TILE, columns, TILE, channels).transpose(2, 3)
    windows[:, tiles // columns, tiles % columns] = contents
