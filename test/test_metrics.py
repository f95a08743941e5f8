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
"""Test the errors between images, and the figure that shows them."""
import math

import numpy as np
from PIL import Image
import pytest

from auv_image_codec.evaluation.contact_sheet import (
    absolute_error, ContactSheetRow, write_contact_sheet)
from auv_image_codec.evaluation.metrics import mse, psnr_db


def test_known_errors():
    """One grey step of 255 everywhere is an error of 1 / 255 squared, about 48.13 dB."""
    black = np.zeros((4, 5, 3), np.uint8)
    assert mse(black, black + 255) == 1
    assert psnr_db(black, black + 255) == 0
    assert mse(black, black + 1) == pytest.approx(1 / 255**2)
    assert psnr_db(black, black + 1) == pytest.approx(48.1308, abs=1e-4)


def test_half_of_the_pixels_differ():
    """The mean is over pixels and channels alike."""
    first = np.zeros((2, 2, 3), np.uint8)
    second = first.copy()
    second[0, :, :] = 51  # a fifth of the range, in half of the pixels
    assert mse(first, second) == pytest.approx(0.04 / 2)


def test_no_wrap_around_in_uint8():
    """An error of 10 downwards is the same as one upwards."""
    first = np.full((3, 3, 3), 10, np.uint8)
    second = np.full((3, 3, 3), 20, np.uint8)
    assert mse(first, second) == mse(second, first) == pytest.approx((10 / 255)**2)


def test_uint8_and_floating_point_are_the_same_scale():
    """The same image as uint8 and as 0..1 floats has no error."""
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    assert mse(image, image / 255) == 0
    assert psnr_db(image, (image / 255).astype(np.float32)) > 120
    assert psnr_db(image, image) == math.inf


@pytest.mark.parametrize('first, second, message', [
    (np.zeros((2, 2, 3), np.uint8), np.zeros((2, 3, 3), np.uint8), 'different shapes'),
    (np.zeros((0, 2, 3), np.uint8), np.zeros((0, 2, 3), np.uint8), 'without pixels'),
    (np.zeros((2, 2, 3), np.int16), np.zeros((2, 2, 3), np.uint8), 'int16'),
    (np.full((2, 2, 3), np.nan), np.zeros((2, 2, 3), np.uint8), 'not finite'),
])
def test_bad_input(first, second, message):
    """What has no mean squared error is refused with a reason."""
    with pytest.raises(ValueError, match=message):
        mse(first, second)


def test_contact_sheet(tmp_path):
    """Rows appear one below the other, and an error shows where it is."""
    source = np.full((48, 64, 3), 128, np.uint8)
    changed = source.copy()
    changed[:, 32:] = 28
    assert absolute_error(source, changed)[:, :32].max() == 0
    assert absolute_error(source, changed)[:, 32:].min() == pytest.approx(100 / 255)

    heights = []
    for count in (1, 3):
        path = tmp_path / f'{count}.png'
        write_contact_sheet(path, [ContactSheetRow(source, changed, 'frame')] * count, 'title')
        with Image.open(path) as figure:
            heights.append(figure.height)
            pixels = np.array(figure.convert('RGB')).reshape(-1, 3)
        for colour in ((128, 128, 128), (28, 28, 28), (0, 0, 4)):  # the last is no error
            assert (pixels == colour).all(axis=1).any(), f'{colour} is nowhere in the figure'
    assert heights[1] > 2 * heights[0]


def test_contact_sheet_of_nothing_or_of_other_shapes(tmp_path):
    """A figure that would mislead is refused."""
    source = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(ValueError, match='at least one row'):
        write_contact_sheet(tmp_path / 'a.png', [], 'title')
    with pytest.raises(ValueError, match='shape'):
        write_contact_sheet(
            tmp_path / 'a.png', [ContactSheetRow(source, source[:2], 'frame')], 'title')
    assert not (tmp_path / 'a.png').exists()
