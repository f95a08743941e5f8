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
"""The packet format: golden bytes, every field, every way to refuse."""
from dataclasses import replace
from itertools import product
import random

from hypothesis import given, strategies
import pytest

from auv_image_codec.codecs.packet import (
    build_packet, HEADER_BYTES, LARGEST_STAMP_NS, OVERHEAD_BYTES, PacketHeader,
    parse_cut_packet, parse_packet, read_header,
)
from auv_image_codec.errors import (
    InvalidImageError, PacketCorruptError, PacketError, PacketTooLargeError, PacketTruncatedError,
    PacketVersionError, UnknownCodecError, UnknownModelError,
)

MODEL_ID = 0xC0FFEE11
HEADER = PacketHeader('autoencoder', MODEL_ID, camera=5, sequence=200,
                      stamp_ns=1_700_000_000_500_000_000, width=640, height=480)
PAYLOAD = bytes(range(100))

headers = strategies.builds(
    PacketHeader, strategies.just('autoencoder'), strategies.integers(0, 2**32 - 1),
    strategies.integers(0, 7), strategies.integers(0, 2**32 - 1),
    strategies.integers(0, LARGEST_STAMP_NS), strategies.integers(1, 4096),
    strategies.integers(1, 4096))


def test_golden_packet():
    # Written down from docs/packet.md; a change here breaks every vehicle at sea.
    packet = build_packet(HEADER, b'payload')
    assert packet.hex() == '89fac0' 'c8' '7ff21d' '0001e2a7ca' '426f' 'f5fe' '7061796c6f6164'
    assert parse_packet(packet, [MODEL_ID]) == (HEADER, b'payload')


def test_the_overhead_is_what_is_promised():
    assert HEADER_BYTES <= 12
    assert len(build_packet(HEADER, PAYLOAD)) == len(PAYLOAD) + OVERHEAD_BYTES


@given(headers, strategies.binary(max_size=600))
def test_every_field_survives(header, payload):
    read, read_payload = parse_packet(build_packet(header, payload), [1, header.model_id])
    assert read_payload == payload
    assert 0 <= header.stamp_ns - read.stamp_ns < 10**9 / 512
    assert read == replace(header, sequence=header.sequence % 256, stamp_ns=read.stamp_ns)
    assert build_packet(read, payload) == build_packet(header, payload)


@pytest.mark.parametrize(('size', 'expected'), [
    ((4096, 1), (4096, 1)), ((4097, 3000), (4096, 3000)), ((5472, 3648), (5472, 3648)),
    ((16384, 16384), (16384, 16384)), ((5471, 1), (5472, 4))])
def test_sizes_beyond_4096_are_rounded_to_4_pixels(size, expected):
    header = replace(HEADER, width=size[0], height=size[1])
    read = read_header(build_packet(header, b''))
    assert (read.width, read.height) == expected


@pytest.mark.parametrize(('changes', 'error', 'message'), [
    ({'codec': 'mpeg'}, UnknownCodecError, "'mpeg'"),
    ({'model_id': 2**32}, ValueError, '4294967296'),
    ({'camera': 8}, ValueError, 'is 8, must be in 0..7'),
    ({'stamp_ns': -1}, ValueError, 'is -1 ns'),
    ({'stamp_ns': LARGEST_STAMP_NS + 1}, ValueError, f'0..{LARGEST_STAMP_NS}'),
    ({'width': 0}, InvalidImageError, '0x480'),
    ({'height': 16385}, InvalidImageError, '640x16385'),
])
def test_a_field_out_of_range_is_named(changes, error, message):
    with pytest.raises(error) as raised:
        build_packet(replace(HEADER, **changes), b'')
    assert message in str(raised.value)


def test_a_packet_is_never_longer_than_4096_bytes():
    build_packet(HEADER, bytes(4096 - OVERHEAD_BYTES))
    with pytest.raises(PacketTooLargeError, match='4097'):
        build_packet(HEADER, bytes(4097 - OVERHEAD_BYTES))
    with pytest.raises(PacketTooLargeError, match='5000'):
        parse_packet(bytes(5000), [MODEL_ID])


def test_every_single_flipped_bit_is_refused():
    packet = build_packet(HEADER, PAYLOAD)
    for byte, bit in product(range(len(packet)), range(8)):
        damaged = bytearray(packet)
        damaged[byte] ^= 1 << bit
        with pytest.raises(PacketError):
            parse_packet(bytes(damaged), [MODEL_ID])


def test_every_cut_is_refused():
    packet = build_packet(HEADER, PAYLOAD)
    for length in range(len(packet)):
        with pytest.raises(PacketTruncatedError if length < OVERHEAD_BYTES
                           else PacketCorruptError):
            parse_packet(packet[:length], [MODEL_ID])


@given(strategies.binary(max_size=600))
def test_noise_is_refused(noise):
    with pytest.raises(PacketError):
        parse_packet(noise, [MODEL_ID])


def test_a_long_burst_of_damage_is_refused():
    generator = random.Random(0)
    packet = build_packet(HEADER, PAYLOAD)
    for _ in range(2000):
        damaged = bytearray(packet)
        start = generator.randrange(len(packet))
        for index in range(start, min(len(packet), start + generator.randrange(1, 60))):
            damaged[index] ^= generator.randrange(256)
        if bytes(damaged) != packet:
            with pytest.raises(PacketError):
                parse_packet(bytes(damaged), [MODEL_ID])


def test_another_version_is_named():
    packet = bytearray(build_packet(HEADER, PAYLOAD))
    packet[0] = packet[0] & 0xF8 | 2
    with pytest.raises(PacketVersionError, match='version is 2, this release reads version 1'):
        parse_packet(bytes(packet), [MODEL_ID])


def test_a_model_that_is_not_loaded_is_named():
    packet = build_packet(HEADER, PAYLOAD)
    with pytest.raises(UnknownModelError, match='loaded here: 12345678'):
        parse_packet(packet, [0x12345678])


def test_a_model_that_differs_only_beyond_the_header_is_refused():
    # the header carries 13 bits of the model id, the payload's check all 32
    with pytest.raises(PacketCorruptError, match='another model'):
        parse_packet(build_packet(HEADER, PAYLOAD), [MODEL_ID ^ 1])


@given(headers, strategies.binary(max_size=300), strategies.data())
def test_a_cut_packet_gives_its_header_and_the_payload_that_came(header, payload, data):
    packet = build_packet(header, payload)
    cut = data.draw(strategies.integers(OVERHEAD_BYTES, len(packet)))
    read, prefix = parse_cut_packet(packet[:cut], [header.model_id])
    assert prefix == payload[:cut - OVERHEAD_BYTES]
    assert read == parse_packet(packet, [header.model_id])[0]


def test_a_cut_packet_with_a_damaged_header_is_refused():
    packet = build_packet(HEADER, PAYLOAD)
    for position in range(8 * (HEADER_BYTES + 2)):
        damaged = bytearray(packet[:60])
        damaged[position // 8] ^= 1 << position % 8
        with pytest.raises(PacketError):
            parse_cut_packet(bytes(damaged), [MODEL_ID])
    for length in range(OVERHEAD_BYTES):
        with pytest.raises(PacketTruncatedError):
            parse_cut_packet(packet[:length], [MODEL_ID])


def test_a_cut_packet_of_an_unknown_model_is_refused():
    cut = build_packet(HEADER, PAYLOAD)[:60]
    with pytest.raises(UnknownModelError, match='loaded here: 12345678'):
        parse_cut_packet(cut, [0x12345678])
    with pytest.raises(UnknownModelError, match='c0ffee11, c0ffee12'):
        parse_cut_packet(cut, [MODEL_ID, MODEL_ID + 1])
