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

SSIM_WINDOW = 11                # pixels a side
MS_SSIM_POWERS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)      # from fine to coarse
SMALLEST_MS_SSIM_SIDE = (SSIM_WINDOW - 1) * 2**4 + 1


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


def _batch(first: np.ndarray, second: np.ndarray):
    """Return two images [height, width, 3] as float32 tensors [1, 3, height, width] of 0 to 1."""
    import torch
    first, second = _as_unit_range(first), _as_unit_range(second)
    if first.shape != second.shape:
        raise ValueError(f'images of different shapes: {first.shape} and {second.shape}')
    if first.ndim != 3 or first.shape[2] != 3:
        raise ValueError(f'an image must be (height, width, 3), not {first.shape}')
    return tuple(torch.from_numpy(image).permute(2, 0, 1)[None].float()
                 for image in (first, second))


def _mean_ssim(first, second) -> float:
    """Return the mean SSIM of two tensors [1, 3, height, width] where the window fits."""
    from torchmetrics.functional.image import structural_similarity_index_measure
    # Releases of torchmetrics differ in whether their mean has the mirrored borders in it, which
    # the publication leaves out: so the mean is taken here.
    _, places = structural_similarity_index_measure(
        first, second, data_range=1.0, return_full_image=True)
    border = SSIM_WINDOW // 2
    return float(places[..., border:-border, border:-border].mean())


def ssim(first: np.ndarray, second: np.ndarray) -> float:
    """
    Return the structural similarity of two images, 1 for equal ones.

    Wang et al. 2004: Gaussian window of 11x11 pixels with a standard deviation of 1.5, K1 = 0.01,
    K2 = 0.03; the mean over all places where the window fits, and over the channels.

    :param first: [height, width, 3], uint8 (0 to 255) or floating point (0 to 1).
    :param second: of the same shape.
    :returns: -1 to 1; not a number if a side is below 11 pixels.
    :raises ValueError: if the shapes differ or are others, or the dtype is.
    """
    batch = _batch(first, second)
    if min(batch[0].shape[2:]) < SSIM_WINDOW:
        return math.nan
    return _mean_ssim(*batch)


def ms_ssim(first: np.ndarray, second: np.ndarray) -> float:
    """
    Return the structural similarity over five scales, 1 for equal images.

    Wang et al. 2003: contrast and structure at five resolutions, each half of the one before,
    luminance at the coarsest, their means raised to published powers and multiplied.

    :param first: [height, width, 3], uint8 (0 to 255) or floating point (0 to 1).
    :param second: of the same shape.
    :returns: 0 to 1; not a number if a side is below 161 pixels, where the window of 11 pixels
        does not fit the coarsest scale.
    :raises ValueError: if the shapes differ or are others, or the dtype is.
    """
    batch = _batch(first, second)
    if min(batch[0].shape[2:]) < SMALLEST_MS_SSIM_SIDE:
        return math.nan
    from torch.nn.functional import avg_pool2d
    from torchmetrics.functional.image import structural_similarity_index_measure
    product = 1.0
    for power in MS_SSIM_POWERS[:-1]:
        _, structure = structural_similarity_index_measure(
            *batch, data_range=1.0, return_contrast_sensitivity=True)
        product *= max(0.0, float(structure))**power
        batch = [avg_pool2d(image, 2) for image in batch]
    return product * max(0.0, _mean_ssim(*batch))**MS_SSIM_POWERS[-1]
