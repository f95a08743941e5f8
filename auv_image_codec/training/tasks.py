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
What can be trained: a recipe's ``network.type`` chooses a task.

A task knows the entries of its recipes' ``network`` section, its images, its Lightning module, how
to write weights and how to describe them. Everything else (batches, checkpoints, resuming,
logs, pictures) is the same for all of them: auv_image_codec.training.train.

To add one: derive from Task in a module of its own, and name it in TASKS.
"""
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
import importlib
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset, IterableDataset

from auv_image_codec.errors import RecipeError
from auv_image_codec.training.data import ImageArray, is_url, load_shard, TrainingBatches
from auv_image_codec.training.model_card import RunSummary
from auv_image_codec.training.module import TrainingModule
from auv_image_codec.training.recipe import parse_recipe, Recipe

# Loaded when they are asked for: no task needs what another one imports.
TASKS = {
    'autoencoder': 'auv_image_codec.training.autoencoder_task.AutoencoderTask',
    'enhancer': 'auv_image_codec.training.enhancer_task.EnhancerTask',
    'wavelet_context': 'auv_image_codec.training.wavelet_context_task.WaveletContextTask',
    'wavelet_restoration':
        'auv_image_codec.training.wavelet_restoration_task.WaveletRestorationTask',
}


@dataclass(frozen=True)
class RunFiles:
    """
    Where a run's files are.

    :param data_directory: what the recipe's relative paths are relative to.
    :param run_directory: of this run; what is decoded goes beside it, for all runs.
    """

    data_directory: Path
    run_directory: Path

    @property
    def decoded_directory(self) -> Path:
        """The directory of decoded shards, shared by all runs beside this one."""
        return Path(self.run_directory).parent / 'decoded'

    def resolve(self, name: str) -> Path | str:
        """Return the path that a recipe's entry means; a URL stays as it is."""
        return name if is_url(name) else Path(self.data_directory) / name


@dataclass(frozen=True)
class Curves:
    """What the picture of a run shows: names of logged values, and what to call them."""

    loss: str = 'train_mse'
    loss_label: str = 'training loss: mean squared error'
    validation: str = 'validation_psnr_db'
    validation_label: str = 'validation PSNR, dB (unquantized)'


class Task(ABC):
    """
    One kind of network to train.

    :param recipe: of the run, with ``network`` an instance of NetworkRecipe.
    :param files: where the run's files are.
    :raises RecipeError: if entries do not fit one another.
    """

    NetworkRecipe: type             # dataclass with the entries of the recipe's network section
    monitor = 'validation_mse'      # logged by validation_step; the lowest gives best.ckpt
    curves = Curves()
    card = 'model_card.md'          # what write_card writes
    # whether shares of a batch, one for each of several processes, add up to the whole batch
    divides_batches = False

    def __init__(self, recipe: Recipe, files: RunFiles):
        self.recipe = recipe
        self.files = files

    def load_images(self, name: str) -> ImageArray:
        """Return the images of a shard that the recipe names; TrainingDataError if it cannot."""
        return load_shard(self.files.resolve(name), self.recipe.data.input_size,
                          self.files.decoded_directory)

    def training_batches(self, training: list[ImageArray], weights: np.ndarray,
                         first_step: Callable[[], int]) -> IterableDataset:
        """Return the batches that the module's training_step gets."""
        return TrainingBatches([array.images for array in training], weights,
                               self.recipe.optimization.batch_size,
                               self.recipe.optimization.seed, first_step,
                               self.recipe.augmentation.crop_size)

    def validation_images(self, validation: ImageArray) -> Dataset:
        """Return the items of which the module's validation_step gets batches."""
        return validation.images

    @abstractmethod
    def create_module(self, steps_per_epoch: int) -> TrainingModule:
        """Return what is trained, at its random start."""

    def start_from_data(self, module: TrainingModule, training: list[ImageArray]) -> None:
        """Give a module a better start than a random one; not called where a run goes on."""

    def start_from_weights(self, module: TrainingModule, weights: Path) -> str:
        """
        Start with a codec's weights; return how the model card names them.

        :raises RecipeError: if networks of this type can't.
        :raises WeightsError: if weights are missing or malformed.
        """
        raise RecipeError(f'{self.recipe.name}: a recipe of type {self.recipe.network.type} '
                          'cannot start from weights')

    @abstractmethod
    def export(self, module: TrainingModule, training: list[ImageArray], weights: Path) -> None:
        """Write the weights files of a trained module, on the CPU, to the directory weights."""

    @abstractmethod
    def write_card(self, weights: Path, recipe_path: Path, run: RunSummary,
                   sets: dict[str, ImageArray]) -> dict:
        """Measure exported weights on sets of images, write the card, return the results."""


def task_class(name: str) -> type[Task]:
    """Return the task of a network type."""
    module, _, attribute = TASKS[name].rpartition('.')
    return getattr(importlib.import_module(module), attribute)


def load_recipe(path: Path) -> Recipe:
    """
    Read and check a recipe.

    :raises RecipeError: naming the entry and what it may be.
    """
    return parse_recipe(path, _NetworkRecipes())


def create_task(recipe: Recipe, files: RunFiles) -> Task:
    """
    Return the task of a recipe.

    :raises RecipeError: if the recipe's entries do not fit one another.
    """
    crop, size = recipe.augmentation.crop_size, recipe.data.input_size
    if crop > size:
        raise RecipeError(f'{recipe.name}: augmentation.crop_size: is {crop}, more than the '
                          f'{size} pixels of data.input_size')
    return task_class(recipe.network.type)(recipe, files)


class _NetworkRecipes(dict[str, Any]):
    """The network section of each task by its type, imported when it is asked for."""

    def __init__(self):
        super().__init__(TASKS)

    def __getitem__(self, name: str) -> type:
        return task_class(name).NetworkRecipe
