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
"""A guard against divergence: a training run that goes wrong returns to where it was good."""
from copy import deepcopy
import logging
import math

from lightning.pytorch.callbacks import Callback

from auv_image_codec.errors import DivergenceError

KEEP_STEPS = 200            # between two states that are kept, in memory
EXPLOSION_FACTOR = 20       # times the running mean of the loss
RUNNING_MEAN_STEPS = 100
MOST_RETURNS = 5            # to the same state

_LOG = logging.getLogger(__name__)


class DivergenceGuard(Callback):
    """
    Go back to the last good weights when the loss is not finite, or explodes.

    Weights, their average and the optimizer's state return; the count of steps goes on, so that
    the run sees other batches than those that it diverged on.
    """

    def __init__(self):
        self._mean = 0.0
        self._count = 0
        self._kept_step = 0
        self._kept = None
        self._returns = 0

    def state_dict(self) -> dict:
        """Return what a checkpoint must hold for a resumed run to judge its losses alike."""
        return {'mean': self._mean, 'count': self._count}

    def load_state_dict(self, state_dict: dict) -> None:
        """Take up what state_dict returned."""
        self._mean, self._count = state_dict['mean'], state_dict['count']

    def on_train_start(self, trainer, pl_module):
        """Keep the state that this call starts with."""
        self._keep(trainer, pl_module)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        """
        Keep the state now and then, or go back to the one kept.

        :raises DivergenceError: if it keeps diverging from there.
        """
        # the mean over all processes: they must judge alike
        loss = float(trainer.strategy.reduce(outputs['loss'], reduce_op='mean'))
        limit = math.inf
        if self._count >= RUNNING_MEAN_STEPS:
            limit = EXPLOSION_FACTOR * abs(self._mean)
        if abs(loss) <= limit and math.isfinite(loss):
            self._count += 1
            self._mean += (loss - self._mean) / min(self._count, RUNNING_MEAN_STEPS)
            if trainer.global_step - self._kept_step >= KEEP_STEPS:
                self._keep(trainer, pl_module)
            return
        pl_module.load_state_dict(self._kept['module'])
        trainer.optimizers[0].load_state_dict(deepcopy(self._kept['optimizer']))
        self._returns += 1
        what = f'step {trainer.global_step}: the loss is {loss:.4g} (its mean: {self._mean:.4g})'
        if self._returns > MOST_RETURNS:
            raise DivergenceError(
                f'{what}, again and again from the weights of step {self._kept_step}: lower the '
                'learning rate')
        _LOG.warning('%s: back to the weights of step %d', what, self._kept_step)

    def _keep(self, trainer, pl_module) -> None:
        self._kept = {'module': deepcopy(pl_module.state_dict()),
                      'optimizer': deepcopy(trainer.optimizers[0].state_dict())}
        self._kept_step = trainer.global_step
        self._returns = 0
