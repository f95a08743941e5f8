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
"""Training recipes: YAML files in config/train/, checked in full before anything runs."""
from dataclasses import dataclass, field, fields, MISSING
from pathlib import Path
from typing import Any

import yaml

from auv_image_codec.errors import RecipeError


@dataclass(frozen=True)
class NetworkRecipe:
    """What is trained."""

    type: str                               # noqa: A003 (the recipe's own word)
    latent_dim: int = 500
    encoder_cell_channels: int = 128


@dataclass(frozen=True)
class DataRecipe:
    """What it is trained on; relative paths are relative to the data directory."""

    train: list[str]
    validation: str
    manifest: str = ''
    test: str = ''                                      # reported on, never selected by
    sampling_weights: dict[str, float] = field(default_factory=dict)    # by dataset, else 1


@dataclass(frozen=True)
class AugmentationRecipe:
    """How images are varied, see training.augmentation; half of them are mirrored in any case."""

    smallest_crop: float = 1.0                          # share of the sides; 1: no crops
    colour_jitter: float = 0.0                          # of gain and curve of each channel
    turbidity: float = 0.0                              # most light that a veil takes


@dataclass(frozen=True)
class OptimizationRecipe:
    """How: Adam with a learning rate that falls in steps, on the mean squared error."""

    epochs: int = 30
    batch_size: int = 32
    learning_rate: float = 1e-3
    learning_rate_step_epochs: int = 15
    learning_rate_gamma: float = 0.8
    principal_components_start: bool = True
    direct_path_learning_rate_factor: float = 1.0       # of the layers that start is found for
    averaging_decay: float = 0.0                        # 0: no averaged copy of the weights
    warmup_steps: int = 0
    gradient_clip_norm: float = 1.0
    validation_interval_steps: int = 500
    early_stopping_validations: int = 0                 # without improvement; 0: never
    seed: int = 0


@dataclass(frozen=True)
class Recipe:
    """A training run, in full."""

    name: str
    network: NetworkRecipe
    data: DataRecipe
    optimization: OptimizationRecipe
    augmentation: AugmentationRecipe = AugmentationRecipe()
    quantization_step: float = 0.25         # of the latent, see training.calibration


def load_recipe(path: Path) -> Recipe:
    """
    Read and check a recipe.

    :raises RecipeError: naming the entry and what it may be.
    """
    try:
        entries = yaml.safe_load(Path(path).read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f'{path}: cannot be read: {error}') from error
    except yaml.YAMLError as error:
        raise RecipeError(f'{path}: not YAML: {error}') from error
    recipe = _build(Recipe, entries, f'{path}')
    _check(recipe, path)
    return recipe


def _build(section: type, entries: Any, where: str) -> Any:
    if not isinstance(entries, dict):
        raise RecipeError(f'{where}: must be a mapping, not {type(entries).__name__}')
    known = {f.name: f for f in fields(section)}
    for key in entries:
        if key not in known:
            raise RecipeError(f'{where}: unknown entry {key!r}; known are {", ".join(known)}')
    values = {}
    for name, entry in known.items():
        if name not in entries:
            if entry.default is MISSING and entry.default_factory is MISSING:
                raise RecipeError(f'{where}: entry {name!r} is missing')
            continue
        values[name] = _value(entry.type, entries[name], f'{where}: {name}')
    return section(**values)


def _value(kind: Any, value: Any, where: str) -> Any:
    if hasattr(kind, '__dataclass_fields__'):
        return _build(kind, value, where)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    container = getattr(kind, '__origin__', None)
    if container is list:
        if isinstance(value, list) and all(isinstance(v, str) for v in value) and value:
            return value
        raise RecipeError(f'{where}: must be a list of file names, not {value!r}')
    if container is dict:
        if isinstance(value, dict) and all(
                isinstance(v, (int, float)) and not isinstance(v, bool) and v >= 0
                for v in value.values()):
            return {str(k): float(v) for k, v in value.items()}
        raise RecipeError(f'{where}: must map datasets to weights of at least 0, not {value!r}')
    if type(value) is not kind:
        raise RecipeError(f'{where}: must be of type {kind.__name__}, not {value!r}')
    return value


def _check(recipe: Recipe, path: Path) -> None:
    optimization = recipe.optimization
    limits = [
        ('network.latent_dim', recipe.network.latent_dim, 1, 4096),
        ('network.encoder_cell_channels', recipe.network.encoder_cell_channels, 1, 256),
        ('optimization.epochs', optimization.epochs, 0, 100_000),
        ('optimization.batch_size', optimization.batch_size, 1, 65_536),
        ('optimization.learning_rate', optimization.learning_rate, 0, 1),
        ('optimization.learning_rate_step_epochs', optimization.learning_rate_step_epochs,
         1, 100_000),
        ('optimization.learning_rate_gamma', optimization.learning_rate_gamma, 0, 1),
        ('optimization.direct_path_learning_rate_factor',
         optimization.direct_path_learning_rate_factor, 0, 1),
        ('optimization.averaging_decay', optimization.averaging_decay, 0, 0.99999),
        ('optimization.warmup_steps', optimization.warmup_steps, 0, 1_000_000),
        ('optimization.gradient_clip_norm', optimization.gradient_clip_norm, 0, 1e6),
        ('optimization.validation_interval_steps', optimization.validation_interval_steps,
         1, 1_000_000),
        ('optimization.early_stopping_validations', optimization.early_stopping_validations,
         0, 1_000_000),
        ('augmentation.smallest_crop', recipe.augmentation.smallest_crop, 0.1, 1),
        ('augmentation.colour_jitter', recipe.augmentation.colour_jitter, 0, 0.9),
        ('augmentation.turbidity', recipe.augmentation.turbidity, 0, 0.9),
        ('optimization.seed', optimization.seed, 0, 2**32 - 1),
        ('quantization_step', recipe.quantization_step, 1e-6, 1e6),
    ]
    for name, value, low, high in limits:
        if not low <= value <= high:
            raise RecipeError(f'{path}: {name}: is {value}, must be in {low}..{high}')
    if recipe.network.type != 'autoencoder':
        raise RecipeError(
            f'{path}: network.type: is {recipe.network.type!r}, must be autoencoder')
