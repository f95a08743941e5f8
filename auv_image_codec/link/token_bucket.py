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
"""Byte budgets: how much may be sent now, and whose turn it is."""
from dataclasses import dataclass
import math
import time
from typing import Callable, Dict, Hashable, Iterable, Optional


class TokenBucket:
    """
    Tokens (bytes) that fill up at a steady rate to a capacity, and are taken when spent.

    Over any time T at most ``capacity + rate * T`` tokens are taken, except that one ``take`` may
    overdraw the bucket: what it took too much is repaid before the next one is allowed. A bucket
    starts full.

    :param rate: tokens per second, above 0.
    :param capacity: most tokens that can be saved up, above 0.
    :param clock: returns seconds, never going backwards.
    :raises ValueError: if rate or capacity is not a finite number above 0.
    """

    def __init__(self, rate: float, capacity: float,
                 clock: Callable[[], float] = time.monotonic):
        """Start with a full bucket."""
        self._rate = self._positive('rate', rate)
        self._capacity = self._positive('capacity', capacity)
        self._clock = clock
        self._tokens = self._capacity
        self._updated = clock()

    @staticmethod
    def _positive(name: str, value: float) -> float:
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f'{name} must be a finite number above 0, not {value}')
        return float(value)

    def _refill(self) -> None:
        now = self._clock()
        elapsed = max(0.0, now - self._updated)
        self._tokens = min(self._capacity, self._tokens + elapsed * self._rate)
        self._updated = now

    @property
    def rate(self) -> float:
        """Tokens per second."""
        return self._rate

    @property
    def capacity(self) -> float:
        """Most tokens that can be saved up."""
        return self._capacity

    @property
    def available(self) -> float:
        """Tokens that can be taken now; negative after an overdraft."""
        self._refill()
        return self._tokens

    def configure(self, rate: float, capacity: float) -> None:
        """
        Change rate and capacity, keeping the tokens saved up so far at the old rate.

        :raises ValueError: if one is not a finite number above 0; nothing changes then.
        """
        rate = self._positive('rate', rate)
        capacity = self._positive('capacity', capacity)
        self._refill()
        self._rate, self._capacity = rate, capacity
        self._tokens = min(self._tokens, capacity)

    def seconds_until(self, amount: float) -> float:
        """
        Return how long until ``amount`` tokens are there: 0.0 if they are now.

        An amount above the capacity never comes, and is answered with ``math.inf``.
        """
        missing = amount - self.available
        # Floating point must not make a caller wait for a billionth of a token.
        if missing <= 1e-9 * max(1.0, amount):
            return 0.0
        if amount > self._capacity:
            return math.inf
        return missing / self._rate

    def take(self, amount: float) -> None:
        """
        Take ``amount`` tokens, even if fewer are there.

        :raises ValueError: if the amount is negative or not finite.
        """
        if not (math.isfinite(amount) and amount >= 0):
            raise ValueError(f'cannot take {amount} tokens')
        self._refill()
        self._tokens -= amount


@dataclass
class _Share:
    weight: float
    finish: float = 0.0


class FairShare:
    """
    Decide whose turn it is, so that bytes are shared in proportion to weights.

    Start-time fair queueing: among those that have something to send, the one whose next packet
    would start first in virtual time goes. A sender that had nothing to send gives its share to
    the others, and does not get it back later. With weights 3 and 1 and both always waiting, the
    first sends three times the bytes of the second, whatever their packet sizes.
    """

    def __init__(self):
        """Start with no senders."""
        self._shares: Dict[Hashable, _Share] = {}
        self._virtual_time = 0.0

    def set_weight(self, sender: Hashable, weight: float) -> None:
        """
        Add a sender, or change its weight from its next packet on.

        :raises ValueError: if the weight is not a finite number above 0.
        """
        if not (math.isfinite(weight) and weight > 0):
            raise ValueError(f'weight of {sender!r} must be a finite number above 0, not {weight}')
        if sender in self._shares:
            self._shares[sender].weight = float(weight)
        else:
            self._shares[sender] = _Share(float(weight), self._virtual_time)

    def remove(self, sender: Hashable) -> None:
        """Forget a sender."""
        self._shares.pop(sender, None)

    def choose(self, waiting: Iterable[Hashable]) -> Optional[Hashable]:
        """
        Return the sender of ``waiting`` whose turn it is, None if nobody waits.

        Of several with equal right, the one with the greatest weight, then the one added first.

        :raises KeyError: if a sender has no weight.
        """
        order = {sender: position for position, sender in enumerate(self._shares)}
        return min(
            waiting, default=None,
            key=lambda sender: (max(self._virtual_time, self._shares[sender].finish),
                                -self._shares[sender].weight, order[sender]))

    def charge(self, sender: Hashable, amount: float) -> None:
        """Account for ``amount`` bytes that the chosen sender sent."""
        share = self._shares[sender]
        start = max(self._virtual_time, share.finish)
        self._virtual_time = start
        share.finish = start + amount / share.weight
