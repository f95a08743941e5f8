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
From trained networks to a codec: rotate the latent, then find its quantizer and entropy model.

Trained dimensions are correlated and unequal. The layers on both sides of the latent are linear,
so any rotation and scaling of it can be folded into them. Two facts choose it: equal steps are
best where equal changes of the latent cost equal errors of the image (G, the mean of J^T J of the
decoder's Jacobian J, becomes the identity), and separate tables lose nothing where dimensions are
uncorrelated (the latent's covariance becomes diagonal). Dimensions are then in the order of
their variance, which is also the order of their worth to the image.
"""
import cv2
import numpy as np
import torch
from torch.func import jvp, vmap
from tqdm import tqdm

from auv_image_codec.codecs.entropy import frequencies_from_counts, SYMBOLS
from auv_image_codec.networks.autoencoder import AutoencoderDecoder, AutoencoderEncoder
from auv_image_codec.training.data import as_network_input, ImageArray

JACOBIAN_IMAGES = 12
JACOBIAN_CHUNK = 50                 # latent dimensions differentiated at a time
RANGE_SHARES = np.linspace(1.2, 0.3, 19)    # of a dimension's range over the training images
TABLE_SMOOTHING = 0.2               # standard deviations of a dimension
TABLE_FLOOR = 0.01                  # share of the probability spread evenly over all symbols


@torch.no_grad()
def all_latents(encoder: AutoencoderEncoder, arrays: list[ImageArray]) -> torch.Tensor:
    """Return the float latents [2 N, latent_dim] of all images and of their mirror images."""
    latents = []
    for array in arrays:
        for start in tqdm(range(0, len(array), 64), desc='latents', leave=False):
            images = as_network_input(torch.from_numpy(np.array(array.images[start:start + 64])))
            latents += [encoder(images), encoder(images.flip(3))]
    return torch.cat(latents)


@torch.no_grad()
def rotate_latent(encoder: AutoencoderEncoder, decoder: AutoencoderDecoder,
                  latents: torch.Tensor) -> torch.Tensor:
    """
    Fold the rotation that this module describes into both networks; return the new latents.

    The reconstructions stay the same up to rounding.

    :param latents: float latents [N, latent_dim] of the training images.
    """
    gram = _mean_gram(decoder, latents)
    values, vectors = torch.linalg.eigh(gram)
    values = values.clamp(min=1e-6 * values.max())
    whiten = vectors @ torch.diag(values.sqrt()) @ vectors.T
    unwhiten = vectors @ torch.diag(values.rsqrt()) @ vectors.T
    mean = latents.double().mean(0)
    whitened = (latents.double() - mean) @ whiten
    _, axes = torch.linalg.eigh(whitened.T @ whitened / len(latents))
    axes = axes.flip(1)                                     # largest variance first
    forward, backward = axes.T @ whiten, unwhiten @ axes

    weight, bias = encoder.to_latent.weight.double(), encoder.to_latent.bias.double()
    encoder.to_latent.weight.copy_(forward @ weight)
    encoder.to_latent.bias.copy_(forward @ (bias - mean))
    weight, bias = decoder.from_latent.weight.double(), decoder.from_latent.bias.double()
    decoder.from_latent.weight.copy_(weight @ backward)
    decoder.from_latent.bias.copy_(bias + weight @ mean)
    return (whitened @ axes).float()


def _mean_gram(decoder: AutoencoderDecoder, latents: torch.Tensor) -> torch.Tensor:
    """Return the mean of J^T J [latent_dim, latent_dim] over a few images, float64."""
    dimensions = latents.shape[1]
    directions = torch.eye(dimensions)
    gram = torch.zeros(dimensions, dimensions, dtype=torch.float64)
    for latent in tqdm(latents[::max(1, len(latents) // JACOBIAN_IMAGES)][:JACOBIAN_IMAGES],
                       desc='sensitivity of the decoder', leave=False):
        def image(shift):
            return decoder((latent + shift)[None])[0].flatten()

        def derivative(direction):
            return jvp(image, (torch.zeros(dimensions),), (direction,))[1]

        columns = torch.cat([vmap(derivative)(directions[start:start + JACOBIAN_CHUNK])
                             for start in range(0, dimensions, JACOBIAN_CHUNK)])
        gram += (columns @ columns.T).double()
    return gram / JACOBIAN_IMAGES


def find_quantizer(latents: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray]:
    """
    Return scale (float32) and zero point (uint8), each [latent_dim], for 256 symbols.

    A dimension's scale is the common step where 256 symbols reach far enough. Where they do not,
    coarser symbols and a clipped range are weighed against each other: of a few shares of the
    dimension's range, the one with the least mean squared error is kept.

    :param latents: float latents [N, latent_dim] of the training images.
    :param step: the quantization step, in units of the latent.
    """
    low, high = latents.min(0), latents.max(0)
    least = np.full(latents.shape[1], np.inf)
    scale, zero_point = np.empty_like(low), np.empty(latents.shape[1], np.uint8)
    for share in RANGE_SHARES:
        candidate = np.maximum(step, share * (high - low) / (SYMBOLS - 1)).astype(np.float32)
        middle = (SYMBOLS - 1) / 2 - (high + low) / 2 / candidate
        # the zero point is the mean, 0, exactly: dimensions that are not sent decode to it
        candidate_zero = np.clip(np.rint(middle), 0, SYMBOLS - 1).astype(np.uint8)
        symbols = quantize(latents, candidate, candidate_zero)
        restored = (symbols.astype(np.float32) - candidate_zero) * candidate
        errors = np.square(restored - latents).mean(0)
        better = errors < least
        least[better], scale[better] = errors[better], candidate[better]
        zero_point[better] = candidate_zero[better]
    return scale.astype(np.float32), zero_point


def quantize(latents: np.ndarray, scale: np.ndarray, zero_point: np.ndarray) -> np.ndarray:
    """Return the uint8 symbols of float latents [..., latent_dim]."""
    return np.clip(np.rint(latents / scale) + zero_point, 0, SYMBOLS - 1).astype(np.uint8)


def find_tables(symbols: np.ndarray) -> np.ndarray:
    """
    Return integer frequency tables [latent_dim, 256] from uint8 symbols [N, latent_dim].

    A histogram of some ten thousand images is rough: it is smoothed over a fifth of the
    dimension's standard deviation, and a small share goes evenly to all symbols.
    """
    densities = []
    for column in symbols.T:
        histogram = np.bincount(column, minlength=SYMBOLS).astype(np.float64)
        width = max(0.5, TABLE_SMOOTHING * column.std())
        smooth = cv2.GaussianBlur(histogram[None], (0, 1), width)[0]
        densities.append((1 - TABLE_FLOOR) * smooth / smooth.sum() + TABLE_FLOOR / SYMBOLS)
    return frequencies_from_counts(np.stack(densities))
