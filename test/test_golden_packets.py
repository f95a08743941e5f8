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
Packets of the shipped weights that must decode to the same latents on every machine, for ever.

New weights are a new model, with packets of its own: after training, write these again with
``python test/test_golden_packets.py CODEC``, and add, never replace, a file when the format
changes.
"""
import hashlib
import json
from pathlib import Path
import sys

import cv2
import numpy as np
import pytest

from auv_image_codec.codecs import codec_names, create_codec, decode_packet, encode_packet
from auv_image_codec.codecs.packet import parse_packet
from auv_image_codec.evaluation.bags import read_compressed_images
from auv_image_codec.resources import share_directory

GOLDEN = Path(__file__).resolve().parent / 'golden'
FRAMES = (0, 43, 85)        # of the demo bag
THUMBNAIL = (8, 6)          # width, height of the decoded image's summary


def summary(codec, packet: bytes) -> dict:
    header, payload = parse_packet(packet, [codec.model_id])
    latent = codec.latent_from_payload(payload)
    _, image = decode_packet(codec, packet)
    thumbnail = cv2.resize(image, THUMBNAIL, interpolation=cv2.INTER_AREA)
    return {'model_id': f'{header.model_id:08x}', 'stamp_ns': header.stamp_ns,
            'size': [header.width, header.height], 'bytes': len(packet),
            'latent_sha256': hashlib.sha256(latent.tobytes()).hexdigest(),
            'thumbnail': thumbnail.flatten().tolist()}


@pytest.mark.parametrize('path', sorted(GOLDEN.glob('*.auv')), ids=lambda path: path.stem)
def test_a_golden_packet_decodes_as_ever(path):
    codec = create_codec(path.stem.rpartition('_')[0])
    expected = json.loads(path.with_suffix('.json').read_text())
    found = summary(codec, path.read_bytes())
    # the latent to the bit; pixels up to the rounding of another machine's floating point
    assert np.abs(np.subtract(found.pop('thumbnail'), expected.pop('thumbnail'))).max() <= 1
    assert found == expected


@pytest.mark.parametrize('name', codec_names())
def test_there_are_golden_packets(name):
    assert len(list(GOLDEN.glob(f'{name}_*.auv'))) >= len(FRAMES)


def write_golden_packets(name: str) -> None:
    codec = create_codec(name)
    GOLDEN.mkdir(exist_ok=True)
    records = list(read_compressed_images(share_directory() / 'demo' / 'robosub_gate'))
    for number in FRAMES:
        frame = cv2.imdecode(np.frombuffer(records[number].data, np.uint8), cv2.IMREAD_COLOR)
        packet = encode_packet(codec, frame[:, :, ::-1], sequence=number,
                               stamp_ns=records[number].stamp_ns)
        path = GOLDEN / f'{codec.name}_{number:04d}.auv'
        path.write_bytes(packet)
        path.with_suffix('.json').write_text(json.dumps(summary(codec, packet)) + '\n')


if __name__ == '__main__':
    for codec_name in sys.argv[1:] or codec_names():
        write_golden_packets(codec_name)
