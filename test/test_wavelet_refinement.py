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
"""Refinement at encode time: a better image from as many bytes, if there is time."""
import time

import cv2
import numpy as np
import pytest

from auv_image_codec.codecs import create_codec, decode_packet, encode_packet
from auv_image_codec.errors import BudgetError, InvalidImageError, RefinementError
from auv_image_codec.evaluation.bags import read_compressed_images
from auv_image_codec.evaluation.metrics import mse
from auv_image_codec.resources import share_directory


@pytest.fixture(scope='module')
def codec():
    """Return the codec as a vehicle loads it."""
    return create_codec('wavelet', side='encoder')


@pytest.fixture(scope='module')
def image() -> np.ndarray:
    """Return a part of a frame of the demo bag, RGB 192x160."""
    record = next(read_compressed_images(share_directory() / 'demo' / 'robosub_gate'))
    frame = cv2.imdecode(np.frombuffer(record.data, np.uint8), cv2.IMREAD_COLOR)
    return np.ascontiguousarray(cv2.resize(frame, (192, 160))[:, :, ::-1])


def test_a_refined_packet_is_as_long_and_its_image_better(codec, image):
    surface = create_codec('wavelet', side='decoder')
    errors = []
    for steps in (0, 4):
        packet = encode_packet(codec, image, max_bytes=300, refinement_steps=steps)
        assert len(packet) == 300
        errors.append(mse(image, decode_packet(surface, packet)[1]))
    assert errors[1] < 0.99 * errors[0]


def test_no_steps_and_no_time_give_the_plain_packet(codec, image):
    plain = codec.encode(image, 300)
    assert np.array_equal(codec.refine(image, 300, 0), plain)
    assert np.array_equal(codec.refine(image, 300, 1000, seconds=0), plain)


def test_the_same_image_gives_the_same_packet(codec, image):
    assert np.array_equal(codec.refine(image, 200, 3), codec.refine(image, 200, 3))


def test_a_time_limit_ends_the_search(codec, image):
    began = time.monotonic()
    codec.refine(image, 300, 1_000_000, seconds=1)
    # it would take days otherwise
    assert time.monotonic() - began < 100


@pytest.mark.parametrize('value', [0, 255])
def test_images_without_detail_and_the_smallest_budget_are_refined_too(codec, value):
    flat = np.full((20, 30, 3), value, np.uint8)
    assert len(codec.refine(flat, 500, 2)) <= 484
    assert len(codec.refine(flat, 18, 2)) == 2


def test_what_cannot_be_encoded_cannot_be_refined(codec, image):
    with pytest.raises(BudgetError, match='17'):
        codec.refine(image, 17, 1)
    with pytest.raises(InvalidImageError):
        codec.refine(image[:, :, 0], 500, 1)


def test_a_codec_without_refinement_says_so(image):
    with pytest.raises(RefinementError, match='autoencoder'):
        encode_packet(create_codec('autoencoder', side='encoder'), image, refinement_steps=1)
