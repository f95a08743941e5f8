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
"""What the Lightning modules of all tasks share: averaged weights, optimizer, schedule."""
from copy import deepcopy
import math

import lightning
import torch
from torch import nn

from auv_image_codec.training.data import as_network_input, Share
from auv_image_codec.training.recipe import OptimizationRecipe, Recipe


class TrainingModule(lightning.LightningModule):
    """
    A network, an averaged copy of it, and their optimizer.

    A derived class has a training_step and a validation_step that logs what its task monitors.

    Progress is counted in steps, never in Lightning's epochs: batches and the learning rate are
    functions of the step alone, so a run goes on exactly where a checkpoint was written.

    ``share`` is what this process sees of every batch: all of it, unless it is set. ``start``
    says what other weights the run went on from, if any.

    :param recipe: the run's recipe.
    :param steps_per_epoch: of the training images at the recipe's batch size.
    :param network: what is trained and averaged.
    """

    share = Share()
    start = ''

    def __init__(self, recipe: Recipe, steps_per_epoch: int, network: nn.Module):
        super().__init__()
        self.recipe = recipe
        self.steps_per_epoch = steps_per_epoch
        self.network = network
        # a copy that averages the last few hundred steps' weights: what is validated and shipped
        self.averaged = deepcopy(network).requires_grad_(False)

    def restart_average(self) -> None:
        """Set the averaged copy to the network's present weights."""
        self.averaged.load_state_dict(self.network.state_dict())

    def on_save_checkpoint(self, checkpoint):
        """Keep what the run began with, for the model card of a run that goes on."""
        checkpoint['start'] = self.start

    def on_load_checkpoint(self, checkpoint):
        """Read it again."""
        self.start = checkpoint.get('start', '')

    def on_train_batch_end(self, *_):
        """Move the averaged copy towards the network."""
        # a short horizon at first: the start must not linger in the average
        decay = min(self.recipe.optimization.averaging_decay,
                    self.global_step / (self.global_step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.averaged.parameters()),
                                 list(self.network.parameters()), 1 - decay)
            for averaged, present in zip(self.averaged.buffers(), self.network.buffers()):
                averaged.copy_(present)

    def log_validation(self, **values: torch.Tensor) -> None:
        """Log means over all validation images, of values [N] of a batch's images."""
        for name, of_images in values.items():
            # a float: Lightning would cut the mean batch size of several processes to an integer
            self.log(f'validation_{name}', of_images.mean(), prog_bar=True, sync_dist=True,
                     batch_size=float(len(of_images)))

    def preview(self, images: torch.Tensor) -> torch.Tensor:
        """Return what the averaged network makes of uint8 images [N, H, W, 3], float, 0..1."""
        return self.averaged(as_network_input(images)).clamp(0, 1)

    def parameter_groups(self) -> list[dict]:
        """Return the optimizer's groups; their ``lr``, if any, is where the schedule starts."""
        return [{'params': list(self.network.parameters())}]

    def configure_optimizers(self):
        """Return what the recipe's optimization section says, as Lightning wants it."""
        optimization = self.recipe.optimization
        kind = {'adam': torch.optim.Adam, 'adamw': torch.optim.AdamW}[optimization.optimizer]
        options = {'weight_decay': optimization.weight_decay} if kind is torch.optim.AdamW else {}
        optimizer = kind(self.parameter_groups(), lr=optimization.learning_rate, **options)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate_factor(optimization, self.steps_per_epoch, step))
        return {'optimizer': optimizer,
                'lr_scheduler': {'scheduler': schedule, 'interval': 'step'}}


def learning_rate_factor(optimization: OptimizationRecipe, steps_per_epoch: int,
                         step: int) -> float:
    """
    Return what the learning rate is multiplied with at a step.

    It rises evenly over the warm-up, and falls by gamma every few epochs, or along half a cosine
    from the first step to 0 at the last.
    """
    warmup = min(1.0, (step + 1) / max(1, optimization.warmup_steps))
    if optimization.learning_rate_schedule == 'cosine':
        share = min(1.0, step / max(1, optimization.epochs * steps_per_epoch))
        return warmup * 0.5 * (1 + math.cos(math.pi * share))
    return warmup * optimization.learning_rate_gamma ** (
        step // steps_per_epoch // optimization.learning_rate_step_epochs)
