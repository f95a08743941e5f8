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
"""The surface's end of the link: packets from frames, each once, and what to ask for again."""
from collections import OrderedDict
from dataclasses import dataclass
import random
from typing import Dict, List, Optional, Tuple

from auv_image_codec.errors import FrameError, RequestError
from auv_image_codec.link.reassembly import Assembled, Reassembler
from auv_image_codec.link.requests import (
    build_request, MoreRequest, packet_identity, Request, ResendRequest)

KNOWN_PACKETS = 256         # that are not shown again when they are sent again


@dataclass
class _Known:
    have: int
    whole: bool


class LinkReceiver:
    """
    Reassemble packets, leave out what was shown before, and ask for what is missing.

    :param settle_time: seconds without a frame of a packet after which no more is expected.
    :param reorder_time: the same, once frames of a later packet have come.
    :param most_packets: open at a time, 1 to 128.
    :param resend_requests: how often the missing frames of a packet are asked for, 0 for never.
    :param resend_wait: seconds from one such request to the next.
    """

    def __init__(self, settle_time: float = 5.0, reorder_time: float = 1.0,
                 most_packets: int = 32, resend_requests: int = 0, resend_wait: float = 10.0):
        """Start with nothing received."""
        self.reassembler = Reassembler(settle_time, reorder_time, most_packets)
        self.resend_requests = resend_requests
        self.resend_wait = resend_wait
        self.packets_repeated = 0
        self._known: 'OrderedDict[int, _Known]' = OrderedDict()
        self._asked: Dict[int, Tuple[int, float]] = {}      # number: times, and when last
        # Random, so that a receiver that starts again does not repeat its predecessor's.
        self._counter = random.randrange(256)

    @property
    def counts(self):
        """What was received; see LinkCounts."""
        return self.reassembler.counts

    def push(self, data: bytes, now: float) -> List[Assembled]:
        """
        Take a frame as it arrived; return the packets to show.

        A frame that is refused is counted, and changes nothing.

        :param now: seconds of any clock that does not go backwards.
        """
        try:
            return self._news(self.reassembler.push(data, now))
        except FrameError as error:
            self.counts.errors[error.kind] += 1
            return []

    def poll(self, now: float) -> List[Assembled]:
        """Return the beginnings of packets, to show, whose frames have stopped coming."""
        return self._news(self.reassembler.poll(now))

    def shown(self, packet: Assembled) -> None:
        """Remember that a packet passed its own checks: no less of it is news from now on."""
        identity = packet_identity(packet.data)
        self._known.pop(identity, None)
        self._known[identity] = _Known(len(packet.data), packet.whole)
        if len(self._known) > KNOWN_PACKETS:
            self._known.popitem(last=False)

    def _news(self, packets: List[Assembled]) -> List[Assembled]:
        news = []
        for packet in packets:
            known = None
            if len(packet.data) >= 16:
                known = self._known.get(packet_identity(packet.data))
            if known is not None and (known.whole or not packet.whole
                                      and len(packet.data) <= known.have):
                self.packets_repeated += 1
            else:
                news.append(packet)
        return news

    # --- Back channel ------------------------------------------------------------------------

    def build(self, request: Request) -> bytes:
        """
        Return the bytes of a request to send to the vehicle.

        :raises RequestError: if a value does not fit its field.
        """
        data = build_request(request, self._counter)
        self._counter = (self._counter + 1) % 256
        return data

    def more_of(self, identity: int, wanted: int = 0) -> MoreRequest:
        """
        Return the request for more bytes of a packet that was shown.

        :param identity: see packet_identity.
        :param wanted: bytes in all; 0 for all there are.
        :raises RequestError: if it was not shown, or is whole.
        """
        known = self._known.get(identity)
        if known is None:
            raise RequestError('this image was not received, or too long ago')
        if known.whole:
            raise RequestError('this image is complete')
        return MoreRequest(identity, known.have, wanted)

    def newest(self) -> Optional[int]:
        """Return the identity of the packet that was shown last, None before the first."""
        return next(reversed(self._known), None)

    def due_requests(self, now: float) -> List[ResendRequest]:
        """Return the requests for missing frames that it is time to send."""
        unfinished = self.reassembler.unfinished(now)
        self._asked = {number: asked for number, asked in self._asked.items()
                       if number in unfinished or now - asked[1] < self.resend_wait}
        requests = []
        for number, missing in unfinished.items():
            times, last = self._asked.get(number, (0, -1e9))
            if times < self.resend_requests and now - last >= self.resend_wait:
                self._asked[number] = times + 1, now
                self.reassembler.keep(number, now)
                requests.append(ResendRequest(number, missing))
        return requests
