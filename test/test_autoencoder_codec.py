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
"""The autoencoder with its shipped weights, on real frames."""
from pathlib import Path
import tarfile

import cv2
import numpy as np
from PIL import Image
import pytest

from auv_image_codec.codecs import (
    codec_names, create_codec, decode_packet, encode_packet,
)
from auv_image_codec.codecs.base import resample
from auv_image_codec.codecs.packet import OVERHEAD_BYTES
from auv_image_codec.codecs.weights import read_weights_file, weights_path
from auv_image_codec.errors import (
    BudgetError, InvalidImageError, LatentError, PacketCorruptError, UnknownCodecError,
    UnknownModelError, WeightsError,
)
from auv_image_codec.evaluation.bags import read_compressed_images
from auv_image_codec.evaluation.metrics import psnr_db
from auv_image_codec.resources import share_directory, weights_directory

SHARED_DATA = Path(__file__).resolve().parents[2] / 'shared' / 'data'


@pytest.fixture(scope='module')
def codec():
    """Return the codec with the shipped weights."""
    return create_codec('autoencoder')


@pytest.fixture(scope='module')
def frames() -> list[np.ndarray]:
    """Return every 12th frame of the demo bag, RGB 640x480."""
    records = list(read_compressed_images(share_directory() / 'demo' / 'robosub_gate'))[::12]
    return [np.ascontiguousarray(
        cv2.imdecode(np.frombuffer(record.data, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1])
        for record in records]


def test_every_frame_fits_500_bytes_and_is_recognizable(codec, frames):
    for frame in frames:
        packet = encode_packet(codec, frame)
        assert len(packet) <= 500
        _, image = decode_packet(codec, packet)
        assert image.shape == frame.shape and image.dtype == np.uint8
        flat = np.broadcast_to(frame.mean((0, 1)).astype(np.uint8), frame.shape)
        assert psnr_db(frame, image) > psnr_db(frame, flat) + 4


@pytest.mark.slow
def test_it_beats_13x13_thumbnails(codec):
    shard = SHARED_DATA / 'eval' / 'test-uieb-challenging.tar'
    if not shard.is_file():
        pytest.skip(f'{shard} is not here')
    with tarfile.open(shard) as tar:
        images = [np.array(Image.open(tar.extractfile(entry)).convert('RGB').resize(
            (224, 224), Image.Resampling.LANCZOS)) for entry in tar.getmembers()[::3]]
    # what 507 bytes buy without any codec
    thumbnails = [np.array(Image.fromarray(image).resize((13, 13), Image.Resampling.LANCZOS)
                           .resize((224, 224), Image.Resampling.BICUBIC)) for image in images]
    decoded = [decode_packet(codec, encode_packet(codec, image))[1] for image in images]
    gains = [psnr_db(image, ours) - psnr_db(image, theirs)
             for image, ours, theirs in zip(images, decoded, thumbnails)]
    assert np.mean(gains) > 0.5
    assert np.mean(np.array(gains) > 0) > 0.8


def test_the_latent_has_500_dimensions_and_its_payload_is_lossless(codec, frames):
    latent = codec.encode(frames[0])
    assert latent.shape == (500,) and latent.dtype == np.uint8
    payload = codec.payload_from_latent(latent)
    assert len(payload) + OVERHEAD_BYTES <= 500
    assert np.array_equal(codec.latent_from_payload(payload), latent)


def test_the_first_bytes_of_a_payload_give_the_leading_dimensions(codec, frames):
    latent = codec.encode(frames[0])
    payload = codec.payload_from_latent(latent)
    mean = codec.latent_from_payload(bytes(2))
    count = int.from_bytes(payload[:2], 'little')
    shares = []
    for length in range(len(payload) + 1):
        begun, share = codec.latent_from_payload_prefix(payload[:length])
        certain = round(share * count)
        assert np.array_equal(begun[:certain], latent[:certain])
        assert np.array_equal(begun[certain:], mean[certain:])
        shares.append(share)
    assert shares == sorted(shares) and shares[:2] == [0.0, 0.0] and shares[-1] > 0.98
    assert shares[len(payload) // 2] > 0.3
    assert codec.latent_from_payload_prefix(bytes(2))[1] == 1.0


def test_half_a_packet_is_a_recognizable_image(codec, frames):
    for frame in frames:
        payload = codec.payload_from_latent(codec.encode(frame))
        size = frame.shape[1], frame.shape[0]
        images = [codec.decode(codec.latent_from_payload_prefix(payload[:length])[0], size)
                  for length in (0, len(payload) // 2, len(payload))]
        quality = [psnr_db(frame, image) for image in images]
        assert quality[0] + 3 < quality[1] < quality[2] + 0.1


def test_a_prefix_that_no_payload_has_is_refused(codec):
    with pytest.raises(PacketCorruptError, match='501'):
        codec.latent_from_payload_prefix((501).to_bytes(2, 'little') + b'abc')


def test_any_latent_survives_its_payload(codec):
    generator = np.random.default_rng(0)
    zero = codec.latent_from_payload(bytes(2))
    for _ in range(50):
        latent = generator.integers(0, 256, 500).astype(np.uint8)
        count = generator.integers(0, 501)
        latent[count:] = zero[count:]
        assert np.array_equal(
            codec.latent_from_payload(codec.payload_from_latent(latent)), latent)


@pytest.mark.parametrize('max_bytes', [500, 200, 100, 48, 20, 18])
def test_a_smaller_budget_is_kept_at_the_price_of_quality(codec, frames, max_bytes):
    packet = encode_packet(codec, frames[0], max_bytes=max_bytes)
    assert len(packet) <= max_bytes
    whole = decode_packet(codec, encode_packet(codec, frames[0]))[1]
    image = decode_packet(codec, packet)[1]
    assert psnr_db(frames[0], image) <= psnr_db(frames[0], whole)


def test_more_bytes_make_a_better_image(codec, frames):
    quality = [np.mean([psnr_db(frame, decode_packet(codec, encode_packet(
        codec, frame, max_bytes=max_bytes))[1]) for frame in frames[:4]])
        for max_bytes in (30, 60, 120, 240)]
    assert quality == sorted(quality) and quality[-1] > quality[0] + 1


def test_a_budget_below_the_header_is_refused(codec, frames):
    with pytest.raises(BudgetError, match='max_bytes is 17'):
        codec.encode(frames[0], 17)


@pytest.mark.parametrize('image', [
    np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8),
    np.zeros((224, 224, 3), np.uint8), np.full((1, 1, 3), 255, np.uint8),
    np.indices((500, 30)).sum(0)[..., None].repeat(3, 2).astype(np.uint8),
    (np.indices((224, 224)).sum(0) % 2 * 255)[..., None].repeat(3, 2).astype(np.uint8)],
    ids=['noise', 'black', 'one pixel', 'narrow', 'checkerboard'])
def test_no_image_exceeds_the_budget(codec, image):
    packet = encode_packet(codec, image)
    assert len(packet) <= 500
    assert decode_packet(codec, packet)[1].shape == image.shape


@pytest.mark.parametrize(('image', 'kind', 'message'), [
    (np.zeros((0, 0, 3), np.uint8), 'empty_image', '(0, 0, 3)'),
    (np.zeros((4, 4), np.uint8), 'image_shape', '(4, 4)'),
    (np.zeros((4, 4, 4), np.uint8), 'image_shape', '(4, 4, 4)'),
    (np.zeros((4, 4, 3), np.float32), 'image_dtype', 'float32'),
    ([[0]], 'image_dtype', 'list')])
def test_what_is_no_image_is_named(codec, image, kind, message):
    with pytest.raises(InvalidImageError) as raised:
        codec.encode(image)
    assert raised.value.kind == kind and message in str(raised.value)


@pytest.mark.parametrize(('latent', 'message'), [
    (np.zeros(499, np.uint8), '(499,)'), (np.zeros((1, 500), np.uint8), '(1, 500)'),
    (np.zeros(500, np.float32), 'float32'), ([0] * 500, 'list')])
def test_what_is_no_latent_is_named(codec, latent, message):
    for call in (codec.payload_from_latent, lambda value: codec.decode(value, (10, 10))):
        with pytest.raises(LatentError) as raised:
            call(latent)
        assert message in str(raised.value)


@pytest.mark.parametrize('payload', [b'', b'\0', b'\xf5\x01', b'\xff\xff123'])
def test_a_malformed_payload_is_refused_or_decodes_to_a_latent(codec, payload):
    try:
        assert codec.latent_from_payload(payload).shape == (500,)
    except PacketCorruptError as error:
        assert 'payload' in str(error)
    else:
        assert payload[:2] != b'\xff\xff' and len(payload) >= 2


def test_read_only_and_strided_images_are_encoded_alike(codec, frames):
    expected = codec.encode(frames[0])
    read_only = frames[0].copy()
    read_only.setflags(write=False)
    strided = np.ascontiguousarray(frames[0][:, :, ::-1])[:, :, ::-1]
    assert np.array_equal(codec.encode(read_only), expected)
    assert np.array_equal(codec.encode(strided), expected)


def test_each_half_works_alone(codec, frames):
    encoder = create_codec('autoencoder', side='encoder')
    decoder = create_codec('autoencoder', side='decoder')
    packet = encode_packet(encoder, frames[0])
    assert packet == encode_packet(codec, frames[0])
    assert np.array_equal(decode_packet(decoder, packet)[1], decode_packet(codec, packet)[1])
    with pytest.raises(WeightsError, match='the decoder of codec'):
        decode_packet(encoder, packet)


def test_the_encoder_file_is_small_enough_for_a_vehicle():
    path = weights_path(weights_directory('autoencoder'), 'encoder')
    assert len(read_weights_file(path)) <= 8_000_000


def test_the_source_size_and_any_other_can_be_asked_for(codec, frames):
    packet = encode_packet(codec, frames[0])
    assert decode_packet(codec, packet)[1].shape == (480, 640, 3)
    assert decode_packet(codec, packet, (224, 224))[1].shape == (224, 224, 3)


def test_a_frame_that_shrinks_is_averaged_not_sampled():
    stripes = np.zeros((448, 448, 3), np.uint8)
    stripes[:, ::2] = 200
    assert (resample(stripes, (224, 224)) == 100).all()
    # also where the other direction grows
    assert (resample(stripes[:100], (224, 224)) == 100).all()
    assert resample(stripes[:100], (224, 224)).shape == (224, 224, 3)


def test_unknown_names_are_refused():
    with pytest.raises(UnknownCodecError, match="'mpeg' is not known; known: wavelet, autoencoder"):
        create_codec('mpeg')
    with pytest.raises(ValueError, match='side'):
        create_codec('autoencoder', side='left')
    for device in ('warp:9', 'cuda:99'):
        with pytest.raises(WeightsError, match=f"device '{device}'"):
            create_codec('autoencoder', device=device)
    assert 'autoencoder' in codec_names()


def test_a_packet_of_other_weights_is_refused(codec, frames):
    packet = bytearray(encode_packet(codec, frames[0]))
    other = type('OtherModel', (), {'model_id': codec.model_id ^ 0xFFFFFFFF})
    with pytest.raises(UnknownModelError):
        decode_packet(other, bytes(packet))
