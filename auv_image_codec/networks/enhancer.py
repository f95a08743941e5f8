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
The enhancer: a U-Net that adds plausible detail to decoded images, and its discriminator.

The generator works on 2 x 2 pixels a cell, so that its widest layers run at half the image's
resolution, and adds what it finds to the image: its last layer is zero at the start, so training
starts at the decoded image. Where a codec's decoder has features of its own at 1/32 of the
image's resolution, they are added at the bottleneck.
"""
import torch
from torch import nn, Tensor
from torch.nn import functional

SCALE = 32          # pixels of the image for one of the bottleneck: sides are multiples of it
LEVELS = 5          # at 1/2, 1/4, 1/8, 1/16 and 1/32
SLOPE = 0.1         # of the activation below zero


class _Block(nn.Module):
    """Two convolutions beside an identity."""

    def __init__(self, channels: int):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, 1, 1)
        self.second = nn.Conv2d(channels, channels, 3, 1, 1)

    def forward(self, values: Tensor) -> Tensor:
        inner = self.first(functional.leaky_relu(values, SLOPE))
        return values + self.second(functional.leaky_relu(inner, SLOPE))


class EnhancerGenerator(nn.Module):
    """
    Decoded images to enhanced ones.

    :param channels: at half the image's resolution; they double from level to level.
    :param largest_channels: where doubling ends.
    :param feature_channels: of the decoder's features; 0 for a codec without.
    """

    def __init__(self, channels: int = 32, largest_channels: int = 96,
                 feature_channels: int = 0):
        super().__init__()
        self.feature_channels = feature_channels
        widths = [min(channels * 2**level, largest_channels) for level in range(LEVELS)]
        self.stem = nn.Conv2d(3 * 4, widths[0], 3, 1, 1)
        self.down_blocks = nn.ModuleList(_Block(width) for width in widths[:-1])
        self.downs = nn.ModuleList(nn.Conv2d(fine, coarse, 4, 2, 1)
                                   for fine, coarse in zip(widths, widths[1:]))
        if feature_channels:
            self.from_features = nn.Conv2d(feature_channels, widths[-1], 1)
        self.bottleneck = _Block(widths[-1])
        self.ups = nn.ModuleList(nn.Conv2d(coarse, fine, 1)
                                 for fine, coarse in zip(widths, widths[1:]))
        self.up_blocks = nn.ModuleList(_Block(width) for width in widths[:-1])
        self.head = nn.Conv2d(widths[0], 3 * 4, 3, 1, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Tensor, features: Tensor | None = None) -> Tensor:
        """
        Enhance float images [N, 3, H, W] in 0..1, H and W multiples of 32.

        :param features: float [N, feature_channels, H / 32, W / 32]; None for a codec without.
        :returns: images of the same shape, about 0..1.
        """
        values = self.stem(functional.pixel_unshuffle(images - 0.5, 2))
        skips = []
        for block, down in zip(self.down_blocks, self.downs):
            values = block(values)
            skips.append(values)
            values = down(values)
        if self.feature_channels:
            values = values + self.from_features(features)
        values = self.bottleneck(values)
        for up, block in zip(reversed(self.ups), reversed(self.up_blocks)):
            values = functional.interpolate(up(values), scale_factor=2, mode='bilinear')
            values = block(values + skips.pop())
        detail = self.head(functional.leaky_relu(values, SLOPE))
        return images + functional.pixel_shuffle(detail, 2)


class PatchDiscriminator(nn.Module):
    """
    Tells clear images from generated ones, patch by patch, each beside its decoded image.

    One value for 16 x 16 pixels: 14 x 14 of them for an image of 224 x 224.

    :param channels: of the first layer; they double to four times as many.
    """

    def __init__(self, channels: int = 32):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(6, channels, 4, 2, 1), nn.LeakyReLU(0.2),
            nn.Conv2d(channels, 2 * channels, 4, 2, 1), nn.LeakyReLU(0.2),
            nn.Conv2d(2 * channels, 4 * channels, 4, 2, 1), nn.LeakyReLU(0.2),
            nn.Conv2d(4 * channels, 4 * channels, 4, 2, 1), nn.LeakyReLU(0.2),
            nn.Conv2d(4 * channels, 1, 3, 1, 1))

    def forward(self, images: Tensor, decoded: Tensor) -> Tensor:
        """Judge float images [N, 3, H, W] in 0..1; return [N, 1, H / 16, W / 16], 1 for clear."""
        return self.layers(torch.cat([images, decoded], 1) - 0.5)
