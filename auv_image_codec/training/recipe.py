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
Training recipes: YAML files in config/train/, checked in full before anything runs.

A recipe's ``network`` section says with its ``type`` what is trained; what else belongs there is
that task's own dataclass (auv_image_codec.training.tasks). Every other section is the same for
all of them.
"""
from dataclasses import dataclass, field, fields, MISSING
from pathlib import Path
from typing import Any

import yaml

from auv_image_codec.errors import RecipeError

SCHEDULES = ('step', 'cosine')
OPTIMIZERS = ('adam', 'adamw')
PRECISIONS = ('float32', 'bfloat16')


def number(default: Any, low: float, high: float) -> Any:
    """Return a dataclass field for a number in low..high, both included."""
    return field(default=default, metadata={'range': (low, high)})


def choice(default: str, choices: tuple[str, ...]) -> Any:
    """Return a dataclass field for one of several words."""
    return field(default=default, metadata={'choices': choices})


@dataclass(frozen=True)
class DataRecipe:
    """What it is trained on: URLs, or paths that are relative to the data directory."""

    train: list[str]
    validation: str
    manifest: str = ''
    test: str = ''                                      # reported on, never selected by
    sampling_weights: dict[str, float] = field(default_factory=dict)    # by dataset, else 1
    input_size: int = number(224, 16, 4096)             # pixels a side, whole images resampled


@dataclass(frozen=True)
class AugmentationRecipe:
    """How images are varied, see training.augmentation; half of them are mirrored in any case."""

    crop_size: int = number(0, 0, 4096)                 # pixels a side cut out; 0: whole images
    smallest_crop: float = number(1.0, 0.1, 1)          # share of the sides; 1: no crops
    colour_jitter: float = number(0.0, 0, 0.9)          # of gain and curve of each channel
    turbidity: float = number(0.0, 0, 0.9)              # most light that a veil takes


@dataclass(frozen=True)
class OptimizationRecipe:
    """How: Adam or AdamW with a learning rate that falls in steps or along a cosine."""

    epochs: int = number(30, 0, 100_000)
    batch_size: int = number(32, 1, 65_536)
    optimizer: str = choice('adam', OPTIMIZERS)
    weight_decay: float = number(0.0, 0, 1)             # of adamw
    learning_rate: float = number(1e-3, 0, 1)
    learning_rate_schedule: str = choice('step', SCHEDULES)     # cosine ends at 0
    learning_rate_step_epochs: int = number(15, 1, 100_000)
    learning_rate_gamma: float = number(0.8, 0, 1)
    averaging_decay: float = number(0.0, 0, 0.99999)    # 0: no averaged copy of the weights
    warmup_steps: int = number(0, 0, 1_000_000)
    gradient_clip_norm: float = number(1.0, 0, 1e6)     # 0: gradients as they are
    precision: str = choice('float32', PRECISIONS)
    validation_interval_steps: int = number(500, 1, 1_000_000)
    early_stopping_validations: int = number(0, 0, 1_000_000)   # without improvement; 0: never
    seed: int = number(0, 0, 2**32 - 1)


@dataclass(frozen=True)
class Recipe:
    """
    A training run, in full.

    ``network`` is the dataclass of its task, and has an attribute ``type``.
    """

    name: str
    network: Any
    data: DataRecipe
    optimization: OptimizationRecipe
    augmentation: AugmentationRecipe = AugmentationRecipe()


def parse_recipe(path: Path, networks: dict[str, type]) -> Recipe:
    """
    Read and check a recipe.

    :param networks: the dataclass of the ``network`` section for each ``type``.
    :raises RecipeError: naming the entry and what it may be.
    """
    try:
        entries = yaml.safe_load(Path(path).read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f'{path}: cannot be read: {error}') from error
    except yaml.YAMLError as error:
        raise RecipeError(f'{path}: not YAML: {error}') from error
    try:
        return _build(Recipe, entries, '', networks)
    except RecipeError as error:
        raise RecipeError(f'{path}: {error}') from error


def _build(section: type, entries: Any, where: str, networks: dict[str, type]) -> Any:
    if not isinstance(entries, dict):
        raise RecipeError(f'{where or "the file"}: must be a mapping, not '
                          f'{type(entries).__name__}')
    prefix = f'{where}: ' if where else ''
    known = {f.name: f for f in fields(section)}
    for key in entries:
        if key not in known:
            raise RecipeError(f'{prefix}unknown entry {key!r}; known are {", ".join(known)}')
    values = {}
    for name, entry in known.items():
        if name not in entries:
            if entry.default is MISSING and entry.default_factory is MISSING:
                raise RecipeError(f'{prefix}entry {name!r} is missing')
            continue
        place = f'{where}.{name}' if where else name
        kind, value = entry.type, entries[name]
        if section is Recipe and name == 'network':
            kind = _network_section(value, networks)
        values[name] = (_build(kind, value, place, networks)
                        if hasattr(kind, '__dataclass_fields__')
                        else _value(kind, value, place, entry.metadata))
    return section(**values)


def _network_section(value: Any, networks: dict[str, type]) -> type:
    kind = value.get('type') if isinstance(value, dict) else None
    if kind not in networks:
        raise RecipeError(f'network.type: is {kind!r}, must be {" or ".join(networks)}')
    return networks[kind]


def _value(kind: Any, value: Any, where: str, metadata: Any) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
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
    low, high = metadata.get('range', (None, None))
    if low is not None and not low <= value <= high:
        raise RecipeError(f'{where}: is {value}, must be in {low}..{high}')
    choices = metadata.get('choices')
    if choices and value not in choices:
        raise RecipeError(f'{where}: is {value!r}, must be one of {", ".join(choices)}')
    return value
