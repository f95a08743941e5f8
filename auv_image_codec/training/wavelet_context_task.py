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
"""Training the wavelet codec's entropy model: the fewest bits for every bit plane."""
from dataclasses import dataclass
import math
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from tqdm import tqdm

from auv_image_codec.codecs.wavelet import colour_tensors
from auv_image_codec.codecs.wavelet_entropy import entropy_tensors, WaveletEntropyModel
from auv_image_codec.codecs.weights import read_weights, write_part
from auv_image_codec.networks.bit_planes import PLANES, threshold
from auv_image_codec.networks.colour_bases import find_bases
from auv_image_codec.networks.wavelet_context import (
    coded_before, enlarged, features, fineness, group_masks, WaveletContext,
)
from auv_image_codec.networks.wavelet_transform import (
    band_masks, BANDS, principal_analysis,
)
from auv_image_codec.training.augmentation import augment
from auv_image_codec.training.data import as_network_input, evenly_spaced, ImageArray
from auv_image_codec.training.model_card import card_heading, card_provenance, RunSummary
from auv_image_codec.training.module import TrainingModule
from auv_image_codec.training.recipe import number, Recipe
from auv_image_codec.training.tasks import Curves, Task
from auv_image_codec.training.wavelet_tables import count_tables

CODEC = 'wavelet'
# how often each bit plane is trained on: most where packets of 100 to 2,000 bytes end
PLANE_SHARES = (1, 1, 1, 1, 2, 3, 4, 5, 6, 6, 6, 4, 2, 1)
VALIDATION_PLANES = (5, 6, 7, 8, 9, 10)
PARTS_OF_A_BATCH = 3        # each at a bit plane of its own


@dataclass(frozen=True)
class WaveletContextRecipe:
    """The network section of a recipe that trains the wavelet codec's entropy model."""

    type: str                                               # noqa: A003 (the recipe's word)
    validation_limit: int = number(60, 1, 1_000_000)        # images, evenly spaced


def plane_bits(network: WaveletContext, levels: list[torch.Tensor], plane: int) -> torch.Tensor:
    """
    Return the bits of a plane's significance decisions and signs, float [N].

    Every group of coefficients is coded with what a decoder knows by then.

    :param levels: coefficients of images, float [N, 9, h, w] each, coarsest first.
    :param plane: the bit plane.
    """
    bits = levels[0].new_zeros(len(levels[0]))
    planes = torch.full((len(bits),), plane, device=bits.device)
    parent = torch.zeros_like(levels[0]).repeat(1, 2, 1, 1)
    masks = band_masks(*_image_size(levels))
    for index, level in enumerate(levels):
        kind = fineness(index, len(levels))
        magnitudes = torch.floor(level.abs() / threshold(plane))
        before = 2 * torch.floor(magnitudes / 2)
        old, significant = before > 0, magnitudes > 0
        after = torch.where(old, before, significant.to(before.dtype))
        signs = torch.sign(level)
        active = significant.flatten(1).any(1)
        if active.any():
            groups = (group_masks(kind, *level.shape[2:]) & masks[index]).to(level.device)
            done = coded_before(groups)
            known = done.expand(len(level), *done.shape)
            own = features(torch.where(known, after[:, None], before[:, None]).flatten(0, 1),
                           (signs[:, None] * (old[:, None] | (known & significant[:, None]))
                            ).flatten(0, 1))
            logits = network(
                kind, own, network.coded_sums(kind, done.to(own.dtype)),
                network.above_sums(kind, enlarged(parent, *level.shape[2:]), planes), planes)
            logits = logits.unflatten(0, (len(level), len(groups)))
            coded = groups & ~old[:, None] & active[:, None, None, None, None]
            significant, positive = significant[:, None], (signs > 0)[:, None]
            nats = _cross_entropy(logits[:, :, :BANDS], significant) * coded
            nats += _cross_entropy(logits[:, :, BANDS:], positive) * (coded & significant)
            bits = bits + nats.sum((1, 2, 3, 4)) / math.log(2)
            parent = features(after, signs * significant[:, 0])
        else:
            parent = torch.zeros_like(level).repeat(1, 2, 1, 1)
    return bits


def _image_size(levels: list[torch.Tensor]) -> tuple[int, int]:
    """Return height and width of the images, which are even."""
    height, width = levels[-1].shape[2:]
    return 2 * height, 2 * width


def _cross_entropy(logits: torch.Tensor, outcomes: torch.Tensor) -> torch.Tensor:
    return functional.binary_cross_entropy_with_logits(
        logits, outcomes.to(logits.dtype).expand_as(logits), reduction='none')


class WaveletContextTraining(TrainingModule):
    """
    The logarithm of each bit plane's bits: one percent less counts the same in every plane.

    :param recipe: the run's recipe.
    :param steps_per_epoch: of the training images at the recipe's batch size.
    """

    def __init__(self, recipe: Recipe, steps_per_epoch: int):
        super().__init__(recipe, steps_per_epoch, WaveletContext())

    def training_step(self, batch, _):
        """Return the loss of a uint8 batch [N, H, W, 3]."""
        seed = self.recipe.optimization.seed
        images = augment(as_network_input(batch), self.recipe.augmentation, seed,
                         self.global_step)
        generator = np.random.default_rng((seed, self.global_step, 3))
        shares = np.array(PLANE_SHARES) / sum(PLANE_SHARES)
        parts = images.chunk(PARTS_OF_A_BATCH)
        planes = generator.choice(PLANES, len(parts), p=shares)
        loss = torch.stack([
            torch.log2(1 + plane_bits(self.network, principal_analysis(part)[0], int(plane)).sum())
            for part, plane in zip(parts, planes)]).mean()
        self.log('train_log2_bits', loss, prog_bar=True)
        return loss

    def validation_step(self, batch, _):
        """Log the logarithm of each plane's bits, averaged, and the bytes of two of them."""
        levels, _ = principal_analysis(as_network_input(batch))
        bits = torch.stack([plane_bits(self.averaged, levels, plane)
                            for plane in VALIDATION_PLANES])
        count = len(batch)
        self.log('validation_log2_bits', torch.log2(1 + bits).mean(), prog_bar=True,
                 batch_size=count)
        for plane in (7, 8, 9):
            self.log(f'validation_bytes_of_plane_{plane}',
                     bits[VALIDATION_PLANES.index(plane)].mean() / 8, prog_bar=True,
                     batch_size=count)

    def preview(self, images: torch.Tensor) -> torch.Tensor:
        """Return uint8 images as they are, float in 0..1: an entropy model changes none."""
        return as_network_input(images)


class WaveletContextTask(Task):
    """The entropy model of the wavelet codec."""

    NetworkRecipe = WaveletContextRecipe
    monitor = 'validation_log2_bits'
    card = 'context_card.md'
    curves = Curves('train_log2_bits', 'training loss: log2 of bits a plane',
                    'validation_log2_bits', 'validation: log2 of bits a plane')

    def create_module(self, steps_per_epoch: int) -> WaveletContextTraining:
        """Return the networks at their start, which calls every coefficient unlikely."""
        return WaveletContextTraining(self.recipe, steps_per_epoch)

    def validation_images(self, validation: ImageArray):
        """Return as many images as the recipe wants."""
        return evenly_spaced(validation.images, self.recipe.network.validation_limit)

    def export(self, module: WaveletContextTraining, training: list[ImageArray],
               weights: Path) -> None:
        """Write context.safetensors: integers only."""
        covariances, activity, refinement = count_tables(training)
        write_part(weights, CODEC, 'context', {}, {
            **colour_tensors(find_bases(covariances)),
            **entropy_tensors(module.averaged, activity, refinement)})

    def write_card(self, weights: Path, recipe_path: Path, run: RunSummary,
                   sets: dict[str, ImageArray]) -> dict:
        """Measure the bytes of each bit plane."""
        network = WaveletEntropyModel(read_weights(weights, CODEC, 'context').tensors).network
        lines = [
            *card_heading(self.recipe, recipe_path, run, {
                'network': 'two convolutions of 3x3 a level, in exact arithmetic'}),
            'Bytes of the significance decisions and signs of each bit plane, mean over images.',
            '', '| set | images | ' + ' | '.join(map(str, range(PLANES))) + ' |',
            '|---' * (PLANES + 2) + '|']
        results = {}
        for name, images in sets.items():
            levels = [
                principal_analysis(as_network_input(torch.from_numpy(np.array(image)[None])))[0]
                for image in tqdm(images.images, desc='transforming', leave=False)]
            with torch.inference_mode():
                means = [float(np.mean([float(plane_bits(network, level, plane)) / 8
                                        for level in levels])) for plane in range(PLANES)]
            results[name] = {'images': len(images), 'mean_bytes_of_planes': means}
            lines.append(f'| {name} ({Path(getattr(self.recipe.data, name)).stem}) '
                         f'| {len(images)} | ' + ' | '.join(f'{mean:.0f}' for mean in means)
                         + ' |')
        lines += card_provenance(self.recipe, run)
        (Path(weights) / self.card).write_text('\n'.join(lines) + '\n')
        return results
