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
"""Byte budgets and fair shares, on a clock that the tests move."""
from collections import Counter
import math
import random

import pytest

from auv_image_codec.link.token_bucket import FairShare, TokenBucket


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self):
        """Start at a time that is not zero."""
        self.now = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def test_starts_full_and_refills_to_its_capacity_only():
    clock = Clock()
    bucket = TokenBucket(rate=100.0, capacity=500.0, clock=clock)
    assert bucket.available == 500.0
    bucket.take(500.0)
    assert bucket.available == 0.0
    clock.now += 2.0
    assert bucket.available == pytest.approx(200.0)
    clock.now += 3600.0
    assert bucket.available == 500.0


def test_says_how_long_to_wait():
    clock = Clock()
    bucket = TokenBucket(rate=100.0, capacity=500.0, clock=clock)
    assert bucket.seconds_until(500.0) == 0.0
    bucket.take(450.0)
    assert bucket.seconds_until(300.0) == pytest.approx(2.5)
    clock.now += bucket.seconds_until(300.0)
    assert bucket.seconds_until(300.0) == 0.0
    assert bucket.seconds_until(500.1) == math.inf


def test_an_overdraft_is_repaid_first():
    clock = Clock()
    bucket = TokenBucket(rate=10.0, capacity=20.0, clock=clock)
    bucket.take(50.0)
    assert bucket.available == pytest.approx(-30.0)
    assert bucket.seconds_until(10.0) == pytest.approx(4.0)


def test_changing_the_rate_keeps_what_was_saved():
    clock = Clock()
    bucket = TokenBucket(rate=100.0, capacity=500.0, clock=clock)
    bucket.take(500.0)
    clock.now += 1.0
    bucket.configure(rate=1.0, capacity=1000.0)
    assert bucket.available == pytest.approx(100.0)
    bucket.configure(rate=1.0, capacity=40.0)
    assert bucket.available == pytest.approx(40.0)


def test_a_clock_that_goes_backwards_gives_and_takes_nothing():
    clock = Clock()
    bucket = TokenBucket(rate=100.0, capacity=500.0, clock=clock)
    bucket.take(400.0)
    clock.now -= 10.0
    assert bucket.available == pytest.approx(100.0)
    clock.now += 1.0
    assert bucket.available == pytest.approx(200.0)


@pytest.mark.parametrize('rate, capacity', [
    (0.0, 1.0), (-1.0, 1.0), (math.nan, 1.0), (math.inf, 1.0), (1.0, 0.0), (1.0, math.nan)])
def test_refuses_impossible_settings(rate, capacity):
    with pytest.raises(ValueError):
        TokenBucket(rate, capacity)
    bucket = TokenBucket(5.0, 7.0, clock=Clock())
    with pytest.raises(ValueError):
        bucket.configure(rate, capacity)
    assert (bucket.rate, bucket.capacity, bucket.available) == (5.0, 7.0, 7.0)


@pytest.mark.parametrize('amount', [-1.0, math.nan, math.inf])
def test_refuses_impossible_amounts(amount):
    with pytest.raises(ValueError):
        TokenBucket(5.0, 7.0).take(amount)


def test_never_sends_more_than_rate_and_capacity_allow():
    generator = random.Random(3)
    clock = Clock()
    bucket = TokenBucket(rate=300.0, capacity=500.0, clock=clock)
    start, sent = clock.now, 0
    for _ in range(5000):
        clock.now += generator.random() * 0.2
        size = generator.randint(50, 500)
        if bucket.seconds_until(500.0) == 0.0:
            bucket.take(size)
            sent += size
        assert sent <= 500.0 + 300.0 * (clock.now - start) + 1e-6
    # It is always waited for 500 bytes, so hardly any of the rate is lost.
    assert sent >= 0.85 * 300.0 * (clock.now - start)


def share_bytes(weights, sizes, packets=3000):
    """Send for senders that always wait; return the bytes of each."""
    share = FairShare()
    for sender, weight in weights.items():
        share.set_weight(sender, weight)
    sent = Counter()
    for _ in range(packets):
        sender = share.choose(weights)
        size = sizes[sender]
        share.charge(sender, size)
        sent[sender] += size
    return sent


def test_bytes_are_shared_by_weight_whatever_the_packet_size():
    sent = share_bytes({'a': 3, 'b': 1, 'c': 1}, {'a': 100, 'b': 500, 'c': 20})
    assert sent['a'] == pytest.approx(3 * sent['b'], rel=0.02)
    assert sent['c'] == pytest.approx(sent['b'], rel=0.02)


def test_nobody_starves():
    sent = share_bytes({'a': 100, 'b': 1}, {'a': 500, 'b': 500})
    assert sent['a'] == pytest.approx(100 * sent['b'], rel=0.05)
    assert sent['b'] > 0


def test_an_unused_share_goes_to_the_others_and_is_not_paid_back():
    share = FairShare()
    share.set_weight('a', 1)
    share.set_weight('b', 1)
    for _ in range(100):
        assert share.choose(['a']) == 'a'
        share.charge('a', 500)
    sent = Counter()
    for _ in range(100):
        sender = share.choose(['a', 'b'])
        share.charge(sender, 500)
        sent[sender] += 1
    assert abs(sent['a'] - sent['b']) <= 2


def test_a_late_sender_and_a_changed_weight_count_from_now():
    share = FairShare()
    share.set_weight('a', 1)
    for _ in range(50):
        share.charge(share.choose(['a']), 100)
    share.set_weight('b', 1)
    sent = Counter()
    for _ in range(100):
        sender = share.choose(['a', 'b'])
        share.charge(sender, 100)
        sent[sender] += 1
    assert abs(sent['a'] - sent['b']) <= 2
    share.set_weight('b', 4)
    sent.clear()
    for _ in range(500):
        sender = share.choose(['a', 'b'])
        share.charge(sender, 100)
        sent[sender] += 1
    assert sent['b'] == pytest.approx(4 * sent['a'], rel=0.05)


def test_the_first_turn_goes_to_the_greatest_weight():
    share = FairShare()
    share.set_weight('a', 1)
    share.set_weight('b', 5)
    assert share.choose(['a', 'b']) == 'b'
    assert share.choose([]) is None
    share.remove('b')
    assert share.choose(['a']) == 'a'
    with pytest.raises(KeyError):
        share.choose(['b'])


@pytest.mark.parametrize('weight', [0, -1, math.nan, math.inf])
def test_refuses_impossible_weights(weight):
    with pytest.raises(ValueError):
        FairShare().set_weight('a', weight)
