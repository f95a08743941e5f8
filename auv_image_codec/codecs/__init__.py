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
The codecs by name, and the way from an image to a packet and back.

No part of this package needs ROS.
"""
from collections.abc import Callable
import math
from pathlib import Path

import numpy as np

from auv_image_codec.codecs.autoencoder import AutoencoderCodec
from auv_image_codec.codecs.base import Codec
from auv_image_codec.codecs.packet import (
    build_packet, DEFAULT_MAX_BYTES, PacketHeader, parse_packet,
)
from auv_image_codec.codecs.wavelet import WaveletCodec
from auv_image_codec.errors import UnknownCodecError, WeightsError
from auv_image_codec.resources import weights_directory

DEFAULT_CODEC = 'wavelet'
SIDES = ('encoder', 'decoder', 'both')
_CODECS = {codec.name: codec for codec in (WaveletCodec, AutoencoderCodec)}


def codec_names() -> list[str]:
    """Return the names of all codecs, the default first."""
    return list(_CODECS)


def codec_class(name: str) -> type[Codec]:
    """
    Return the class of a codec, for what is known without its weights.

    :raises UnknownCodecError: if there is no such codec.
    """
    if name not in _CODECS:
        raise UnknownCodecError(f'codec {name!r} is not known; known: {", ".join(_CODECS)}')
    return _CODECS[name]


def create_codec(name: str = DEFAULT_CODEC, weights: Path | None = None, device: str = 'cpu',
                 side: str = 'both') -> Codec:
    """
    Load a codec.

    :param name: of the codec, one of codec_names().
    :param weights: directory of its weights; None for the shipped ones.
    :param device: a torch device, for example 'cpu' or 'cuda:0'.
    :param side: 'encoder', 'decoder' or 'both': the half that is needed.
    :raises UnknownCodecError: if there is no such codec.
    :raises WeightsError: if its weights are missing, malformed or of another codec, or the device
        cannot hold them.
    """
    kind = codec_class(name)
    if side not in SIDES:
        raise ValueError(f'side is {side!r}, must be one of {", ".join(SIDES)}')
    directory = Path(weights) if weights else weights_directory(name)
    try:
        return kind(directory, device, side)
    except (RuntimeError, AssertionError) as error:     # how torch says that there is no device
        raise WeightsError(f'codec {name!r} cannot run on device {device!r}: {error}') from error


def encode_latent(codec: Codec, image: np.ndarray, max_bytes: int, refinement_steps: int = 0,
                  refinement_seconds: float = math.inf,
                  stop_refinement: Callable[[], bool] = lambda: False) -> np.ndarray:
    """
    Return the latent of an image: that of Codec.refine() if there are steps, else of encode().

    :param stop_refinement: asked before each step of Codec.refine().
    :raises RefinementError: if there are steps, but the codec has no refinement.
    """
    if refinement_steps:
        return codec.refine(image, max_bytes, refinement_steps, refinement_seconds,
                            stop_refinement)
    return codec.encode(image, max_bytes)


def encode_packet(codec: Codec, image: np.ndarray, *, camera: int = 0, sequence: int = 0,
                  stamp_ns: int = 0, max_bytes: int = DEFAULT_MAX_BYTES,
                  refinement_steps: int = 0, refinement_seconds: float = math.inf) -> bytes:
    """
    Return the packet, at most max_bytes long, of an image uint8 [height, width, 3].

    :param camera: index of the camera on the vehicle, 0..7.
    :param sequence: counts the camera's images.
    :param stamp_ns: capture time in nanoseconds since 1970.
    :param refinement_steps: of Codec.refine(); 0 for Codec.encode().
    :param refinement_seconds: the time limit of Codec.refine().
    :raises InvalidImageError: if the image cannot be encoded.
    :raises BudgetError: if max_bytes is too small for any image.
    :raises RefinementError: if there are steps, but the codec has no refinement.
    """
    payload = codec.payload_from_latent(
        encode_latent(codec, image, max_bytes, refinement_steps, refinement_seconds))
    height, width = image.shape[:2]
    return build_packet(PacketHeader(codec.name, codec.model_id, camera, sequence, stamp_ns,
                                     width, height), payload)


def decode_packet(codec: Codec, packet: bytes,
                  size: tuple[int, int] | None = None) -> tuple[PacketHeader, np.ndarray]:
    """
    Check a packet; return its header and its image, uint8 [height, width, 3].

    :param size: width and height of the image; None for the source's, as the packet names it.
    :raises PacketError: if any of its checks fails.
    """
    header, payload = parse_packet(packet, [codec.model_id])
    latent = codec.latent_from_payload(payload)
    return header, codec.decode(latent, size or (header.width, header.height))
