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
"""The simulated water does what its model says, the same each time; the shipped profiles."""
import random

import pytest

from auv_image_codec.errors import ProfileError
from auv_image_codec.link.fragmentation import largest_packet
from auv_image_codec.link.profiles import load_profile, profile_directory, profile_names
from auv_image_codec.link.simulator import DOWN, LinkModel, SimulatedLink, UP


def carry(model, frames=4000, size=50, seed=1, pause=1.0):
    """Send frames down; return the link and (number, time) of those that arrive."""
    link = SimulatedLink(model, seed)
    arrived = []
    for number in range(frames):
        link.send(DOWN, number.to_bytes(4, 'little').ljust(size, b'\xa5'), number * pause)
        arrived += link.poll(number * pause)
    arrived += link.poll(1e9)
    return link, [(int.from_bytes(data[:4], 'little'), time, data) for _, data, time in arrived]


def test_a_frame_takes_its_bytes_and_the_way():
    link = SimulatedLink(LinkModel(link_rate=800.0, delay=2.0, frame_seconds=0.5))
    link.send(DOWN, bytes(100), 10.0)
    link.send(DOWN, bytes(50), 10.0)            # waits until the first is out
    assert link.next_event() == pytest.approx(10 + 1 + 0.5 + 2)
    assert link.poll(13.4) == []
    assert [time for _, _, time in link.poll(100.0)] == pytest.approx([13.5, 14.5])
    assert link.next_event() is None
    assert link.counts[DOWN].airtime == pytest.approx(2.5)


def test_the_rate_is_never_exceeded_and_a_full_modem_loses():
    link, arrived = carry(LinkModel(link_rate=400.0, delay=0.0, queue_frames=4), 200, pause=0.1)
    times = [time for _, time, _ in arrived]
    assert min(b - a for a, b in zip(times, times[1:])) >= 1.0 - 1e-9
    assert link.counts[DOWN].overflowed == 200 - len(arrived) > 150


@pytest.mark.parametrize('loss', [0.0, 0.2, 0.4, 1.0])
def test_losses_are_as_frequent_as_asked(loss):
    link, arrived = carry(LinkModel(loss=loss))
    assert len(arrived) / 4000 == pytest.approx(1 - loss, abs=0.03)
    assert link.counts[DOWN].lost == 4000 - len(arrived)


def test_bursts_are_as_long_and_frequent_as_asked():
    model = LinkModel(loss=0.01, burst_start=0.05, burst_end=0.25, burst_loss=1.0)
    link, arrived = carry(model, 20000)
    lost = link.counts[DOWN].lost / 20000
    assert lost == pytest.approx(model.mean_loss, abs=0.02)
    there = {number for number, _, _ in arrived}
    runs, length = [], 0
    for number in range(20000):
        if number in there:
            runs, length = runs + [length] * (length > 0), 0
        else:
            length += 1
    # Frames lost one by one at this rate come in runs of 1.2.
    assert sum(runs) / len(runs) == pytest.approx(1 / 0.25, rel=0.2)


def test_bits_are_flipped_as_often_as_asked():
    link, arrived = carry(LinkModel(bit_error_rate=0.001), 3000)
    flipped = sum((byte ^ 0xA5).bit_count() for _, _, data in arrived for byte in data[4:])
    assert flipped / (3000 * 46 * 8) == pytest.approx(0.001, rel=0.15)
    assert link.counts[DOWN].damaged == pytest.approx(3000 * (1 - 0.999 ** 400), rel=0.1)


def test_jitter_reorders():
    _, arrived = carry(LinkModel(link_rate=1e6, delay=5.0, jitter=2.0), 500, pause=0.5)
    numbers = [number for number, _, _ in arrived]
    assert sorted(numbers) == list(range(500)) != numbers
    waits = [time - 0.5 * number for number, time, _ in arrived]
    assert 2.9 < min(waits) < 3.1 and 6.9 < max(waits) < 7.1


def test_the_same_seed_gives_the_same_losses():
    model = LinkModel(loss=0.3, jitter=0.5, burst_start=0.1, bit_error_rate=0.001)
    assert carry(model, 500)[1] == carry(model, 500)[1] != carry(model, 500, seed=2)[1]


def test_both_directions_are_apart():
    link = SimulatedLink(LinkModel(link_rate=80.0, delay=0.0))
    link.send(DOWN, bytes(10), 0.0)
    link.send(UP, bytes(10), 0.0)
    assert [(direction, time) for direction, _, time in link.poll(1.0)] == [(DOWN, 1.0), (UP, 1.0)]


def test_a_half_duplex_modem_hears_nothing_while_it_sends():
    model = LinkModel(link_rate=80.0, delay=1.0, half_duplex=True)
    link = SimulatedLink(model)
    link.send(DOWN, bytes(10), 0.0)             # at the surface from 1.0 to 2.0
    link.send(UP, bytes(2), 1.5)                # 1.5 to 1.7: the surface is deaf
    link.send(UP, bytes(2), 5.0)
    assert [direction for direction, _, _ in link.poll(100.0)] == [UP, UP]
    assert link.counts[DOWN].collided == 1
    link.configure(half_duplex=False)
    link.send(DOWN, bytes(10), 200.0)
    link.send(UP, bytes(2), 201.5)
    assert len(link.poll(300.0)) == 2


@pytest.mark.parametrize('changes', [
    {'link_rate': 0.0}, {'delay': -1.0}, {'loss': 1.1}, {'burst_start': -0.1},
    {'bit_error_rate': 2.0}, {'queue_frames': 0}, {'jitter': -1.0}])
def test_impossible_models_are_refused(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        LinkModel(**changes)
    link = SimulatedLink(LinkModel())
    with pytest.raises(ValueError):
        link.configure(**changes)
    assert link.model == LinkModel()


# --- Profiles ---------------------------------------------------------------------------------

def test_the_sizes_of_the_modems_are_there():
    sizes = {load_profile(name).frame_bytes for name in profile_names()}
    assert {31, 32, 64, 256, 500, 512, 2048} <= sizes


@pytest.mark.parametrize('name', profile_names())
def test_every_profile_carries_a_packet(name):
    profile = load_profile(name)
    assert profile.name == name and profile.modems
    assert largest_packet(profile.frame_bytes) >= 500
    link = SimulatedLink(profile.model, seed=1)
    generator = random.Random(0)
    for number in range(200):
        link.send(DOWN, generator.randbytes(profile.frame_bytes), number * 60.0)
    arrived = len(link.poll(1e9)) / 200
    assert arrived == pytest.approx(1 - profile.model.mean_loss, abs=0.1)


def test_a_profile_of_ones_own(tmp_path):
    path = tmp_path / 'mine.yaml'
    path.write_text('modems: [Mine]\nframe_bytes: 100\nlink_rate: 300\nhalf_duplex: true\n')
    profile = load_profile(str(path))
    assert (profile.name, profile.frame_bytes) == ('mine', 100)
    assert profile.model == LinkModel(link_rate=300.0, half_duplex=True)


@pytest.mark.parametrize('text, words', [
    ('', 'mapping'), ('frame_bytes: 64', 'modems is missing'),
    ('modems: [a]', 'frame_bytes is missing'), ('modems: a\nframe_bytes: 64', 'list'),
    ('modems: [a]\nframe_bytes: 8', '8'), ('modems: [a]\nframe_bytes: 64.5', 'frame_bytes'),
    ('modems: [a]\nframe_bytes: 64\nlink_rate: fast', 'link_rate'),
    ('modems: [a]\nframe_bytes: 64\nloss: 2.0', 'loss'),
    ('modems: [a]\nframe_bytes: 64\nhalf_duplex: 1', 'half_duplex'),
    ('modems: [a]\nframe_bytes: 64\nspeed: 2.0', 'speed'), ('modems: [', 'mine.yaml')])
def test_a_wrong_profile_is_refused_with_the_reason(tmp_path, text, words):
    path = tmp_path / 'mine.yaml'
    path.write_text(text)
    with pytest.raises(ProfileError, match=words):
        load_profile(str(path))


def test_an_unknown_profile_names_those_there_are():
    with pytest.raises(ProfileError, match='micromodem_rate_0.*seatrac'):
        load_profile('carrier_pigeon')
    assert profile_directory().is_dir()
