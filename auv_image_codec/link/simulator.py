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
The water: a modem link that is slow, late and lossy, with a clock of the caller's.

Nothing here waits: frames go in with the time at which they are sent, and come out with the time
at which they arrive. So a node runs it in real time, and a test or benchmark as fast as it can.
"""
from collections import deque
from dataclasses import dataclass, replace
import heapq
import itertools
import random
from typing import Deque, List, Optional, Tuple

DOWN, UP = 0, 1             # from the vehicle to the surface, and back


@dataclass(frozen=True)
class LinkModel:
    """
    What the water and the modems do to frames, the same both ways.

    :param link_rate: bits a second, above 0.
    :param frame_seconds: what each frame takes besides its bytes.
    :param delay: seconds under way.
    :param jitter: seconds, by which the delay varies both ways, evenly distributed.
    :param loss: share of frames lost, 0.0..1.0, while the link is good.
    :param burst_loss: the same while it is bad.
    :param burst_start: chance, at each frame, that a good link turns bad (Gilbert-Elliott).
    :param burst_end: chance, at each frame, that a bad link turns good.
    :param bit_error_rate: share of bits that arrive flipped, in frames that do arrive.
    :param half_duplex: whether a modem that sends hears nothing meanwhile.
    :param queue_frames: that wait in a modem to be sent; what comes then is lost.
    """

    link_rate: float = 5000.0
    frame_seconds: float = 0.0
    delay: float = 1.0
    jitter: float = 0.0
    loss: float = 0.0
    burst_loss: float = 1.0
    burst_start: float = 0.0
    burst_end: float = 0.5
    bit_error_rate: float = 0.0
    half_duplex: bool = False
    queue_frames: int = 16

    def __post_init__(self):
        """Check the ranges."""
        for name, least, most in (
                ('link_rate', 1e-3, 1e9), ('frame_seconds', 0.0, 60.0), ('delay', 0.0, 3600.0),
                ('jitter', 0.0, 3600.0), ('loss', 0.0, 1.0), ('burst_loss', 0.0, 1.0),
                ('burst_start', 0.0, 1.0), ('burst_end', 0.0, 1.0),
                ('bit_error_rate', 0.0, 1.0), ('queue_frames', 1, 100000)):
            value = getattr(self, name)
            if not least <= value <= most:
                raise ValueError(f'{name} is {value}, must be in {least}..{most}')

    @property
    def mean_loss(self) -> float:
        """Share of frames that are lost in the long run, collisions not counted."""
        turns = self.burst_start + self.burst_end
        bad = self.burst_start / turns if turns else 0.0
        return (1 - bad) * self.loss + bad * self.burst_loss


@dataclass
class DirectionCounts:
    """What happened to the frames of one direction."""

    sent: int = 0
    arrived: int = 0
    lost: int = 0               # in the water
    overflowed: int = 0         # the modem's queue was full
    collided: int = 0           # the modem that should hear it was sending
    damaged: int = 0            # arrived with flipped bits
    airtime: float = 0.0        # seconds


@dataclass
class _Direction:
    free_at: float = 0.0
    is_bad: bool = False
    starts: Deque[float] = None         # of frames that wait in the modem
    on_air: Deque[Tuple[float, float]] = None


class SimulatedLink:
    """
    Carry frames both ways as a model says.

    The same model, seed and frames give the same losses on every machine.
    """

    def __init__(self, model: LinkModel, seed: int = 0):
        """Start with a silent, good link."""
        self._model = model
        self._random = random.Random(seed)
        self._directions = tuple(_Direction(starts=deque(), on_air=deque()) for _ in range(2))
        self._under_way: List[tuple] = []
        self._order = itertools.count()
        self.counts = (DirectionCounts(), DirectionCounts())

    @property
    def model(self) -> LinkModel:
        """What the link does now."""
        return self._model

    def configure(self, **changes) -> None:
        """
        Change the model, by name, for frames that are sent from now on.

        :raises ValueError: if a value is out of its range; nothing changes then.
        """
        self._model = replace(self._model, **changes)

    def send(self, direction: int, data: bytes, now: float) -> None:
        """
        Hand a frame to a modem.

        :param direction: DOWN or UP.
        :param now: seconds, not before those of earlier calls.
        """
        model, state, counts = (
            self._model, self._directions[direction], self.counts[direction])
        counts.sent += 1
        while state.starts and state.starts[0] <= now:
            state.starts.popleft()
        if len(state.starts) >= model.queue_frames:
            counts.overflowed += 1
            return
        start = max(now, state.free_at)
        airtime = 8 * len(data) / model.link_rate + model.frame_seconds
        state.free_at = start + airtime
        state.starts.append(start)
        state.on_air.append((start, state.free_at))
        counts.airtime += airtime
        # Drawn for every frame, lost or not, so that a seed means the same whatever is lost.
        turn, loss, jitter = (self._random.random() for _ in range(3))
        damage = self._random.randrange(2 ** 32)
        if turn < (model.burst_end if state.is_bad else model.burst_start):
            state.is_bad = not state.is_bad
        if loss < (model.burst_loss if state.is_bad else model.loss):
            counts.lost += 1
            return
        delay = max(0.0, model.delay + (2 * jitter - 1) * model.jitter)
        flipped = self._flip(data, damage)
        heapq.heappush(self._under_way, (
            state.free_at + delay, next(self._order), direction, airtime, flipped != data,
            flipped))

    def poll(self, now: float) -> List[Tuple[int, bytes, float]]:
        """Return (direction, frame, time of arrival) of all that has arrived by now, in order."""
        arrived = []
        while self._under_way and self._under_way[0][0] <= now:
            time, _, direction, airtime, damaged, data = heapq.heappop(self._under_way)
            if self._model.half_duplex and self._is_sending(1 - direction, time - airtime, time):
                self.counts[direction].collided += 1
                continue
            self.counts[direction].arrived += 1
            self.counts[direction].damaged += damaged
            arrived.append((direction, data, time))
        return arrived

    def next_event(self) -> Optional[float]:
        """Return when the next frame arrives, None if none is under way."""
        return self._under_way[0][0] if self._under_way else None

    def _is_sending(self, direction: int, start: float, end: float) -> bool:
        """Return whether the modem that sends in a direction does so in a span of time."""
        on_air = self._directions[direction].on_air
        # Frames arrive in order of time, so what ended long before is not asked for again.
        while on_air and on_air[0][1] < start - 60.0:
            on_air.popleft()
        return any(first < end and start < last for first, last in on_air)

    def _flip(self, data: bytes, seed: int) -> bytes:
        """Return the data with some bits flipped."""
        rate = self._model.bit_error_rate
        if rate <= 0:
            return data
        generator = random.Random(seed)
        damaged = bytearray(data)
        for bit in range(8 * len(data)):
            if generator.random() < rate:
                damaged[bit // 8] ^= 1 << bit % 8
        return bytes(damaged)
