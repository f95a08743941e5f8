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
The best linear autoencoder of the network's own structure, found without gradient descent.

A cell (32 x 32 pixels) is projected onto the leading principal components of all cells, then the
7 x 7 projected cells of a frame onto the leading principal components of all frames. These are
the weights of the direct paths of auv_image_codec.networks.autoencoder: training starts from
principal components and can only improve on them. Mirrored copies count as images of their own.
"""
import numpy as np
import torch
from torch.nn import functional
from tqdm import tqdm

from auv_image_codec.networks.autoencoder import (
    AutoencoderDecoder, AutoencoderEncoder, CELL, CELLS, DECODER_CHANNELS,
)
from auv_image_codec.training.data import as_network_input, ImageArray

CELL_SAMPLE_IMAGES = 2500       # 122,500 cells and their mirror images: 80 a dimension
POWER_ITERATIONS = 6            # of the randomized decomposition; more change nothing visible


def start_from_principal_components(encoder: AutoencoderEncoder, decoder: AutoencoderDecoder,
                                    arrays: list[ImageArray], seed: int) -> None:
    """
    Set the direct paths of both halves to the principal components of the training images.

    :param arrays: training images, 224 x 224.
    :param seed: of the sample of cells and of the randomized decomposition.
    """
    torch.manual_seed(seed)
    cell_mean, cell_basis = _cell_components(arrays, seed)
    frames = _project_frames(arrays, cell_mean, cell_basis)
    frame_mean = frames.mean(0)
    frames -= frame_mean
    _, _, components = torch.svd_lowrank(frames, encoder.latent_dim, niter=POWER_ITERATIONS)
    # channel first, as the networks flatten their features
    components = components.T.reshape(-1, CELLS * CELLS, DECODER_CHANNELS).transpose(1, 2)
    frame_mean = frame_mean.reshape(CELLS * CELLS, DECODER_CHANNELS).T

    kernels = cell_basis.T.reshape(DECODER_CHANNELS, 3, CELL, CELL)
    channels = encoder.direct.out_channels
    with torch.no_grad():
        encoder.direct.weight.copy_(kernels[:channels])
        encoder.direct.bias.copy_(-(cell_mean @ cell_basis)[:channels])
        encoder.to_latent.weight.copy_(components[:, :channels].flatten(1))
        encoder.to_latent.bias.copy_(
            -encoder.to_latent.weight @ frame_mean[:channels].flatten())
        decoder.from_latent.weight.copy_(components.flatten(1).T)
        decoder.from_latent.bias.copy_(frame_mean.flatten())
        decoder.direct.weight.copy_(kernels)
        # the mean cell is not the same in every pixel: what a bias cannot hold, features can
        decoder.direct.bias.copy_(cell_mean.reshape(3, -1).mean(1))
        remainder = cell_mean - decoder.direct.bias.repeat_interleave(CELL * CELL)
        decoder.from_latent.bias.add_(
            (remainder @ cell_basis).repeat_interleave(CELLS * CELLS))


def _cells(images: np.ndarray) -> torch.Tensor:
    """Return uint8 images [N, 224, 224, 3] as cells [N * 49, 3072], channel by channel."""
    centred = as_network_input(torch.from_numpy(np.array(images))) - 0.5
    return functional.unfold(centred, CELL, stride=CELL).transpose(1, 2).flatten(0, 1)


def _mirrored(images: np.ndarray) -> np.ndarray:
    return images[:, :, ::-1]


def _cell_components(arrays: list[ImageArray], seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean cell [3072] and the leading components [3072, 256] of all cells."""
    generator = np.random.default_rng(seed)
    dimensions = 3 * CELL * CELL
    total = torch.zeros(dimensions, dtype=torch.float64)
    products = torch.zeros(dimensions, dimensions, dtype=torch.float64)
    count = 0
    share = CELL_SAMPLE_IMAGES / sum(map(len, arrays))
    for array in arrays:
        chosen = np.sort(generator.permutation(len(array))[:max(1, round(share * len(array)))])
        for start in tqdm(range(0, len(chosen), 64), desc='components of cells', leave=False):
            images = array.images[chosen[start:start + 64]]
            for variant in (images, _mirrored(images)):
                cells = _cells(variant)
                total += cells.sum(0)
                products += (cells.T @ cells).to(torch.float64)
                count += len(cells)
    mean = total / count
    _, vectors = torch.linalg.eigh((products / count - torch.outer(mean, mean)).float())
    return mean.float(), vectors[:, -DECODER_CHANNELS:].flip(1).contiguous()


def _project_frames(arrays: list[ImageArray], cell_mean: torch.Tensor,
                    cell_basis: torch.Tensor) -> torch.Tensor:
    """Return all frames and their mirror images as projected cells [2 N, 49 * 256]."""
    frames = []
    for array in arrays:
        for start in tqdm(range(0, len(array), 64), desc='components of frames', leave=False):
            images = array.images[start:start + 64]
            for variant in (images, _mirrored(images)):
                frames.append(((_cells(variant) - cell_mean) @ cell_basis)
                              .reshape(len(variant), -1))
    return torch.cat(frames)
