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
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter
import pytest
from safetensors.numpy import load, save_file
import torch

from auv_image_codec.codecs.weights import read_weights_file
from auv_image_codec.errors import WeightsError
from auv_image_codec.evaluation.bags import read_compressed_images
from auv_image_codec.evaluation.lpips import Lpips, WEIGHTS_FILE
from auv_image_codec.evaluation.metrics import ms_ssim, ssim
from auv_image_codec.evaluation.sources import decode_image
from auv_image_codec.resources import share_directory

pytest.importorskip('torchmetrics')
POWERS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


@pytest.fixture(scope='module')
def picture() -> Image.Image:
    """Return a frame of the demo bag, 224x224."""
    record = next(read_compressed_images(share_directory() / 'demo' / 'robosub_gate'))
    return Image.fromarray(decode_image(record.data, 224))


@pytest.fixture(scope='module')
def lpips() -> Lpips:
    """Return the distance with the shipped weights."""
    return Lpips()


def blurred(picture: Image.Image, radius: float) -> np.ndarray:
    """Return a blurred copy."""
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(radius)))


def ssim_maps(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return SSIM and its contrast-structure factor at every place, as published (Wang 2004)."""
    weights = np.exp(-np.arange(-5, 6)**2 / (2 * 1.5**2))
    weights /= weights.sum()

    def mean(values: np.ndarray) -> np.ndarray:
        for axis in (0, 1):
            windows = np.lib.stride_tricks.sliding_window_view(values, 11, axis)
            values = windows @ weights
        return values

    c1, c2 = 0.01**2, 0.03**2
    mean1, mean2 = mean(first), mean(second)
    variance1, variance2 = mean(first**2) - mean1**2, mean(second**2) - mean2**2
    structure = (2 * (mean(first * second) - mean1 * mean2) + c2) / (variance1 + variance2 + c2)
    return (2 * mean1 * mean2 + c1) / (mean1**2 + mean2**2 + c1) * structure, structure


def test_ssim_is_the_published_formula(picture):
    """Computed here once more, in double precision."""
    first = np.asarray(picture) / 255
    for second in (blurred(picture, 2) / 255, 1 - first):
        assert ssim(first, second) == pytest.approx(ssim_maps(first, second)[0].mean(), abs=1e-4)


def test_ms_ssim_is_the_published_formula(picture):
    """Computed here once more, in double precision."""
    first = np.asarray(picture) / 255
    second = blurred(picture, 6) / 255
    product, small1, small2 = 1.0, first, second
    for scale, power in enumerate(POWERS):
        whole, structure = ssim_maps(small1, small2)
        product *= max(0.0, (whole if scale == 4 else structure).mean())**power
        height, width = (side // 2 for side in small1.shape[:2])
        small1, small2 = (image[:2 * height, :2 * width].reshape(height, 2, width, 2, 3).mean(
            (1, 3)) for image in (small1, small2))
    assert 0.2 < product < 0.97
    assert ms_ssim(first, second) == pytest.approx(product, abs=1e-4)


def test_equal_images(picture, lpips):
    """Nothing is more alike than an image and itself."""
    image = np.asarray(picture)
    assert ssim(image, image) == pytest.approx(1, abs=1e-6)
    assert ms_ssim(image, image) == pytest.approx(1, abs=1e-6)
    assert lpips(image, image) == 0


def test_all_follow_the_damage(picture, lpips):
    """The more blur, the less alike; and the order of the two images does not matter."""
    image = np.asarray(picture)
    copies = [blurred(picture, radius) for radius in (0.7, 1.5, 3, 6)]
    for metric, better in ((ssim, 1), (ms_ssim, 1), (lpips, -1)):
        values = [better * metric(image, copy) for copy in copies]
        assert values == sorted(set(values), reverse=True)
        assert metric(copies[2], image) == pytest.approx(metric(image, copies[2]), abs=1e-5)


def test_lpips_sees_jpeg(picture, lpips, tmp_path):
    """The distance grows as the quality of a JPEG file falls."""
    image = np.asarray(picture)
    values = []
    for quality in (90, 50, 20, 5):
        picture.save(tmp_path / 'a.jpg', quality=quality)
        values.append(lpips(image, np.asarray(Image.open(tmp_path / 'a.jpg'))))
    assert values == sorted(values)
    assert 0 < values[0] < 0.05 and 0.2 < values[-1] < 1


def test_lpips_is_the_published_distance(picture, lpips):
    """
    Computed here once more, in double precision, layer by layer.

    Unit vectors u and v over the features of a place; heads w: the sum of w (u - v) squared.
    """
    stored = load(read_weights_file(share_directory() / WEIGHTS_FILE))
    tensors = {key: torch.from_numpy(value.astype(np.float64)) for key, value in stored.items()}
    for key in [key for key in tensors if key.endswith('.row_scale')]:
        tensors[key.removesuffix('.row_scale')] *= tensors[key][:, None, None, None]
    image, other = np.asarray(picture), blurred(picture, 2)
    shift = np.array([-.030, -.088, -.188])
    scale = np.array([.458, .448, .450])
    features = []
    for pixels in (image, other):
        values = ((pixels / 255 * 2 - 1) - shift) / scale
        values = torch.from_numpy(values).permute(2, 0, 1)[None]
        layers = []
        for index, stride, padding in ((0, 4, 2), (3, 1, 2), (6, 1, 1), (8, 1, 1), (10, 1, 1)):
            if index in (3, 6):
                values = torch.nn.functional.max_pool2d(values, 3, 2)
            values = torch.nn.functional.conv2d(
                values, tensors[f'features.{index}.weight'], tensors[f'features.{index}.bias'],
                stride=stride, padding=padding).clamp(min=0)
            layers.append(values[0].numpy())
        features.append(layers)
    expected = 0.0
    for number, (first, second) in enumerate(zip(*features)):
        first, second = (f / np.maximum(np.linalg.norm(f, axis=0), 1e-9) for f in (first, second))
        weights = tensors[f'lin{number}.weight'].numpy().reshape(-1, 1, 1)
        expected += (weights * (first - second)**2).sum(0).mean()
    assert lpips(image, other) == pytest.approx(expected, abs=1e-4)


def test_lpips_of_flat_images(lpips):
    """Black on black is no difference, and no division by zero."""
    black = np.zeros((64, 64, 3), np.uint8)
    assert lpips(black, black) == 0
    assert np.isfinite(lpips(black, black + 255))


def test_images_that_are_too_small_or_wrong(lpips):
    """A metric says that it is not defined, and refuses what is no pair of images."""
    tiny, small = (np.zeros((side, side, 3), np.uint8) for side in (10, 160))
    assert np.isnan(ssim(tiny, tiny)) and ssim(small, small) == pytest.approx(1)
    assert np.isnan(ms_ssim(small, small))
    with pytest.raises(ValueError, match='31 pixels'):
        lpips(tiny, tiny)
    for metric in (ssim, ms_ssim, lpips):
        with pytest.raises(ValueError):
            metric(small, small[:100])
        with pytest.raises(ValueError):
            metric(small[..., 0], small[..., 0])
    with pytest.raises(ValueError, match='uint8'):
        lpips(small / 255, small / 255)


def test_lpips_weights_that_are_none(tmp_path):
    """A missing file, and files of something else, are named."""
    save_file({'values': np.zeros(3)}, tmp_path / 'other.safetensors')
    (tmp_path / 'text.safetensors').write_text('text')
    for name in ('nowhere', 'other', 'text'):
        with pytest.raises(WeightsError, match=f'{name}.safetensors'):
            Lpips(tmp_path / f'{name}.safetensors')


def test_shipped_lpips_weights_are_small_and_attributed():
    """They ship in 8 and 16 bits, with the licences that they came under."""
    path: Path = share_directory() / WEIGHTS_FILE
    tensors = load(read_weights_file(path))
    assert len(read_weights_file(path)) < 3e6
    assert {tensor.dtype.name for key, tensor in tensors.items()
            if not key.endswith('scale')} == {'float16', 'int8'}
    text = (path.parent / 'README.md').read_text()
    for owner in ('Soumith Chintala', 'Richard Zhang', 'Image X Institute'):
        assert owner in text
