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
"""The wavelet codec: bit planes of wavelet coefficients under a learned entropy model."""
from collections.abc import Callable
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from auv_image_codec.codecs.base import check_image, Codec, resample
from auv_image_codec.codecs.packet import (
    DEFAULT_MAX_BYTES, LARGEST_PACKET_BYTES, OVERHEAD_BYTES,
)
from auv_image_codec.codecs.wavelet_entropy import WaveletEntropyModel
from auv_image_codec.codecs.wavelet_refinement import WaveletRefinement
from auv_image_codec.codecs.weights import NETWORK_PREFIX, read_weights
from auv_image_codec.errors import BudgetError, LatentError, PacketCorruptError, WeightsError
from auv_image_codec.networks.colour_bases import (
    BASES, closest_bases, COLOURS, decorrelate, detail_covariances,
)
from auv_image_codec.networks.wavelet_restoration import SCALE, WaveletRestoration
from auv_image_codec.networks.wavelet_transform import analysis

INPUT_SIDE = 224
CODED_CELLS = (INPUT_SIDE // SCALE) ** 2    # pixels that are coded, in squares of 16 x 16
MOST_ASPECT = 4             # of the sides that are coded
# of the latent: width and height in cells of 16 pixels, 5 bits each, and 6 bits of colours
HEAD_BYTES = 2
SIDE_BITS, COLOUR_BITS = 5, 6
COLOUR_STEP = 2.0**-14      # of the bases in a weights file


class WaveletCodec(Codec):
    """
    Wavelet coefficients, coded from their most to their least significant bits.

    The latent is the coded bytes behind two bytes that name the coded width and height and the
    colours (networks.colour_bases) that coefficients are of. Wherever it is cut, it decodes; so a
    budget is met by cutting, and a packet for n bytes is the beginning of the packet for more.
    Images are coded in their own shape, at about the number of pixels of 224x224, or at their own
    size if that is smaller.

    ``entropy_model`` is its WaveletEntropyModel.

    :param weights: directory of context.safetensors, the entropy model, and
        restoration.safetensors, the decoder; an encoder needs the second for refine() only.
    :param device: a torch device that the decoder runs on. The entropy model stays on the CPU,
        whose arithmetic it was made for.
    :param side: 'encoder', 'decoder' or 'both': what to load.
    :raises WeightsError: if weights are missing or malformed.
    """

    name = 'wavelet'
    input_size = (INPUT_SIDE, INPUT_SIDE)
    latent_dim = LARGEST_PACKET_BYTES - OVERHEAD_BYTES
    has_refinement = True

    def __init__(self, weights: Path, device: str = 'cpu', side: str = 'both'):
        self._device = torch.device(device)
        context = read_weights(weights, self.name, 'context')
        self.model_id = context.model_id
        try:
            self.entropy_model = WaveletEntropyModel(context.tensors)
            self._bases = _colour_bases(context.tensors)
        except (KeyError, ValueError, RuntimeError) as error:
            raise WeightsError(f'{weights}: malformed entropy model: {error}') from error
        self._weights = weights
        self._refinement = None
        self._restoration = None
        if side != 'encoder':
            self._restoration = load_restoration(weights, self.name, self._device)

    def encode(self, image: np.ndarray, max_bytes: int = DEFAULT_MAX_BYTES) -> np.ndarray:
        """Encode an image; see the base class. The latent is uint8 [2..max_bytes - 16]."""
        images, budget = _prepared(image, max_bytes)
        with torch.inference_mode():
            levels, basis = self._analysis(images)
            stream = self.entropy_model.encode(levels, *images.shape[2:], budget)
        return _Head.of(images, basis).latent(stream)

    def refine(self, image: np.ndarray, max_bytes: int, steps: int, seconds: float = math.inf,
               stop: Callable[[], bool] = lambda: False) -> np.ndarray:
        """
        Encode an image with more time; see the base class.

        :raises WeightsError: if the decoder's weights are missing or malformed.
        """
        images, budget = _prepared(image, max_bytes)
        if self._refinement is None:
            self._refinement = WaveletRefinement(
                self.entropy_model, load_restoration(self._weights, self.name))
        with torch.no_grad():
            levels, basis = self._analysis(images)
        stream = self._refinement.refine(images, levels, self._basis(basis), budget, steps,
                                         seconds, stop)
        return _Head.of(images, basis).latent(stream)

    def _analysis(self, images: torch.Tensor) -> tuple[list[torch.Tensor], int]:
        """Return coefficients of an image in the colours that suit it best, and which these are."""
        levels = analysis(images)
        basis = int(closest_bases(detail_covariances(levels), self._bases))
        return decorrelate(levels, self._basis(basis)), basis

    def _basis(self, index: int) -> torch.Tensor:
        """Return one of the bases that packets name, float [1, 3, 3], on the CPU."""
        return self._bases[index][None].float()

    def decoder_id(self) -> int:
        """Return what tells decoders of the same packets apart; see the base class."""
        return read_weights(self._weights, self.name, 'restoration').file_id

    def decode(self, latent: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Decode a latent, or the beginning of one; see the base class."""
        head = _Head.of_latent(latent)
        if self._restoration is None:
            raise WeightsError(f'the decoder of codec {self.name!r} was not loaded')
        levels, plane = self.entropy_model.decode(latent[HEAD_BYTES:].tobytes(), head.height,
                                                  head.width)
        with torch.inference_mode():
            levels = [type(level)(*(part.to(self._device) for part in level)) for level in levels]
            images, _ = self._restoration(
                levels, torch.tensor([plane], device=self._device),
                self._basis(head.basis).to(self._device), head.height, head.width)
            pixels = (images[0].clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0)
        return resample(np.ascontiguousarray(pixels.cpu().numpy()), size)

    def decoded_size(self, latent: np.ndarray) -> tuple[int, int]:
        """Return width and height of the coded image; see the base class."""
        head = _Head.of_latent(latent)
        return head.width, head.height

    def payload_from_latent(self, latent: np.ndarray) -> bytes:
        """Return the payload of a latent; see the base class."""
        _Head.of_latent(latent)
        return latent.tobytes()

    def latent_from_payload(self, payload: bytes) -> np.ndarray:
        """Return the latent of a payload; see the base class."""
        latent = np.frombuffer(payload, np.uint8)
        try:
            _Head.of_latent(latent)
        except LatentError as error:
            raise PacketCorruptError(f'payload is no {self.name} latent: {error}') from error
        return latent

    def latent_from_payload_prefix(self, prefix: bytes) -> tuple[np.ndarray, float]:
        """Return the latent of the first bytes of a payload, which decodes; see the base class."""
        return self.latent_from_payload(prefix), 1.0


def coded_size(width: int, height: int) -> tuple[int, int]:
    """
    Return the width and height, multiples of 16, that an image of a size is coded at.

    Its shape is kept as well as multiples of 16 can, up to 4:1, and its number of pixels too if
    that is at most that of 224x224.
    """
    width, height = (max(side, math.ceil(other / MOST_ASPECT))
                     for side, other in ((width, height), (height, width)))
    scale = min(1.0, math.sqrt(CODED_CELLS * SCALE * SCALE / (width * height))) / SCALE
    columns, rows = (max(round(side * scale), 1) for side in (width, height))
    while columns * rows > CODED_CELLS:     # by rounding: the longer side gives way
        columns, rows = ((columns - 1, rows) if columns >= rows else (columns, rows - 1))
    return columns * SCALE, rows * SCALE


def _prepared(image: np.ndarray, max_bytes: int) -> tuple[torch.Tensor, int]:
    """Return an image as it is coded, float [1, 3, H, W] in 0..1, and the bytes for its stream."""
    budget = min(max_bytes, LARGEST_PACKET_BYTES) - OVERHEAD_BYTES - HEAD_BYTES
    if budget < 0:
        raise BudgetError(
            f'max_bytes is {max_bytes}, at least {OVERHEAD_BYTES + HEAD_BYTES} are header, checks, '
            'size and colours')
    check_image(image)
    size = coded_size(image.shape[1], image.shape[0])
    pixels = torch.from_numpy(np.array(resample(image, size), order='C'))
    return pixels.permute(2, 0, 1)[None].float() / 255, budget


class _Head(NamedTuple):
    """What a latent begins with: coded width and height in pixels, and the index of the colours."""

    width: int
    height: int
    basis: int

    @classmethod
    def of(cls, images: torch.Tensor, basis: int) -> '_Head':
        height, width = images.shape[2:]
        return cls(width, height, basis)

    @classmethod
    def of_latent(cls, latent: np.ndarray) -> '_Head':
        """Return a latent's head, after checking that it is one; LatentError if it is not."""
        if not isinstance(latent, np.ndarray) or latent.dtype != np.uint8 or latent.ndim != 1:
            raise LatentError('latent must be a uint8 vector')
        if not HEAD_BYTES <= len(latent) <= WaveletCodec.latent_dim:
            raise LatentError(f'latent has {len(latent)} bytes, must have {HEAD_BYTES} to '
                              f'{WaveletCodec.latent_dim}')
        packed = int.from_bytes(latent[:HEAD_BYTES].tobytes(), 'big')
        sides, basis = packed >> COLOUR_BITS, packed % (1 << COLOUR_BITS)
        columns, rows = sides >> SIDE_BITS, sides % (1 << SIDE_BITS)
        if not columns or not rows or columns * rows > CODED_CELLS:
            raise LatentError(f'latent is of {columns} x {rows} squares of {SCALE} pixels, must '
                              f'be of at least 1 and at most {CODED_CELLS} in all')
        return cls(columns * SCALE, rows * SCALE, basis)

    def latent(self, stream: bytes) -> np.ndarray:
        """Return the latent of coded bytes."""
        sides = self.width // SCALE << SIDE_BITS | self.height // SCALE
        packed = sides << COLOUR_BITS | self.basis
        return np.frombuffer(packed.to_bytes(HEAD_BYTES, 'big') + stream, np.uint8)


def colour_tensors(bases: torch.Tensor) -> dict[str, np.ndarray]:
    """
    Return the colours that packets can name, in integers, as a weights file holds them.

    :param bases: of networks.colour_bases.find_bases(), float64 [64, 3, 3].
    """
    return {'colour_bases': np.rint(bases.numpy() / COLOUR_STEP).astype(np.int16)}


def _colour_bases(tensors: dict[str, np.ndarray]) -> torch.Tensor:
    """Return what colour_tensors() was given, rounded; KeyError or ValueError if it was not."""
    bases = tensors['colour_bases']
    if bases.shape != (BASES, COLOURS, COLOURS) or bases.dtype != np.int16:
        raise ValueError(f'colour_bases must be int16 of shape {(BASES, COLOURS, COLOURS)}')
    return torch.from_numpy(bases * COLOUR_STEP)


def load_restoration(weights: Path, codec: str,
                     device: torch.device = torch.device('cpu')) -> WaveletRestoration:
    """
    Return the decoder of weights.

    :raises WeightsError: if they are missing or malformed.
    """
    part = read_weights(weights, codec, 'restoration')
    network = WaveletRestoration()
    try:
        network.load_state_dict({
            key.removeprefix(NETWORK_PREFIX): torch.from_numpy(tensor)
            for key, tensor in part.tensors.items()})
    except RuntimeError as error:
        raise WeightsError(
            f'{weights}: the restoration does not fit its network: {error}') from error
    network = network.eval().requires_grad_(False)
    return network.to(device, memory_format=torch.channels_last)
