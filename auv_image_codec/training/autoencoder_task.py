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
"""Training the autoencoder: the mean squared error of what the decoder gives back."""
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from auv_image_codec.errors import RecipeError
from auv_image_codec.networks.autoencoder import (
    AutoencoderDecoder, AutoencoderEncoder, INPUT_SIZE,
)
from auv_image_codec.training.augmentation import augment
from auv_image_codec.training.closed_form import start_from_principal_components
from auv_image_codec.training.data import as_network_input, ImageArray
from auv_image_codec.training.export import CODEC, export_autoencoder
from auv_image_codec.training.model_card import RunSummary, write_codec_card
from auv_image_codec.training.module import TrainingModule
from auv_image_codec.training.recipe import number
from auv_image_codec.training.tasks import Curves, Task


@dataclass(frozen=True)
class AutoencoderRecipe:
    """The network section of a recipe that trains the autoencoder."""

    type: str                                                   # noqa: A003 (the recipe's word)
    latent_dim: int = number(500, 1, 4096)
    encoder_cell_channels: int = number(128, 1, 256)
    principal_components_start: bool = True
    direct_path_learning_rate_factor: float = number(1.0, 0, 1)     # of what that start finds
    quantization_step: float = number(0.25, 1e-6, 1e6)  # of the latent, see training.calibration
    quantization_aware: bool = False    # train and validate with latents of whole steps


class Autoencoder(nn.Module):
    """
    Both halves, joined for training.

    With ``quantization_aware``, the decoder gets the nearest multiples of the quantization step,
    as packets bring them, and gradients pass as if it got the latent itself. Principal components
    have the packet's units (training.calibration) and learn slowly, so that they keep them.
    """

    def __init__(self, network: AutoencoderRecipe):
        super().__init__()
        self._step = network.quantization_step if network.quantization_aware else 0
        self.encoder = AutoencoderEncoder(network.latent_dim, network.encoder_cell_channels)
        self.decoder = AutoencoderDecoder(network.latent_dim)

    def forward(self, images):
        """Reconstruct float images [N, 3, 224, 224] in 0..1."""
        latents = self.encoder(images)
        if self._step:
            whole = (latents / self._step).round() * self._step
            latents = latents + (whole - latents).detach()
        return self.decoder(latents)

    def direct_parameters(self):
        """Return the parameters that start as principal components."""
        return [*self.encoder.direct.parameters(), *self.encoder.to_latent.parameters(),
                *self.decoder.direct.parameters(), *self.decoder.from_latent.parameters()]


class AutoencoderTraining(TrainingModule):
    """The mean squared error; validation reports it, and PSNR, of the averaged weights."""

    def training_step(self, batch, _):
        """Return the mean squared error of a uint8 batch [N, H, W, 3]."""
        images = augment(as_network_input(batch), self.recipe.augmentation,
                         self.recipe.optimization.seed, self.global_step, self.share)
        images = images.to(memory_format=torch.channels_last)
        loss = functional.mse_loss(self.network(images), images)
        self.log('train_mse', loss, prog_bar=True, sync_dist=True)
        return loss

    def validation_step(self, batch, _):
        """Log the mean over images of the mean squared error and of PSNR."""
        images = as_network_input(batch)
        errors = (self.averaged(images).clamp(0, 1) - images).square().mean((1, 2, 3))
        self.log_validation(mse=errors, psnr_db=-10 * torch.log10(errors))

    def parameter_groups(self) -> list[dict]:
        """Return the deep paths, and the direct ones at their own learning rate."""
        direct = self.network.direct_parameters()
        direct_ids = {id(p) for p in direct}
        deep = [p for p in self.network.parameters() if id(p) not in direct_ids]
        rate = (self.recipe.optimization.learning_rate
                * self.recipe.network.direct_path_learning_rate_factor)
        return [{'params': deep}, {'params': direct, 'lr': rate}]


class AutoencoderTask(Task):
    """Both halves of the autoencoder."""

    NetworkRecipe = AutoencoderRecipe
    divides_batches = True

    def __init__(self, recipe, files):
        super().__init__(recipe, files)
        if recipe.data.input_size != INPUT_SIZE or recipe.augmentation.crop_size:
            raise RecipeError(
                f'{recipe.name}: an autoencoder takes whole images of {INPUT_SIZE} pixels a side: '
                'leave out data.input_size and augmentation.crop_size')
        if recipe.network.quantization_aware:
            if not recipe.network.principal_components_start:
                raise RecipeError(
                    f'{recipe.name}: network.quantization_aware: needs '
                    'network.principal_components_start: the latents of a random start have no '
                    'unit to quantize in')
            self.curves = Curves(validation_label='validation PSNR, dB (quantized)')

    def create_module(self, steps_per_epoch: int) -> AutoencoderTraining:
        """Return what is trained, at its random start."""
        return AutoencoderTraining(self.recipe, steps_per_epoch, Autoencoder(self.recipe.network))

    def start_from_data(self, module: AutoencoderTraining, training: list[ImageArray]) -> None:
        """Start from principal components, if the recipe wants to."""
        if self.recipe.network.principal_components_start:
            network = module.network
            start_from_principal_components(network.encoder, network.decoder, training,
                                            self.recipe.optimization.seed)

    def export(self, module: AutoencoderTraining, training: list[ImageArray],
               weights: Path) -> None:
        """Write encoder.safetensors and decoder.safetensors."""
        export_autoencoder(module.averaged.encoder, module.averaged.decoder,
                           self.recipe.network.quantization_step, training, weights)

    def write_card(self, weights: Path, recipe_path: Path, run: RunSummary,
                   sets: dict[str, ImageArray]) -> dict:
        """Measure packets of the exported codec."""
        network = self.recipe.network
        facts = {'network': f'{network.type}, latent of {network.latent_dim} dimensions',
                 'start': 'principal components of the training images, in closed form'
                 if network.principal_components_start else 'random',
                 'trained with': 'latents of whole quantization steps'
                 if network.quantization_aware else 'latents as they are, not quantized'}
        return write_codec_card(weights, CODEC, self.recipe, recipe_path, run, sets, facts)
