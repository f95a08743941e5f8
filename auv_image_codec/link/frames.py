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
One frame of a packet, with four bytes of its own. docs/link.md describes it byte by byte.

A frame names its packet, its place in it and how many frames of data the packet has, so that
frames may be lost, repeated, reordered and mixed with those of other packets. Its check covers all
of that: the packet's own check says nothing about a packet that is cut.
"""
from binascii import crc_hqx
from dataclasses import dataclass

from auv_image_codec.errors import FrameError

VERSION = 1
OVERHEAD_BYTES = 4
PARITY_BYTES = 1            # more in a frame of parity: how much shorter the last data frame is
MOST_FRAMES = 32            # of a packet, data and parity together
NUMBERS = 256               # of packets, which then start again
SMALLEST_FRAME = 16
LARGEST_FRAME = 2048
# Seconds in which a number means the same packet. A receiver forgets a packet RECEIVER_MEMORY after
# its last frame; if it asks for frames, which it does up to ASKING_TIME after that, it remembers
# the packet for RECEIVER_MEMORY from then. A sender leaves a number alone for longer than both.
RECEIVER_MEMORY = 30.0
ASKING_TIME = 20.0
NUMBER_REST = 60.0

CHECK_BITS = 14
_PLACE_BITS = 32 - CHECK_BITS


@dataclass(frozen=True)
class Frame:
    """
    What a frame carries.

    :param number: of the packet, 0..255.
    :param index: of the frame in its packet; from ``count`` on it is parity.
    :param count: of data frames in the packet, 1..32.
    :param body: the packet's bytes, or parity and its padding byte.
    """

    number: int
    index: int
    count: int
    body: bytes

    @property
    def is_parity(self) -> bool:
        """Whether the frame carries parity instead of a part of the packet."""
        return self.index >= self.count


def _check(place: int, body: bytes, version: int = VERSION) -> int:
    # The version costs no bits: each has its own initial value.
    start = 0xFFFF - version
    return crc_hqx(body, crc_hqx(place.to_bytes(3, 'little'), start)) & (1 << CHECK_BITS) - 1


def build_frame(frame: Frame) -> bytes:
    """
    Return a frame's bytes: four, and the body.

    :raises ValueError: if a field is out of its range.
    """
    for name, value, least, most in (
            ('number', frame.number, 0, NUMBERS - 1), ('index', frame.index, 0, MOST_FRAMES - 1),
            ('count', frame.count, 1, MOST_FRAMES),
            ('size of the body', len(frame.body), 1, LARGEST_FRAME - OVERHEAD_BYTES)):
        if not least <= value <= most:
            raise ValueError(f'{name} is {value}, must be in {least}..{most}')
    place = frame.number | frame.index << 8 | frame.count - 1 << 13
    word = place | _check(place, frame.body) << _PLACE_BITS
    return word.to_bytes(OVERHEAD_BYTES, 'little') + frame.body


def parse_frame(data: bytes) -> Frame:
    """
    Return what a frame carries, after its check; nothing is assumed of the bytes.

    :raises FrameError: kind frame_size, frame_version or frame_corrupt.
    """
    if not OVERHEAD_BYTES < len(data) <= LARGEST_FRAME:
        raise FrameError(f'frame has {len(data)} bytes, must have {OVERHEAD_BYTES + 1} to '
                         f'{LARGEST_FRAME}', 'frame_size')
    word, body = int.from_bytes(data[:OVERHEAD_BYTES], 'little'), data[OVERHEAD_BYTES:]
    place, received = word & (1 << _PLACE_BITS) - 1, word >> _PLACE_BITS
    if received != _check(place, body):
        for version in (2, 3):
            if received == _check(place, body, version):
                raise FrameError(f'frame is of version {version}, this release reads version '
                                 f'{VERSION}', 'frame_version')
        raise FrameError('the check of a frame fails', 'frame_corrupt')
    return Frame(place & 0xFF, place >> 8 & 31, (place >> 13) + 1, bytes(body))
