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
"""One training step of the autoencoder, as Lightning wants it."""
from copy import deepcopy

import lightning
import torch
from torch import nn
from torch.nn import functional

from auv_image_codec.networks.autoencoder import AutoencoderDecoder, AutoencoderEncoder
from auv_image_codec.training.augmentation import augment
from auv_image_codec.training.data import as_network_input
from auv_image_codec.training.recipe import Recipe


class Autoencoder(nn.Module):
    """Both halves, joined for training."""

    def __init__(self, recipe: Recipe):
        super().__init__()
        network = recipe.network
        self.encoder = AutoencoderEncoder(network.latent_dim, network.encoder_cell_channels)
        self.decoder = AutoencoderDecoder(network.latent_dim)

    def forward(self, images):
        """Reconstruct float images [N, 3, 224, 224] in 0..1."""
        return self.decoder(self.encoder(images))

    def direct_parameters(self):
        """Return the parameters that start as principal components."""
        return [*self.encoder.direct.parameters(), *self.encoder.to_latent.parameters(),
                *self.decoder.direct.parameters(), *self.decoder.from_latent.parameters()]


class AutoencoderTraining(lightning.LightningModule):
    """
    Adam on the mean squared error; validation reports it, and PSNR, of the averaged weights.

    Progress is counted in steps, never in Lightning's epochs: batches and the learning rate are
    functions of the step alone, so a run goes on exactly where a checkpoint was written.

    :param recipe: the run's recipe.
    :param steps_per_epoch: of the training images at the recipe's batch size.
    """

    def __init__(self, recipe: Recipe, steps_per_epoch: int):
        super().__init__()
        self.recipe = recipe
        self.steps_per_epoch = steps_per_epoch
        self.network = Autoencoder(recipe)
        # a copy that averages the last few hundred steps' weights: what is validated and shipped
        self.averaged = deepcopy(self.network).requires_grad_(False)

    def restart_average(self) -> None:
        """Set the averaged copy to the network's present weights."""
        self.averaged.load_state_dict(self.network.state_dict())

    def training_step(self, batch, _):
        """Return the mean squared error of a uint8 batch [N, H, W, 3]."""
        images = augment(as_network_input(batch), self.recipe.augmentation,
                         self.recipe.optimization.seed, self.global_step)
        images = images.to(memory_format=torch.channels_last)
        loss = functional.mse_loss(self.network(images), images)
        self.log('train_mse', loss, prog_bar=True)
        return loss

    def on_train_batch_end(self, *_):
        """Move the averaged copy towards the network."""
        # a short horizon at first: the start must not linger in the average
        decay = min(self.recipe.optimization.averaging_decay,
                    self.global_step / (self.global_step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.averaged.parameters()),
                                 list(self.network.parameters()), 1 - decay)

    def validation_step(self, batch, _):
        """Log the mean over images of the mean squared error and of PSNR."""
        images = as_network_input(batch)
        errors = (self.averaged(images).clamp(0, 1) - images).square().mean((1, 2, 3))
        self.log('validation_mse', errors.mean(), prog_bar=True, batch_size=len(images))
        self.log('validation_psnr_db', (-10 * torch.log10(errors)).mean(), prog_bar=True,
                 batch_size=len(images))

    def configure_optimizers(self):
        """Adam; the learning rate warms up, then falls by gamma every few epochs."""
        optimization = self.recipe.optimization
        direct = self.network.direct_parameters()
        direct_ids = {id(p) for p in direct}
        deep = [p for p in self.network.parameters() if id(p) not in direct_ids]
        rate = optimization.learning_rate
        optimizer = torch.optim.Adam([
            {'params': deep, 'lr': rate},
            {'params': direct, 'lr': rate * optimization.direct_path_learning_rate_factor}])

        def factor(step: int) -> float:
            epoch = step // self.steps_per_epoch
            warmup = min(1.0, (step + 1) / max(1, optimization.warmup_steps))
            return warmup * optimization.learning_rate_gamma ** (
                epoch // optimization.learning_rate_step_epochs)

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {'optimizer': optimizer,
                'lr_scheduler': {'scheduler': schedule, 'interval': 'step'}}
