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
"""Training the wavelet codec's decoder: the least squared error wherever a packet ends."""
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from auv_image_codec.codecs.wavelet import load_restoration
from auv_image_codec.codecs.weights import (
    has_weights_file, NETWORK_PREFIX, weights_path, write_part,
)
from auv_image_codec.errors import RecipeError, WeightsError
from auv_image_codec.networks.bit_planes import cut, KnownLevel, PLANES, threshold
from auv_image_codec.networks.wavelet_context import fineness
from auv_image_codec.networks.wavelet_restoration import SCALE, WaveletRestoration
from auv_image_codec.networks.wavelet_transform import level_sizes, principal_analysis
from auv_image_codec.training.augmentation import augment
from auv_image_codec.training.data import as_network_input, evenly_spaced, ImageArray
from auv_image_codec.training.model_card import (
    RunSummary, start_of_weights, write_codec_card,
)
from auv_image_codec.training.module import TrainingModule
from auv_image_codec.training.recipe import number, Recipe
from auv_image_codec.training.tasks import Curves, Task
from auv_image_codec.training.wavelet_context_task import CODEC

BYTES_OF_STREAMS = (50, 3000)   # that packets are cut to, evenly on a logarithmic scale
VALIDATION_BYTES = (80, 180, 480, 980)
BITS_A_COEFFICIENT = 5          # that is significant; 4.7 to 5.8 in 9 of 10 images of LSUI
# dB that the inverse transform alone reaches at the end of each plane, on average
TYPICAL_PSNR_DB = (12.8, 14.9, 17.0, 18.5, 20.1, 21.7, 23.3, 25.2, 27.6, 30.6, 34.0, 38.2, 42.6,
                   47.0)
IMAGES_OF_THE_START = 500


@dataclass(frozen=True)
class WaveletRestorationRecipe:
    """The network section of a recipe that trains the wavelet codec's decoder."""

    type: str                                               # noqa: A003 (the recipe's word)
    validation_limit: int = number(99, 1, 1_000_000)        # images, evenly spaced


class _Cut(NamedTuple):
    """What a decoder's network takes of images cut somewhere; see WaveletRestoration."""

    levels: list[KnownLevel]
    planes: torch.Tensor
    bases: torch.Tensor


class WaveletRestorationTraining(TrainingModule):
    """
    The squared error, relative to what the inverse transform alone leaves.

    So an image cut early counts as much as one cut late, and a hard one hardly more than an easy
    one. Half of what it is relative to is typical of the bit plane, as next to nothing is left of
    images without detail.

    :param recipe: the run's recipe.
    :param steps_per_epoch: of the training images at the recipe's batch size.
    """

    def __init__(self, recipe: Recipe, steps_per_epoch: int):
        super().__init__(recipe, steps_per_epoch, WaveletRestoration())

    def training_step(self, batch, _):
        """Return the loss of a uint8 batch [N, H, W, 3]."""
        seed = self.recipe.optimization.seed
        images = augment(as_network_input(batch), self.recipe.augmentation, seed,
                         self.global_step, self.share)
        generator = np.random.default_rng((seed, self.global_step, 4))
        count = len(batch) * self.share.count
        sizes = np.exp(generator.uniform(*np.log(BYTES_OF_STREAMS), count))
        reached = generator.integers(1, len(level_sizes(*images.shape[2:])) + 1, count)
        refining = generator.random(count) < 0.5
        cuts = self._cut(images, *map(self.share.of, (sizes, reached, refining)))
        restored, inverse = self.network(*cuts, *images.shape[2:])
        typical = torch.tensor(TYPICAL_PSNR_DB, device=images.device)[cuts.planes]
        before = _squared_errors(inverse.detach(), images) + 10 ** (-typical / 10)
        loss = 2 * (_squared_errors(restored, images) / before).mean()
        self.log('train_relative_mse', loss, prog_bar=True)
        return loss

    @staticmethod
    def _cut(images: torch.Tensor, *position: np.ndarray) -> _Cut:
        """Return what is known of images cut at (bytes, reached, refining)."""
        sizes, reached, refining = (torch.from_numpy(part).to(images.device)
                                    for part in position)
        with torch.autocast(images.device.type, enabled=False), torch.no_grad():
            levels, bases = principal_analysis(images)
            planes = planes_of_bytes(levels, sizes)
            return _Cut(cut(levels, planes, reached, refining), planes, bases)

    def _restored(self, images: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what averaged weights make of images at the plane's end, and inverses."""
        count = len(images)
        cuts = self._cut(images, np.full(count, size), np.full(count, PLANES),
                         np.full(count, True))
        return self.averaged(*cuts, *images.shape[2:])

    def validation_step(self, batch, _):
        """Log the mean PSNR over a few budgets, and what it gains on the inverse transform."""
        images = as_network_input(batch)
        psnr, inverse_psnr = [], []
        for size in VALIDATION_BYTES:
            restored, inverse = self._restored(images, size)
            psnr.append(_psnr_db(restored, images))
            inverse_psnr.append(_psnr_db(inverse, images))
        means, inverse_means = torch.stack(psnr).mean(0), torch.stack(inverse_psnr).mean(0)
        self.log_validation(psnr_db=means, loss=-means, gain_db=means - inverse_means)

    def preview(self, images: torch.Tensor) -> torch.Tensor:
        """Return uint8 images [N, H, W, 3] as they look in some 500 bytes."""
        restored, _ = self._restored(as_network_input(images), 480)
        return restored.clamp(0, 1)


def planes_of_bytes(levels: list[torch.Tensor], sizes: torch.Tensor) -> torch.Tensor:
    """
    Return the bit planes that streams probably end in, int64 [N].

    Whatever the image and the budget, a stream has about as many significant coefficients.

    :param levels: of images, as networks.wavelet_transform.principal_analysis() returns them.
    :param sizes: of the streams in bytes, [N].
    """
    coefficients = torch.cat([level.flatten(1) for level in levels], 1).abs()
    significant = torch.stack([(coefficients >= threshold(plane)).sum(1)
                               for plane in range(PLANES)])
    ended = significant >= 8 * sizes / BITS_A_COEFFICIENT
    return (~ended).sum(0).clamp(max=PLANES - 1)


def _squared_errors(images: torch.Tensor, originals: torch.Tensor) -> torch.Tensor:
    return (images - originals).square().mean((1, 2, 3))


def _psnr_db(images: torch.Tensor, originals: torch.Tensor) -> torch.Tensor:
    return -10 * torch.log10(_squared_errors(images.clamp(0, 1), originals))


class WaveletRestorationTask(Task):
    """The decoder of the wavelet codec."""

    NetworkRecipe = WaveletRestorationRecipe
    monitor = 'validation_loss'
    divides_batches = True
    curves = Curves('train_relative_mse', 'training loss: squared error left',
                    'validation_gain_db', 'validation gain, dB')

    def __init__(self, recipe, files):
        super().__init__(recipe, files)
        augmentation = recipe.augmentation
        side = augmentation.crop_size or recipe.data.input_size
        if side % SCALE:
            raise RecipeError(f'{recipe.name}: images of {side} pixels a side: must be a multiple '
                              f'of {SCALE}')

    def create_module(self, steps_per_epoch: int) -> WaveletRestorationTraining:
        """Return a decoder that changes nothing that the inverse transform gives."""
        return WaveletRestorationTraining(self.recipe, steps_per_epoch)

    def start_from_weights(self, module: WaveletRestorationTraining, weights: Path) -> str:
        """Start with the decoder of weights."""
        module.network.load_state_dict(load_restoration(weights, CODEC).state_dict())
        return start_of_weights(weights, 'restoration')

    def start_from_data(self, module: WaveletRestorationTraining,
                        training: list[ImageArray]) -> None:
        """Set the points of dequantization to the means of training coefficients."""
        images = np.concatenate([array.images[::max(1, len(array) // IMAGES_OF_THE_START)]
                                 for array in training[:1]])
        network = module.network
        levels, _ = principal_analysis(as_network_input(torch.from_numpy(images)))
        with torch.no_grad():
            for plane in range(PLANES):
                for index, level in enumerate(levels):
                    magnitudes = level.abs() / threshold(plane)
                    points = network.points[fineness(index, len(levels))]
                    for row, chosen in ((0, (magnitudes >= 1) & (magnitudes < 2)),
                                        (1, magnitudes >= 2)):
                        found = magnitudes[chosen]
                        if len(found):
                            points[row, plane] = (found - found.floor()).mean()

    def validation_images(self, validation: ImageArray):
        """Return as many images as the recipe wants."""
        return evenly_spaced(validation.images, self.recipe.network.validation_limit)

    def export(self, module: WaveletRestorationTraining, training: list[ImageArray],
               weights: Path) -> None:
        """
        Write restoration.safetensors.

        :raises WeightsError: if no entropy model lies beside it, so that no packet can be made.
        """
        write_part(weights, CODEC, 'restoration', {},
                   {NETWORK_PREFIX + key: tensor.contiguous().numpy()
                    for key, tensor in module.averaged.state_dict().items()})
        if not has_weights_file(weights_path(weights, 'context')):
            raise WeightsError(f'{weights}: holds no context.safetensors: train wavelet_context '
                               'with the same --weights first, then give this command again')

    def write_card(self, weights: Path, recipe_path: Path, run: RunSummary,
                   sets: dict[str, ImageArray]) -> dict:
        """Measure packets of the codec, with the entropy model that lies beside the decoder."""
        return write_codec_card(weights, CODEC, self.recipe, recipe_path, run, sets, {
            'network': 'bit planes of CDF 9/7 wavelet coefficients, corrected by a U-Net',
            'start': run.start or 'the inverse transform alone',
            'entropy model': 'see context_card.md'})
