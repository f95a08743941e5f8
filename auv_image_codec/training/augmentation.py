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
Augmentation: what else a camera could have seen.

Every image of a batch is cropped, tinted and clouded by amounts that are functions of the seed
and the step alone, so that a resumed run sees what an uninterrupted one would have seen, and
several processes together what one would have seen.
"""
import numpy as np
import torch
from torch.nn import functional

from auv_image_codec.training.data import Share
from auv_image_codec.training.recipe import AugmentationRecipe

# of the veiling light that scattering adds: from blue over turquoise to green, rather dark
VEIL_LOWEST = (0.0, 0.15, 0.2)
VEIL_HIGHEST = (0.25, 0.6, 0.7)


def augment(images: torch.Tensor, recipe: AugmentationRecipe, seed: int,
            step: int, share: Share = Share()) -> torch.Tensor:
    """
    Return augmented float images [N, 3, H, W] in 0..1.

    :param images: float [N, 3, H, W] in 0..1, this process's share of the batch.
    :param recipe: how far each augmentation goes; 0 (for crops 1) turns it off.
    :param seed: of the run.
    :param step: of the run.
    :param share: what these images are of the step's batch.
    """
    draw = _Draw(np.random.default_rng((seed, step, 1)), len(images), share)
    if recipe.smallest_crop < 1:
        images = _crop(images, recipe.smallest_crop, draw)
    if recipe.colour_jitter > 0:
        images = _tint(images, recipe.colour_jitter, draw)
    if recipe.turbidity > 0:
        images = _cloud(images, recipe.turbidity, draw)
    return images


class _Draw:
    """Random values for every image of the whole batch, of which this process takes its share."""

    def __init__(self, generator: np.random.Generator, count: int, share: Share):
        self._generator = generator
        self._count = count * share.count
        self._share = share

    def uniform(self, low, high, *shape: int) -> np.ndarray:
        """Return values in low..high, [N, *shape]."""
        return self._share.of(self._generator.uniform(low, high, (self._count, *shape)))

    def channels(self, low, high, images: torch.Tensor, channels: int = 1) -> torch.Tensor:
        """Return values in low..high, [N, channels, 1, 1], on the images' device."""
        values = self.uniform(low, high, channels)
        return torch.from_numpy(values).to(images)[:, :, None, None]


def _crop(images: torch.Tensor, smallest: float, draw: _Draw) -> torch.Tensor:
    """Enlarge a window of each image, its sides smallest..1 of the image's, to the whole size."""
    count = len(images)
    scale = draw.uniform(smallest, 1)
    offset = draw.uniform(-1, 1, 2) * (1 - scale)[:, None]
    windows = np.zeros((count, 2, 3))
    windows[:, 0, 0] = windows[:, 1, 1] = scale
    windows[:, :, 2] = offset
    grid = functional.affine_grid(torch.from_numpy(windows).to(images), list(images.shape),
                                  align_corners=False)
    return functional.grid_sample(images, grid, padding_mode='reflection', align_corners=False)


def _tint(images: torch.Tensor, strength: float, draw: _Draw) -> torch.Tensor:
    """Scale each channel by 1 - strength..1 + strength, and bend its curve likewise."""
    gain = draw.channels(1 - strength, 1 + strength, images, 3)
    gamma = draw.channels(1 - strength, 1 + strength, images, 3)
    # the lowest slope of a power is infinite at 0: stay above
    return (images.clamp(min=1e-4) ** gamma * gain).clamp(0, 1)


def _cloud(images: torch.Tensor, strength: float, draw: _Draw) -> torch.Tensor:
    """
    Blend each image with a veil of one colour, which takes up to ``strength`` of the light.

    The image formation model I = J t + A (1 - t) of scattering media (Narasimhan and Nayar 2002),
    with one transmission t for the whole image.
    """
    transmission = draw.channels(1 - strength, 1, images)
    veil = draw.channels(VEIL_LOWEST, VEIL_HIGHEST, images, 3)
    return images * transmission + veil * (1 - transmission)
