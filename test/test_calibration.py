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
"""The closed-form start and the calibration of the latent, on real frames."""
import io

import numpy as np
from PIL import Image
import pytest
import torch

from auv_image_codec.codecs.entropy import LatentEntropyModel
from auv_image_codec.evaluation.bags import read_compressed_images
from auv_image_codec.networks.autoencoder import AutoencoderDecoder, AutoencoderEncoder
from auv_image_codec.resources import share_directory
from auv_image_codec.training.calibration import (
    all_latents, find_quantizer, find_tables, quantize, rotate_latent)
from auv_image_codec.training.closed_form import start_from_principal_components
from auv_image_codec.training.data import as_network_input, ImageArray

pytestmark = pytest.mark.slow       # the components of cells alone take seconds
LATENT_DIM = 11                     # six frames and their mirror images, less their mean


@pytest.fixture(scope='module')
def images() -> ImageArray:
    """Return six frames of the demo bag, 224x224."""
    records = list(read_compressed_images(share_directory() / 'demo' / 'robosub_gate'))[::15]
    frames = [np.asarray(Image.open(io.BytesIO(record.data)).resize((224, 224)))
              for record in records]
    return ImageArray(np.stack(frames), [f'{number}' for number in range(len(frames))],
                      None)


@pytest.fixture(scope='module')
def network(images) -> tuple[AutoencoderEncoder, AutoencoderDecoder]:
    """Return both halves, started from the principal components of the frames."""
    encoder = AutoencoderEncoder(LATENT_DIM, cell_channels=256)
    decoder = AutoencoderDecoder(LATENT_DIM)
    start_from_principal_components(encoder, decoder, [images], seed=0)
    return encoder.requires_grad_(False), decoder.requires_grad_(False)


def psnr(network, images: ImageArray) -> float:
    encoder, decoder = network
    inputs = as_network_input(torch.from_numpy(images.images))
    return float(-10 * torch.log10((decoder(encoder(inputs)) - inputs).square().mean()))


def test_the_start_reconstructs_what_the_components_span(network, images):
    # all that is lost is the detail within a cell beyond 256 components
    assert psnr(network, images) > 38


def test_rotating_the_latent_sorts_it_and_keeps_the_images(network, images):
    before = psnr(network, images)
    encoder, decoder = network
    latents = rotate_latent(encoder, decoder, all_latents(encoder, [images]))

    assert psnr(network, images) == pytest.approx(before, abs=0.05)
    assert torch.allclose(all_latents(encoder, [images]), latents, atol=0.02)
    covariance = np.cov(latents.numpy().T)
    variances = np.diag(covariance)
    assert (np.diff(variances) <= 1e-3 * variances[0]).all()
    assert abs(covariance - np.diag(variances)).max() < 1e-3 * variances[0]
    # equal steps in any dimension change the image equally
    shifts = torch.eye(LATENT_DIM)
    changes = (decoder(latents[:1] + shifts) - decoder(latents[:1])).square().sum((1, 2, 3))
    assert torch.allclose(changes, torch.ones(LATENT_DIM), atol=0.05)


def test_the_quantizer_keeps_its_step_where_256_symbols_reach():
    generator = np.random.default_rng(0)
    latents = generator.normal(size=(5000, 3)).astype(np.float32) * [1.0, 10.0, 1000.0]
    scale, zero_point = find_quantizer(latents, step=0.5)
    symbols = quantize(latents, scale, zero_point)
    errors = np.abs((symbols.astype(float) - zero_point) * scale - latents)
    assert scale[0] == scale[1] == 0.5 and scale[2] > 0.5
    assert (errors[:, :2] <= 0.2501).all()
    # clipping a few outliers must be worth it: better than steps over the whole range
    whole_range = np.ptp(latents[:, 2]) / 255
    assert np.square(errors[:, 2]).mean() < whole_range ** 2 / 12


def test_the_tables_expect_what_they_have_seen():
    generator = np.random.default_rng(0)
    symbols = np.clip(generator.normal([100, 128], [4, 30], (5000, 2)), 0, 255).astype(np.uint8)
    tables = find_tables(symbols)
    model = LatentEntropyModel(tables)
    bits = np.mean([model.cumulative_bits(row)[-1] for row in symbols])
    counts = [np.bincount(column, minlength=256) / len(symbols) for column in symbols.T]
    entropy = sum(-(p[p > 0] * np.log2(p[p > 0])).sum() for p in counts)
    assert entropy <= bits < entropy + 0.2
