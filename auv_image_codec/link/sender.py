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
"""The vehicle's end of the link: which packet's frames go when, and what can be asked for again."""
from collections import deque, OrderedDict
from dataclasses import dataclass, field, replace
from functools import lru_cache
import math
import random
import time
from typing import Callable, Deque, Dict, List, Optional, Tuple

from auv_image_codec.errors import FrameError, RequestError
from auv_image_codec.link.fragmentation import fragment, largest_packet
from auv_image_codec.link.frames import NUMBER_REST, NUMBERS, OVERHEAD_BYTES, RECEIVER_MEMORY
from auv_image_codec.link.requests import (
    BudgetRequest, MoreRequest, packet_identity, parse_request, Request, ResendRequest)
from auv_image_codec.link.token_bucket import FairShare, TokenBucket

# So long after its last frame a receiver is sure to remember a packet, the way there included.
SAME_NUMBER = 0.6 * RECEIVER_MEMORY
MOST_REPEATS = 2 * NUMBERS      # frames that wait to be sent again
REQUEST_MEMORY = 16             # requests that are known when they come twice
LARGEST_STORE = 64
AIRTIME_WINDOW = 10.0           # seconds


@dataclass(frozen=True)
class SenderSettings:
    """
    How a vehicle uses its link.

    :param frame_bytes: most bytes of a frame, 16..2048.
    :param link_rate: bits a second, above 0; at no time is more on the air.
    :param frame_seconds: what each frame costs besides its bytes (preamble, turnaround).
    :param redundancy: parity frames for each data frame, 0.0..2.0.
    :param send_bytes: of each packet's beginning that are sent unasked; 0 for all.
    :param queue_packets: that wait for each camera; the newest push the oldest out.
    :param max_age: seconds after which a packet that waits is not worth sending; 0.0 for any.
    :param listen_time: seconds of silence after each packet, for half-duplex modems.
    :param store_packets: sent last, which can be asked for again, 0..64.
    """

    frame_bytes: int = 64
    link_rate: float = 5000.0
    frame_seconds: float = 0.0
    redundancy: float = 0.0
    send_bytes: int = 0
    queue_packets: int = 2
    max_age: float = 30.0
    listen_time: float = 0.0
    store_packets: int = 32

    def __post_init__(self):
        """Check what nothing else checks."""
        largest_packet(self.frame_bytes, self.redundancy)
        for name, value, least, most in (
                ('link_rate', self.link_rate, 1e-3, 1e9),
                ('frame_seconds', self.frame_seconds, 0.0, 60.0),
                ('send_bytes', self.send_bytes, 0, 65535),
                ('queue_packets', self.queue_packets, 1, 1000),
                ('max_age', self.max_age, 0.0, 86400.0),
                ('listen_time', self.listen_time, 0.0, 3600.0),
                ('store_packets', self.store_packets, 0, LARGEST_STORE)):
            if not least <= value <= most:
                raise ValueError(f'{name} is {value}, must be in {least}..{most}')

    @property
    def largest_packet(self) -> int:
        """Most bytes of a packet that the frames carry."""
        return largest_packet(self.frame_bytes, self.redundancy)

    def airtime(self, frame_bytes: int) -> float:
        """Return the seconds that a frame of so many bytes keeps the link busy."""
        return 8 * frame_bytes / self.link_rate + self.frame_seconds

    @lru_cache(maxsize=64)
    def packet_rate(self, packet_bytes: int) -> float:
        """
        Return the packets a second, everything counted, that the link carries.

        :param packet_bytes: of each, 1 to largest_packet.
        """
        packet_bytes = min(packet_bytes, self.largest_packet)
        frames = _sent_frames(
            fragment(bytes(packet_bytes), self.frame_bytes, 0, self.redundancy), self.send_bytes)
        seconds = sum(self.airtime(len(frame)) for frame in frames) + self.listen_time
        return min(1.0 / seconds, NUMBERS / NUMBER_REST)


@dataclass(frozen=True)
class OutgoingFrame:
    """
    A frame to hand to the modem now.

    :param data: its bytes.
    :param camera: whose packet it is.
    :param number: of the packet on the link.
    :param seconds: that the link is busy with it.
    """

    data: bytes
    camera: int
    number: int
    seconds: float


@dataclass
class SenderCounts:
    """What a sender has done since it started."""

    packets_queued: int = 0
    packets_sent: int = 0
    packets_dropped: int = 0        # pushed out by newer ones
    packets_expired: int = 0        # waited longer than max_age
    frames_sent: int = 0
    frames_repeated: int = 0        # of these, sent on request
    bytes_sent: int = 0
    airtime: float = 0.0            # seconds
    requests: int = 0
    requests_repeated: int = 0


@dataclass
class _Waiting:
    packet: bytes
    since: float


@dataclass
class _Stored:
    """A packet that was sent, and can be asked for again."""

    packet: bytes
    camera: int
    number: int
    frames: List[bytes]
    data_frames: int
    last_sent: float


@dataclass
class _Camera:
    weight: float = 1.0
    queue: Deque[_Waiting] = field(default_factory=deque)


def _sent_frames(frames: List[bytes], send_bytes: int) -> List[bytes]:
    """Return the frames that are sent unasked: all, or those that hold the first bytes."""
    if not send_bytes:
        return frames
    size = len(frames[0]) - OVERHEAD_BYTES
    count = math.ceil(send_bytes / size)
    data = _data_frames(frames)
    return frames if count >= data else frames[:count]


def _data_frames(frames: List[bytes]) -> int:
    return (int.from_bytes(frames[0][:OVERHEAD_BYTES], 'little') >> 13 & 31) + 1


class LinkSender:
    """
    Decide which frame is sent next, so that the link is never asked for more than it carries.

    Of each camera the newest packet goes first; cameras share the link in proportion to their
    weights; frames that the surface asked for go before all others. A packet that was begun is
    sent to its end.

    :param clock: returns seconds, never going backwards.
    :param first_number: of the first packet; random by default, so that a sender that starts
        again is not taken for its predecessor.
    """

    def __init__(self, settings: SenderSettings, clock: Callable[[], float] = time.monotonic,
                 first_number: Optional[int] = None):
        """Start with nothing to send."""
        self._settings = settings
        self._clock = clock
        # One token is enough to start a frame, which then overdraws the bucket: the next one
        # waits until the air is free again.
        self._bucket = TokenBucket(settings.link_rate / 8, 1.0, clock)
        self._share = FairShare()
        self._cameras: Dict[int, _Camera] = {}
        self._begun: Deque[Tuple[bytes, int, int]] = deque()
        self._repeats: 'OrderedDict[Tuple[int, int], Tuple[bytes, int]]' = OrderedDict()
        self._stored: 'OrderedDict[int, _Stored]' = OrderedDict()
        self._number = random.randrange(NUMBERS) if first_number is None else first_number
        self._rested: Dict[int, float] = {}
        self._silent_until = -math.inf
        self._on_air: Deque[Tuple[float, float]] = deque(maxlen=1000)
        self._known_requests: Deque[bytes] = deque(maxlen=REQUEST_MEMORY)
        self.counts = SenderCounts()

    @property
    def settings(self) -> SenderSettings:
        """How the link is used now."""
        return self._settings

    def configure(self, **changes) -> None:
        """
        Change settings, by name.

        :raises ValueError: if a value is out of its range; nothing changes then.
        """
        settings = replace(self._settings, **changes)
        self._bucket.configure(settings.link_rate / 8, 1.0)
        self._settings = settings
        for camera in self._cameras.values():
            self._trim(camera)
        while len(self._stored) > settings.store_packets:
            self._stored.popitem(last=False)

    def set_weight(self, camera: int, weight: float) -> None:
        """
        Set a camera's share of the link against others'.

        :raises ValueError: if the weight is not above 0.
        """
        self._share.set_weight(camera, weight)
        self._cameras.setdefault(camera, _Camera()).weight = weight

    def offer(self, packet: bytes, camera: int = 0) -> None:
        """
        Queue a camera's packet; if too many wait, the oldest is dropped.

        :raises FrameError: kind frame_packet_size, if the frames cannot carry it.
        """
        if not 1 <= len(packet) <= self._settings.largest_packet:
            raise FrameError(
                f'packet has {len(packet)} bytes; frames of {self._settings.frame_bytes} bytes '
                f'carry 1 to {self._settings.largest_packet}', 'frame_packet_size')
        if camera not in self._cameras:
            self.set_weight(camera, 1.0)
        self._cameras[camera].queue.append(_Waiting(packet, self._clock()))
        self.counts.packets_queued += 1
        self._trim(self._cameras[camera])

    def next_frame(self) -> Optional[OutgoingFrame]:
        """Return the frame to hand to the modem now, None if there is none or the air is busy."""
        now = self._clock()
        if self.seconds_until_next() > 0:
            return None
        if not self._repeats and not self._begun:
            self._begin(now)
        repeated = bool(self._repeats) and not self._begun
        if repeated:
            (number, _), (data, camera) = self._repeats.popitem(last=False)
            self.counts.frames_repeated += 1
        else:
            data, camera, number = self._begun.popleft()
        seconds = self._settings.airtime(len(data))
        self._bucket.take(seconds * self._bucket.rate)
        self._rested[number] = now + NUMBER_REST
        if number in self._stored:
            self._stored[number].last_sent = now
        if not self._begun and not self._repeats:
            self._silent_until = now + seconds + self._settings.listen_time
        self.counts.frames_sent += 1
        self.counts.bytes_sent += len(data)
        self.counts.airtime += seconds
        self._on_air.append((now, now + seconds))
        return OutgoingFrame(data, camera, number, seconds)

    def seconds_until_next(self) -> float:
        """Return how long until next_frame() has one: 0.0 if it has now, inf if nothing waits."""
        now = self._clock()
        pause = self._bucket.seconds_until(1.0)
        if self._repeats or self._begun:
            return pause
        self._expire(now)
        if not any(camera.queue for camera in self._cameras.values()):
            return math.inf
        rest = self._rested.get(self._number, -math.inf) - now
        return max(pause, rest, self._silent_until - now, 0.0)

    def queue_age(self) -> float:
        """Return the seconds that the oldest waiting packet has waited, 0.0 if none does."""
        now = self._clock()
        return max((now - waiting.since for camera in self._cameras.values()
                    for waiting in camera.queue), default=0.0)

    def recent_airtime_share(self) -> float:
        """Return the share of the last 10 s in which the link was busy, 0.0 to 1.0."""
        start = self._clock() - AIRTIME_WINDOW
        while self._on_air and self._on_air[0][1] < start:
            self._on_air.popleft()
        busy = sum(min(end, start + AIRTIME_WINDOW) - max(begin, start)
                   for begin, end in self._on_air)
        return min(1.0, busy / AIRTIME_WINDOW)

    def queued_packets(self) -> int:
        """Return how many packets wait."""
        return sum(len(camera.queue) for camera in self._cameras.values())

    # --- What the surface asks for -----------------------------------------------------------

    def receive(self, data: bytes) -> Optional[Request]:
        """
        Take a message of the back channel; return what it asks for, None if it came before.

        Frames and bytes that are asked for are sent before anything else. A budget is for the
        caller: link_rate is set here, the others belong to the encoder.

        :raises RequestError: if the message is refused, or what it asks for is not here.
        """
        request, _ = parse_request(data)
        if data in self._known_requests:
            self.counts.requests_repeated += 1
            return None
        self._known_requests.append(bytes(data))
        self.apply(request)
        return request

    def apply(self, request: Request) -> None:
        """
        Do what a request asks for.

        :raises RequestError: if what it asks for is not here.
        """
        self.counts.requests += 1
        if isinstance(request, ResendRequest):
            self._resend(request)
        elif isinstance(request, MoreRequest):
            self._send_more(request)
        elif isinstance(request, BudgetRequest) and request.link_rate:
            self.configure(link_rate=float(request.link_rate))

    def _resend(self, request: ResendRequest) -> None:
        stored = self._stored.get(request.number)
        if stored is None:
            raise RequestError(f'packet number {request.number} is not kept any more')
        self._repeat(stored, [index for index in request.frames if index < stored.data_frames])

    def _send_more(self, request: MoreRequest) -> None:
        stored = next((packet for packet in reversed(self._stored.values())
                       if packet_identity(packet.packet) == request.identity), None)
        if stored is None:
            raise RequestError('the packet asked for is not kept any more')
        wanted = min(request.wanted or len(stored.packet), len(stored.packet))
        size = len(stored.frames[0]) - OVERHEAD_BYTES
        first, end = request.have // size, min(math.ceil(wanted / size), stored.data_frames)
        now = self._clock()
        if now - stored.last_sent > SAME_NUMBER:
            # The surface may have forgotten the number: the packet starts again with a new one.
            if self._rested.get(self._number, -math.inf) > now:
                raise RequestError('too many packets were sent just now: ask again')
            del self._stored[stored.number]
            stored.number = self._take_number()
            stored.frames = fragment(stored.packet, self._settings.frame_bytes, stored.number)
            stored.data_frames = len(stored.frames)
            size = len(stored.frames[0]) - OVERHEAD_BYTES
            first, end = 0, math.ceil(wanted / size)
            self._stored[stored.number] = stored
        self._repeat(stored, range(first, end))

    def _repeat(self, stored: _Stored, indices) -> None:
        for index in indices:
            if len(self._repeats) < MOST_REPEATS:
                self._repeats[stored.number, index] = stored.frames[index], stored.camera

    # --- Packets -----------------------------------------------------------------------------

    def _begin(self, now: float) -> None:
        """Cut the packet whose turn it is into frames."""
        settings = self._settings
        camera = self._share.choose(
            [number for number, camera in self._cameras.items() if camera.queue])
        waiting = self._cameras[camera].queue.pop()         # the newest first
        number = self._take_number()
        frames = fragment(waiting.packet, settings.frame_bytes, number, settings.redundancy)
        sent = _sent_frames(frames, settings.send_bytes)
        self._share.charge(camera, sum(len(frame) for frame in sent))
        self._begun.extend((frame, camera, number) for frame in sent)
        self.counts.packets_sent += 1
        if settings.store_packets:
            self._stored.pop(number, None)
            self._stored[number] = _Stored(
                waiting.packet, camera, number, frames, _data_frames(frames), now)
            if len(self._stored) > settings.store_packets:
                self._stored.popitem(last=False)

    def _take_number(self) -> int:
        number, self._number = self._number, (self._number + 1) % NUMBERS
        return number

    def _trim(self, camera: _Camera) -> None:
        while len(camera.queue) > self._settings.queue_packets:
            camera.queue.popleft()
            self.counts.packets_dropped += 1

    def _expire(self, now: float) -> None:
        if self._settings.max_age <= 0:
            return
        for camera in self._cameras.values():
            while camera.queue and now - camera.queue[0].since > self._settings.max_age:
                camera.queue.popleft()
                self.counts.packets_expired += 1
