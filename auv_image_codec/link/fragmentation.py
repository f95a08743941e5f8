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
"""From a packet to frames of a modem's size, with Reed-Solomon parity if wanted, and back."""
import math
from typing import Dict, List, Optional

import zfec

from auv_image_codec.errors import FrameError
from auv_image_codec.link.frames import (
    build_frame, Frame, LARGEST_FRAME, MOST_FRAMES, OVERHEAD_BYTES, PARITY_BYTES, SMALLEST_FRAME)


def largest_packet(frame_bytes: int, redundancy: float = 0.0) -> int:
    """
    Return the most bytes of a packet that frames of a size can carry.

    :param frame_bytes: most bytes of a frame, 16..2048.
    :param redundancy: parity frames for each data frame, 0.0..2.0.
    :raises ValueError: if one is out of its range.
    """
    count = max(count for count in range(1, MOST_FRAMES + 1)
                if count + parity_frames(count, redundancy) <= MOST_FRAMES)
    return count * _capacity(frame_bytes, redundancy)


def parity_frames(count: int, redundancy: float) -> int:
    """
    Return how many frames of parity go with a number of data frames.

    :raises ValueError: if the redundancy is not in 0.0..2.0.
    """
    if not 0.0 <= redundancy <= 2.0:
        raise ValueError(f'redundancy is {redundancy}, must be in 0.0..2.0')
    return math.ceil(count * redundancy - 1e-9)


def _capacity(frame_bytes: int, redundancy: float) -> int:
    if not SMALLEST_FRAME <= frame_bytes <= LARGEST_FRAME:
        raise ValueError(
            f'frames of {frame_bytes} bytes, must have {SMALLEST_FRAME} to {LARGEST_FRAME}')
    return frame_bytes - OVERHEAD_BYTES - (PARITY_BYTES if redundancy > 0 else 0)


def fragment(packet: bytes, frame_bytes: int, number: int, redundancy: float = 0.0) -> List[bytes]:
    """
    Return the frames of a packet: data in order, then parity.

    The packet is cut into as few pieces as hold it, of the same size but for the last. Any so
    many frames as there are of data give the packet back.

    :param packet: 1 byte to largest_packet() bytes.
    :param frame_bytes: most bytes of a frame, 16..2048.
    :param number: of the packet, 0..255.
    :param redundancy: parity frames for each data frame, 0.0..2.0, rounded up.
    :raises FrameError: kind frame_packet_size, if the packet is empty or too large.
    :raises ValueError: if another argument is out of its range.
    """
    most = largest_packet(frame_bytes, redundancy)
    if not 1 <= len(packet) <= most:
        raise FrameError(
            f'packet has {len(packet)} bytes; frames of {frame_bytes} bytes carry 1 to {most}',
            'frame_packet_size')
    count = math.ceil(len(packet) / _capacity(frame_bytes, redundancy))
    size = math.ceil(len(packet) / count)
    # Equal pieces may need fewer frames than there is room for.
    count = math.ceil(len(packet) / size)
    pieces = [packet[start:start + size] for start in range(0, len(packet), size)]
    padding = size - len(pieces[-1])
    parity = parity_frames(count, redundancy)
    bodies = list(pieces)
    if parity:
        blocks = [*pieces[:-1], pieces[-1].ljust(size, b'\0')]
        coder = zfec.Encoder(count, count + parity)
        # Lengths within a packet's last frame fit a byte: pieces differ by less than `count`.
        bodies += [block + bytes([padding])
                   for block in coder.encode(blocks, tuple(range(count, count + parity)))]
    return [build_frame(Frame(number, index, count, body)) for index, body in enumerate(bodies)]


def recover(count: int, bodies: Dict[int, bytes]) -> Optional[List[bytes]]:
    """
    Return all data bodies of a packet, or None if too few frames came.

    :param count: of data frames.
    :param bodies: by index, of data frames and of parity frames, which fit each other.
    """
    missing = [index for index in range(count) if index not in bodies]
    if not missing:
        return [bodies[index] for index in range(count)]
    if len(bodies) < count:
        return None
    # One frame of parity is here, and it names the padding of the last body.
    sample = next(body for index, body in bodies.items() if index >= count)
    size, padding = len(sample) - PARITY_BYTES, sample[-1]
    indices = sorted(bodies)[:count]
    # The coder wants data that is here at its own place.
    order: List[int] = [-1] * count
    spare = [index for index in indices if index >= count]
    for index in indices:
        if index < count:
            order[index] = index
    order = [index if index >= 0 else spare.pop(0) for index in order]
    blocks = [bodies[index][:size].ljust(size, b'\0') for index in order]
    decoded = zfec.Decoder(count, MOST_FRAMES).decode(blocks, tuple(order))
    decoded[-1] = decoded[-1][:size - padding]
    return [bytes(block) for block in decoded]
