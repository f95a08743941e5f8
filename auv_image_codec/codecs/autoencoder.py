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
"""The 500-dimensional autoencoder as a codec."""
from pathlib import Path

import numpy as np
import torch

from auv_image_codec.codecs.base import check_image, Codec, resample
from auv_image_codec.codecs.entropy import LatentEntropyModel
from auv_image_codec.codecs.packet import DEFAULT_MAX_BYTES, OVERHEAD_BYTES
from auv_image_codec.codecs.weights import NETWORK_PREFIX, read_weights, Weights
from auv_image_codec.errors import (
    BudgetError, LatentError, PacketCorruptError, WeightsError,
)
from auv_image_codec.networks.autoencoder import (
    AutoencoderDecoder, AutoencoderEncoder, INPUT_SIZE,
)

COUNT_BYTES = 2             # of the payload: how many leading dimensions are coded
NETWORKS = {'encoder': AutoencoderEncoder, 'decoder': AutoencoderDecoder}


class AutoencoderCodec(Codec):
    """
    Convolutions, a quantized latent of 500 dimensions, deconvolutions.

    Dimensions are sorted by their worth to the image. Trailing dimensions that are at their mean
    (the zero point) are not sent; where a byte budget is short, the encoder puts as many there as
    it must.

    :param weights: directory of encoder.safetensors and decoder.safetensors.
    :param device: a torch device, for example 'cpu' or 'cuda'.
    :param side: 'encoder', 'decoder' or 'both': what to load.
    :raises WeightsError: if weights are missing, malformed, or do not belong together.
    """

    name = 'autoencoder'
    input_size = (INPUT_SIZE, INPUT_SIZE)

    def __init__(self, weights: Path, device: str = 'cpu', side: str = 'both'):
        parts = ('encoder', 'decoder') if side == 'both' else (side,)
        loaded = {part: read_weights(weights, self.name, part) for part in parts}
        ids = {part: half.model_id for part, half in loaded.items()}
        if len(set(ids.values())) > 1:
            raise WeightsError(
                f'{weights}: the encoder belongs to model {ids["encoder"]:08x}, the decoder is '
                f'model {ids["decoder"]:08x}')
        self.model_id = ids[parts[0]]
        self._device = torch.device(device)
        self._networks = {part: _load_network(half, weights, self._device)
                          for part, half in loaded.items()}
        try:
            tensors = loaded[parts[0]].tensors
            self._scale = tensors['quantizer.scale']
            self._zero_point = tensors['quantizer.zero_point']
            self._entropy_model = LatentEntropyModel(tensors['entropy_model.frequencies'])
        except (KeyError, ValueError) as error:
            raise WeightsError(f'{weights}: malformed quantizer or tables: {error}') from error
        self.latent_dim = self._entropy_model.dimensions
        if not len(self._scale) == len(self._zero_point) == self.latent_dim:
            raise WeightsError(f'{weights}: quantizer and tables differ in their dimensions')

    def encode(self, image: np.ndarray, max_bytes: int = DEFAULT_MAX_BYTES) -> np.ndarray:
        """Encode an image; see the base class. The latent is uint8 [500]."""
        budget = max_bytes - OVERHEAD_BYTES - COUNT_BYTES
        if budget < 0:
            raise BudgetError(
                f'max_bytes is {max_bytes}, at least {OVERHEAD_BYTES + COUNT_BYTES} are header '
                'and checks')
        check_image(image)
        # a copy: torch wants arrays that are writable and without negative strides
        pixels = torch.from_numpy(np.array(resample(image, self.input_size), order='C'))
        with torch.inference_mode():
            images = pixels.to(self._device).permute(2, 0, 1)[None].float() / 255
            latent = self._network('encoder')(images)[0].cpu().numpy()
        symbols = np.clip(np.rint(latent / self._scale) + self._zero_point, 0, 255)
        return self._fit(symbols.astype(np.uint8), budget)

    def _fit(self, latent: np.ndarray, budget: int) -> np.ndarray:
        """Set as many trailing dimensions to their mean as the budget (bytes) demands."""
        bits = self._entropy_model.cumulative_bits(latent)
        # the coder needs up to a word more than the ideal length: start there, then step back
        count = int(np.searchsorted(bits, 8 * budget, side='right'))
        while len(self._entropy_model.encode(latent[:count])) > budget:
            count -= 1
        fitted = latent.copy()
        fitted[count:] = self._zero_point[count:]
        return fitted

    def decode(self, latent: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Decode a latent; see the base class. The latent is uint8 [500]."""
        with torch.inference_mode():
            images = self._network('decoder')(self._values(latent))
            pixels = (images[0].clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0)
        return resample(np.ascontiguousarray(pixels.cpu().numpy()), size)

    def features(self, latent: np.ndarray) -> np.ndarray:
        """Return the decoder's features of a latent, float32 [256, 7, 7]."""
        with torch.inference_mode():
            return self._network('decoder').features(self._values(latent))[0].cpu().numpy()

    def _values(self, latent: np.ndarray) -> torch.Tensor:
        """Return what the decoder takes for a latent, [1, 500]."""
        self._check_latent(latent)
        values = (latent.astype(np.float32) - self._zero_point) * self._scale
        return torch.from_numpy(values)[None].to(self._device)

    def payload_from_latent(self, latent: np.ndarray) -> bytes:
        """Return the payload of a latent uint8 [500]; see the base class."""
        self._check_latent(latent)
        sent = np.flatnonzero(latent != self._zero_point)
        count = int(sent[-1]) + 1 if len(sent) else 0
        return count.to_bytes(COUNT_BYTES, 'little') + self._entropy_model.encode(latent[:count])

    def latent_from_payload(self, payload: bytes) -> np.ndarray:
        """Return the latent, uint8 [500], of a payload; see the base class."""
        if len(payload) < COUNT_BYTES:
            raise PacketCorruptError(
                f'payload has {len(payload)} bytes, at least {COUNT_BYTES} name its dimensions')
        count = int.from_bytes(payload[:COUNT_BYTES], 'little')
        latent = self._zero_point.copy()
        latent[:count] = self._entropy_model.decode(payload[COUNT_BYTES:], count)
        return latent

    def latent_from_payload_prefix(self, prefix: bytes) -> tuple[np.ndarray, float]:
        """
        Return the latent, uint8 [500], that a payload's first bytes decide; see the base class.

        Its leading dimensions are decoded; the others are at their mean.
        """
        latent = self._zero_point.copy()
        if len(prefix) < COUNT_BYTES:
            return latent, 0.0
        count = int.from_bytes(prefix[:COUNT_BYTES], 'little')
        symbols = self._entropy_model.decode_certain(prefix[COUNT_BYTES:], count)
        latent[:len(symbols)] = symbols
        return latent, len(symbols) / count if count else 1.0

    def _check_latent(self, latent: np.ndarray) -> None:
        if not isinstance(latent, np.ndarray) or latent.dtype != np.uint8:
            kind = getattr(latent, 'dtype', type(latent).__name__)
            raise LatentError(f'latent is {kind}, must be a uint8 array')
        if latent.shape != (self.latent_dim,):
            raise LatentError(f'latent has shape {latent.shape}, must be ({self.latent_dim},)')

    def _network(self, part: str) -> torch.nn.Module:
        if part not in self._networks:
            raise WeightsError(f'the {part} of codec {self.name!r} was not loaded')
        return self._networks[part]


def _load_network(half: Weights, directory: Path, device: torch.device) -> torch.nn.Module:
    """Return a half's network, in evaluation mode, float32."""
    state = {key.removeprefix(NETWORK_PREFIX): torch.from_numpy(tensor)
             for key, tensor in half.tensors.items() if key.startswith(NETWORK_PREFIX)}
    try:
        network = NETWORKS[half.part](**half.network)
        network.load_state_dict(state)
    except (TypeError, RuntimeError) as error:
        raise WeightsError(
            f'{directory}: the {half.part} does not fit its network: {error}') from error
    return network.eval().requires_grad_(False).to(device)
