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
Errors between two images.

Everywhere in this project the mean squared error is taken on RGB values of 0 to 1, over all pixels
and channels of one image, and PSNR is -10 log10 of it, in dB. Both are averaged over images, so
the mean PSNR is the mean of the images' PSNR, not the PSNR of the mean error.
"""
import math

import numpy as np


def _as_unit_range(image: np.ndarray) -> np.ndarray:
    """Return an image as float64 of 0 to 1."""
    image = np.asarray(image)
    if image.dtype == np.uint8:
        return image.astype(np.float64) / 255
    if np.issubdtype(image.dtype, np.floating):
        return image.astype(np.float64)
    raise ValueError(f'an image must be uint8, or floating point of 0 to 1, not {image.dtype}')


def mse(first: np.ndarray, second: np.ndarray) -> float:
    """
    Return the mean squared error of two images on the scale of 0 to 1.

    :param first: array of any shape but empty, uint8 (0 to 255) or floating point (0 to 1).
    :param second: array of the same shape; its dtype may be the other one.
    :raises ValueError: if the shapes differ, an array is empty, has another dtype, or holds a
        value that is not finite.
    """
    first, second = _as_unit_range(first), _as_unit_range(second)
    if first.shape != second.shape:
        raise ValueError(f'images of different shapes: {first.shape} and {second.shape}')
    if first.size == 0:
        raise ValueError(f'an image without pixels: {first.shape}')
    error = float(np.mean(np.square(first - second)))
    if not math.isfinite(error):
        raise ValueError('an image holds values that are not finite')
    return error


def psnr_db(first: np.ndarray, second: np.ndarray) -> float:
    """
    Return the peak signal-to-noise ratio of two images in dB, infinite where they are equal.

    It is -10 log10 of :func:`mse`, which says what arrays are accepted and what is raised.
    """
    error = mse(first, second)
    return math.inf if error == 0 else -10 * math.log10(error)
