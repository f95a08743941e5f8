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
"""What every codec offers: image to latent to payload, and back."""
from abc import ABC, abstractmethod
from collections.abc import Callable
import math

import cv2
import numpy as np

from auv_image_codec.codecs.packet import DEFAULT_MAX_BYTES
from auv_image_codec.errors import InvalidImageError, RefinementError


class Codec(ABC):
    """
    An image codec.

    A latent is a uint8 vector, as LatentCode carries it; a payload is the latent's bytes in a
    packet, entropy-coded where that is shorter. Codecs know images, latents and payloads, and
    nothing of files, messages or training.
    """

    name: str                       # in the registry
    model_id: int                   # of the weights, uint32; 0 for a codec without
    latent_dim: int                 # the largest number of values in a latent
    input_size: tuple[int, int]     # width, height that images are resampled to
    has_refinement = False          # whether refine() can be called

    @abstractmethod
    def encode(self, image: np.ndarray, max_bytes: int = DEFAULT_MAX_BYTES) -> np.ndarray:
        """
        Encode an image.

        :param image: uint8 [height, width, 3], RGB, any size.
        :param max_bytes: limit for the packet made of the latent, header and checks included.
        :returns: the latent, uint8 [n].
        :raises InvalidImageError: if the image is not such an array.
        :raises BudgetError: if no image fits max_bytes.
        """

    def refine(self, image: np.ndarray, max_bytes: int, steps: int, seconds: float = math.inf,
               stop: Callable[[], bool] = lambda: False) -> np.ndarray:
        """
        Encode an image with more time, for a better image from as many bytes.

        :param image: as encode() takes it.
        :param max_bytes: as encode() takes it.
        :param steps: changes to try; none gives what encode() gives.
        :param seconds: no step begins that would probably end later.
        :param stop: asked before each step; none begins once it returns true.
        :returns: the latent, uint8 [n], of no larger squared error than encode()'s.
        :raises RefinementError: if the codec has no refinement.
        """
        raise RefinementError(f'codec {self.name!r} has no refinement: leave out its steps')

    def decoder_id(self) -> int:
        """
        Return what tells apart decoders that give other images of the same packets, a uint32.

        :raises WeightsError: if its weights can no longer be read.
        """
        return self.model_id

    @abstractmethod
    def decode(self, latent: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """
        Decode a latent.

        :param latent: uint8 [n].
        :param size: width and height in pixels to resample to.
        :returns: uint8 [height, width, 3], RGB.
        :raises LatentError: if the latent is not one of this codec.
        """

    def decoded_size(self, latent: np.ndarray) -> tuple[int, int]:
        """
        Return width and height that decode() gives without resampling.

        :raises LatentError: if the latent is not one of this codec.
        """
        return self.input_size

    def features(self, latent: np.ndarray) -> np.ndarray | None:
        """
        Return what the decoder knows of a latent besides its image, for an enhancer.

        :param latent: uint8 [n].
        :returns: float32 [channels, height / 32, width / 32] of the image at input_size; None for
            a codec without such features.
        :raises LatentError: if the latent is not one of this codec.
        """
        return None

    @abstractmethod
    def payload_from_latent(self, latent: np.ndarray) -> bytes:
        """
        Return the payload of a latent, losslessly.

        :raises LatentError: if the latent is not one of this codec.
        """

    @abstractmethod
    def latent_from_payload(self, payload: bytes) -> np.ndarray:
        """
        Return the latent of a payload.

        :raises PacketCorruptError: if the payload is not one that payload_from_latent makes.
        """

    @abstractmethod
    def latent_from_payload_prefix(self, prefix: bytes) -> tuple[np.ndarray, float]:
        """
        Return the latent that the first bytes of a payload make certain, and how complete it is.

        What the prefix leaves open is as the codec fills it, at the mean, so that decode() gives
        an image of it.

        :param prefix: the first bytes of a payload, none to all of them, undamaged.
        :returns: the latent, uint8 [n], and the share of it that the prefix decides, 0.0 to 1.0;
            1.0 where the codec cannot tell.
        :raises PacketCorruptError: if no payload begins so, or the codec has no image for it.
        """


def check_image(image: np.ndarray) -> None:
    """
    Check that an image is uint8 [height, width, 3] with at least one pixel.

    :raises InvalidImageError: if it is not.
    """
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        kind = getattr(image, 'dtype', type(image).__name__)
        raise InvalidImageError(f'image is {kind}, must be a uint8 array', 'image_dtype')
    if image.ndim != 3 or image.shape[2] != 3:
        raise InvalidImageError(
            f'image has shape {image.shape}, must be (height, width, 3)', 'image_shape')
    if image.size == 0:
        raise InvalidImageError(f'image is empty: shape {image.shape}', 'empty_image')


def resample(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """
    Resample an image [height, width, 3] to size (width, height).

    By area in a direction that shrinks, so that no detail aliases; bicubic in one that grows.
    """
    height, width = image.shape[:2]
    smaller = min(size[0], width), min(size[1], height)
    if smaller != (width, height):
        image = cv2.resize(image, smaller, interpolation=cv2.INTER_AREA)
    if tuple(size) != smaller:
        image = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
    return image
