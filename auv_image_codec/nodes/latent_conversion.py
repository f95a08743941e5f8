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
"""LatentCode messages from latents, and back with everything checked."""
import array
from typing import Any

from builtin_interfaces.msg import Time

import numpy as np

from std_msgs.msg import Header

from auv_image_codec.errors import (
    InvalidImageError, LatentError, UnknownCodecError, UnknownModelError)
from auv_image_codec.msg import LatentCode


def stamp_to_ns(stamp: Time) -> int:
    """
    Return a stamp in nanoseconds since 1970.

    :raises InvalidImageError: kind stamp, if it is before 1970.
    """
    if stamp.sec < 0:
        raise InvalidImageError(
            f'the stamp is {stamp.sec} s; it must not be before 1970', kind='stamp')
    return stamp.sec * 10 ** 9 + stamp.nanosec


def latent_to_message(codec: Any, latent: np.ndarray, header: Header, sequence: int, width: int,
                      height: int, completeness: float = 1.0) -> LatentCode:
    """
    Return the message for a latent.

    :param codec: the codec that made it.
    :param latent: uint8, shape (n,).
    :param header: header of the camera image, taken over as it is.
    :param sequence: counts the camera's coded images, modulo 2^32.
    :param width: pixels of the camera image, with ``height``.
    :param completeness: share of the packet that the latent was made from.
    """
    message = LatentCode(
        header=header, codec=codec.name, model_id=codec.model_id, sequence=sequence,
        image_width=width, image_height=height, latent_dim=len(latent),
        completeness=completeness)
    message.latent = array.array('B', latent.tobytes())
    return message


def latent_from_message(codec: Any, message: LatentCode, max_pixels: int) -> np.ndarray:
    """
    Return the latent of a message that this codec can decode.

    :return: uint8, shape (n,).
    :raises UnknownCodecError: if another codec made it.
    :raises UnknownModelError: if other weights made it.
    :raises LatentError: if it has another number of values than it says.
    :raises InvalidImageError: kind zero_size or image_too_large, for the size of the image.
    """
    if message.codec != codec.name:
        raise UnknownCodecError(
            f'the latent is of codec {message.codec[:64]!r}; this node decodes {codec.name!r}')
    if message.model_id != codec.model_id:
        raise UnknownModelError(
            f'the latent is of model {message.model_id:08x}; this node has {codec.model_id:08x}: '
            'both sides need the same weights')
    if message.latent_dim != len(message.latent):
        raise LatentError(
            f'the latent has {len(message.latent)} values; latent_dim says {message.latent_dim}')
    width, height = message.image_width, message.image_height
    if width == 0 or height == 0:
        raise InvalidImageError(
            f'the latent is of an image of {width}x{height} pixels; both sides must be at least 1',
            kind='zero_size')
    if width * height > max_pixels:
        raise InvalidImageError(
            f'the latent is of an image of {width}x{height} = {width * height} pixels; the limit '
            f'is {max_pixels} (max_image_pixels)', kind='image_too_large')
    return np.frombuffer(message.latent, dtype=np.uint8)
