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
"""Sender, receiver and water together, with a clock that runs as fast as it can."""
from collections import Counter
import random

from hypothesis import given, settings, strategies
import pytest

from auv_image_codec.errors import FrameError, RequestError
from auv_image_codec.link.frames import NUMBER_REST, parse_frame
from auv_image_codec.link.receiver import LinkReceiver
from auv_image_codec.link.requests import (
    BudgetRequest, build_request, MoreRequest, packet_identity, ResendRequest)
from auv_image_codec.link.sender import LinkSender, SenderSettings
from auv_image_codec.link.simulator import DOWN, LinkModel, SimulatedLink, UP


class Sea:
    """A vehicle, the water, and a surface; time goes on only in run()."""

    def __init__(self, model=LinkModel(), seed=0, receiver=None, **sender):
        """Start at time 0."""
        self.now = 0.0
        self.sender = LinkSender(SenderSettings(**{'link_rate': model.link_rate, **sender}),
                                 clock=lambda: self.now, first_number=240)
        self.link = SimulatedLink(model, seed)
        self.receiver = LinkReceiver(**(receiver or {}))
        self.sent, self.shown, self.refused = [], [], []

    def ask(self, request):
        """Send a request from the surface."""
        self.link.send(UP, self.receiver.build(request), self.now)

    def run(self, seconds, every=None, step=0.01):
        """Let time go on; every() is called at each step."""
        end = self.now + seconds
        while self.now < end:
            self.now += step
            if every:
                every()
            while True:
                frame = self.sender.next_frame()
                if frame is None:
                    break
                self.sent.append((self.now, frame))
                self.link.send(DOWN, frame.data, self.now)
            for direction, data, time in self.link.poll(self.now):
                if direction == DOWN:
                    self._show(self.receiver.push(data, time))
                else:
                    try:
                        self.sender.receive(data)
                    except RequestError as error:
                        self.refused.append(str(error))
            self._show(self.receiver.poll(self.now))
            for request in self.receiver.due_requests(self.now):
                self.ask(request)

    def _show(self, packets):
        for packet in packets:
            self.receiver.shown(packet)
            self.shown.append((self.now, packet))


def content(seed, size=500):
    return random.Random(seed).randbytes(size)


# --- Rate -------------------------------------------------------------------------------------

@given(strategies.sampled_from([32, 64, 256, 500]),
       strategies.floats(80, 10000), strategies.floats(0, 0.5), strategies.integers(0, 5))
@settings(max_examples=25, deadline=None)
def test_the_link_is_never_asked_for_more_than_it_carries(frame_bytes, rate, redundancy, seed):
    sea = Sea(LinkModel(link_rate=rate), frame_bytes=frame_bytes, redundancy=redundancy)
    generator = random.Random(seed)

    def offer():
        if generator.random() < 0.05:
            sea.sender.offer(generator.randbytes(generator.randrange(16, 400)),
                             generator.randrange(3))
    sea.run(60, offer, step=0.05)
    assert sea.sent
    # Each frame's bits are on the air from when it is handed over, at the link's rate.
    on_air = [(time, time + 8 * len(frame.data) / rate, 8 * len(frame.data))
              for time, frame in sea.sent]
    for (_, end, _), (start, _, _) in zip(on_air, on_air[1:]):
        assert start >= end - 1e-6
    for start, _, _ in on_air:
        bits = sum(size * (min(last, start + 10) - first) / (last - first)
                   for first, last, size in on_air if start <= first < start + 10)
        assert bits <= 10 * rate * (1 + 1e-9)


def test_a_busy_link_is_used_in_full():
    sea = Sea(LinkModel(link_rate=1000.0))
    sea.run(100, lambda: sea.sender.queued_packets() or sea.sender.offer(content(1)))
    assert sum(8 * len(frame.data) for _, frame in sea.sent) > 0.98 * 100 * 1000
    assert sea.sender.counts.airtime == pytest.approx(100, rel=0.02)


def test_what_each_frame_costs_besides_its_bytes_is_waited_for():
    sea = Sea(LinkModel(link_rate=5400.0), frame_bytes=512, frame_seconds=2.2)
    sea.run(30, lambda: sea.sender.queued_packets() or sea.sender.offer(content(1)))
    times = [time for time, _ in sea.sent]
    assert min(b - a for a, b in zip(times, times[1:])) >= 2.2 + 8 * 504 / 5400 - 0.011


def test_the_rate_promised_to_the_encoder_is_what_the_link_carries():
    for options in ({}, {'redundancy': 0.5}, {'listen_time': 3.0}, {'frame_seconds': 0.2},
                    {'send_bytes': 150}):
        sea = Sea(LinkModel(link_rate=2000.0), max_age=0.0, queue_packets=1000, **options)
        promised = sea.sender.settings.packet_rate(500)
        due = [0.0]

        def offer():
            if sea.now >= due[0]:
                due[0] += 1 / promised
                sea.sender.offer(content(1))
        sea.run(200, offer)
        assert sea.sender.queued_packets() <= 2, options
        assert sea.sender.counts.packets_sent >= 0.95 * 200 * promised - 1, options


def test_the_rate_can_change_while_frames_wait():
    sea = Sea(LinkModel(link_rate=1000.0))
    keep_busy = (lambda: sea.sender.queued_packets() or sea.sender.offer(content(1)))
    sea.run(50, keep_busy)
    before = sea.sender.counts.bytes_sent
    sea.sender.apply(BudgetRequest(link_rate=4000))
    sea.link.configure(link_rate=4000.0)
    sea.run(50, keep_busy)
    assert sea.sender.counts.bytes_sent - before == pytest.approx(4 * before, rel=0.05)


# --- Queue ------------------------------------------------------------------------------------

def test_the_newest_packet_goes_first_and_the_oldest_is_dropped():
    sea = Sea(LinkModel(link_rate=800.0, delay=0.0), queue_packets=2)
    for number in range(5):
        sea.sender.offer(content(number))
    sea.run(20)
    assert [packet.data for _, packet in sea.shown] == [content(4), content(3)]
    assert sea.sender.counts.packets_dropped == 3


def test_a_packet_that_was_begun_is_sent_to_its_end():
    sea = Sea(LinkModel(link_rate=800.0, delay=0.0))
    sea.sender.offer(content(0))
    sea.run(2.0)
    sea.sender.offer(content(1))
    sea.run(20)
    assert [packet.data for _, packet in sea.shown] == [content(0), content(1)]


def test_packets_that_waited_too_long_are_not_sent():
    sea = Sea(LinkModel(link_rate=400.0), max_age=15.0, queue_packets=10)
    for number in range(3):
        sea.sender.offer(content(number))
    assert sea.sender.queue_age() == 0.0
    sea.run(8)
    assert sea.sender.queue_age() == pytest.approx(8, abs=0.1)
    sea.run(60)
    assert sea.sender.counts.packets_sent == 2 and sea.sender.counts.packets_expired == 1


def test_cameras_share_the_link_by_their_weights():
    sea = Sea(LinkModel(link_rate=2000.0), max_age=0.0)
    sea.sender.set_weight(0, 3)
    sea.sender.set_weight(5, 1)

    def keep_all_waiting():
        for camera in (0, 5):
            sea.sender.offer(content(camera), camera)
    sea.run(300, keep_all_waiting, step=0.1)
    sent = Counter()
    for _, frame in sea.sent:
        sent[frame.camera] += len(frame.data)
    assert sent[0] / sent[5] == pytest.approx(3, rel=0.1)


def test_a_packet_that_frames_cannot_carry_is_refused():
    sea = Sea(frame_bytes=16)
    with pytest.raises(FrameError, match='1 to 384'):
        sea.sender.offer(content(0, 385))
    assert sea.sender.queued_packets() == 0


def test_silence_after_each_packet_lets_requests_through():
    sea = Sea(LinkModel(link_rate=2000.0), listen_time=2.0)
    sea.run(60, lambda: sea.sender.offer(content(1)), step=0.05)
    ends = {}
    for time, frame in sea.sent:
        ends.setdefault(frame.number, []).append(time)
    spans = list(ends.values())
    gaps = [after[0] - before[-1] for before, after in zip(spans, spans[1:])]
    assert len(gaps) > 10 and min(gaps) >= 2.0


def test_a_number_rests_before_it_means_another_packet():
    sea = Sea(LinkModel(link_rate=1e6), frame_bytes=64)
    sea.run(NUMBER_REST * 2.5, lambda: sea.sender.offer(content(1, 20)), step=0.02)
    last = {}
    for time, frame in sea.sent:
        if frame.number in last:
            assert time - last[frame.number] >= NUMBER_REST
        last[frame.number] = time
    assert len(last) == 256


# --- Loss -------------------------------------------------------------------------------------

@pytest.mark.parametrize('loss, redundancy', [(0.0, 0.0), (0.2, 0.0), (0.2, 0.5), (0.4, 1.0)])
def test_what_arrives_is_what_the_loss_allows_and_all_of_it_is_true(loss, redundancy):
    sea = Sea(LinkModel(delay=2.0, loss=loss, jitter=0.3), seed=3, redundancy=redundancy)
    contents = []

    def offer():
        if not sea.sender.queued_packets():
            contents.append(content(len(contents)))
            sea.sender.offer(contents[-1])
    sea.run(600, offer, step=0.02)
    sea.run(40, step=0.02)
    whole = {packet.data for _, packet in sea.shown if packet.whole}
    parts = [packet.data for _, packet in sea.shown if not packet.whole]
    assert whole <= set(contents)
    assert all(any(packet.startswith(part) for packet in contents) for part in parts)
    frames = [parse_frame(frame.data) for _, frame in sea.sent[:12 if redundancy else 9]]
    count, sent = frames[0].count, sea.sender.counts.packets_sent
    total = max(frame.index for frame in frames if frame.number == frames[0].number) + 1
    # The chance that at least `count` of `total` frames arrive, less three standard deviations.
    chance = probability_of_at_least(count, total, 1 - loss)
    assert len(whole) >= sent * chance - 3 * (sent * chance * (1 - chance)) ** 0.5 - 1
    # What begins, shows: every packet whose first frame arrived.
    shown = len(whole | {packet for packet in contents
                         if any(packet.startswith(part) for part in parts)})
    assert shown >= sent * (1 - loss) - 3 * (sent * loss * (1 - loss)) ** 0.5 - 1


def probability_of_at_least(least, total, chance):
    from math import comb
    return sum(comb(total, k) * chance ** k * (1 - chance) ** (total - k)
               for k in range(least, total + 1))


def test_missing_frames_are_asked_for_and_come():
    model = LinkModel(delay=2.0, loss=0.2)
    shares = []
    for resend_requests in (0, 2):
        sea = Sea(model, seed=5, receiver={'resend_requests': resend_requests})

        def offer():
            if int(sea.now * 50) % 500 == 0:
                sea.sender.offer(content(int(sea.now * 50)))
        sea.run(600, offer, step=0.02)
        whole = {packet.data for _, packet in sea.shown if packet.whole}
        shares.append(len(whole) / sea.sender.counts.packets_sent)
        assert (sea.sender.counts.frames_repeated > 0) == (resend_requests > 0)
    assert shares[1] > 0.75 > 0.4 > shares[0]


# --- Back channel -----------------------------------------------------------------------------

def test_more_of_an_image_comes_on_request():
    sea = Sea(LinkModel(delay=1.0), send_bytes=150)
    packet = content(1)
    sea.sender.offer(packet)
    sea.run(12)
    (_, part), = sea.shown
    assert packet.startswith(part.data) and 150 <= len(part.data) < 240
    assert part.completeness == pytest.approx(len(part.data) / 500, abs=0.05)
    identity = sea.receiver.newest()
    assert identity == packet_identity(packet)
    sea.ask(sea.receiver.more_of(identity, wanted=300))
    sea.run(12)
    assert 300 <= len(sea.shown[-1][1].data) < 400 and len(sea.shown) == 2
    # A minute later the receiver has forgotten the frames: all of the packet comes again.
    sea.run(60)
    assert sea.receiver.reassembler.open_packets == 0
    sea.ask(sea.receiver.more_of(identity))
    sea.run(12)
    assert sea.shown[-1][1].whole and sea.shown[-1][1].data == packet
    with pytest.raises(RequestError, match='complete'):
        sea.receiver.more_of(identity)
    with pytest.raises(RequestError, match='not received'):
        sea.receiver.more_of(identity + 1)
    assert sea.refused == []


def test_a_request_that_comes_twice_is_done_once():
    sea = Sea(LinkModel(delay=0.1))
    sea.sender.offer(content(1))
    sea.run(5)
    message = build_request(ResendRequest(240, (1, 2)), 9)
    sea.sender.receive(message)
    assert sea.sender.receive(message) is None
    sea.run(5)
    assert sea.sender.counts.frames_repeated == 2
    assert (sea.sender.counts.requests, sea.sender.counts.requests_repeated) == (1, 1)
    assert len(sea.shown) == 1                  # what was whole is not shown again


def test_requests_for_what_is_not_there_are_refused():
    sea = Sea(store_packets=2)
    for number in range(4):
        sea.sender.offer(content(number))
        sea.run(3)
    for request in (ResendRequest(240, (0,)), MoreRequest(packet_identity(content(0)), 0)):
        with pytest.raises(RequestError, match='not kept'):
            sea.sender.apply(request)
    sea.sender.apply(ResendRequest(243, (0, 31)))
    sea.run(60)
    assert sea.sender.counts.frames_repeated == 1       # it has no frame 31


def test_what_is_asked_for_goes_before_new_packets():
    sea = Sea(LinkModel(link_rate=800.0, delay=0.0))
    sea.sender.offer(content(1))
    sea.run(10)
    sea.sender.offer(content(2))
    sea.sender.apply(ResendRequest(240, (4,)))
    before = len(sea.sent)
    sea.run(2)
    assert parse_frame(sea.sent[before][1].data).index == 4
    assert sea.sent[before + 1][1].number == 241


@given(strategies.lists(strategies.binary(max_size=20), max_size=50))
def test_hostile_requests_change_nothing(messages):
    sea = Sea()
    sea.sender.offer(content(1))
    for message in messages:
        with pytest.raises(RequestError):
            sea.sender.receive(message)
    assert sea.sender.settings == Sea().sender.settings
    assert sea.sender.counts.requests == 0


def test_hostile_frames_are_counted_and_change_nothing():
    sea = Sea(LinkModel(delay=0.5))
    generator = random.Random(2)
    sea.sender.offer(content(1))

    def attack():
        sea.link._random, kept = random.Random(1), sea.link._random
        for data in (generator.randbytes(60), b'', bytes(5000), sea.sent and sea.sent[0][1].data):
            if data:
                sea.receiver.push(data, sea.now)
        sea.link._random = kept
    sea.run(20, attack)
    assert [packet.data for _, packet in sea.shown] == [content(1)]
    assert sea.receiver.counts.errors['frame_corrupt'] > 1900
    assert sea.receiver.counts.errors['frame_size'] == 2000
    sea.run(100)
    for _, frame in sea.sent:                   # a recording, played again much later
        assert sea.receiver.push(frame.data, sea.now) == []
    assert sea.receiver.packets_repeated == 1


@pytest.mark.parametrize('changes', [
    {'frame_bytes': 15}, {'link_rate': 0.0}, {'redundancy': 3.0}, {'queue_packets': 0},
    {'max_age': -1.0}, {'store_packets': 65}, {'listen_time': -1.0}, {'frame_seconds': 61.0},
    {'send_bytes': -1}])
def test_impossible_settings_are_refused(changes):
    with pytest.raises(ValueError, match=next(iter(changes)).split('_')[0]):
        SenderSettings(**changes)
    sender = LinkSender(SenderSettings())
    with pytest.raises(ValueError):
        sender.configure(**changes)
    assert sender.settings == SenderSettings()
