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
"""Pictures of a training run: how its errors fell."""
import csv
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
import numpy as np

matplotlib.use('Agg')

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


def draw_loss_curves(run_directory: Path, path: Path, name: str) -> None:
    """
    Draw the training loss and the validation PSNR of a run over its steps.

    :param run_directory: of the run, with its log/.
    :param path: PNG file to write.
    :param name: of the recipe, for the title.
    """
    log_directory = Path(run_directory) / 'log'
    steps, losses = _series(log_directory, 'train_mse')
    figure = Figure(figsize=(8, 4.5), layout='constrained')
    axes = figure.subplots()
    axes.set(title=f'Training of {name}', xlabel='step', yscale='log',
             ylabel='training loss: mean squared error')
    axes.plot(steps, losses, color='tab:blue', alpha=0.25, linewidth=0.8)
    if len(losses) >= SMOOTHING_POINTS:
        kernel = np.full(SMOOTHING_POINTS, 1 / SMOOTHING_POINTS)
        axes.plot(steps[SMOOTHING_POINTS - 1:], np.convolve(losses, kernel, 'valid'),
                  color='tab:blue', label='training loss (running mean)')
    steps, quality = _series(log_directory, 'validation_psnr_db')
    right = axes.twinx()
    right.set_ylabel('validation PSNR, dB (unquantized)')
    right.plot(steps, quality, color='tab:orange', marker='.', label='validation PSNR')
    lines = [*axes.get_lines(), *right.get_lines()]
    axes.legend(handles=[line for line in lines if not line.get_label().startswith('_')],
                loc='center right')
    figure.savefig(path, dpi=120)
