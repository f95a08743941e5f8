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
"""From a trained autoencoder to the files in weights/: calibrate, round, measure, describe."""
from datetime import date
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from auv_image_codec import __version__
from auv_image_codec.codecs import create_codec, decode_packet, encode_packet
from auv_image_codec.codecs.weights import NETWORK_PREFIX, rounded, write_weights
from auv_image_codec.evaluation.metrics import mse, psnr_db
from auv_image_codec.training import calibration
from auv_image_codec.training.autoencoder_training import Autoencoder
from auv_image_codec.training.data import ImageArray
from auv_image_codec.training.recipe import Recipe

CODEC = 'autoencoder'


def export_autoencoder(recipe: Recipe, recipe_path: Path, network: Autoencoder,
                       training: list[ImageArray], validation: ImageArray,
                       test: ImageArray | None, steps: int, device: str, weights: Path) -> dict:
    """
    Write encoder.safetensors, decoder.safetensors and model_card.md; return the results.

    :param network: the trained network, on the CPU; its latent is rotated in place.
    :param steps: optimization steps done.
    :param device: that they were done on.
    :param weights: the directory to write to.
    """
    network = network.eval().requires_grad_(False).to(memory_format=torch.contiguous_format)
    latents = calibration.all_latents(network.encoder, training)
    latents = calibration.rotate_latent(network.encoder, network.decoder, latents)
    # the codec runs on rounded weights: calibrate what it will compute
    halves = {'encoder': network.encoder, 'decoder': network.decoder}
    states = {part: {NETWORK_PREFIX + key: tensor.numpy()
                     for key, tensor in half.state_dict().items()}
              for part, half in halves.items()}
    for part, half in halves.items():
        half.load_state_dict({key.removeprefix(NETWORK_PREFIX): torch.from_numpy(tensor)
                              for key, tensor in rounded(states[part]).items()})
    latents = calibration.all_latents(network.encoder, training).numpy()
    scale, zero_point = calibration.find_quantizer(latents, recipe.quantization_step)
    symbols = calibration.quantize(latents, scale, zero_point)
    tables = {'quantizer.scale': scale, 'quantizer.zero_point': zero_point,
              'entropy_model.frequencies': calibration.find_tables(symbols).astype(np.uint16)}
    shapes = {'encoder': {'latent_dim': recipe.network.latent_dim,
                          'cell_channels': recipe.network.encoder_cell_channels},
              'decoder': {'latent_dim': recipe.network.latent_dim}}
    model_id = write_weights(weights, CODEC, shapes,
                             {part: {**states[part], **tables} for part in halves})

    results = {'model_id': f'{model_id:08x}', 'steps': steps, 'device': device,
               'epochs': steps * recipe.optimization.batch_size / sum(map(len, training))}
    codec = create_codec(CODEC, weights)
    for name, images in (('validation', validation), ('test', test)):
        if images is not None:
            results[name] = _measure(codec, images)
    _write_model_card(Path(weights) / 'model_card.md', recipe, recipe_path, results)
    return results


def _measure(codec, images: ImageArray) -> dict:
    """Return means over images of PSNR and mean squared error, and packet sizes in bytes."""
    rows = []
    for image in tqdm(images.images, desc='measuring', leave=False):
        image = np.ascontiguousarray(image)
        packet = encode_packet(codec, image)
        _, decoded = decode_packet(codec, packet)
        rows.append((mse(image, decoded), psnr_db(image, decoded), len(packet)))
    errors, psnr, sizes = np.array(rows).T
    return {'images': len(rows), 'mean_psnr_db': float(psnr.mean()),
            'psnr_db_5th_and_95th_percentile': np.percentile(psnr, [5, 95]).tolist(),
            'mean_mse': float(errors.mean()), 'mean_packet_bytes': float(sizes.mean()),
            'max_packet_bytes': int(sizes.max())}


def _write_model_card(path: Path, recipe: Recipe, recipe_path: Path, results: dict) -> None:
    lines = [
        f'# {recipe.name}', '',
        f'Written by `auv-image-codec train config/train/{Path(recipe_path).name}`.', '',
        '| | |', '|---|---|',
        f'| model id | `{results["model_id"]}` |',
        f'| network | {recipe.network.type}, latent of {recipe.network.latent_dim} dimensions |',
        f'| training images | {", ".join(recipe.data.train)} |',
        f'| steps | {results["steps"]:,} of {recipe.optimization.batch_size} images '
        f'({results["epochs"]:.1f} of {recipe.optimization.epochs} epochs) |',
        f'| seed | {recipe.optimization.seed} |',
        f'| device | {results["device"]} |',
        f'| finished | {date.today().isoformat()}, auv_image_codec {__version__} |', '',
        'Whole packets of at most 500 bytes, header and checks included, 224x224:', '',
        '| set | images | PSNR, dB (5th to 95th percentile) | MSE | bytes, mean | bytes, most |',
        '|---|---|---|---|---|---|']
    for name in ('validation', 'test'):
        if name in results:
            row = results[name]
            low, high = row['psnr_db_5th_and_95th_percentile']
            lines.append(
                f'| {name} ({Path(getattr(recipe.data, name)).stem}) | {row["images"]} '
                f'| {row["mean_psnr_db"]:.2f} ({low:.2f} to {high:.2f}) | {row["mean_mse"]:.5f} '
                f'| {row["mean_packet_bytes"]:.0f} | {row["max_packet_bytes"]} |')
    path.write_text('\n'.join(lines) + '\n')
