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
The 500-dimensional autoencoder: convolutions, a fully connected latent, deconvolutions.

Both halves are a direct path beside a deep one. The direct path is linear: a single convolution
over whole 32 x 32 cells and the fully connected layer, which together can hold the principal
components of the training images, so that training can start from the best linear autoencoder
instead of from noise (auv_image_codec.training.closed_form). The deep path starts at zero and
learns what no linear map can do.
"""
from torch import nn, Tensor

CELL = 32           # pixels of one side of a cell: 224 = 7 cells
CELLS = 7
INPUT_SIZE = CELL * CELLS
DECODER_CHANNELS = 256


def _zero(layer: nn.Module) -> nn.Module:
    """Make a layer's output zero at the start of training."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class AutoencoderEncoder(nn.Module):
    """
    Images to latents.

    :param latent_dim: number of latent dimensions.
    :param cell_channels: channels of the [cell_channels, 7, 7] features before the latent.
    """

    def __init__(self, latent_dim: int = 500, cell_channels: int = 128):
        super().__init__()
        self.latent_dim = latent_dim
        self.direct = nn.Conv2d(3, cell_channels, CELL, CELL)
        self.deep = nn.Sequential(
            nn.Conv2d(3, 32, 8, 4, 2), nn.LeakyReLU(0.1),                      # 56 x 56
            nn.Conv2d(32, 64, 4, 2, 1), nn.LeakyReLU(0.1),                     # 28 x 28
            nn.Conv2d(64, 96, 4, 2, 1), nn.LeakyReLU(0.1),                     # 14 x 14
            nn.Conv2d(96, 128, 4, 2, 1), nn.LeakyReLU(0.1),                    # 7 x 7
            _zero(nn.Conv2d(128, cell_channels, 1)))
        self.to_latent = nn.Linear(cell_channels * CELLS * CELLS, latent_dim)

    def forward(self, images: Tensor) -> Tensor:
        """Encode float images [N, 3, 224, 224] in 0..1 as float latents [N, latent_dim]."""
        centred = images - 0.5
        features = self.direct(centred) + self.deep(centred)
        return self.to_latent(features.flatten(1))


class AutoencoderDecoder(nn.Module):
    """
    Latents to images.

    :param latent_dim: number of latent dimensions.
    """

    def __init__(self, latent_dim: int = 500):
        super().__init__()
        self.latent_dim = latent_dim
        self.from_latent = nn.Linear(latent_dim, DECODER_CHANNELS * CELLS * CELLS)
        self.direct = nn.ConvTranspose2d(DECODER_CHANNELS, 3, CELL, CELL)
        self.deep = nn.Sequential(
            nn.ConvTranspose2d(DECODER_CHANNELS, 160, 4, 2, 1), nn.LeakyReLU(0.1),   # 14 x 14
            nn.ConvTranspose2d(160, 96, 4, 2, 1), nn.LeakyReLU(0.1),                 # 28 x 28
            nn.ConvTranspose2d(96, 64, 4, 2, 1), nn.LeakyReLU(0.1),                  # 56 x 56
            _zero(nn.ConvTranspose2d(64, 3, 8, 4, 2)))                               # 224 x 224

    def features(self, latents: Tensor) -> Tensor:
        """Return the [N, 256, 7, 7] features of float latents [N, latent_dim]."""
        return self.from_latent(latents).unflatten(1, (DECODER_CHANNELS, CELLS, CELLS))

    def forward(self, latents: Tensor) -> Tensor:
        """Decode float latents [N, latent_dim] as images [N, 3, 224, 224], about 0..1."""
        features = self.features(latents)
        return self.direct(features) + self.deep(features) + 0.5
