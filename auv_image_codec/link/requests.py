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
The back channel: what the surface asks of the vehicle, in at most 16 bytes.

docs/link.md describes the messages byte by byte.
"""
from binascii import crc32, crc_hqx
from dataclasses import dataclass
import struct
from typing import Tuple, Union

from auv_image_codec.errors import RequestError
from auv_image_codec.link.frames import MOST_FRAMES

VERSION = 1
LARGEST_REQUEST = 16
IDENTITY_BYTES = 16         # of a packet: its header and checks
_CHECK_START = 0xACED       # unlike that of frames: neither is ever taken for the other
_RESEND, _MORE, _BUDGET = 1, 2, 3


def packet_identity(packet: bytes) -> int:
    """
    Return the 32 bits that name a packet in requests: the CRC-32 of its first 16 bytes.

    :raises RequestError: if there are fewer.
    """
    if len(packet) < IDENTITY_BYTES:
        raise RequestError(f'{len(packet)} bytes of a packet do not say which one it is')
    return crc32(packet[:IDENTITY_BYTES])


@dataclass(frozen=True)
class ResendRequest:
    """
    Send frames of a packet again.

    :param number: of the packet on the link, 0..255.
    :param frames: indices of its data frames, 0..31.
    """

    number: int
    frames: Tuple[int, ...]


@dataclass(frozen=True)
class MoreRequest:
    """
    Send more of a packet that was sent in part.

    :param identity: of the packet, see packet_identity.
    :param have: bytes of its beginning that are here.
    :param wanted: bytes of it in all; 0 for all there are.
    """

    identity: int
    have: int
    wanted: int = 0


@dataclass(frozen=True)
class BudgetRequest:
    """
    Use another budget or rate; 0 leaves a value as it is.

    :param max_bytes: largest packet, 0..65535.
    :param max_rate: most images a second of each camera, 0.0 to 655.35 in steps of 0.01.
    :param link_rate: bits a second of the link, 0..2^32 - 1.
    """

    max_bytes: int = 0
    max_rate: float = 0.0
    link_rate: int = 0


Request = Union[ResendRequest, MoreRequest, BudgetRequest]


def _fields(request: Request) -> Tuple[int, bytes]:
    if isinstance(request, ResendRequest):
        if not request.frames or not all(0 <= i < MOST_FRAMES for i in request.frames):
            raise RequestError(f'frames {request.frames} of a packet, must be of 0..31')
        bits = sum(1 << index for index in set(request.frames))
        return _RESEND, struct.pack('<BI', request.number, bits)
    if isinstance(request, MoreRequest):
        return _MORE, struct.pack('<IHH', request.identity, request.have, request.wanted)
    return _BUDGET, struct.pack('<HHI', request.max_bytes, round(100 * request.max_rate),
                                request.link_rate)


def build_request(request: Request, counter: int) -> bytes:
    """
    Return a request's bytes, at most 16.

    :param counter: differs from one request to the next, modulo 256, so that a repeated message
        is known as such.
    :raises RequestError: if a value does not fit its field.
    """
    try:
        kind, fields = _fields(request)
        content = struct.pack('<BB', VERSION | kind << 3, counter % 256) + fields
    except struct.error as error:
        raise RequestError(f'{request} cannot be sent: {error}') from error
    return struct.pack('<H', crc_hqx(content, _CHECK_START)) + content


def parse_request(data: bytes) -> Tuple[Request, int]:
    """
    Return a request and its counter; nothing is assumed of the bytes.

    :raises RequestError: if they are not one that build_request makes.
    """
    if not 4 < len(data) <= LARGEST_REQUEST:
        raise RequestError(f'request has {len(data)} bytes, must have 5 to {LARGEST_REQUEST}')
    check, = struct.unpack_from('<H', data)
    content = data[2:]
    if check != crc_hqx(content, _CHECK_START):
        raise RequestError('the check of a request fails')
    version, kind = content[0] & 7, content[0] >> 3
    if version != VERSION:
        raise RequestError(
            f'request is of version {version}, this release reads version {VERSION}')
    try:
        if kind == _RESEND:
            number, bits = struct.unpack('<BI', content[2:])
            frames = tuple(index for index in range(MOST_FRAMES) if bits >> index & 1)
            if not frames:
                raise RequestError('request for no frames')
            return ResendRequest(number, frames), content[1]
        if kind == _MORE:
            return MoreRequest(*struct.unpack('<IHH', content[2:])), content[1]
        if kind == _BUDGET:
            max_bytes, hundredths, link_rate = struct.unpack('<HHI', content[2:])
            return BudgetRequest(max_bytes, hundredths / 100, link_rate), content[1]
    except struct.error as error:
        raise RequestError(f'request of kind {kind} has {len(data)} bytes') from error
    raise RequestError(f'request is of kind {kind}, which is not known')
