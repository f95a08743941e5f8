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
"""From frames, in whatever order and number they come, back to packets."""
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from typing import Dict, List, Optional, Tuple

from auv_image_codec.link.fragmentation import recover
from auv_image_codec.link.frames import (
    ASKING_TIME, Frame, NUMBERS, PARITY_BYTES, parse_frame, RECEIVER_MEMORY)

# A packet with fewer bytes than its header and checks shows nothing, so it is not handed out.
SMALLEST_PREFIX = 16


@dataclass(frozen=True)
class Assembled:
    """
    What came of a packet.

    :param number: of the packet on the link.
    :param data: the packet, or its first bytes.
    :param whole: whether it is the packet.
    :param completeness: share of the packet's bytes that data has, above 0.0 to 1.0.
    :param missing: indices of the data frames that did not come.
    :param count: of the packet's data frames.
    """

    number: int
    data: bytes
    whole: bool
    completeness: float
    missing: Tuple[int, ...]
    count: int


@dataclass
class LinkCounts:
    """What a receiver has seen, frames and packets, since it started."""

    frames_received: int = 0        # with a good check
    frames_duplicate: int = 0       # that were here, or of a packet that was whole
    frames_lost: int = 0            # of packets of which something came
    packets_complete: int = 0
    packets_partial: int = 0        # given up with something to show
    packets_lost: int = 0           # nothing came, or nothing that shows an image
    errors: Counter = field(default_factory=Counter)


@dataclass
class _Open:
    """A packet of which frames have come."""

    number: int
    count: int
    bodies: Dict[int, bytes] = field(default_factory=dict)
    size: Optional[int] = None          # of every data body but the last
    whole: bool = False
    settle: Optional[float] = None      # when to hand out what is there
    last_frame: float = 0.0
    forget: float = 0.0
    handed_out: int = 0                 # bytes

    def fits(self, frame: Frame) -> bool:
        """Return whether a frame can be of this packet."""
        if frame.count != self.count or self.bodies.get(frame.index, frame.body) != frame.body:
            return False
        size, is_exact = _size_of_pieces(frame)
        if self.size is not None:
            return size == self.size if is_exact else size <= self.size
        # Only the last data frame is here, which may be shorter than the others.
        return not is_exact or all(len(body) <= size for body in self.bodies.values())

    def add(self, frame: Frame) -> None:
        """Keep a frame that fits."""
        self.bodies[frame.index] = frame.body
        size, is_exact = _size_of_pieces(frame)
        if is_exact:
            self.size = size

    def missing(self) -> Tuple[int, ...]:
        """Return the indices of the data frames that are not here."""
        return tuple(index for index in range(self.count) if index not in self.bodies)

    def assemble(self) -> Assembled:
        """Return the packet, or what is there from its beginning to the first gap."""
        recovered = recover(self.count, self.bodies)
        if recovered is not None:
            return Assembled(self.number, b''.join(recovered), True, 1.0, (), self.count)
        missing = self.missing()
        data = b''.join(self.bodies[index] for index in range(missing[0]))
        last = self.bodies.get(self.count - 1)
        # Where the last frame is missing it may be as long as the others.
        total = ((self.size or 0) * (self.count - 1)
                 + (len(last) if last is not None else self.size or 1))
        return Assembled(self.number, data, False, len(data) / total, missing, self.count)


def _size_of_pieces(frame: Frame) -> Tuple[int, bool]:
    """Return what a frame says of its packet's piece size, and whether that is exact."""
    if frame.is_parity:
        return len(frame.body) - PARITY_BYTES, True
    return len(frame.body), frame.index < frame.count - 1 or frame.count == 1


class Reassembler:
    """
    Put packets together from frames that may be lost, repeated, reordered, mixed or hostile.

    A packet is handed out as soon as it is whole. What is there of one that is not whole is handed
    out once its frames have stopped coming, and again whenever later frames make it longer.
    Memory is bounded: by the number of open packets, their frames, and time.

    :param settle_time: seconds without a frame of a packet after which no more is expected.
    :param reorder_time: the same, once frames of a later packet have come.
    :param most_packets: open at a time, 1 to 128; the one that waited longest makes room.
    """

    def __init__(self, settle_time: float = 5.0, reorder_time: float = 1.0,
                 most_packets: int = 32):
        """Start with no packets."""
        if not 1 <= most_packets <= NUMBERS // 2:
            raise ValueError(f'{most_packets} packets, must be 1..{NUMBERS // 2}')
        self.configure(settle_time, reorder_time)
        self._most_packets = most_packets
        # By number; several where frames of one number cannot be of the same packet.
        self._open: 'OrderedDict[int, List[_Open]]' = OrderedDict()
        self._newest: Optional[int] = None
        self._newest_time = 0.0
        self.counts = LinkCounts()

    def configure(self, settle_time: float, reorder_time: float) -> None:
        """
        Change the times that are waited for frames, in seconds.

        :raises ValueError: if one is negative, or not below the memory of 30 s.
        """
        for name, value in (('settle_time', settle_time), ('reorder_time', reorder_time)):
            if not 0.0 <= value < RECEIVER_MEMORY:
                raise ValueError(f'{name} is {value} s, must be 0 to less than {RECEIVER_MEMORY}')
        self._settle_time, self._reorder_time = settle_time, reorder_time

    @property
    def open_packets(self) -> int:
        """Number of packets in memory."""
        return sum(len(packets) for packets in self._open.values())

    @property
    def memory_bytes(self) -> int:
        """Bytes of the frames in memory."""
        return sum(len(body) for packets in self._open.values() for packet in packets
                   for body in packet.bodies.values())

    def push(self, data: bytes, now: float) -> List[Assembled]:
        """
        Take a frame as it arrived; return the packet if that makes it whole.

        :param now: seconds of any clock that does not go backwards.
        :raises FrameError: if the frame is refused; nothing changes then.
        """
        frame = parse_frame(data)
        if frame.is_parity and len(frame.body) <= PARITY_BYTES:
            return []
        self._forget(now)
        self.counts.frames_received += 1
        self._follow(frame.number, now)
        packet = self._packet_of(frame, now)
        if packet.whole or frame.index in packet.bodies:
            self.counts.frames_duplicate += 1
            return []
        packet.add(frame)
        packet.settle = now + self._settle_time
        if frame.number != self._newest:
            packet.settle = now + self._reorder_time
        packet.last_frame, packet.forget = now, now + RECEIVER_MEMORY
        result = packet.assemble() if len(packet.bodies) >= packet.count else None
        if result is None or not result.whole:
            return []
        packet.whole, packet.settle, packet.handed_out = True, None, len(result.data)
        self.counts.packets_complete += 1
        # What follows is duplicates: only that the packet was here must be remembered.
        packet.bodies = {}
        return [result]

    def poll(self, now: float) -> List[Assembled]:
        """Return the beginnings of packets whose frames have stopped coming."""
        results = []
        for packet in [packet for packets in self._open.values() for packet in packets]:
            if packet.settle is not None and packet.settle <= now:
                packet.settle = None
                result = packet.assemble()
                if len(result.data) >= max(SMALLEST_PREFIX, packet.handed_out + 1):
                    packet.handed_out = len(result.data)
                    results.append(result)
        self._forget(now)
        return results

    def next_event(self) -> Optional[float]:
        """Return when poll() will have something to do, None if never."""
        times = [time for packets in self._open.values() for packet in packets
                 for time in (packet.settle, packet.forget) if time is not None]
        return min(times, default=None)

    def unfinished(self, now: float) -> Dict[int, Tuple[int, ...]]:
        """Return the missing data frames, by number, of packets worth asking for."""
        return {number: packet.missing() for number, packets in self._open.items()
                for packet in packets[-1:]
                if not packet.whole and packet.settle is None
                and now - packet.last_frame <= ASKING_TIME}

    def keep(self, number: int, now: float) -> None:
        """Remember a packet from now on, as frames of it were asked for."""
        self._open[number][-1].forget = now + RECEIVER_MEMORY

    # --- Packets -----------------------------------------------------------------------------

    def _packet_of(self, frame: Frame, now: float) -> _Open:
        """Return the open packet that a frame belongs to, a new one if there is none."""
        packets = self._open.setdefault(frame.number, [])
        for packet in reversed(packets):
            if packet.whole and packet.count == frame.count or (
                    not packet.whole and packet.fits(frame)):
                return packet
        packet = _Open(frame.number, frame.count, forget=now + RECEIVER_MEMORY)
        packets.append(packet)
        while self.open_packets > self._most_packets:
            self._close(min((other for others in self._open.values() for other in others
                             if other is not packet), key=lambda other: other.forget))
        return packet

    def _follow(self, number: int, now: float) -> None:
        """Keep track of the newest number, and count those that were left out."""
        silence, self._newest_time = now - self._newest_time, now
        if self._newest is None or silence > RECEIVER_MEMORY:
            self._newest = number       # Numbers may have gone round in the meantime.
            return
        ahead = (number - self._newest) % NUMBERS
        if 0 < ahead < NUMBERS // 2:
            self.counts.packets_lost += ahead - 1
            self._newest = number
            for packets in self._open.values():
                for packet in packets:
                    if packet.settle is not None:
                        packet.settle = min(packet.settle, now + self._reorder_time)
        elif ahead and number not in self._open and NUMBERS - ahead < self._most_packets:
            # It was only late.
            self.counts.packets_lost = max(0, self.counts.packets_lost - 1)

    def _forget(self, now: float) -> None:
        for packet in [packet for packets in self._open.values() for packet in packets
                       if packet.forget <= now]:
            self._close(packet)

    def _close(self, packet: _Open) -> None:
        packets = self._open[packet.number]
        packets.remove(packet)
        if not packets:
            del self._open[packet.number]
        if not packet.whole:
            self.counts.frames_lost += len(packet.missing())
            if packet.handed_out:
                self.counts.packets_partial += 1
            else:
                self.counts.packets_lost += 1
