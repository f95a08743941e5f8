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
"""Every codec of the registry through frames of a modem, some of them lost."""
import cv2
import numpy as np
import pytest

from auv_image_codec.codecs import codec_names, create_codec, encode_packet
from auv_image_codec.codecs.packet import parse_cut_packet, parse_packet
from auv_image_codec.errors import PacketCorruptError
from auv_image_codec.evaluation.bags import read_compressed_images
from auv_image_codec.evaluation.metrics import psnr_db
from auv_image_codec.link.fragmentation import fragment
from auv_image_codec.link.receiver import LinkReceiver
from auv_image_codec.resources import share_directory


@pytest.fixture(scope='module', params=codec_names())
def codec(request):
    """Return each codec with its shipped weights."""
    return create_codec(request.param)


@pytest.fixture(scope='module')
def frame() -> np.ndarray:
    """Return a frame of the demo bag, RGB 640x480."""
    record = next(read_compressed_images(share_directory() / 'demo' / 'robosub_gate'))
    return cv2.imdecode(np.frombuffer(record.data, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1].copy()


def shown(codec, frames) -> tuple:
    """Return what a surface shows of frames: header, image, completeness."""
    receiver = LinkReceiver()
    packets = [packet for data in frames for packet in receiver.push(data, 0.0)]
    packet, = packets + receiver.poll(10.0)
    if packet.whole:
        header, payload = parse_packet(packet.data, [codec.model_id])
        latent, certain = codec.latent_from_payload(payload), 1.0
    else:
        header, prefix = parse_cut_packet(packet.data, [codec.model_id])
        latent, certain = codec.latent_from_payload_prefix(prefix)
    return (header, codec.decode(latent, (header.width, header.height)),
            min(packet.completeness, certain))


def test_an_image_grows_with_the_frames_that_come(codec, frame):
    packet = encode_packet(codec, frame, camera=2, sequence=7, stamp_ns=10 ** 18)
    frames = fragment(packet, 64, 100)
    quality, shares = [], []
    for count in range(1, len(frames) + 1):
        # What comes after the gap is of no use.
        header, image, share = shown(codec, frames[:count] + frames[count + 1:])
        assert (header.camera, header.sequence) == (2, 7) and image.shape == frame.shape
        quality.append(psnr_db(frame, image))
        shares.append(share)
    assert shares == sorted(shares) and shares[-1] == 1.0 and shares[0] < 0.5
    flat = np.broadcast_to(frame.mean((0, 1)).astype(np.uint8), frame.shape)
    assert quality[len(frames) // 2] > psnr_db(frame, flat) + 2
    assert quality[-1] > quality[len(frames) // 2] > quality[0]


def test_parity_gives_the_image_back(codec, frame):
    frames = fragment(encode_packet(codec, frame), 64, 100, redundancy=0.5)
    _, whole, _ = shown(codec, frames)
    _, image, share = shown(codec, frames[3:])
    assert share == 1.0 and np.array_equal(image, whole)


def test_a_damaged_packet_shows_nothing(codec, frame):
    """Frames with good checks around a payload that is not what was sent."""
    packet = bytearray(encode_packet(codec, frame))
    packet[-3] ^= 4
    with pytest.raises(PacketCorruptError):
        shown(codec, fragment(bytes(packet), 64, 100))
