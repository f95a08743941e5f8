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
and the step alone, so that a resumed run sees what an uninterrupted one would have seen.
"""
import numpy as np
import torch
from torch.nn import functional

from auv_image_codec.training.recipe import AugmentationRecipe

# of the veiling light that scattering adds: from blue over turquoise to green, rather dark
VEIL_LOWEST = (0.0, 0.15, 0.2)
VEIL_HIGHEST = (0.25, 0.6, 0.7)


def augment(images: torch.Tensor, recipe: AugmentationRecipe, seed: int,
            step: int) -> torch.Tensor:
    """
    Return augmented float images [N, 3, H, W] in 0..1.

    :param images: float [N, 3, H, W] in 0..1.
    :param recipe: how far each augmentation goes; 0 (for crops 1) turns it off.
    :param seed: of the run.
    :param step: of the run.
    """
    generator = np.random.default_rng((seed, step, 1))
    if recipe.smallest_crop < 1:
        images = _crop(images, recipe.smallest_crop, generator)
    if recipe.colour_jitter > 0:
        images = _tint(images, recipe.colour_jitter, generator)
    if recipe.turbidity > 0:
        images = _cloud(images, recipe.turbidity, generator)
    return images


def _uniform(generator: np.random.Generator, low, high, images: torch.Tensor,
             channels: int = 1) -> torch.Tensor:
    """Return values in low..high, [N, channels, 1, 1], on the images' device."""
    values = generator.uniform(low, high, (len(images), channels))
    return torch.from_numpy(values).to(images)[:, :, None, None]


def _crop(images: torch.Tensor, smallest: float, generator: np.random.Generator) -> torch.Tensor:
    """Enlarge a window of each image, its sides smallest..1 of the image's, to the whole size."""
    count = len(images)
    scale = generator.uniform(smallest, 1, count)
    offset = generator.uniform(-1, 1, (count, 2)) * (1 - scale)[:, None]
    windows = np.zeros((count, 2, 3))
    windows[:, 0, 0] = windows[:, 1, 1] = scale
    windows[:, :, 2] = offset
    grid = functional.affine_grid(torch.from_numpy(windows).to(images), list(images.shape),
                                  align_corners=False)
    return functional.grid_sample(images, grid, padding_mode='reflection', align_corners=False)


def _tint(images: torch.Tensor, strength: float, generator: np.random.Generator) -> torch.Tensor:
    """Scale each channel by 1 - strength..1 + strength, and bend its curve likewise."""
    gain = _uniform(generator, 1 - strength, 1 + strength, images, 3)
    gamma = _uniform(generator, 1 - strength, 1 + strength, images, 3)
    # the lowest slope of a power is infinite at 0: stay above
    return (images.clamp(min=1e-4) ** gamma * gain).clamp(0, 1)


def _cloud(images: torch.Tensor, strength: float, generator: np.random.Generator) -> torch.Tensor:
    """
    Blend each image with a veil of one colour, which takes up to ``strength`` of the light.

    The image formation model I = J t + A (1 - t) of scattering media (Narasimhan and Nayar 2002),
    with one transmission t for the whole image.
    """
    transmission = _uniform(generator, 1 - strength, 1, images)
    veil = _uniform(generator, VEIL_LOWEST, VEIL_HIGHEST, images, 3)
    return images * transmission + veil * (1 - transmission)
