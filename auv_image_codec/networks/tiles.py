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

Tiles are numbered row by row; those at the lower and right edge may reach beyond the array, and
are zeros there.
"""
import torch
from torch.nn import functional

TILE = 8                    # values a side


def tile_count(height: int, width: int) -> int:
    """Return how many tiles cover an array."""
    return -(-height // TILE) * -(-width // TILE)


def busy_tiles(values: torch.Tensor, margin: int) -> torch.Tensor:
    """
    Return the numbers of the tiles that hold a value other than zero, int64 [K].

    :param values: [N, C, h, w]; a tile is busy if any of the N * C is.
    :param margin: so many values around a tile count too.
    """
    busy = (values != 0).flatten(0, 1).any(0).float()
    return largest_of_tiles(busy, margin).nonzero().flatten()


def largest_of_tiles(magnitudes: torch.Tensor, margin: int, side: int = TILE) -> torch.Tensor:
    """
    Return the largest value of each tile, float [tiles].

    :param magnitudes: of at least 0, float [h, w].
    :param margin: so many values around a tile count too.
    :param side: of a tile, in values.
    """
    return functional.max_pool2d(_padded(magnitudes[None, None], margin, side), side + 2 * margin,
                                 side).flatten()


def read_tiles(values: torch.Tensor, tiles: torch.Tensor, margin: int,
               side: int = TILE) -> torch.Tensor:
    """
    Return tiles with a margin around them, [K, N, C, side + 2 * margin, side + 2 * margin].

    :param values: [N, C, h, w].
    :param tiles: their numbers, int64 [K].
    :param side: of a tile, in values.
    """
    windows = _windows(_padded(values, margin, side), side + 2 * margin, side)
    columns = windows.shape[1]
    return windows[tiles // columns, tiles % columns]


def with_tiles(values: torch.Tensor, tiles: torch.Tensor, contents: torch.Tensor) -> torch.Tensor:
    """
    Return a copy of an array with other contents in some tiles.

    :param values: [N, C, h, w].
    :param tiles: their numbers, int64 [K].
    :param contents: [K, N, C, TILE, TILE].
    """
    height, width = values.shape[2:]
    copy = _padded(values.clone(), 0, TILE)
    windows = _windows(copy, TILE, TILE)
    columns = windows.shape[1]
    windows[tiles // columns, tiles % columns] = contents
    return copy[:, :, :height, :width]


def _padded(values: torch.Tensor, margin: int, side: int) -> torch.Tensor:
    """Return an array with zeros around it, as far as its tiles and their margins reach."""
    height, width = values.shape[2:]
    return functional.pad(values, (margin, margin + -width % side,
                                   margin, margin + -height % side))


def _windows(values: torch.Tensor, width: int, side: int) -> torch.Tensor:
    """Return views of the squares that begin at tiles, [rows, columns, N, C, width, width]."""
    return values.unfold(2, width, side).unfold(3, width, side).permute(2, 3, 0, 1, 4, 5)
