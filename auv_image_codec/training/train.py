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
"""A training run from its recipe to weights: start, resume, stop at any time, finish."""
from collections import Counter
from datetime import timedelta
import math
import os
from pathlib import Path
import shutil
import signal
import time
import warnings

import lightning
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.strategies import DDPStrategy
import numpy as np
import torch
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from auv_image_codec.errors import RecipeError, TrainingDataError
from auv_image_codec.training.data import ImageArray, read_manifest, Share
from auv_image_codec.training.figures import (
    draw_loss_curves, draw_reconstructions, write_strip,
)
from auv_image_codec.training.guard import DivergenceGuard
from auv_image_codec.training.model_card import RunSummary
from auv_image_codec.training.recipe import Recipe
from auv_image_codec.training.tasks import create_task, load_recipe, RunFiles, Task

CHECKPOINT_MINUTES = 4
LAST_CHECKPOINT = 'last.ckpt'
BEST_CHECKPOINT = 'best.ckpt'
LOSS_CURVES = 'loss_curves.png'
RECONSTRUCTIONS = 'reconstructions.png'
VALIDATION_BATCH = 36
SHOWN_IMAGES = 6            # of the validation set, in the picture of reconstructions


class _AtomicCheckpointIO(TorchCheckpointIO):
    """Write a checkpoint beside its name first: a stop or a full disk leaves the old one."""

    def save_checkpoint(self, checkpoint, path, storage_options=None):
        partial = f'{path}.partial'
        try:
            super().save_checkpoint(checkpoint, partial, storage_options)
            os.replace(partial, path)
        except OSError as error:
            Path(partial).unlink(missing_ok=True)
            raise TrainingDataError(
                f'{path}: the checkpoint cannot be written: {error}; the one before it is '
                'untouched, and the same command goes on from there') from error


class _StoppedTogether(KeyboardInterrupt):
    """Raised in all processes of a run after the same step."""


class _SaveOnStop(Callback):
    """Save the last checkpoint also when the time is up, on Ctrl-C and on SIGTERM."""

    def __init__(self, path: Path):
        self._path = path

    def on_train_end(self, trainer, pl_module):
        trainer.save_checkpoint(self._path)

    def on_exception(self, trainer, pl_module, exception):
        # saving waits for all processes: only some exceptions are raised in all of them
        if isinstance(exception, _StoppedTogether) or (
                trainer.world_size == 1 and not isinstance(exception, TrainingDataError)):
            trainer.save_checkpoint(self._path)


class _StepProgress(Callback):
    """A bar over the steps of the whole run, wherever this call started and may stop."""

    def __init__(self):
        self._bar = None

    def on_train_start(self, trainer, pl_module):
        self._bar = tqdm(total=trainer.max_steps, initial=trainer.global_step, unit='step',
                         desc=f'training {pl_module.recipe.name}',
                         disable=not trainer.is_global_zero)

    def on_train_batch_end(self, trainer, *_):
        self._bar.set_postfix({name: f'{float(value):.5g}' for name, value in
                               trainer.progress_bar_metrics.items()}, refresh=False)
        self._bar.update(trainer.global_step - self._bar.n)

    def on_train_end(self, *_):
        self._bar.close()

    def on_exception(self, *_):
        if self._bar is not None:
            self._bar.close()


class _StopInTime(Callback):
    """Stop when the time of this call is up; Lightning's max_time counts all calls of a run."""

    def __init__(self, minutes: float):
        self._end = time.monotonic() + 60 * minutes

    def on_train_batch_end(self, trainer, *_):
        if self._end < math.inf:
            # clocks differ: one decision for all processes
            trainer.should_stop |= trainer.strategy.reduce_boolean_decision(
                time.monotonic() >= self._end, all=False)


class _StopTogether(Callback):
    """
    Stop several processes after the same step on Ctrl-C and SIGTERM, whichever of them it reached.

    A second signal ends a process at once.
    """

    def __init__(self):
        self._asked = False

    def on_train_start(self, trainer, pl_module):
        # Lightning's own handlers, set before, would stop each process somewhere else
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask)

    def _ask(self, number, _):
        self._asked = True
        signal.signal(number, signal.SIG_DFL)

    def on_train_batch_end(self, trainer, *_):
        if trainer.strategy.reduce_boolean_decision(self._asked, all=False):
            raise _StoppedTogether


class _DrawReconstructions(Callback):
    """Draw a few validation images, as they come back, at every validation."""

    def __init__(self, images: np.ndarray, directory: Path):
        self._images = torch.from_numpy(np.array(images))
        self._directory = directory

    def on_validation_end(self, trainer, pl_module):
        if not trainer.is_global_zero:
            return
        with torch.no_grad():
            shown = pl_module.preview(self._images.to(pl_module.device)).float().cpu()
        write_strip(shown, self._directory / f'{trainer.global_step:08d}.png')


def train(recipe_path: Path, data_directory: Path, run_directory: Path, weights: Path,
          max_minutes: float = math.inf, device: str = 'auto', devices: int = 1,
          start_from: Path | None = None) -> dict:
    """
    Train a recipe, or go on where its run directory stopped, and write weights.

    :param recipe_path: a YAML file of config/train/.
    :param data_directory: what the recipe's relative paths are relative to.
    :param run_directory: checkpoints, logs (CSV and TensorBoard), loss curves and pictures of this
        run; decoded shards go beside it, for all runs.
    :param weights: the directory to write weights and model_card.md to.
    :param max_minutes: stop then, with weights of the best checkpoint so far; the same command
        goes on from there.
    :param device: 'auto', 'cpu' or 'cuda'.
    :param devices: how many of them; each has a process of its own. The first one starts the
        others with its own command line, so more than one are for commands, not for notebooks.
    :param start_from: a directory of weights that a new run starts with, instead of its task's
        own start; a run that goes on has started already.
    :returns: the results that the model card states, by set of images; empty in all processes
        but the first.
    :raises RecipeError: if the recipe is wrong, or not the one the run directory began with, or
        does not suit so many devices, or its networks cannot start from weights.
    :raises TrainingDataError: if images cannot be read or checkpoints cannot be written.
    """
    recipe = load_recipe(recipe_path)
    run_directory = Path(run_directory)
    run_directory.mkdir(parents=True, exist_ok=True)
    _keep_recipe(recipe_path, recipe, run_directory)

    files = RunFiles(Path(data_directory), run_directory)
    task = create_task(recipe, files)
    share = _share(task, device, devices)
    training = [task.load_images(name) for name in recipe.data.train]
    images = sum(map(len, training))
    datasets = _datasets(recipe, training, files)
    validation = task.load_images(recipe.data.validation)
    steps_per_epoch = math.ceil(images / recipe.optimization.batch_size)
    last = run_directory / LAST_CHECKPOINT
    lightning.seed_everything(recipe.optimization.seed, verbose=False)
    module = task.create_module(steps_per_epoch)
    module.share = share
    # all processes begin with the first one's weights
    if not last.is_file() and share.index == 0:
        if start_from is None:
            task.start_from_data(module, training)
        else:
            module.start = task.start_from_weights(module, start_from)
        module.restart_average()
    module.to(memory_format=torch.channels_last)

    shown = validation.images[:SHOWN_IMAGES]
    strips = run_directory / 'reconstructions'
    trainer = _trainer(task, steps_per_epoch, device, devices,
                       [_DrawReconstructions(shown, strips), _StopInTime(max_minutes)])
    best_step = None
    if recipe.optimization.epochs:
        loaders = _loaders(task, training, datasets, validation, trainer, share)
        with warnings.catch_warnings():
            # batches come from memory, and as functions of the step they resume by themselves
            for expected in ('.*does not have many workers', '.*dataloader is not resumable',
                             '.*smaller than the logging interval', '.*exists and is not empty',
                             '.*LeafSpec'):
                warnings.filterwarnings('ignore', expected)
            trainer.fit(module, *loaders, ckpt_path=last if last.is_file() else None,
                        weights_only=True)
        if devices > 1:
            torch.distributed.destroy_process_group()
        if share.index > 0:
            return {}
        best = run_directory / BEST_CHECKPOINT
        if best.is_file():
            state = torch.load(best, map_location='cpu', weights_only=True)
            module.load_state_dict(state['state_dict'])
            best_step = state['global_step']
        draw_loss_curves(run_directory, run_directory / LOSS_CURVES, recipe.name, task.curves)
        draw_reconstructions(shown, strips, run_directory / RECONSTRUCTIONS)
    task.export(module.cpu(), training, weights)
    sets = {'validation': validation}
    if recipe.data.test:
        sets['test'] = task.load_images(recipe.data.test)
    used = str(trainer.strategy.root_device) if devices == 1 else (
        f'{devices} x {trainer.strategy.root_device.type}')
    summary = RunSummary(trainer.global_step, best_step, used, images, Counter(datasets),
                         module.start)
    return task.write_card(weights, recipe_path, summary, sets)


def _keep_recipe(recipe_path: Path, recipe: Recipe, run_directory: Path) -> None:
    kept = run_directory / 'recipe.yaml'
    if not kept.is_file():
        shutil.copyfile(recipe_path, kept)
    elif load_recipe(kept) != recipe:
        raise RecipeError(
            f'{recipe_path}: differs from {kept}, which this run began with; give another run '
            'directory, or remove that one')


def _share(task: Task, device: str, devices: int) -> Share:
    """Return what this process takes of every batch; RecipeError if batches cannot be shared."""
    if devices == 1:
        return Share()
    recipe = task.recipe
    batch_size = recipe.optimization.batch_size
    if not task.divides_batches:
        raise RecipeError(f'{recipe.name}: a recipe of type {recipe.network.type} trains on one '
                          f'device, not on {devices}')
    if batch_size % devices:
        raise RecipeError(f'{recipe.name}: optimization.batch_size: is {batch_size}, must be a '
                          f'multiple of the {devices} devices')
    found = torch.cuda.device_count()
    if device == 'cuda' or device == 'auto' and found:
        if found < devices:
            raise RecipeError(f'{recipe.name}: {devices} devices: there are {found}')
    # set for the processes that the first one starts
    return Share(int(os.environ.get('LOCAL_RANK', 0)), devices)


def _datasets(recipe: Recipe, training: list[ImageArray], files: RunFiles) -> list[str]:
    """Return the dataset of every training image; an empty list if the recipe has no manifest."""
    if not recipe.data.manifest:
        return []
    dataset_of = read_manifest(files.resolve(recipe.data.manifest))
    return [dataset_of.get(key, 'not in the manifest')
            for array in training for key in array.keys]


def _loaders(task: Task, training: list[ImageArray], datasets: list[str], validation: ImageArray,
             trainer: lightning.Trainer, share: Share) -> tuple[DataLoader, DataLoader]:
    recipe = task.recipe
    unknown = set(recipe.data.sampling_weights) - set(datasets)
    if unknown:
        raise RecipeError(
            f'data.sampling_weights: {", ".join(sorted(unknown))}: no such dataset in '
            f'{recipe.data.manifest or "a manifest (the recipe names none)"}')
    weights = [recipe.data.sampling_weights.get(dataset, 1.0) for dataset in datasets]
    weights = np.array(weights) if weights else np.ones(sum(map(len, training)))
    batches = task.training_batches(training, weights, lambda: trainer.global_step)
    batches.share = share
    validated = task.validation_images(validation)
    if share.count > 1:
        if len(validated) < share.count:
            raise RecipeError(f'data.validation: {len(validated)} images are fewer than the '
                              f'{share.count} devices')
        validated = Subset(validated, range(share.index, len(validated), share.count))
    return (DataLoader(batches, batch_size=None),
            DataLoader(validated, batch_size=VALIDATION_BATCH, collate_fn=_stack))


def _stack(items: list) -> torch.Tensor | tuple[torch.Tensor, ...]:
    """Return arrays, or tuples of arrays, as batches; a read-only array is copied."""
    if isinstance(items[0], tuple):
        return tuple(_stack(list(column)) for column in zip(*items))
    return torch.from_numpy(np.stack(items))


def _trainer(task: Task, steps_per_epoch: int, device: str, devices: int,
             callbacks: list[Callback]) -> lightning.Trainer:
    recipe, run_directory = task.recipe, task.files.run_directory
    max_steps = recipe.optimization.epochs * steps_per_epoch
    patience = recipe.optimization.early_stopping_validations
    if patience:
        callbacks = [*callbacks, EarlyStopping(task.monitor, patience=patience)]
    if devices > 1:
        callbacks = [*callbacks, _StopTogether()]
    # saved last: a checkpoint must hold what the other callbacks learned from this validation
    checkpoints = [
        ModelCheckpoint(run_directory, filename=Path(LAST_CHECKPOINT).stem,
                        train_time_interval=timedelta(minutes=CHECKPOINT_MINUTES),
                        enable_version_counter=False),
        _SaveOnStop(run_directory / LAST_CHECKPOINT),
        ModelCheckpoint(run_directory, filename=Path(BEST_CHECKPOINT).stem,
                        monitor=task.monitor, save_weights_only=True,
                        save_on_train_epoch_end=False, enable_version_counter=False)]
    return lightning.Trainer(
        accelerator={'cuda': 'gpu'}.get(device, device), devices=devices,
        # buffers are functions of what all processes know: nothing to bring from the first one
        strategy=DDPStrategy(broadcast_buffers=False) if devices > 1 else 'auto',
        use_distributed_sampler=False,
        precision={'bfloat16': 'bf16-mixed'}.get(recipe.optimization.precision, '32-true'),
        max_steps=max_steps, max_epochs=-1,
        val_check_interval=recipe.optimization.validation_interval_steps,
        check_val_every_n_epoch=None, num_sanity_val_steps=0,
        gradient_clip_val=recipe.optimization.gradient_clip_norm or None,
        callbacks=[_StepProgress(), DivergenceGuard(), *callbacks, *checkpoints],
        enable_progress_bar=False,
        plugins=[_AtomicCheckpointIO()],
        logger=[CSVLogger(run_directory, 'log'), TensorBoardLogger(run_directory, 'tensorboard')],
        log_every_n_steps=20, enable_model_summary=False)
