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
"""From what is known of wavelet coefficients to an image, and what quantization took from it."""
import torch
from torch import nn
from torch.nn import functional

from auv_image_codec.networks.bit_planes import KnownLevel, LARGEST_THRESHOLD, PLANES
from auv_image_codec.networks.wavelet_context import fineness, HIDDEN_CHANNELS
from auv_image_codec.networks.wavelet_transform import BANDS, COLOURS, synthesis

# of the feature maps at 1/2, 1/4, 1/8 and 1/16 of the image's size
CHANNELS = (24, 48, 96, 128)
# residual blocks on the way down, at 1/4, 1/8 and 1/16, and on the way up, at 1/2, 1/4 and 1/8
BLOCKS_DOWN = (2, 1, 3)
BLOCKS_UP = (2, 3, 2)
SCALE = 2 ** len(CHANNELS)      # sides of images are multiples of it
LARGEST_VALUE = 8.0             # that is told from larger ones, in thresholds
KINDS = len(HIDDEN_CHANNELS)    # of levels
MAGNITUDE_CLASSES = 2           # magnitudes of 1 threshold, and larger ones
# units of corrections, by level from the finest, where the threshold is larger: what coefficients
# typically are. A correction in high thresholds would be far larger than any coefficient.
LARGEST_UNITS = (0.125, 0.25, 0.5, 1.0)


class _Residual(nn.Module):

    def __init__(self, channels: int):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        with torch.no_grad():       # a deep stack starts close to the identity
            self.second.weight *= 0.1

    def forward(self, values):
        return values + self.second(functional.leaky_relu(self.first(values), 0.1))


def _residuals(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(_Residual(channels) for _ in range(count)))


class WaveletRestoration(nn.Module):
    """
    Dequantization, the inverse transform, and a U-Net that restores what they cannot.

    Of a coefficient known to lie between m and m + 1 thresholds, dequantization takes a point in
    between that depends on the level, the bit plane, and whether m is 1 or larger. The U-Net sees
    the image that results, the coefficients of the four finest levels in thresholds (so it knows
    which were found insignificant), and the bit plane. It corrects these coefficients, by amounts
    that start at zero: at each scale of its own those of the level that has this scale.
    """

    def __init__(self):
        super().__init__()
        self.points = nn.Parameter(torch.full((KINDS, MAGNITUDE_CLASSES, PLANES), 0.4))
        steps = list(zip(CHANNELS[:-1], CHANNELS[1:]))
        self.stem = nn.Conv2d(4 * COLOURS + BANDS + 1, CHANNELS[0], 3, padding=1)
        self.down = nn.ModuleList(
            nn.Conv2d(4 * fine + BANDS, coarse, 1) for fine, coarse in steps)
        self.before = nn.ModuleList(map(_residuals, CHANNELS[1:], BLOCKS_DOWN))
        self.up = nn.ModuleList(nn.Conv2d(coarse, 4 * fine, 1) for fine, coarse in steps)
        self.after = nn.ModuleList(map(_residuals, CHANNELS[:-1], BLOCKS_UP))
        self.heads = nn.ModuleList(nn.Conv2d(width, BANDS, 3, padding=1) for width in CHANNELS)
        for head in self.heads:
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)

    def dequantize(self, levels: list[KnownLevel], planes: torch.Tensor) -> list[torch.Tensor]:
        """
        Return coefficients, float [N, 9, h, w] each.

        :param levels: what is known of them, coarsest first.
        :param planes: the bit plane that each image was cut in, int64 [N].
        """
        before = (planes - 1).clamp(min=0)
        thresholds = (LARGEST_THRESHOLD * 0.5**planes.float())[:, None, None, None]
        coefficients = []
        for index, (values, behind) in enumerate(levels):
            points = self.points[fineness(index, len(levels))]
            one, more = (torch.where(behind, row[before][:, None, None, None],
                                     row[planes][:, None, None, None]) for row in points)
            magnitudes = values.abs()
            inside = torch.where(magnitudes > 1, more, one) * (magnitudes > 0)
            coefficients.append(torch.sign(values) * (magnitudes + inside)
                                * thresholds * (1 + behind.float()))
        return coefficients

    def correct(self, coefficients: list[torch.Tensor], levels: list[KnownLevel],
                planes: torch.Tensor, images: torch.Tensor) -> list[torch.Tensor]:
        """
        Return corrected coefficients, float [N, 9, h, w] each.

        :param coefficients: dequantized, coarsest first.
        :param levels: what is known of them.
        :param planes: the bit plane that each image was cut in, int64 [N].
        :param images: what the inverse transform makes of coefficients, float [N, 3, H, W]; sides
            are multiples of 16.
        """
        height, width = images.shape[2:]
        bands = [(values * (1 + behind.float())).clamp(-LARGEST_VALUE, LARGEST_VALUE) / 4
                 for values, behind in levels[:0:-1]][:len(CHANNELS)]
        present = len(bands)
        bands += [images.new_zeros(len(images), BANDS, height >> scale, width >> scale)
                  for scale in range(present + 1, len(CHANNELS) + 1)]
        values = functional.pixel_unshuffle(images - 0.5, 2)
        plane = (planes.float() / PLANES)[:, None, None, None].expand(-1, 1, *values.shape[2:])
        values = torch.cat([values, bands[0], plane], 1)
        values = self.stem(values.contiguous(memory_format=torch.channels_last))
        kept = [values]
        for down, before, band in zip(self.down, self.before, bands[1:]):
            values = functional.pixel_unshuffle(values, 2)
            values = before(down(torch.cat([values, band], 1)))
            kept.append(values)
        decoded = [values]
        for up, after, skipped in zip(self.up[::-1], self.after[::-1], kept[-2::-1]):
            values = after(skipped + functional.pixel_shuffle(up(values), 2))
            decoded.append(values)
        thresholds = (LARGEST_THRESHOLD * 0.5**planes.float())[:, None, None, None]
        corrected = list(coefficients)
        for level, (head, values) in enumerate(zip(self.heads, decoded[::-1])):
            if level < present:
                units = thresholds.clamp(max=LARGEST_UNITS[level])
                corrected[-1 - level] = corrected[-1 - level] + units * head(values)
        return corrected

    def forward(self, levels: list[KnownLevel], planes: torch.Tensor, bases: torch.Tensor,
                height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Return images, float [N, 3, height, width], about 0..1, with corrections and without.

        :param levels: what is known of their coefficients, coarsest first.
        :param planes: the bit plane that each image was cut in, int64 [N].
        :param bases: of the images' colours, float [N, 3, 3].
        """
        # the transform adds up many coefficients: never in half precision
        with torch.autocast(planes.device.type, enabled=False):
            coefficients = self.dequantize(levels, planes)
            images = synthesis(coefficients, bases, height, width)
        corrected = self.correct(coefficients, levels, planes, images)
        with torch.autocast(planes.device.type, enabled=False):
            return synthesis(corrected, bases, height, width), images
