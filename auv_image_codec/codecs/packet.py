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
The packet: what leaves the vehicle. docs/packet.md describes it byte by byte.

A 12-byte header, two 16-bit checks, and the codec's payload. The header check covers the header;
the payload check covers the header, the payload, and the whole 32-bit model id, of which the
header carries 13 bits: a packet decodes with the weights that made it or not at all.
"""
from binascii import crc_hqx
from collections.abc import Iterable
from dataclasses import dataclass, replace
import struct

from auv_image_codec.errors import (
    InvalidImageError, PacketCorruptError, PacketTooLargeError, PacketTruncatedError,
    PacketVersionError, UnknownCodecError, UnknownModelError,
)

VERSION = 1
DEFAULT_MAX_BYTES = 500
LARGEST_PACKET_BYTES = 4096
HEADER_BYTES = 12
OVERHEAD_BYTES = HEADER_BYTES + 4           # the header and both checks
CAMERAS = 8
SEQUENCES = 256
TICKS_PER_SECOND = 512                      # of the capture time
LARGEST_STAMP_NS = (2**40 * 10**9 - 1) // TICKS_PER_SECOND
EXACT_SIZE = 4096                           # the largest width and height sent as they are
COARSE_UNIT = 4                             # larger images' sizes are sent in units of 4 pixels
LARGEST_SIZE = EXACT_SIZE * COARSE_UNIT
MODEL_BITS = 13

# Numbers of the codecs on the wire. Never change or reuse one.
CODEC_NUMBERS = {'autoencoder': 1, 'wavelet': 2}
_CODEC_NAMES = {number: name for name, number in CODEC_NUMBERS.items()}


@dataclass(frozen=True)
class PacketHeader:
    """
    What a packet says about its image.

    :param codec: registry name.
    :param model_id: of the weights, uint32.
    :param camera: index of the camera on the vehicle, 0..7.
    :param sequence: counts a camera's images; the packet carries it modulo 256.
    :param stamp_ns: capture time in nanoseconds since 1970; the packet carries 1/512 s.
    :param width: of the camera image in pixels, 1..4096, or to 16384 rounded to 4 pixels.
    :param height: likewise.
    """

    codec: str
    model_id: int
    camera: int
    sequence: int
    stamp_ns: int
    width: int
    height: int


def model_tag(model_id: int) -> int:
    """Return the 13 bits of a model id that a header carries."""
    return model_id >> (32 - MODEL_BITS)


def _pack_header(header: PacketHeader) -> bytes:
    if header.codec not in CODEC_NUMBERS:
        raise UnknownCodecError(
            f'codec {header.codec!r} has no number in packets; known: {", ".join(CODEC_NUMBERS)}')
    if not 0 <= header.model_id < 2**32:
        raise ValueError(f'model id is {header.model_id}, must be a uint32')
    if not 0 <= header.camera < CAMERAS:
        raise ValueError(f'camera index is {header.camera}, must be in 0..{CAMERAS - 1}')
    if not 0 <= header.stamp_ns <= LARGEST_STAMP_NS:
        raise ValueError(
            f'capture time is {header.stamp_ns} ns, must be in 0..{LARGEST_STAMP_NS}')
    largest = max(header.width, header.height)
    if min(header.width, header.height) < 1 or largest > LARGEST_SIZE:
        raise InvalidImageError(
            f'image is {header.width}x{header.height}, must be 1x1 to '
            f'{LARGEST_SIZE}x{LARGEST_SIZE}', 'image_size')
    coarse = largest > EXACT_SIZE
    unit = COARSE_UNIT if coarse else 1
    width, height = (max(1, (size + unit // 2) // unit) for size in (header.width, header.height))
    word = (VERSION | CODEC_NUMBERS[header.codec] << 3 | header.camera << 7 | coarse << 10
            | model_tag(header.model_id) << 11)
    size = width - 1 | height - 1 << 12
    ticks = header.stamp_ns * TICKS_PER_SECOND // 10**9
    return b''.join((word.to_bytes(3, 'little'), bytes([header.sequence % SEQUENCES]),
                     size.to_bytes(3, 'little'), ticks.to_bytes(5, 'little')))


def _header_check(header: bytes) -> int:
    return crc_hqx(header, 0xFFFF)


def _payload_check(model_id: int, header: bytes, payload: bytes) -> int:
    return crc_hqx(payload, crc_hqx(header, crc_hqx(model_id.to_bytes(4, 'little'), 0xFFFF)))


def build_packet(header: PacketHeader, payload: bytes) -> bytes:
    """
    Return the packet of a payload.

    :raises UnknownCodecError: if the codec has no number.
    :raises InvalidImageError: if the image size does not fit a header.
    :raises PacketTooLargeError: if the packet would exceed 4,096 bytes.
    :raises ValueError: if another field is out of its range.
    """
    packed = _pack_header(header)
    size = OVERHEAD_BYTES + len(payload)
    if size > LARGEST_PACKET_BYTES:
        raise PacketTooLargeError(f'packet has {size} bytes, at most {LARGEST_PACKET_BYTES}')
    checks = struct.pack('<HH', _header_check(packed),
                         _payload_check(header.model_id, packed, payload))
    return packed + checks + payload


def read_header(packet: bytes) -> PacketHeader:
    """
    Return a packet's header after its own check alone.

    Its model_id holds the 13 bits that the header carries, followed by zeros; stamp_ns is at most
    1/512 s early.

    :raises PacketTruncatedError: if there are fewer bytes than a header and its checks.
    :raises PacketTooLargeError: if there are more bytes than any packet has.
    :raises PacketVersionError: if the format version is another.
    :raises PacketCorruptError: if the header's check fails.
    :raises UnknownCodecError: if the codec's number is not known.
    """
    if len(packet) < OVERHEAD_BYTES:
        raise PacketTruncatedError(
            f'packet has {len(packet)} bytes, at least {OVERHEAD_BYTES} are a header')
    if len(packet) > LARGEST_PACKET_BYTES:
        raise PacketTooLargeError(
            f'packet has {len(packet)} bytes, at most {LARGEST_PACKET_BYTES}')
    packed = packet[:HEADER_BYTES]
    word = int.from_bytes(packed[:3], 'little')
    if word & 7 != VERSION:
        raise PacketVersionError(
            f'packet format version is {word & 7}, this release reads version {VERSION}')
    received, = struct.unpack_from('<H', packet, HEADER_BYTES)
    if received != _header_check(packed):
        raise PacketCorruptError(
            f'header check is {received:04x}, must be {_header_check(packed):04x}')
    number = word >> 3 & 15
    if number not in _CODEC_NAMES:
        raise UnknownCodecError(
            f'codec number {number} is not known; known: '
            + ', '.join(f'{n} ({name})' for n, name in _CODEC_NAMES.items()))
    unit = COARSE_UNIT if word >> 10 & 1 else 1
    size = int.from_bytes(packed[4:7], 'little')
    ticks = int.from_bytes(packed[7:12], 'little')
    return PacketHeader(
        _CODEC_NAMES[number], word >> 11 << (32 - MODEL_BITS), word >> 7 & 7, packed[3],
        # up, so that a stamp that was read is packed as the same ticks again
        -(-ticks * 10**9 // TICKS_PER_SECOND),
        ((size & 0xFFF) + 1) * unit, ((size >> 12) + 1) * unit)


def parse_packet(packet: bytes, model_ids: Iterable[int]) -> tuple[PacketHeader, bytes]:
    """
    Check a packet in full; return its header, with the whole model id, and its payload.

    :param packet: the bytes as they arrived, nothing assumed of them.
    :param model_ids: of the weights that are loaded here.
    :raises PacketError: and its subclasses, as read_header does; UnknownModelError if none of the
        model ids fits; PacketCorruptError if the payload's check fails.
    """
    header = read_header(packet)
    candidates = _candidates(header, model_ids)
    received, = struct.unpack_from('<H', packet, HEADER_BYTES + 2)
    packed, payload = packet[:HEADER_BYTES], packet[OVERHEAD_BYTES:]
    for model_id in candidates:
        if received == _payload_check(model_id, packed, payload):
            return replace(header, model_id=model_id), payload
    raise PacketCorruptError(
        f'payload check {received:04x} fails over {len(payload)} bytes: the packet was cut or '
        'damaged, or made with another model')


def parse_cut_packet(prefix: bytes, model_ids: Iterable[int]) -> tuple[PacketHeader, bytes]:
    """
    Check the beginning of a packet whose end is missing; return its header and payload prefix.

    The header has its own check. The payload check covers the whole payload, so it says nothing
    here: the caller must know by other means, such as the frames of a link with their checks,
    that these bytes are undamaged and only the end is missing.

    :param prefix: the first bytes of a packet, at least header and checks.
    :param model_ids: of the weights that are loaded here.
    :raises PacketError: and its subclasses, as read_header does; UnknownModelError if not exactly
        one of the model ids fits the 13 bits in the header.
    """
    header = read_header(prefix)
    candidates = _candidates(header, model_ids)
    if len(candidates) > 1:
        raise UnknownModelError(
            f'a cut packet cannot say which of the models {_hexadecimal(candidates)} made it')
    return replace(header, model_id=candidates[0]), prefix[OVERHEAD_BYTES:]


def _candidates(header: PacketHeader, model_ids: Iterable[int]) -> list[int]:
    """Return the model ids, at least one, that fit the bits of a header that was read."""
    model_ids = list(model_ids)
    tag = model_tag(header.model_id)
    candidates = [model_id for model_id in model_ids if model_tag(model_id) == tag]
    if not candidates:
        raise UnknownModelError(
            f'packet was made with a model whose id begins with the {MODEL_BITS} bits '
            f'{tag:0{MODEL_BITS}b} ({header.model_id:08x}); loaded here: '
            f'{_hexadecimal(model_ids) or "none"}')
    return candidates


def _hexadecimal(model_ids: Iterable[int]) -> str:
    return ', '.join(f'{model_id:08x}' for model_id in model_ids)
