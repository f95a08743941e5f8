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
Measure codecs on images: rows of a table, means with their spread, and a run that can go on.

The output folder holds ``settings.json`` (what was asked for), ``per_image.csv`` (one row an
image, codec and limit, added as they are done), ``reconstructions/`` (of the images in the contact
sheet) and, in the end, ``results.json`` and the figures.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
import csv
from dataclasses import dataclass, field
import hashlib
import io
import json
import math
from pathlib import Path
import platform
import shutil

import numpy as np
from PIL import Image

from auv_image_codec import __version__
from auv_image_codec.atomic_write import write_atomically
from auv_image_codec.errors import AuvImageCodecError
from auv_image_codec.evaluation.contenders import Contender
from auv_image_codec.evaluation.lpips import Lpips, SMALLEST_SIDE
from auv_image_codec.evaluation.metrics import ms_ssim, mse, psnr_db, ssim
from auv_image_codec.evaluation.sources import decode_image, SourceImage

DEFAULT_SIZE = 224
FORMAT_VERSION = 1
NUMBERS = ('bytes', 'ratio', 'mse', 'psnr_db', 'ssim', 'ms_ssim', 'lpips', 'encode_ms',
           'decode_ms')
COLUMNS = ('image', 'codec', 'max_bytes', *NUMBERS, 'detail')
SHEET_IMAGES = 6
SETTINGS_FILE, ROWS_FILE, RESULTS_FILE = 'settings.json', 'per_image.csv', 'results.json'
RECONSTRUCTIONS = 'reconstructions'


class SettingsError(AuvImageCodecError, ValueError):
    """An output folder that holds an evaluation with other settings."""

    kind = 'settings'


@dataclass
class Results:
    """
    What an evaluation found.

    :param rows: one dict an image, codec and limit, with the keys COLUMNS; numbers are None where
        nothing fits the limit, or the images are too small for the metric.
    :param summary: statistics of each codec and limit, as summarize returns them.
    :param failures: why an image could not be evaluated, by its name.
    :param settings: what was asked for.
    :param sheet: names of the images whose reconstructions were kept.
    """

    rows: list[dict]
    summary: list[dict]
    failures: dict[str, str]
    settings: dict
    sheet: list[str] = field(default_factory=list)


def measure(source: np.ndarray, decoded: np.ndarray, lpips: Lpips) -> dict[str, float | None]:
    """
    Return all metrics of two images uint8 [height, width, 3] of the same shape.

    Those that are not defined for such small images are None.
    """
    enough = min(source.shape[:2]) >= SMALLEST_SIDE
    values = {'mse': mse(source, decoded), 'psnr_db': psnr_db(source, decoded),
              'ssim': ssim(source, decoded), 'ms_ssim': ms_ssim(source, decoded),
              'lpips': lpips(source, decoded) if enough else None}
    return {name: None if value is None or math.isnan(value) else value
            for name, value in values.items()}


def summarize(rows: Sequence[dict]) -> list[dict]:
    """
    Return, for each codec and limit, the number of images and the statistics of every number.

    Statistics are the mean, the standard deviation over the images (n - 1), and the percentiles
    5, 50 and 95. ``images`` counts all rows, ``fitting`` those with a packet within the limit.
    ``first_has_less_mse`` is the share of images on which the first of the codecs has a lower
    squared error, of those that both fit; None for the first itself, or without such images.
    """
    groups: dict[tuple[str, int], list[dict]] = {}
    for row in rows:
        groups.setdefault((row['codec'], row['max_bytes']), []).append(row)
    summary = []
    first = rows[0]['codec'] if rows else None
    for (codec, max_bytes), group in groups.items():
        entry = {'codec': codec, 'max_bytes': max_bytes, 'images': len(group),
                 'fitting': sum(row['bytes'] is not None for row in group)}
        for name in NUMBERS:
            values = np.array([row[name] for row in group if row[name] is not None], float)
            entry[name] = _statistics(values) if len(values) else None
        entry['first_has_less_mse'] = None if codec == first else _share_of_less_mse(
            groups.get((first, max_bytes), []), group)
        summary.append(entry)
    return summary


def _share_of_less_mse(rows: Sequence[dict], others: Sequence[dict]) -> float | None:
    """Return on which share of their common images rows have less squared error than others."""
    errors = [{row['image']: row['mse'] for row in group if row['mse'] is not None}
              for group in (rows, others)]
    less = [errors[0][image] < error for image, error in errors[1].items() if image in errors[0]]
    return sum(less) / len(less) if less else None


def _statistics(values: np.ndarray) -> dict[str, float]:
    with np.errstate(invalid='ignore'):         # PSNR of equal images is infinite
        deviation = values.std(ddof=1) if len(values) > 1 else 0.0
        percentiles = np.percentile(values, (5, 50, 95))
    return {'mean': float(values.mean()), 'std': float(deviation),
            **{f'p{p}': float(v) for p, v in zip((5, 50, 95), percentiles)},
            'min': float(values.min()), 'max': float(values.max())}


def make_settings(images: Sequence[SourceImage], contenders: Sequence[Contender],
                  rates: Sequence[int], size: int) -> dict:
    """Return what must be the same for two runs to belong together."""
    listing = '\n'.join(f'{image.name} {image.file_bytes}' for image in images)
    return {
        'format_version': FORMAT_VERSION,
        'images': len(images),
        'image_list_sha256': hashlib.sha256(listing.encode()).hexdigest(),
        'size': size,
        'rates': sorted(rates),
        'codecs': {row: contender.identity for contender in contenders for row in contender.rows},
    }


def _difference(old: dict, new: dict) -> str:
    """Return in words what changed in the settings."""
    if old.get('images') == new['images'] and (
            old.get('image_list_sha256') != new['image_list_sha256']):
        return 'other images'
    for name in new:
        if old.get(name) != new[name]:
            return f'{name} was {old.get(name)}, now {new[name]}'
    return 'settings of another release'


def _read_rows(path: Path) -> list[dict]:
    """Return the rows of a CSV file as numbers and text; a last line that was cut is left out."""
    rows = []
    with path.open(newline='') as file:
        for row in csv.DictReader(file):
            try:
                row['max_bytes'] = int(row['max_bytes'])
                for name in NUMBERS:
                    row[name] = float(row[name]) if row[name] else None
            except (TypeError, ValueError):
                continue
            if row['detail'] is not None:
                rows.append(row)
    return rows


def _rows_as_text(rows: Iterable[dict]) -> str:
    text = io.StringIO()
    csv.DictWriter(text, COLUMNS, lineterminator='\n').writerows(rows)
    return text.getvalue()


def reconstruction_path(output: Path, number: int, name: str) -> Path:
    """Return where a picture of the contact sheet is kept; name is a row's, or 'source'."""
    return output / RECONSTRUCTIONS / f'{number:05}_{name}.png'


def sheet_numbers(count: int) -> list[int]:
    """Return the numbers of the images in the contact sheet, spread over all."""
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, SHEET_IMAGES))})


class Evaluation:
    """
    One run over images, or the rest of one that was stopped.

    :param images: to evaluate with.
    :param contenders: to compare.
    :param output: folder for everything that is written.
    :param rates: limits of a whole packet in bytes; reconstructions are kept of the largest.
    :param size: pixels a side that images are resampled to, and at which errors are taken.
    :param fresh: start anew where the folder holds an evaluation.
    :param update: where it holds one of other codecs, keep what is of the same ones.
    :raises SettingsError: if the folder holds an evaluation with other settings.
    :raises OSError: if the folder cannot be written.
    """

    def __init__(self, images: Sequence[SourceImage], contenders: Sequence[Contender],
                 output: Path, rates: Sequence[int] = (500,), size: int = DEFAULT_SIZE,
                 fresh: bool = False, update: bool = False, lpips: Lpips | None = None):
        self.images, self.contenders = list(images), list(contenders)
        self.output, self.rates, self.size = Path(output), sorted(set(rates)), size
        self.settings = make_settings(self.images, self.contenders, self.rates, size)
        self._lpips = lpips or Lpips()
        self._sheet = sheet_numbers(len(self.images))
        self._row_names = [row for contender in self.contenders for row in contender.rows]
        self.output.mkdir(parents=True, exist_ok=True)
        self._rows = self._prepare_folder(fresh, update)

    @property
    def done(self) -> int:
        """Number of images that an earlier run evaluated with all codecs."""
        return sum(not self._pending(image.name) for image in self.images)

    def _pending(self, name: str) -> list[Contender]:
        """Return the contenders that an image has not been through."""
        present = {row['codec'] for row in self._rows.get(name, ())}
        return [contender for contender in self.contenders if not present >= {*contender.rows}]

    def _prepare_folder(self, fresh: bool, update: bool) -> dict[str, list[dict]]:
        """Return the rows of an earlier run that hold, by image; leave only these in the file."""
        path = self.output / SETTINGS_FILE
        rows: dict[str, list[dict]] = {}
        if path.exists() and not fresh:
            try:
                found = json.loads(path.read_text())
            except ValueError:
                found = {}
            other = self.settings | ({'codecs': found.get('codecs')} if update else {})
            if found != other:
                raise SettingsError(
                    f'{self.output} holds an evaluation with other settings '
                    f'({_difference(found, other)}); take another folder, or start anew with '
                    '--fresh')
            rows = self._read_rows({name for name, identity in found['codecs'].items()
                                    if self.settings['codecs'].get(name) == identity})
        else:
            shutil.rmtree(self.output / RECONSTRUCTIONS, ignore_errors=True)
        (self.output / RESULTS_FILE).unlink(missing_ok=True)
        (self.output / RECONSTRUCTIONS).mkdir(exist_ok=True)
        # the rows first: settings must never promise more than there is
        self._write_rows(rows)
        write_atomically(path, (json.dumps(self.settings, indent=2) + '\n').encode())
        return rows

    def _read_rows(self, valid: set[str]) -> dict[str, list[dict]]:
        """Return the rows of valid codecs that are complete, pictures included, by image."""
        path = self.output / ROWS_FILE
        groups: dict[tuple[str, str], list[dict]] = {}
        for row in _read_rows(path) if path.exists() else ():
            groups.setdefault((row['image'], row['codec']), []).append(row)
        sheet = {self.images[number].name: number for number in self._sheet}
        rows: dict[str, list[dict]] = {}
        for (image, codec), group in groups.items():
            number = sheet.get(image)
            kept = number is None or all(
                reconstruction_path(self.output, number, name).exists() for name in (
                    'source', *(codec for row in group if row['bytes'] is not None
                                and row['max_bytes'] == self.rates[-1])))
            if codec in valid and kept and sorted(r['max_bytes'] for r in group) == self.rates:
                rows.setdefault(image, []).extend(group)
        return rows

    def _write_rows(self, rows: dict[str, list[dict]]) -> None:
        """Write the whole file of rows, images and codecs in their order."""
        order = {name: number for number, name in enumerate(self._row_names)}
        text = ','.join(COLUMNS) + '\n' + _rows_as_text(
            row for image in self.images
            for row in sorted(rows.get(image.name, ()), key=lambda row: order[row['codec']]))
        write_atomically(self.output / ROWS_FILE, text.encode())

    def run(self, on_failure: Callable[[str, Exception], None] = lambda name, reason: None,
            progress: Callable[[Sequence], Iterable] = iter) -> Results:
        """
        Evaluate what is left to do, and write results.json.

        :param on_failure: is told of each image that cannot be evaluated; the others go on.
        :param progress: wraps the sequence of images, to show how far it is.
        :raises AuvImageCodecError: if no image could be evaluated.
        """
        failures: dict[str, str] = {}
        todo = [(number, image) for number, image in enumerate(self.images)
                if self._pending(image.name)]
        with (self.output / ROWS_FILE).open('a') as file:
            for number, image in progress(todo):
                try:
                    rows = self._evaluate(number, image, self._pending(image.name))
                except (AuvImageCodecError, OSError, ValueError, RuntimeError) as error:
                    failures[image.name] = str(error)
                    on_failure(image.name, error)
                    continue
                file.write(_rows_as_text(rows))
                file.flush()
                self._rows.setdefault(image.name, []).extend(rows)
        complete = {image.name: self._rows[image.name] for image in self.images
                    if not self._pending(image.name)}
        if not complete:
            raise AuvImageCodecError('no image could be evaluated')
        self._write_rows(complete)
        rows = _read_rows(self.output / ROWS_FILE)
        results = Results(rows, summarize(rows), failures, self.settings, [
            self.images[number].name for number in self._sheet
            if self.images[number].name in complete])
        text = json.dumps(_finite({
            'settings': self.settings, 'environment': environment(),
            'summary': results.summary, 'failures': failures}), indent=2) + '\n'
        write_atomically(self.output / RESULTS_FILE, text.encode())
        return results

    def _evaluate(self, number: int, image: SourceImage,
                  contenders: Sequence[Contender]) -> list[dict]:
        """Return the rows of one image."""
        source = decode_image(image.read(), self.size)
        rows, pictures = [], {}
        for contender in contenders:
            for coded in contender.code(source, self.rates):
                row = dict.fromkeys(COLUMNS) | {
                    'image': image.name, 'codec': coded.codec, 'max_bytes': coded.max_bytes,
                    'detail': coded.detail}
                rows.append(row)
                if coded.image is None:
                    continue
                if coded.packet_bytes > coded.max_bytes:
                    raise AuvImageCodecError(f'{coded.codec}: packet of {coded.packet_bytes} '
                                             f'bytes, more than {coded.max_bytes}')
                row |= measure(source, coded.image, self._lpips)
                row |= {'bytes': coded.packet_bytes, 'ratio': source.size / coded.packet_bytes,
                        'encode_ms': coded.encode_ms, 'decode_ms': coded.decode_ms}
                if coded.max_bytes == self.rates[-1]:
                    pictures[coded.codec] = coded.image
        if number in self._sheet:
            # the source last: where it is, the others are
            for name, picture in (*pictures.items(), ('source', source)):
                Image.fromarray(picture).save(reconstruction_path(self.output, number, name))
        return rows

    def sheet_pictures(self) -> list[tuple[str, np.ndarray, dict[str, np.ndarray]]]:
        """Return name, source and reconstructions by codec of the contact sheet's images."""
        pictures = []
        for number in self._sheet:
            path = reconstruction_path(self.output, number, 'source')
            if not path.exists():
                continue
            paths = {name: reconstruction_path(self.output, number, name)
                     for name in self._row_names}
            pictures.append((self.images[number].name, np.array(Image.open(path)), {
                name: np.array(Image.open(file)) for name, file in paths.items()
                if file.exists()}))
        return pictures


def environment() -> dict[str, str]:
    """Return what the results may depend on besides the settings."""
    import torch
    processor = platform.processor()
    try:
        with open('/proc/cpuinfo') as file:
            processor = next((line.split(':', 1)[1].strip() for line in file
                              if line.startswith('model name')), processor)
    except OSError:
        pass
    return {'auv_image_codec': __version__, 'python': platform.python_version(),
            'numpy': np.__version__, 'torch': torch.__version__, 'processor': processor}


def _finite(value):
    """Return a structure for JSON, which has no infinities: None in their place."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# Heading, name of the number, digits, and what follows the mean (of times: the median).
_TABLE = (('PSNR dB (5%..95%)', 'psnr_db', 2, 'percentiles'), ('MSE ± sd', 'mse', 5, 'std'),
          ('SSIM ± sd', 'ssim', 3, 'std'), ('MS-SSIM ± sd', 'ms_ssim', 3, 'std'),
          ('LPIPS ± sd', 'lpips', 3, 'std'), ('bytes ± sd', 'bytes', 0, 'std'),
          ('ratio', 'ratio', 0, ''), ('encode ms', 'encode_ms', 1, 'median'),
          ('decode ms', 'decode_ms', 1, 'median'))


def _cell(statistics: dict | None, digits: int, spread: str) -> str:
    if statistics is None:
        return '-'
    if spread == 'median':
        return f'{statistics["p50"]:.{digits}f}'
    text = f'{statistics["mean"]:.{digits}f}'
    if spread == 'percentiles':
        text += f' ({statistics["p5"]:.{digits}f}..{statistics["p95"]:.{digits}f})'
    elif spread == 'std':
        text += f' ± {statistics["std"]:.{digits}f}'
    return text


def table_cells(summary: Sequence[dict]) -> list[list[str]]:
    """Return the table as text, the headings first: one row a codec and limit."""
    cells = [['limit', 'codec', 'images', *(heading for heading, *_ in _TABLE)]]
    for entry in sorted(summary, key=lambda entry: entry['max_bytes']):
        count = str(entry['fitting'])
        if entry['fitting'] < entry['images']:
            count += f' of {entry["images"]}'
        cells.append([str(entry['max_bytes']), entry['codec'], count, *(
            _cell(entry[name], digits, spread) for _, name, digits, spread in _TABLE)])
    return cells


def format_table(summary: Sequence[dict], markdown: bool = False) -> str:
    """Return the table for a terminal, or as Markdown."""
    cells = table_cells(summary)
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines = [[text.ljust(width) if column == 1 else text.rjust(width)
              for column, (text, width) in enumerate(zip(row, widths))] for row in cells]
    if not markdown:
        return '\n'.join('  '.join(line).rstrip() for line in lines)
    rule = [':' + '-' * (width - 1) if column == 1 else '-' * (width - 1) + ':'
            for column, width in enumerate(widths)]
    return '\n'.join('| ' + ' | '.join(line) + ' |' for line in [lines[0], rule, *lines[1:]])


def table_notes(summary: Sequence[dict], size: int) -> str:
    """Return what a reader of the table must know."""
    notes = (f'Means over the images at {size}x{size}, sd their standard deviation, 5%..95% '
             'percentiles; times are medians.')
    if any(0 < entry['fitting'] < entry['images'] for entry in summary):
        notes += (' Where not all images fit the limit, a row holds the means of those that do: '
                  'it cannot be compared with the others.')
    for limit in sorted({entry['max_bytes'] for entry in summary}):
        shares = [f'{entry["codec"]} {100 * entry["first_has_less_mse"]:.1f} %'
                  for entry in summary if entry['max_bytes'] == limit
                  and entry['first_has_less_mse'] is not None]
        if shares:
            notes += (f'\nShare of the images on which {summary[0]["codec"]} has less squared '
                      f'error at {limit} bytes than: {", ".join(shares)}.')
    return notes


def write_figures(evaluation: Evaluation, results: Results, title: str) -> list[Path]:
    """Draw all figures into the output folder, and return their paths."""
    from auv_image_codec.evaluation.contact_sheet import ComparisonRow, write_comparison_sheet
    from auv_image_codec.evaluation.figures import write_per_image, write_rate_distortion
    output, largest = evaluation.output, evaluation.rates[-1]
    size = results.settings['size']
    paths = [output / name for name in ('rate_distortion.png', 'per_image.png',
                                        'contact_sheet.png')]
    count = len({row['image'] for row in results.rows})
    title = f'{title}: {count} images at {size}x{size}'
    write_rate_distortion(paths[0], results.summary, title)
    write_per_image(paths[1], results.rows, largest,
                    f'{title}, packets of at most {largest} bytes')
    texts = {(row['image'], row['codec']): f'{row["psnr_db"]:.2f} dB, {row["bytes"]:.0f} bytes'
             for row in results.rows
             if row['max_bytes'] == largest and row['bytes'] is not None}
    sheet = [ComparisonRow(source, {codec: (picture, texts[name, codec])
                                    for codec, picture in pictures.items()},
                           Path(name).stem)
             for name, source, pictures in evaluation.sheet_pictures()
             if name in results.sheet]
    if not sheet:
        return paths[:2]
    write_comparison_sheet(paths[2], sheet, list(results.settings['codecs']),
                           f'{title}, packets of at most {largest} bytes')
    return paths
