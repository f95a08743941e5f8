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
"""The model card: where weights come from, and what they reach."""
from collections import Counter
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from auv_image_codec import __version__
from auv_image_codec.codecs import create_codec, decode_packet, encode_packet
from auv_image_codec.codecs.packet import DEFAULT_MAX_BYTES
from auv_image_codec.codecs.weights import model_id_of_bytes, read_weights_file, weights_path
from auv_image_codec.evaluation.metrics import mse, psnr_db
from auv_image_codec.training.data import ImageArray
from auv_image_codec.training.recipe import Recipe

THUMBNAIL_SIDE = 13         # 13 x 13 RGB values are 507 bytes: what they buy without a codec


@dataclass(frozen=True)
class RunSummary:
    """
    What a training run has done.

    :param steps: optimization steps done.
    :param best_step: the step whose weights are kept, best on the validation set; None for the
        last weights, of a run that has not come to its first validation.
    :param device: that they were done on.
    :param images: number of training images.
    :param datasets: how many of them come from each dataset; empty if that is not known.
    :param start: what other weights it went on from; empty if none.
    """

    steps: int
    best_step: int | None
    device: str
    images: int
    datasets: Counter
    start: str = ''


def start_of_weights(weights: Path, part: str) -> str:
    """Return how a card names the weights that a run went on from."""
    content = read_weights_file(weights_path(weights, part))
    return f'{part} weights with SHA-256 {model_id_of_bytes(content):08x}...'


def card_heading(recipe: Recipe, recipe_path: Path, run: RunSummary,
                 facts: dict[str, str]) -> list[str]:
    """Return a model card's first lines: facts of the network, then of the run."""
    optimization = recipe.optimization
    kept = f'{"average of the " if optimization.averaging_decay else ""}weights ' + (
        'of the last one, not validated' if run.best_step is None else
        f'at step {run.best_step:,}, best on validation')
    return [
        f'# {recipe.name}', '',
        f'Written by `auv-image-codec train config/train/{Path(recipe_path).name}`.', '',
        '| | |', '|---|---|',
        *(f'| {name} | {fact} |' for name, fact in facts.items()),
        f'| steps | {run.steps:,} of {optimization.batch_size} images, which is '
        f'{run.steps * optimization.batch_size / run.images:.1f} of {optimization.epochs} epochs; '
        f'kept: the {kept} |',
        f'| seed | {optimization.seed} |',
        f'| device | {run.device} |',
        f'| finished | {date.today().isoformat()}, auv_image_codec {__version__} |', '']


def card_provenance(recipe: Recipe, run: RunSummary) -> list[str]:
    """Return a model card's last lines: what was trained on, and what chose the step."""
    lines = ['', 'Validation images chose the step, test images chose nothing; none of either '
             'was trained on.', '',
             f'Trained on {run.images:,} images: {", ".join(recipe.data.train)}.']
    if run.datasets:
        lines += ['', '| dataset | images | sampling weight |', '|---|---|---|']
        lines += [f'| {dataset} | {count} | {recipe.data.sampling_weights.get(dataset, 1):g} |'
                  for dataset, count in run.datasets.most_common()]
    return lines


def write_codec_card(weights: Path, codec_name: str, recipe: Recipe, recipe_path: Path,
                     run: RunSummary, sets: dict[str, ImageArray],
                     facts: dict[str, str]) -> dict:
    """
    Measure a codec's weights on sets of images and describe them in model_card.md beside them.

    :param weights: the directory of the weights.
    :param sets: images by the name of their set, 'validation' or 'test'.
    :param facts: of the network, for the card's table.
    :returns: the results by set.
    """
    codec = create_codec(codec_name, weights)
    lines = [
        *card_heading(recipe, recipe_path, run,
                      {'model id': f'`{codec.model_id:08x}`', **facts}),
        f'Packets of at most {DEFAULT_MAX_BYTES} bytes, header and checks included; errors at '
        f'{"x".join(map(str, codec.input_size))} on RGB values of 0 to 1. For comparison, '
        f'thumbnails of {THUMBNAIL_SIDE}x{THUMBNAIL_SIDE} RGB bytes, enlarged with a bicubic '
        'filter.', '',
        '| set | images | PSNR, dB (5th to 95th percentile) | MSE | bytes, mean | bytes, most '
        '| thumbnails, dB |',
        '|---|---|---|---|---|---|---|']
    results = {}
    for name, images in sets.items():
        row = results[name] = _measure(codec, images)
        low, high = row['psnr_db_5th_and_95th_percentile']
        lines.append(
            f'| {name} ({Path(getattr(recipe.data, name)).stem}) | {row["images"]} '
            f'| {row["mean_psnr_db"]:.2f} ({low:.2f} to {high:.2f}) | {row["mean_mse"]:.5f} '
            f'| {row["mean_packet_bytes"]:.0f} | {row["max_packet_bytes"]} '
            f'| {row["thumbnail_mean_psnr_db"]:.2f} |')
    lines += card_provenance(recipe, run)
    (Path(weights) / 'model_card.md').write_text('\n'.join(lines) + '\n')
    return results


def _thumbnail(image: np.ndarray) -> np.ndarray:
    small = Image.fromarray(image).resize((THUMBNAIL_SIDE, THUMBNAIL_SIDE),
                                          Image.Resampling.LANCZOS)
    return np.array(small.resize(image.shape[1::-1], Image.Resampling.BICUBIC))


def _measure(codec, images: ImageArray) -> dict:
    """Return means over images of errors, PSNR and packet sizes in bytes."""
    rows = []
    for image in tqdm(images.images, desc='measuring', leave=False):
        image = np.ascontiguousarray(image)
        packet = encode_packet(codec, image)
        _, decoded = decode_packet(codec, packet)
        rows.append((mse(image, decoded), psnr_db(image, decoded), len(packet),
                     psnr_db(image, _thumbnail(image))))
    errors, psnr, sizes, thumbnails = np.array(rows).T
    return {'images': len(rows), 'mean_psnr_db': float(psnr.mean()),
            'psnr_db_5th_and_95th_percentile': np.percentile(psnr, [5, 95]).tolist(),
            'mean_mse': float(errors.mean()), 'mean_packet_bytes': float(sizes.mean()),
            'max_packet_bytes': int(sizes.max()),
            'thumbnail_mean_psnr_db': float(thumbnails.mean())}
