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
"""Pictures of a training run: how its errors fell, and how its reconstructions got sharper."""
import csv
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
import numpy as np
from PIL import Image
import torch

matplotlib.use('Agg')

SHOWN_STRIPS = 7            # in the picture of reconstructions
SMOOTHING_POINTS = 25       # of the training loss, which differs from batch to batch


def _series(log_directory: Path, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the steps and values of a column over all parts of a run, the newest part last."""
    values = {}
    parts = sorted(log_directory.glob('version_*/metrics.csv'),
                   key=lambda path: int(path.parent.name.removeprefix('version_')))
    for part in parts:
        with open(part, newline='') as file:
            # steps that a resumed run did again replace those of the part that was stopped
            values.update({int(row['step']): float(row[column])
                           for row in csv.DictReader(file) if row.get(column)})
    steps = np.array(sorted(values), int)
    return steps, np.array([values[step] for step in steps])


def draw_loss_curves(run_directory: Path, path: Path, name: str, curves) -> None:
    """
    Draw the training loss and the validation result of a run over its steps.

    :param run_directory: of the run, with its log/.
    :param path: PNG file to write.
    :param name: of the recipe, for the title.
    :param curves: a tasks.Curves: which logged values to show.
    """
    log_directory = Path(run_directory) / 'log'
    steps, losses = _series(log_directory, curves.loss)
    figure = Figure(figsize=(8, 4.5), layout='constrained')
    axes = figure.subplots()
    axes.set(title=f'Training of {name}', xlabel='step', yscale='log',
             ylabel=curves.loss_label)
    axes.plot(steps, losses, color='tab:blue', alpha=0.25, linewidth=0.8)
    if len(losses) >= SMOOTHING_POINTS:
        kernel = np.full(SMOOTHING_POINTS, 1 / SMOOTHING_POINTS)
        axes.plot(steps[SMOOTHING_POINTS - 1:], np.convolve(losses, kernel, 'valid'),
                  color='tab:blue', label='training loss (running mean)')
    steps, quality = _series(log_directory, curves.validation)
    right = axes.twinx()
    right.set_ylabel(curves.validation_label)
    right.plot(steps, quality, color='tab:orange', marker='.', label=curves.validation_label)
    lines = [*axes.get_lines(), *right.get_lines()]
    figure.legend(handles=[line for line in lines if not line.get_label().startswith('_')],
                  loc='outside lower center', ncols=2)
    figure.savefig(path, dpi=120, bbox_inches='tight')


def write_strip(images: torch.Tensor, path: Path) -> None:
    """Write float images [N, 3, H, W] in 0..1 side by side as a PNG file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    Image.fromarray(np.concatenate(list(pixels), 1)).save(path)


def draw_reconstructions(images: np.ndarray, strips: Path, path: Path) -> None:
    """
    Draw images and, below each, its reconstructions at some steps of a run.

    :param images: uint8 [N, H, W, 3].
    :param strips: directory of strips that write_strip made, named by their steps.
    :param path: PNG file to write.
    """
    found = sorted(strips.glob('*.png'))
    if not found:
        return
    chosen = np.unique(np.linspace(0, len(found) - 1, SHOWN_STRIPS).astype(int))
    rows = {'image': np.concatenate(list(images), 1)}
    for index in chosen:
        with Image.open(found[index]) as strip:
            rows[f'step {int(found[index].stem):,}'] = np.array(strip)
    width = 10.0
    figure = Figure(figsize=(width, width * len(rows) / len(images) + 0.3), layout='constrained')
    for axes, (title, row) in zip(figure.subplots(len(rows), squeeze=False)[:, 0], rows.items()):
        axes.imshow(row)
        axes.set_ylabel(title)
        axes.set(xticks=[], yticks=[])
    figure.savefig(path, dpi=120, bbox_inches='tight')
