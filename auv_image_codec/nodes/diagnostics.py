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
"""What a node counts for each camera, and how it tells without flooding the log."""
from collections import Counter, deque
import time
from typing import Any, Callable, Deque, Dict, List, Tuple

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

# Raw bytes of the image that the seed system codes: the ratio compares packets with it.
RAW_BYTES = 224 * 224 * 3
WINDOW = 100  # frames in the mean and maximum of the milliseconds
LOG_PERIOD = 30.0  # seconds between two log lines about the same defect


def milliseconds(verb: str, window: Deque[float]) -> Dict[str, str]:
    """Return mean and maximum of milliseconds, with their keys."""
    return {f'{verb}_ms_mean': f'{sum(window) / len(window) if window else 0.0:.2f}',
            f'{verb}_ms_max': f'{max(window, default=0.0):.2f}'}


class EnhancementStatistics:
    """Counters of one camera's enhanced images."""

    def __init__(self):
        """Start at zero."""
        self.frames_done = 0
        self.frames_replaced = 0
        self._milliseconds: Deque[float] = deque(maxlen=WINDOW)

    def done(self, seconds: float) -> None:
        """Count an image that went out."""
        self.frames_done += 1
        self._milliseconds.append(1e3 * seconds)

    def key_values(self) -> List[Tuple[str, str]]:
        """Return the counters as (key, value)."""
        values = {'frames_enhanced': self.frames_done,
                  'frames_enhancement_replaced': self.frames_replaced,
                  **milliseconds('enhance', deque(self._milliseconds))}
        return [(key, str(value)) for key, value in values.items()]


class StreamStatistics:
    """
    Counters of one camera's stream.

    :param verb: ``coded`` or ``decoded``, for the names of the keys.
    """

    def __init__(self, verb: str):
        """Start at zero."""
        self.verb = verb
        self.frames_in = 0
        self.frames_done = 0
        self.frames_dropped = 0
        self.frames_skipped = 0
        self.bytes_total = 0
        self.errors: Counter = Counter()
        self._milliseconds: Deque[float] = deque(maxlen=WINDOW)
        self._reported = (0, 0)

    def done(self, packet_bytes: int, seconds: float) -> None:
        """Count a frame that went out."""
        self.frames_done += 1
        self.bytes_total += packet_bytes
        self._milliseconds.append(1e3 * seconds)

    @property
    def mean_packet_bytes(self) -> float:
        """Mean size of the packets, 0.0 before the first."""
        return self.bytes_total / self.frames_done if self.frames_done else 0.0

    def rising(self) -> str:
        """Return what rose since the last call: errors, dropped frames, or an empty string."""
        now = (sum(self.errors.values()), self.frames_dropped)
        before, self._reported = self._reported, now
        rises = []
        if now[0] > before[0]:
            rises.append(f'errors: {now[0] - before[0]}')
        if now[1] > before[1]:
            rises.append(f'frames dropped: {now[1] - before[1]}')
        return ', '.join(rises)

    def key_values(self) -> List[Tuple[str, str]]:
        """Return the counters as (key, value)."""
        verb = {'coded': 'encode', 'decoded': 'decode'}[self.verb]
        ratio = RAW_BYTES / self.mean_packet_bytes if self.bytes_total else 0.0
        values = {
            'frames_in': self.frames_in,
            f'frames_{self.verb}': self.frames_done,
            'frames_dropped': self.frames_dropped,
            'frames_skipped': self.frames_skipped,
            'bytes_total': self.bytes_total,
            'mean_packet_bytes': f'{self.mean_packet_bytes:.1f}',
            'ratio_of_raw_224x224x3': f'{ratio:.1f}',
            **milliseconds(verb, self._milliseconds),
        }
        values.update({f'error_{kind}': count for kind, count in sorted(self.errors.items())})
        return [(key, str(value)) for key, value in values.items()]


class LinkStatistics:
    """
    What a node of the link tells of it.

    :param values: returns the counters, by key.
    """

    def __init__(self, values: Callable[[], Dict[str, Any]]):
        """Start without errors."""
        self.errors: Counter = Counter()
        self._values = values
        self._reported = 0

    def rising(self) -> str:
        """Return by how much errors rose since the last call, or an empty string."""
        now = sum(self.errors.values())
        before, self._reported = self._reported, now
        return f'errors: {now - before}' if now > before else ''

    def key_values(self) -> List[Tuple[str, str]]:
        """Return the counters as (key, value)."""
        values = dict(self._values())
        values.update({f'error_{kind}': count for kind, count in sorted(self.errors.items())})
        return [(key, f'{value:.2f}' if isinstance(value, float) else str(value))
                for key, value in values.items()]


def status(level: bytes, name: str, message: str, hardware_id: str,
           values: List[Tuple[str, str]]) -> DiagnosticStatus:
    """Return one diagnostic status."""
    return DiagnosticStatus(
        level=level, name=name, message=message, hardware_id=hardware_id,
        values=[KeyValue(key=key, value=value) for key, value in values])


class ThrottledLog:
    """
    Log each defect when it first appears, and then at most once a period with its count.

    :param log: takes the line.
    """

    def __init__(self, log: Callable[[str], None], period: float = LOG_PERIOD,
                 clock: Callable[[], float] = time.monotonic):
        """Start with nothing logged."""
        self._log = log
        self._period = period
        self._clock = clock
        self._last: Dict[Tuple[str, str], float] = {}
        self._unlogged: Counter = Counter()

    def __call__(self, source: str, kind: str, message: str) -> None:
        """Log a defect of a kind from a source, if it was not logged a moment ago."""
        key = (source, kind)
        now = self._clock()
        if key in self._last and now - self._last[key] < self._period:
            self._unlogged[key] += 1
            return
        more = self._unlogged.pop(key, 0)
        self._last[key] = now
        self._log(f'{source}: {message} [{kind}]'
                  + (f' ({more} more like it before)' if more else ''))
