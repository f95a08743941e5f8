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
"""Figures of an evaluation: rate against distortion, and image by image."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

# Name, label of the axis, number in the summary.
_PANELS = (('PSNR', 'dB, more is better', 'psnr_db'), ('MS-SSIM', 'more is better', 'ms_ssim'),
           ('LPIPS', 'less is better', 'lpips'))
# Okabe and Ito's colours: told apart by everyone, in print too; then darker ones by P. Tol.
_COLOURS = ('#000000', '#D55E00', '#0072B2', '#009E73', '#CC79A7', '#E69F00', '#56B4E9',
            '#7F7F7F', '#882255', '#117733', '#332288')
_MARKERS = 'oDs^vPX*<>h'


def _styles(names: Sequence[str]) -> dict[str, dict]:
    """Return colour, marker and dash by codec; what ignores a container is dashed."""
    return {name: {'color': _COLOURS[i % len(_COLOURS)], 'marker': _MARKERS[i % len(_MARKERS)],
                   'linestyle': '--' if name.endswith('-payload') else '-'}
            for i, name in enumerate(dict.fromkeys(names))}


def _label(name: str) -> str:
    return name.replace('-payload', ', payload only')


def write_rate_distortion(path: str | Path, summary: Sequence[dict], title: str) -> None:
    """
    Draw means over the images against the mean size of a packet, one line a codec.

    A codec is left out at limits where some image does not fit: its mean would be one of other
    images than the rest.

    :param path: PNG file, which is replaced if it exists.
    :param summary: as summarize returns it.
    :raises OSError: if the file cannot be written.
    """
    # The figure alone, not pyplot: no window system is asked for, and no state is kept.
    from matplotlib.figure import Figure
    complete = [entry for entry in summary if entry['fitting'] == entry['images']]
    styles = _styles([entry['codec'] for entry in summary])
    panels = [panel for panel in _PANELS if any(entry[panel[2]] for entry in complete)]
    figure = Figure(figsize=(0.6 + 4.3 * max(1, len(panels)), 4.9), dpi=120)
    axes_list = figure.subplots(1, max(1, len(panels)), squeeze=False)[0]
    for axes, (heading, unit, number) in zip(axes_list, panels):
        for name, style in styles.items():
            points = sorted((entry['bytes']['mean'], entry[number]['mean']) for entry in complete
                            if entry['codec'] == name and entry[number])
            if points:
                axes.plot(*zip(*points), label=_label(name), markersize=6, **style)
        axes.set_title(heading, fontsize=11)
        axes.set_xlabel('bytes a packet, mean', fontsize=9)
        axes.set_ylabel(unit, fontsize=9)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
        axes.margins(x=0.12, y=0.12)
    handles = {label: handle for axes in axes_list
               for handle, label in zip(*axes.get_legend_handles_labels())}
    figure.suptitle(title, fontsize=12)
    if handles:
        figure.legend(handles.values(), handles.keys(), loc='lower center', fontsize=9,
                      ncol=min(len(handles), 7), frameon=False)
    figure.tight_layout(rect=(0, 0.07, 1, 0.98))
    figure.savefig(path, format='png')


def write_per_image(path: str | Path, rows: Sequence[dict], max_bytes: int, title: str) -> None:
    """
    Draw how the images differ: the sorted PSNR of each codec, and who wins by how much.

    The right panel compares the first codec with each other one, image by image.

    :param path: PNG file, which is replaced if it exists.
    :param rows: of the images, as an evaluation returns them.
    :param max_bytes: the limit to draw.
    :raises OSError: if the file cannot be written.
    """
    from matplotlib.figure import Figure
    psnr: dict[str, dict[str, float]] = {}
    for row in rows:
        if row['max_bytes'] == max_bytes:
            values = psnr.setdefault(row['codec'], {})
            if row['psnr_db'] is not None and np.isfinite(row['psnr_db']):
                values[row['image']] = row['psnr_db']
    styles = _styles(list(psnr))
    first, *others = psnr
    figure = Figure(figsize=(11.5 if others else 6, 5.9), dpi=120)
    axes_list = figure.subplots(1, 2 if others else 1, squeeze=False)[0]

    def draw(axes, name: str, values: Sequence[float], label: str) -> None:
        style = {key: value for key, value in styles[name].items() if key != 'marker'}
        share = 100 * (np.arange(len(values)) + 0.5) / max(1, len(values))
        axes.plot(share, np.sort(values), label=label, linewidth=1.6,
                  marker='.' if len(values) <= 100 else None, markersize=4, **style)

    for name, values in psnr.items():
        if values:
            mean = np.mean(list(values.values()))
            draw(axes_list[0], name, list(values.values()), f'{_label(name)}: {mean:.2f} dB')
    axes_list[0].set_title('PSNR, each codec sorted by itself; its mean below', fontsize=11)
    axes_list[0].set_ylabel('dB', fontsize=9)
    if others:
        axes = axes_list[1]
        axes.axhline(0, color='0.4', linewidth=0.8)
        for name in others:
            gains = [psnr[first][image] - value for image, value in psnr[name].items()
                     if image in psnr[first]]
            if gains:
                wins = sum(gain > 0 for gain in gains)
                draw(axes, name, gains, f'{_label(name)}: beaten on {wins} of {len(gains)}')
        axes.set_title(f'PSNR of {_label(first)} less that of the others', fontsize=11)
        axes.set_ylabel('dB, above 0 the first is better', fontsize=9)
    for axes in axes_list:
        axes.set_xlabel('images, % of all', fontsize=9)
        axes.set_xlim(0, 100)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=8, loc='upper center', bbox_to_anchor=(0.5, -0.11), ncol=2,
                        frameon=False)
    figure.suptitle(title, fontsize=12)
    figure.tight_layout(rect=(0, 0, 1, 0.99))
    figure.savefig(path, format='png')
