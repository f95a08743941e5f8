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
"""LinkRequest messages to requests of the back channel, and back; and the images they name."""
from collections import OrderedDict
from typing import Callable, Optional

from auv_image_codec.errors import RequestError
from auv_image_codec.link.frames import MOST_FRAMES
from auv_image_codec.link.requests import (
    BudgetRequest, MoreRequest, Request, ResendRequest)
from auv_image_codec.msg import LinkRequest

LARGEST_RATE = 655.35  # images a second: 16 bits of hundredths


class PacketStamps:
    """
    The capture times of the newest packets: messages name images by them, the link by identity.

    :param limit: of packets that are remembered.
    """

    def __init__(self, limit: int):
        self._limit = limit
        self._stamps: 'OrderedDict[int, int]' = OrderedDict()

    def add(self, identity: int, stamp: int) -> None:
        """Remember a packet as the newest; its stamp is in nanoseconds."""
        self._stamps.pop(identity, None)
        self._stamps[identity] = stamp
        if len(self._stamps) > self._limit:
            self._stamps.popitem(last=False)

    def stamp(self, identity: int) -> int:
        """Return the stamp of a packet; 0 if it is not known."""
        return self._stamps.get(identity, 0)

    def identity(self, stamp: int) -> Optional[int]:
        """Return the newest packet of a stamp (0 for any); None if it is not known."""
        return next((identity for identity, known in reversed(self._stamps.items())
                     if not stamp or known == stamp), None)

    def clear(self) -> None:
        """Forget all packets."""
        self._stamps.clear()


def request_from_message(message: LinkRequest,
                         more: Callable[[int, int], MoreRequest]) -> Request:
    """
    Return the request that a message asks for.

    :param more: returns the request for more bytes of the image of a stamp (nanoseconds, 0 for
        the newest); its second argument is how many bytes in all.
    :raises RequestError: if the message is of no known type, its image is not known, or it asks
        for what no request can carry.
    """
    if message.type == LinkRequest.RESEND:
        frames = tuple(sorted(set(message.frames)))
        if not frames or frames[-1] >= MOST_FRAMES:
            raise RequestError(f'frames {frames} of a packet, must be of 0..{MOST_FRAMES - 1}')
        return ResendRequest(message.packet, frames)
    if message.type == LinkRequest.MORE:
        return more(message.stamp.sec * 10 ** 9 + message.stamp.nanosec, message.wanted)
    if message.type == LinkRequest.BUDGET:
        if not 0 <= message.max_rate <= LARGEST_RATE:
            raise RequestError(f'max_rate is {message.max_rate}, must be 0 to {LARGEST_RATE}')
        return BudgetRequest(message.max_bytes, message.max_rate, message.link_rate)
    raise RequestError(f'request is of type {message.type}, which is not known')


def request_to_message(request: Request, stamp_of: Callable[[int], int]) -> LinkRequest:
    """
    Return the message for a request that arrived.

    :param stamp_of: returns the stamp, in nanoseconds, of the packet of an identity; 0 if it is
        not known.
    """
    if isinstance(request, ResendRequest):
        return LinkRequest(type=LinkRequest.RESEND, packet=request.number,
                           frames=list(request.frames))
    if isinstance(request, MoreRequest):
        message = LinkRequest(type=LinkRequest.MORE, wanted=request.wanted)
        stamp = stamp_of(request.identity)
        message.stamp.sec, message.stamp.nanosec = divmod(stamp, 10 ** 9)
        return message
    return LinkRequest(type=LinkRequest.BUDGET, max_bytes=request.max_bytes,
                       max_rate=request.max_rate, link_rate=request.link_rate)
