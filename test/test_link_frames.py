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
"""Frames: any order, loss and repetition gives the packet, its beginning or nothing."""
import random
import subprocess
import sys

from hypothesis import assume, given, settings, strategies
import pytest

from auv_image_codec.errors import FrameError
from auv_image_codec.link.fragmentation import fragment, largest_packet, parity_frames
from auv_image_codec.link.frames import (
    build_frame, Frame, MOST_FRAMES, NUMBERS, OVERHEAD_BYTES, parse_frame, RECEIVER_MEMORY)
from auv_image_codec.link.reassembly import Reassembler

FRAME_SIZES = [31, 32, 64, 256, 500, 512, 2048]
packets = strategies.binary(min_size=16, max_size=600)
redundancies = strategies.sampled_from([0.0, 0.0, 0.1, 0.5, 1.0])


def received(reassembler: Reassembler, frames, time: float = 0.0) -> list:
    """Return what comes of frames, one a millisecond, and of waiting until nothing follows."""
    results = []
    for number, frame in enumerate(frames):
        results += reassembler.push(frame, time + number / 1000)
    return results + reassembler.poll(time + len(frames) / 1000 + 6)


def test_the_core_needs_neither_ros_nor_torch():
    code = ('import sys\n'
            'from auv_image_codec.link import (fragmentation, profiles, reassembly, receiver,'
            ' requests, sender, simulator)\n'
            'assert not {"torch", "rclpy"} & set(sys.modules), "too much is imported"')
    subprocess.run([sys.executable, '-c', code], check=True)


def test_golden_frames():
    # Written down from docs/link.md; a change here breaks every vehicle at sea.
    assert build_frame(Frame(5, 2, 8, b'body')).hex() == '05e20498626f6479'
    frames = fragment(bytes(range(100)), 64, number=255, redundancy=0.5)
    assert [frame[:OVERHEAD_BYTES].hex() for frame in frames] == [
        'ff201463', 'ff21503f', 'ff22b04c']
    assert [len(frame) for frame in frames] == [54, 54, 55]
    assert frames[2][OVERHEAD_BYTES:OVERHEAD_BYTES + 8].hex() == '64656e6f60617a7b'


def parity_by_definition(blocks: list, index: int) -> bytes:
    """Return a frame of parity as docs/link.md defines it, without the library."""
    power = [1]
    while len(power) < 255:
        power.append(power[-1] << 1 ^ (0x11D if power[-1] & 0x80 else 0))

    def product(a, b):
        return power[(power.index(a) + power.index(b)) % 255] if a and b else 0

    points = [0, *power]
    weights = []
    for place in range(len(blocks)):
        weight = 1
        for other in range(len(blocks)):
            if other != place:
                weight = product(weight, points[index] ^ points[other])
                inverse = power[-power.index(points[place] ^ points[other]) % 255]
                weight = product(weight, inverse)
        weights.append(weight)
    result = []
    for column in zip(*blocks):
        value = 0
        for weight, symbol in zip(weights, column):
            value ^= product(weight, symbol)
        result.append(value)
    return bytes(result)


@pytest.mark.parametrize('size', [30, 61, 250, 495])
def test_parity_is_reed_solomon_as_documented(size):
    bodies = [parse_frame(frame) for frame in fragment(
        random.Random(size).randbytes(size), 64, 0, redundancy=0.6)]
    count = bodies[0].count
    length = len(bodies[0].body)
    blocks = [frame.body.ljust(length, b'\0') for frame in bodies[:count]]
    padding = length * count - size
    for frame in bodies[count:]:
        assert frame.body == parity_by_definition(blocks, frame.index) + bytes([padding])


@pytest.mark.parametrize('frame_bytes', FRAME_SIZES)
def test_frames_fit_the_modem_and_cost_four_bytes(frame_bytes):
    for size in (1, 16, 17, frame_bytes - 4, frame_bytes - 3, 500, largest_packet(frame_bytes)):
        size = min(size, largest_packet(frame_bytes))
        frames = fragment(random.Random(size).randbytes(size), frame_bytes, 7)
        assert max(map(len, frames)) <= frame_bytes
        assert sum(map(len, frames)) == size + OVERHEAD_BYTES * len(frames)
        # Not one frame more than needed.
        assert (len(frames) - 1) * (frame_bytes - OVERHEAD_BYTES) < size
        assert len(set(map(len, frames[:-1]))) <= 1


@given(packets, strategies.sampled_from(FRAME_SIZES), redundancies,
       strategies.integers(0, NUMBERS - 1))
def test_parity_frames_fit_too(packet, frame_bytes, redundancy, number):
    assume(len(packet) <= largest_packet(frame_bytes, redundancy))
    frames = fragment(packet, frame_bytes, number, redundancy)
    parsed = [parse_frame(frame) for frame in frames]
    assert max(map(len, frames)) <= frame_bytes and len(frames) <= MOST_FRAMES
    assert [frame.index for frame in parsed] == list(range(len(frames)))
    assert {(frame.number, frame.count) for frame in parsed} == {(number, parsed[0].count)}
    assert len(frames) == parsed[0].count + parity_frames(parsed[0].count, redundancy)
    assert b''.join(frame.body for frame in parsed if not frame.is_parity) == packet


@pytest.mark.parametrize('frame_bytes, redundancy', [
    (size, share) for size in FRAME_SIZES for share in (0.0, 0.25, 1.0)])
def test_a_packet_that_no_frames_carry_is_refused(frame_bytes, redundancy):
    most = largest_packet(frame_bytes, redundancy)
    frames = fragment(bytes(most), frame_bytes, 0, redundancy)
    assert len(frames) <= MOST_FRAMES
    assert received(Reassembler(), frames)[0].data == bytes(most)
    for size in (0, most + 1):
        with pytest.raises(FrameError, match=f'1 to {most}'):
            fragment(bytes(size), frame_bytes, 0, redundancy)


@pytest.mark.parametrize('frame_bytes, redundancy', [(15, 0.0), (2049, 0.0), (64, -0.1), (64, 2.1)])
def test_impossible_frames_are_refused(frame_bytes, redundancy):
    with pytest.raises(ValueError, match='must'):
        fragment(b'x', frame_bytes, 0, redundancy)


@given(strategies.data())
def test_every_flipped_bit_is_refused(data):
    frame = data.draw(strategies.sampled_from(fragment(bytes(range(200)), 64, 9, 0.5)))
    damaged = bytearray(frame)
    for position in data.draw(strategies.sets(
            strategies.integers(0, 8 * len(frame) - 1), min_size=1, max_size=3)):
        damaged[position // 8] ^= 1 << position % 8
    with pytest.raises(FrameError):
        parse_frame(bytes(damaged))


def test_another_version_is_named():
    from auv_image_codec.link import frames
    place = 5 | 1 << 8 | 3 << 13
    check = frames._check(place, b'of another release', version=2)
    data = (place | check << 18).to_bytes(4, 'little') + b'of another release'
    with pytest.raises(FrameError, match='version 2') as caught:
        parse_frame(data)
    assert caught.value.kind == 'frame_version'


@given(packets, strategies.sampled_from([32, 64, 256]), redundancies, strategies.data())
@settings(max_examples=400)
def test_any_order_loss_and_repetition_gives_the_packet_its_beginning_or_nothing(
        packet, frame_bytes, redundancy, data):
    assume(len(packet) <= largest_packet(frame_bytes, redundancy))
    frames = fragment(packet, frame_bytes, 3, redundancy)
    count = parse_frame(frames[0]).count
    kept = data.draw(strategies.lists(strategies.sampled_from(range(len(frames))), max_size=80))
    results = received(Reassembler(), [frames[index] for index in kept])
    came = set(kept)
    if len(came) >= count:
        whole, = results
        assert whole.whole and whole.data == packet and whole.completeness == 1.0
        return
    gap = next(index for index in range(count) if index not in came)
    beginning = b''.join(parse_frame(frame).body for frame in frames[:gap])
    if len(beginning) < 16:
        assert results == []
        return
    part, = results
    assert not part.whole and part.data == beginning
    assert part.missing == tuple(sorted(set(range(count)) - came)) and part.count == count
    assert part.completeness <= len(beginning) / len(packet) < 1


@given(strategies.lists(packets, min_size=2, max_size=8), strategies.data())
@settings(max_examples=150)
def test_packets_may_be_mixed(contents, data):
    frames = [frame for number, packet in enumerate(contents)
              for frame in fragment(packet, 64, (number + 250) % NUMBERS)]
    results = received(Reassembler(), data.draw(strategies.permutations(frames)))
    assert sorted(result.data for result in results) == sorted(contents)
    assert all(result.whole for result in results)


@given(strategies.lists(strategies.tuples(strategies.integers(0, NUMBERS - 1), packets),
                        min_size=1, max_size=40), strategies.data())
@settings(max_examples=100)
def test_whatever_comes_is_true_and_memory_is_bounded(sent, data):
    """Numbers that come again, out of order, with losses: never a mixture of two packets."""
    reassembler = Reassembler(most_packets=4)
    time, results = 0.0, []
    for number, packet in sent:
        # A sender leaves a number alone for longer than a receiver remembers it.
        time += RECEIVER_MEMORY + 1
        frames = fragment(packet, 64, number)
        for index in data.draw(strategies.lists(strategies.sampled_from(range(len(frames))),
                                                max_size=12)):
            results += reassembler.push(frames[index], time)
            assert reassembler.open_packets <= 4
            assert reassembler.memory_bytes <= 4 * MOST_FRAMES * 64
        results += reassembler.poll(time + 10)
    for result in results:
        assert any(packet.startswith(result.data) for _, packet in sent)
        assert not result.whole or any(packet == result.data for _, packet in sent)


@given(strategies.lists(strategies.binary(max_size=300), max_size=100))
def test_noise_changes_nothing(noise):
    packet = bytes(range(256)) * 2
    frames = fragment(packet, 64, 77)
    reassembler = Reassembler()
    refused = 0
    for frame, junk in zip(frames[:-1] * 20, noise):
        reassembler.push(frame, 0.0)
        try:
            reassembler.push(junk, 0.0)
        except FrameError:
            refused += 1
    assert refused >= len(noise) - 1            # one in 16,384 passes the check by chance
    for frame in frames:
        results = reassembler.push(frame, 0.0)
    assert [result.data for result in results] == [packet]


def test_a_million_bytes_of_noise_change_nothing():
    generator = random.Random(4)
    reassembler = Reassembler(most_packets=8)
    packet = generator.randbytes(500)
    frames = fragment(packet, 64, 12)
    passed, shown = 0, []
    for trial in range(20000):
        if trial % 5000 == 0:
            shown += reassembler.push(frames[trial // 5000], 0.001 * trial)
        try:
            shown += reassembler.push(generator.randbytes(generator.randrange(5, 100)),
                                      0.001 * trial)
            passed += 1
        except FrameError:
            pass
    assert passed < 10 and shown == [] and reassembler.open_packets <= 8
    for frame in frames[4:]:
        shown += reassembler.push(frame, 21.0)
    assert [result.data for result in shown] == [packet]


def test_a_replayed_packet_is_not_handed_out_again():
    frames = fragment(bytes(500), 64, 12)
    reassembler = Reassembler()
    assert len(received(reassembler, frames)) == 1
    assert received(reassembler, frames * 3, time=7.0) == []
    assert reassembler.counts.frames_duplicate == 3 * len(frames)


def test_frames_of_a_sender_that_started_again_are_not_mixed_with_the_old_ones():
    old, new = (random.Random(seed).randbytes(500) for seed in (1, 2))
    reassembler = Reassembler()
    results = received(reassembler, fragment(old, 64, 12)[:5] + fragment(new, 64, 12))
    assert [result.data for result in results if result.whole] == [new]
    assert all(old.startswith(result.data) for result in results if not result.whole)


def test_late_frames_make_an_image_better():
    packet = random.Random(0).randbytes(500)
    frames = fragment(packet, 64, 200)
    reassembler = Reassembler(settle_time=5.0)
    first, = received(reassembler, frames[:3] + frames[4:])
    assert (first.missing, first.whole) == ((3,), False)
    assert reassembler.unfinished(6.0) == {200: (3,)}
    assert reassembler.poll(7.0) == []          # nothing new, nothing shown
    whole, = reassembler.push(frames[3], 20.0)
    assert whole.data == packet and reassembler.unfinished(20.0) == {}


def test_a_later_packet_ends_the_wait_for_a_gap():
    packet = bytes(500)
    reassembler = Reassembler(settle_time=20.0, reorder_time=1.0)
    for frame in fragment(packet, 64, 255)[:4]:
        assert reassembler.push(frame, 0.0) == []
    reassembler.push(fragment(packet, 64, 0)[0], 1.0)
    assert reassembler.poll(1.9) == []
    assert [result.number for result in reassembler.poll(2.0)] == [255]


def test_packets_and_frames_are_counted():
    reassembler = Reassembler()
    packet = bytes(500)
    received(reassembler, fragment(packet, 64, 254))                        # whole
    received(reassembler, fragment(packet, 64, 255)[:-2], time=10.0)        # in part
    received(reassembler, fragment(packet, 64, 2)[1:], time=20.0)           # 0, 1 lost; no begin
    reassembler.poll(20.0 + RECEIVER_MEMORY + 1)
    counts = reassembler.counts
    assert (counts.packets_complete, counts.packets_partial, counts.packets_lost) == (1, 1, 3)
    assert (counts.frames_received, counts.frames_lost) == (9 + 7 + 8, 3)
    assert reassembler.open_packets == 0 and reassembler.next_event() is None


@pytest.mark.parametrize('settings', [
    {'settle_time': -1.0}, {'reorder_time': RECEIVER_MEMORY}, {'most_packets': 0},
    {'most_packets': 129}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ValueError, match='must'):
        Reassembler(**settings)
