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
"""The wavelet codec with its shipped weights, on real frames."""
import math
from pathlib import Path
import shutil

import cv2
import numpy as np
import pytest
import torch

from auv_image_codec.codecs import (
    create_codec, decode_packet, encode_packet, wavelet_layout,
)
from auv_image_codec.codecs.cut_stream import StreamDecoder, StreamEncoder
from auv_image_codec.codecs.entropy import TOTAL_FREQUENCY
from auv_image_codec.codecs.packet import LARGEST_PACKET_BYTES, OVERHEAD_BYTES
from auv_image_codec.codecs.wavelet import coded_size, HEAD_BYTES
from auv_image_codec.codecs.wavelet_entropy import WaveletEntropyModel
from auv_image_codec.codecs.weights import read_weights, write_part
from auv_image_codec.errors import (
    BudgetError, InvalidImageError, LatentError, PacketCorruptError, WeightsError,
)
from auv_image_codec.evaluation.bags import read_compressed_images
from auv_image_codec.evaluation.contenders import open_contenders
from auv_image_codec.evaluation.metrics import psnr_db
from auv_image_codec.networks.bit_planes import cut, PLANES, threshold
from auv_image_codec.networks.frozen_context import steps_of_logits
from auv_image_codec.networks.wavelet_context import LevelContext
from auv_image_codec.networks.wavelet_transform import band_masks, principal_analysis
from auv_image_codec.resources import share_directory, weights_directory

REFERENCE = (224, 224)
CONTEXT = weights_directory('wavelet') / 'context.safetensors.xz'


@pytest.fixture(scope='module')
def codec():
    """Return the codec with the shipped weights."""
    return create_codec('wavelet')


@pytest.fixture(scope='module')
def frames() -> list[np.ndarray]:
    """Return five frames of the demo bag, RGB 640x480."""
    records = list(read_compressed_images(share_directory() / 'demo' / 'robosub_gate'))[::20]
    return [np.ascontiguousarray(
        cv2.imdecode(np.frombuffer(record.data, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1])
        for record in records]


@pytest.fixture(scope='module')
def squares(frames) -> list[np.ndarray]:
    """Return the frames at 224x224."""
    return [cv2.resize(frame, REFERENCE, interpolation=cv2.INTER_AREA) for frame in frames]


@pytest.mark.parametrize('max_bytes', [48, 100, 317, 500, 1500, LARGEST_PACKET_BYTES])
def test_a_budget_is_used_to_the_byte(codec, frames, max_bytes):
    packet = encode_packet(codec, frames[0], max_bytes=max_bytes)
    assert len(packet) == max_bytes
    _, image = decode_packet(codec, packet)
    assert image.shape == frames[0].shape and image.dtype == np.uint8


def test_an_image_without_detail_needs_few_bytes(codec):
    packet = encode_packet(codec, np.full((480, 640, 3), (10, 60, 90), np.uint8), max_bytes=4096)
    assert len(packet) < 1000
    _, image = decode_packet(codec, packet)
    assert np.abs(image.astype(int) - (10, 60, 90)).max() <= 2


def test_the_packet_for_fewer_bytes_is_the_beginning_of_the_packet_for_more(codec, frames):
    long = codec.encode(frames[1], 1000)
    for max_bytes in (48, 100, 333, 500):
        short = codec.encode(frames[1], max_bytes)
        assert np.array_equal(short, long[:len(short)])


def test_more_bytes_give_a_better_image(codec, squares):
    counts = [40, 80, 160, 320, 484, 1000]
    psnr = np.array([[psnr_db(image, codec.decode(latent[:count], REFERENCE)) for count in counts]
                     for image in squares for latent in [codec.encode(image, 1016)]])
    assert (np.diff(psnr.mean(0)) > 0.3).all()


def test_every_single_byte_counts_on_average(codec, squares):
    latents = [codec.encode(image, 140) for image in squares[:2]]
    psnr = np.array([[psnr_db(image, codec.decode(latent[:count], REFERENCE))
                      for count in range(HEAD_BYTES, len(latent) + 1, 4)]
                     for image, latent in zip(squares, latents)]).mean(0)
    assert (np.diff(psnr) > -0.15).all()
    assert psnr[-1] > psnr[0] + 10


def test_it_beats_the_autoencoder_with_the_same_bytes(codec, squares):
    autoencoder = create_codec('autoencoder')
    for image in squares:
        latent = autoencoder.encode(image)
        size = OVERHEAD_BYTES + len(autoencoder.payload_from_latent(latent))
        assert psnr_db(image, codec.decode(codec.encode(image, size), REFERENCE)) > psnr_db(
            image, autoencoder.decode(latent, REFERENCE))


def test_decisions_are_the_same_for_any_threads_and_library(codec, squares):
    images = torch.from_numpy(np.stack(squares[2:3])).permute(0, 3, 1, 2).float() / 255
    levels, _ = principal_analysis(images)
    stream = codec.entropy_model.encode(levels, 224, 224, 484)
    reference = codec.entropy_model.decode(stream, 224, 224)
    threads = torch.get_num_threads()

    def check():
        assert codec.entropy_model.encode(levels, 224, 224, 484) == stream
        found, plane = codec.entropy_model.decode(stream, 224, 224)
        assert plane == reference[1]
        for level, expected in zip(found, reference[0]):
            assert torch.equal(level.values, expected.values)
            assert torch.equal(level.behind, expected.behind)
    try:
        torch.set_num_threads(2)
        check()
    finally:
        torch.set_num_threads(threads)
    with torch.backends.mkldnn.flags(enabled=False):
        check()


class _OnnxLevel(torch.nn.Module):
    """The network of a level as one function of what is known, for export."""

    def __init__(self, network: LevelContext):
        super().__init__()
        self.network = network

    def forward(self, own, coded, above, planes):
        return self.network(own, self.network.coded_sums(coded),
                            self.network.above_sums(above, planes), planes)


class _OnnxFrozenLevel:
    """A FrozenLevel whose logits come from another library, through ONNX."""

    def __init__(self, level: LevelContext, path: Path, runtime):
        names = ['own', 'coded', 'above', 'planes']
        example = [torch.zeros(1, channels, 8, 8) for channels in (18, 9, 18)]
        torch.onnx.export(_OnnxLevel(level), (*example, torch.tensor([0])), path, dynamo=False,
                          input_names=names,
                          dynamic_axes={name: {2: 'h', 3: 'w'} for name in names[:3]})
        self._session = runtime.InferenceSession(path)

    def coded_sums(self, coded):
        return coded

    def above_sums(self, above, planes):
        return above

    def steps(self, own, coded, above, planes):
        arrays = {name: values.permute(0, 3, 1, 2).numpy()
                  for name, values in (('own', own), ('coded', coded), ('above', above))}
        logits, = self._session.run(None, {**arrays, 'planes': np.array(planes)})
        return steps_of_logits(torch.from_numpy(logits))


@pytest.mark.filterwarnings('ignore::torch.jit.TracerWarning', 'ignore::DeprecationWarning')
def test_packets_decode_with_an_onnx_export(codec, squares, tmp_path, monkeypatch):
    pytest.importorskip('onnx', reason='onnx is not installed')
    runtime = pytest.importorskip('onnxruntime', reason='onnxruntime is not installed')
    stream = codec.encode(squares[2])[HEAD_BYTES:].tobytes()
    tensors = read_weights(weights_directory('wavelet'), 'wavelet', 'context').tensors
    monkeypatch.setattr(wavelet_layout, 'TILED_LEVEL', math.inf)        # whole levels only
    exported = WaveletEntropyModel(tensors)
    exported.frozen.levels = [_OnnxFrozenLevel(level, tmp_path / f'{kind}.onnx', runtime)
                              for kind, level in enumerate(exported.network.levels)]
    expected, plane = codec.entropy_model.decode(stream, 224, 224)
    found, found_plane = exported.decode(stream, 224, 224)
    assert found_plane == plane
    for level, reference in zip(found, expected):
        assert torch.equal(level.values, reference.values)
        assert torch.equal(level.behind, reference.behind)


def _random_levels(generator: np.random.Generator, height: int, width: int,
                   largest: float) -> list[torch.Tensor]:
    """Return coefficients of all magnitudes, sparser the finer they are."""
    levels = []
    for mask in band_masks(height, width):
        magnitudes = 2.0 ** generator.uniform(-9, np.log2(largest), mask.shape)
        kept = generator.random(mask.shape) < min(1, 40 / int(mask.sum()))
        signs = generator.choice([-1, 1], mask.shape)
        levels.append(torch.from_numpy(magnitudes * signs * kept).float()[None] * mask)
    return levels


@pytest.mark.parametrize('seed', range(6))
def test_any_coefficients_come_back_wherever_the_stream_is_cut(codec, seed):
    generator = np.random.default_rng(seed)
    height, width = [(16, 16), (32, 48), (64, 16), (112, 80), (16, 240), (224, 224)][seed]
    levels = _random_levels(generator, height, width, 240)
    stream = codec.entropy_model.encode(levels, height, width, 1 << 16)
    for count in (0, 1, 5, 50, int(generator.integers(len(stream))), len(stream)):
        known, plane = codec.entropy_model.decode(stream[:count], height, width)
        for level, (values, behind) in zip(levels, known):
            expected = torch.trunc(level / threshold(plane) / (1 + behind.float()))
            # what was never reached is known to be below the first threshold only
            assert torch.equal(values, expected) or plane == 0
    assert plane == PLANES - 1 and not any(
        bool((level.behind[0] & mask).any())
        for level, mask in zip(known, band_masks(height, width)))


def test_ten_thousand_random_streams_come_back_as_far_as_they_were_not_cut():
    generator = np.random.default_rng(7)
    wasted = []
    for _ in range(10_000):
        count, choices = int(generator.integers(1, 60)), int(generator.integers(2, 4))
        shares = generator.dirichlet([0.2] * choices, count)
        frequencies = 1 + np.floor(shares * (TOTAL_FREQUENCY - choices)).astype(np.int64)
        frequencies[:, 0] += TOTAL_FREQUENCY - frequencies.sum(1)
        outcomes = (shares.cumsum(1) < generator.random((count, 1))).sum(1).astype(np.int32)
        outcomes = outcomes.clip(max=choices - 1)
        encoder = StreamEncoder(1000)
        probabilities = frequencies / TOTAL_FREQUENCY
        encoder.code(probabilities, outcomes)
        stream = encoder.stream()
        cut = int(generator.integers(0, len(stream) + 1))
        decoder = StreamDecoder(stream[:cut])
        decoded = decoder.code(probabilities, np.zeros(count, np.int32))
        assert np.array_equal(decoded, outcomes[:len(decoded)])
        assert decoder.ended == (len(decoded) < count)
        if cut == len(stream):
            assert len(decoded) == count
        if decoder.ended:
            bits = -np.log2(probabilities[np.arange(count), outcomes])
            wasted.append(8 * cut - bits[:len(decoded)].sum())
    assert len(wasted) > 1000 and np.mean(wasted) < 8       # bits that arrive in vain: no byte


def test_what_a_packet_leaves_known_is_what_training_cuts(codec):
    levels = _random_levels(np.random.default_rng(3), 64, 64, 240)
    stream = codec.entropy_model.encode(levels, 64, 64, 1 << 16)
    known, plane = codec.entropy_model.decode(stream, 64, 64)
    trained = cut(levels, torch.tensor([plane]), torch.tensor([99]), torch.tensor([True]))
    for level, expected in zip(known, trained):
        assert torch.equal(level.values, expected.values)


def test_a_latent_begins_with_its_shape_and_colours(codec, frames):
    latent = codec.encode(frames[0])
    head = int.from_bytes(latent[:HEAD_BYTES].tobytes(), 'big')
    assert (head >> 11, head >> 6 & 31) == (16, 12)         # squares of 16x16 pixels
    decoded = codec.decode(latent, REFERENCE)
    # the same decisions in the colours of another image are another image
    other = np.array(latent)
    other[1] ^= 1
    assert psnr_db(decoded, codec.decode(other, REFERENCE)) < 45


def test_water_of_any_colour_costs_the_same(codec, squares):
    for image in squares[:3]:
        psnr = [psnr_db(hues, codec.decode(codec.encode(hues), REFERENCE))
                for hues in (image, np.ascontiguousarray(image[..., [2, 0, 1]]),
                             np.ascontiguousarray(image[..., ::-1]))]
        assert max(psnr) - min(psnr) < 1.5


def test_random_bytes_decode_to_some_image(codec):
    generator = np.random.default_rng(0)
    for length in (0, 1, 3, 4, 60, 484):
        latent = np.concatenate([[0x73, 0x9f], generator.integers(0, 256, length)]).astype(np.uint8)
        assert codec.decode(latent, (40, 30)).shape == (30, 40, 3)
    for filler in (0, 255):
        latent = np.array([0x73, 0x80] + [filler] * 100, np.uint8)
        assert codec.decode(latent, REFERENCE).shape == (224, 224, 3)


@pytest.mark.parametrize('latent', [
    np.zeros(500, np.float32), np.zeros((2, 250), np.uint8), np.zeros(0, np.uint8),
    np.array([14], np.uint8), np.array([0, 14], np.uint8), np.array([255, 255], np.uint8),
    np.ones(5000, np.uint8), 'latent'], ids=repr)
def test_no_latent_of_this_codec_is_refused(codec, latent):
    with pytest.raises(LatentError, match='latent'):
        codec.decode(latent, REFERENCE)
    with pytest.raises(LatentError):
        codec.payload_from_latent(latent)


def test_no_payload_of_this_codec_is_refused(codec):
    for payload in (b'', b'\x0e', b'\x00\x00abc', bytes(5000)):
        with pytest.raises(PacketCorruptError, match='latent'):
            codec.latent_from_payload(payload)
        with pytest.raises(PacketCorruptError):
            codec.latent_from_payload_prefix(payload)


def test_a_payload_is_its_latent(codec, frames):
    latent = codec.encode(frames[0], 300)
    payload = codec.payload_from_latent(latent)
    assert np.array_equal(codec.latent_from_payload(payload), latent)
    prefix, share = codec.latent_from_payload_prefix(payload[:100])
    assert np.array_equal(prefix, latent[:100]) and share == 1


@pytest.mark.parametrize('size,expected', [
    ((224, 224), (224, 224)), ((640, 480), (256, 192)), ((1920, 1080), (304, 160)),
    ((100, 40), (96, 32)), ((1, 1), (16, 16)), ((4000, 10), (448, 112)), ((10, 4000), (112, 448))])
def test_images_are_coded_in_their_shape(size, expected):
    assert coded_size(*size) == expected


@pytest.mark.parametrize('size', [(1, 1), (17, 300), (640, 480), (33, 31), (3000, 20)], ids=str)
def test_images_of_any_size_come_back(codec, size):
    width, height = size
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([rows * 200 // height, columns * 200 // width,
                      np.full_like(rows, 90)], 2).astype(np.uint8)
    _, decoded = decode_packet(codec, encode_packet(codec, image))
    assert decoded.shape == image.shape
    assert psnr_db(image, decoded) > 25


def test_a_budget_below_the_header_is_refused(codec, squares):
    with pytest.raises(BudgetError, match='17'):
        codec.encode(squares[0], 17)
    assert len(codec.encode(squares[0], 18)) == HEAD_BYTES


@pytest.mark.parametrize('image', [
    np.zeros((4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8), np.zeros((4, 4, 3), np.float32)])
def test_what_is_no_image_is_refused(codec, image):
    with pytest.raises(InvalidImageError):
        codec.encode(image)


def test_an_encoder_needs_the_entropy_model_only(tmp_path, squares, codec):
    shutil.copy(CONTEXT, tmp_path)
    encoder = create_codec('wavelet', tmp_path, side='encoder')
    latent = encoder.encode(squares[0])
    assert np.array_equal(latent, codec.encode(squares[0]))
    assert encoder.model_id == codec.model_id
    with pytest.raises(WeightsError, match='decoder'):
        encoder.decode(latent, REFERENCE)
    with pytest.raises(WeightsError, match='restoration'):
        create_codec('wavelet', tmp_path, side='decoder')


@pytest.mark.parametrize('broken', ['missing', 'shape', 'large'])
def test_an_entropy_model_that_cannot_be_trusted_is_refused(tmp_path, broken):
    tensors = dict(read_weights(weights_directory('wavelet'), 'wavelet', 'context').tensors)
    if broken == 'missing':
        del tensors['entropy_model.activity']
    elif broken == 'shape':
        tensors['entropy_model.logistic'] = tensors['entropy_model.logistic'][:-1]
    else:   # sums that are no longer exact
        key = 'context.levels.3.second.weight'
        tensors[key] = np.full_like(tensors[key], 1000)
    write_part(Path(tmp_path), 'wavelet', 'context', {}, tensors)
    with pytest.raises(WeightsError, match='entropy model'):
        create_codec('wavelet', tmp_path, side='encoder')


def test_the_vehicle_carries_less_than_8_megabytes():
    assert CONTEXT.stat().st_size < 8e6


def test_decoders_of_the_same_packets_are_told_apart(codec, tmp_path):
    shutil.copy(CONTEXT, tmp_path)
    tensors = read_weights(weights_directory('wavelet'), 'wavelet', 'restoration').tensors
    tensors['network.points'] = tensors['network.points'] + 0.01
    write_part(tmp_path, 'wavelet', 'restoration', {}, tensors)
    names = ['wavelet']
    [shipped], _ = open_contenders(names, lambda _: codec)
    [other], _ = open_contenders(names, lambda name: create_codec(name, tmp_path))
    assert create_codec('wavelet', tmp_path, side='encoder').model_id == codec.model_id
    assert other.identity != shipped.identity
    (tmp_path / 'restoration.safetensors').unlink()
    with pytest.raises(WeightsError, match="restoration.*codec 'wavelet' cannot be read"):
        create_codec('wavelet', tmp_path, side='encoder').decoder_id()
