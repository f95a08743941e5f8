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
"""Draw source, reconstruction and error of some frames side by side, as one PNG file."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

# Errors above this share of the range all get the brightest colour.
ERROR_LIMIT = 0.25


class ContactSheetRow(NamedTuple):
    """One frame."""

    source: np.ndarray
    """RGB, uint8, (height, width, 3)."""
    reconstruction: np.ndarray
    """RGB, uint8, of the same shape."""
    label: str
    """Text at the left of the row; may have several lines."""


def absolute_error(source: np.ndarray, reconstruction: np.ndarray) -> np.ndarray:
    """Return the mean over the channels of the absolute error, 0 to 1, (height, width)."""
    difference = source.astype(np.float32) - reconstruction.astype(np.float32)
    return np.abs(difference).mean(axis=2) / 255


def write_contact_sheet(path: str | Path, rows: Sequence[ContactSheetRow], title: str) -> None:
    """
    Write a PNG file with one row a frame: source, reconstruction and absolute error.

    :param path: the file, which is replaced if it exists.
    :raises ValueError: if there is no row, or the two images of a row differ in shape.
    :raises OSError: if the file cannot be written.
    """
    if not rows:
        raise ValueError('a contact sheet needs at least one row')
    for row in rows:
        if row.source.shape != row.reconstruction.shape:
            raise ValueError(f'{row.label}: a source of shape {row.source.shape} and a '
                             f'reconstruction of shape {row.reconstruction.shape}')
    # The figure alone, not pyplot: no window system is asked for, and no state is kept.
    from matplotlib.figure import Figure
    height, width = rows[0].source.shape[:2]
    column_inches = 3.6
    row_inches = column_inches * height / width + 0.08
    margin_inches = 0.75
    figure = Figure(figsize=(3 * column_inches + 2.1, len(rows) * row_inches + margin_inches),
                    dpi=110)
    grid = figure.add_gridspec(
        len(rows), 3, left=0.105, right=0.92, wspace=0.02, hspace=0.03,
        bottom=0.08 / figure.get_figheight(), top=1 - margin_inches / figure.get_figheight())
    columns = ('source', 'reconstruction', 'absolute error')
    for number, row in enumerate(rows):
        pictures = (row.source, row.reconstruction, absolute_error(*row[:2]))
        for column, picture in enumerate(pictures):
            axes = figure.add_subplot(grid[number, column])
            axes.set_xticks([])
            axes.set_yticks([])
            drawn = axes.imshow(picture, cmap='inferno', vmin=0, vmax=ERROR_LIMIT)
            if number == 0:
                axes.set_title(columns[column], fontsize=11)
            if column == 0:
                axes.set_ylabel(row.label, rotation='horizontal', ha='right', va='center',
                                fontsize=9, labelpad=6)
    top = grid[0, 2].get_position(figure)
    bottom = grid[len(rows) - 1, 2].get_position(figure)
    bar = figure.colorbar(
        drawn, cax=figure.add_axes((0.93, bottom.y0, 0.012, top.y1 - bottom.y0)), extend='max')
    bar.ax.tick_params(labelsize=8)
    figure.suptitle(title, fontsize=12, y=1 - 0.16 / figure.get_figheight())
    figure.savefig(path, format='png')


class ComparisonRow(NamedTuple):
    """One image through several codecs."""

    source: np.ndarray
    """RGB, uint8, (height, width, 3)."""
    reconstructions: Mapping[str, tuple[np.ndarray, str]]
    """By codec: picture of the same shape, and text below it; a codec may be missing."""
    label: str
    """Text below the source."""


def write_comparison_sheet(path: str | Path, rows: Sequence[ComparisonRow],
                           codecs: Sequence[str], title: str) -> None:
    """
    Write a PNG file with two lines a row: source and reconstructions, and below them their errors.

    :param path: the file, which is replaced if it exists.
    :param codecs: the columns, in order.
    :raises ValueError: if there is no row, or two images of a row differ in shape.
    :raises OSError: if the file cannot be written.
    """
    if not rows:
        raise ValueError('a contact sheet needs at least one row')
    for row in rows:
        for codec, (picture, _) in row.reconstructions.items():
            if picture.shape != row.source.shape:
                raise ValueError(f'{codec}: a source of shape {row.source.shape} and a '
                                 f'reconstruction of shape {picture.shape}')
    from matplotlib.figure import Figure
    from matplotlib.gridspec import GridSpecFromSubplotSpec
    inches = 1.85                       # a picture's width and height
    top_inches, row_inches = 0.75, 2 * inches + 0.34
    columns = 1 + len(codecs)
    figure = Figure(figsize=(columns * inches + 0.85, len(rows) * row_inches + top_inches),
                    dpi=110)
    height = figure.get_figheight()
    grid = figure.add_gridspec(
        len(rows), 1, left=0.012, right=1 - 0.65 / figure.get_figwidth(), bottom=0.02 / height,
        top=1 - top_inches / height, hspace=0.03)

    def add(cell, picture) -> tuple:
        """Show a picture, or a grey field for None; return its axes and what was drawn."""
        axes = figure.add_subplot(cell)
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_visible(False)
        if picture is None:
            axes.set_facecolor('0.93')
            return axes, None
        return axes, axes.imshow(picture, cmap='inferno', vmin=0, vmax=ERROR_LIMIT)

    drawn = None
    for number, row in enumerate(rows):
        cells = GridSpecFromSubplotSpec(3, columns, grid[number], wspace=0.02, hspace=0.02,
                                        height_ratios=(inches, 0.22, inches))
        headings = ['source', *codecs]
        for column, codec in enumerate([None, *codecs]):
            picture, text = (row.source, row.label) if codec is None else (
                row.reconstructions.get(codec, (None, 'does not fit')))
            axes, _ = add(cells[0, column], picture)
            if number == 0:
                axes.set_title(headings[column].replace('-payload', ',\npayload only'),
                               fontsize=10)
            axes.text(0.5, -0.025, text, transform=axes.transAxes, ha='center', va='top',
                      fontsize=8)
            if codec is not None and picture is not None:
                _, drawn = add(cells[2, column], absolute_error(row.source, picture))
        note = figure.add_subplot(cells[2, 0])
        note.axis('off')
        note.text(0.96, 0.5, 'absolute error', ha='right', va='center', fontsize=8, color='0.35')
    if drawn is not None:
        left = 1 - 0.52 / figure.get_figwidth()
        bar = figure.colorbar(drawn, extend='max', cax=figure.add_axes(
            (left, max(0.02 / height, 1 - (top_inches + row_inches) / height),
             0.11 / figure.get_figwidth(), (row_inches - 0.1) / height)))
        bar.ax.tick_params(labelsize=7)
    figure.suptitle(title, fontsize=12, y=1 - 0.1 / height)
    figure.savefig(path, format='png')
