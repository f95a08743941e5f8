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
The CDF 9/7 wavelet transform, level by level, in lifting steps.

A. Cohen, I. Daubechies, J. C. Feauveau, Biorthogonal bases of compactly supported wavelets
(1992); the lifting steps are those of I. Daubechies and W. Sweldens, Factoring wavelet transforms
into lifting steps (1998), with symmetric extension at the borders, so that an image of any size
has exactly as many coefficients as values.
"""
import math

import torch
from torch.nn import functional

from auv_image_codec.networks.colour_bases import (
    COLOURS, correlate, decorrelate, detail_covariances, principal_bases,
)

LIFTING_STEPS = (-1.586134342059924, -0.052980118572961, 0.882911075530934, 0.443506852043971)
# lifting leaves the low-pass samples with a gain of 1.23 at zero frequency: sqrt(2) is that of an
# orthonormal basis, and the high-pass samples take the inverse
LOW_GAIN = math.sqrt(2) / 1.230174104914001
ORIENTATIONS = 3            # horizontal, vertical and diagonal detail
BANDS = ORIENTATIONS * COLOURS


def level_count(height: int, width: int) -> int:
    """Return the number of levels of detail of an image: until its shorter side is one sample."""
    return math.ceil(math.log2(min(height, width)))


def level_sizes(height: int, width: int) -> list[tuple[int, int]]:
    """
    Return the (height, width) of the arrays that analysis returns, coarsest first.

    The first is that of the low-pass band, which is no level of detail.
    """
    sizes = []
    for _ in range(level_count(height, width)):
        height, width = (height + 1) // 2, (width + 1) // 2
        sizes.append((height, width))
    return [sizes[-1] if sizes else (height, width), *sizes[::-1]]


def band_masks(height: int, width: int) -> list[torch.Tensor]:
    """
    Return what is a coefficient in the arrays that analysis returns, bool [9, h, w] each.

    Bands of odd sizes are a row or a column shorter than their arrays, and the low-pass array
    uses a band of each colour only.
    """
    masks = []
    for _ in range(level_count(height, width)):
        low_height, low_width = (height + 1) // 2, (width + 1) // 2
        mask = torch.zeros(ORIENTATIONS, COLOURS, low_height, low_width, dtype=torch.bool)
        mask[0, :, :, :width // 2] = True
        mask[1, :, :height // 2] = True
        mask[2, :, :height // 2, :width // 2] = True
        masks.append(mask.flatten(0, 1))
        height, width = low_height, low_width
    low = torch.zeros(BANDS, height, width, dtype=torch.bool)
    low[:COLOURS] = True
    return [low, *masks[::-1]]


def analysis(images: torch.Tensor) -> list[torch.Tensor]:
    """
    Return the coefficients of images, in RGB.

    The basis is close to orthonormal: a squared error is about the same in coefficients as in
    RGB values.

    :param images: float [N, 3, H, W], RGB in 0..1.
    :returns: float arrays [N, 9, h, w], coarsest first, of level_sizes(H, W): band b of a level
        is orientation b // 3 of colour b % 3; the first array holds the low-pass samples of the
        colours.
    """
    low = images - 0.5
    levels = []
    for _ in range(level_count(*images.shape[2:])):
        low, high = _split(low, 3)
        low_low, vertical = _split(low, 2)
        horizontal, diagonal = _split(high, 2)
        height, width = low_low.shape[2:]
        levels.append(torch.cat([_padded(band, height, width)
                                 for band in (horizontal, vertical, diagonal)], 1))
        low = low_low
    first = functional.pad(low, (0, 0, 0, 0, 0, BANDS - COLOURS))
    return [first, *levels[::-1]]


def principal_analysis(images: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
    """
    Return the coefficients of images in the colours that suit each of them best.

    :param images: float [N, 3, H, W], RGB in 0..1.
    :returns: float arrays [N, 9, h, w] as of analysis(), and the bases, float [N, 3, 3].
    """
    levels = analysis(images)
    bases = principal_bases(detail_covariances(levels)).to(images.dtype)
    return decorrelate(levels, bases), bases


def synthesis(levels: list[torch.Tensor], bases: torch.Tensor, height: int,
              width: int) -> torch.Tensor:
    """
    Return the images, float [N, 3, height, width], of coefficients.

    :param levels: as analysis() and decorrelate() return them.
    :param bases: of their colours, see networks.colour_bases, float [N, 3, 3].
    """
    low = levels[0][:, :COLOURS]
    sizes = []
    for _ in levels[1:]:
        sizes.append((height, width))
        height, width = (height + 1) // 2, (width + 1) // 2
    for bands, (height, width) in zip(levels[1:], sizes[::-1]):
        horizontal, vertical, diagonal = bands.split(COLOURS, 1)
        low = _merge(_merge(low, vertical[:, :, :height // 2], 2),
                     _merge(horizontal[..., :width // 2],
                            diagonal[:, :, :height // 2, :width // 2], 2), 3)
    return correlate(low, bases) + 0.5


def _padded(band: torch.Tensor, height: int, width: int) -> torch.Tensor:
    return functional.pad(band, (0, width - band.shape[3], 0, height - band.shape[2]))


def _split(signal: torch.Tensor, axis: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the low-pass (rounded up) and high-pass (rounded down) half of an axis."""
    signal = signal.movedim(axis, -1)
    even, odd = signal[..., 0::2], signal[..., 1::2]
    for step, factor in enumerate(LIFTING_STEPS):
        if step % 2 == 0:
            odd = odd + factor * _even_neighbours(even, odd.shape[-1])
        else:
            even = even + factor * _odd_neighbours(odd, even.shape[-1])
    return (even * LOW_GAIN).movedim(-1, axis), (odd / LOW_GAIN).movedim(-1, axis)


def _merge(low: torch.Tensor, high: torch.Tensor, axis: int) -> torch.Tensor:
    """Invert _split."""
    even, odd = low.movedim(axis, -1) / LOW_GAIN, high.movedim(axis, -1) * LOW_GAIN
    for step, factor in reversed(list(enumerate(LIFTING_STEPS))):
        if step % 2 == 0:
            odd = odd - factor * _even_neighbours(even, odd.shape[-1])
        else:
            even = even - factor * _odd_neighbours(odd, even.shape[-1])
    signal = even.new_empty(*even.shape[:-1], even.shape[-1] + odd.shape[-1])
    signal[..., 0::2] = even
    signal[..., 1::2] = odd
    return signal.movedim(-1, axis)


def _even_neighbours(even: torch.Tensor, count: int) -> torch.Tensor:
    """Return the sum of the even samples beside each odd one, mirrored at the border."""
    after = even[..., 1:count + 1]
    if after.shape[-1] < count:
        after = torch.cat([after, even[..., -1:]], -1)
    return even[..., :count] + after


def _odd_neighbours(odd: torch.Tensor, count: int) -> torch.Tensor:
    """Return the sum of the odd samples beside each even one, mirrored at the borders."""
    before = torch.cat([odd[..., :1], odd], -1)[..., :count]
    after = odd if odd.shape[-1] == count else torch.cat([odd, odd[..., -1:]], -1)
    return before + after
