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
"""The encoder's node, with real messages over DDS."""
import array
import gc
import itertools
import os
import time

import pytest

from ros_harness import (
    errors, frame, graph, header, numbers, picture, QoSProfile, QoSReliabilityPolicy, RELIABLE)

import cv2  # noqa: I100

import numpy as np

from rclpy.parameter import Parameter

from sensor_msgs.msg import CompressedImage, Image

from auv_image_codec.codecs import create_codec
from auv_image_codec.codecs.packet import OVERHEAD_BYTES
from auv_image_codec.msg import LatentCode
from auv_image_codec.nodes.encoder_node import EncoderNode
from auv_image_codec.nodes.image_conversion import rgb_to_image

# Every frame that is published arrives, so that counts are exact.
ALL_FRAMES = {'image_reliability': 'reliable', 'image_queue_depth': 1000}


@pytest.fixture(scope='module')
def codec():
    return create_codec()


@pytest.fixture(scope='module')
def running():
    """Yield a graph with an active encoder that somebody listens to."""
    with graph() as ros:
        node = ros.add(EncoderNode, **ALL_FRAMES)
        images = ros.publisher(Image, 'image')
        latents = ros.collect(LatentCode, 'latent')
        ros.start(node)
        assert ros.connected(images)
        yield ros, node, images, latents


def code_one(ros, images, latents, message):
    """Publish an image and return its latent."""
    count = len(latents)
    images.publish(message)
    assert ros.spin_until(lambda: len(latents) > count)
    return latents[-1]


def packet_bytes(codec, latent):
    """Return the size of a latent message's packet."""
    return OVERHEAD_BYTES + len(codec.payload_from_latent(np.frombuffer(latent.latent, np.uint8)))


@pytest.mark.parametrize('width, height', [(96, 64), (1, 1), (640, 480), (223, 225), (7, 1000)])
def test_latent_carries_the_images_header_and_size(running, codec, width, height):
    ros, node, images, latents = running
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    message = rgb_to_image(pixels, header(width, 'front_camera_optical'))
    latent = code_one(ros, images, latents, message)
    assert latent.header == message.header
    assert (latent.image_width, latent.image_height) == (width, height)
    assert latent.codec == codec.name
    assert latent.model_id == codec.model_id
    expected = codec.encode(pixels)
    assert latent.latent_dim == len(latent.latent) == len(expected)
    np.testing.assert_array_equal(np.frombuffer(latent.latent, np.uint8), expected)
    assert packet_bytes(codec, latent) <= 500


def test_frames_are_refined_from_the_moment_that_steps_are_set(running, codec):
    ros, node, images, latents = running
    pixels = picture()
    message = rgb_to_image(pixels, header())
    assert node.set_parameters([Parameter('refinement_steps', value=2)])[0].successful
    try:
        refined = code_one(ros, images, latents, message)
        np.testing.assert_array_equal(np.frombuffer(refined.latent, np.uint8),
                                      codec.refine(pixels, 500, 2))
        assert node.set_parameters([Parameter('refinement_seconds', value=1e-6)])[0].successful
        plain = code_one(ros, images, latents, message)
        np.testing.assert_array_equal(np.frombuffer(plain.latent, np.uint8),
                                      codec.encode(pixels))
    finally:
        node.set_parameters([Parameter('refinement_steps', value=0),
                             Parameter('refinement_seconds', value=0.0)])


def test_a_node_that_refines_answers_and_stops(codec):
    with graph() as ros:
        node = ros.add(EncoderNode, **ALL_FRAMES, refinement_steps=1000)
        images = ros.publisher(Image, 'image')
        latents = ros.collect(LatentCode, 'latent')
        ros.start(node)
        assert ros.connected(images)
        for number in range(3):
            images.publish(frame(number))
        statistics = node.statistics['camera']
        assert ros.spin_until(lambda: statistics.frames_skipped == 1)   # one is refined, one waits
        assert node.set_parameters([Parameter('refinement_steps', value=0)])[0].successful
        node.trigger_deactivate()
        assert statistics.frames_skipped == 3 and not latents
        node.trigger_activate()
        assert ros.connected(images)
        pixels = picture()
        latent = code_one(ros, images, latents, rgb_to_image(pixels, header()))
        np.testing.assert_array_equal(np.frombuffer(latent.latent, np.uint8),
                                      codec.encode(pixels))


def test_sequence_counts_the_coded_images(running):
    ros, node, images, latents = running
    first = code_one(ros, images, latents, frame(1)).sequence
    images.publish(Image())
    assert [code_one(ros, images, latents, frame(n)).sequence for n in (2, 3)] \
        == [first + 1, first + 2]


def bad_image(**fields):
    message = frame()
    for name, value in fields.items():
        setattr(message, name, value)
    return message


def float_image(value):
    pixels = np.full((4, 5), 0.5, np.float32)
    pixels[1, 2] = value
    message = Image(header=header(), width=5, height=4, step=20, encoding='32FC1')
    message.data = array.array('B', pixels.tobytes())
    return message


def image_of_the_past():
    message = frame()
    message.header.stamp.sec = -1
    return message


BAD_IMAGES = {
    'empty message': (Image(), 'zero_size'),
    'no data': (bad_image(data=array.array('B')), 'empty_image'),
    'zero width': (bad_image(width=0), 'zero_size'),
    'zero height': (bad_image(height=0), 'zero_size'),
    'unknown encoding': (bad_image(encoding='rainbow8'), 'unknown_encoding'),
    'short data': (bad_image(data=array.array('B', bytes(1000))), 'short_data'),
    'short step': (bad_image(step=10), 'short_step'),
    'enormous': (bad_image(width=2 ** 31, height=2 ** 31), 'image_too_large'),
    'not a number': (float_image(np.nan), 'not_finite'),
    'infinite': (float_image(np.inf), 'not_finite'),
    'before 1970': (image_of_the_past(), 'stamp'),
}


@pytest.mark.parametrize('name', sorted(BAD_IMAGES))
def test_bad_image_is_counted_and_the_next_one_is_coded(running, name):
    ros, node, images, latents = running
    message, kind = BAD_IMAGES[name]
    before, count = errors(node), len(latents)
    images.publish(message)
    assert ros.spin_until(lambda: errors(node) != before)
    assert errors(node) - before == {kind: 1}
    latent = code_one(ros, images, latents, frame(77))
    assert len(latents) == count + 1 and numbers([latent]) == [77]


def test_diagnostics_tell_what_happened(codec):
    with graph() as ros:
        node = ros.add(EncoderNode, **ALL_FRAMES)
        images, latents = ros.publisher(Image, 'image'), ros.collect(LatentCode, 'latent')
        ros.start(node)
        assert ros.connected(images)
        sizes = [packet_bytes(codec, code_one(ros, images, latents, frame(n))) for n in range(4)]
        ros.last_status('/encoder_node: camera')
        status, values = ros.last_status('/encoder_node: camera')
        assert status.level == b'\x00' and status.message == 'active'
        assert status.hardware_id == f'{codec.name}/{codec.model_id:08x}'
        assert values['state'] == 'active'
        assert values['codec'] == codec.name
        assert values['model_id'] == f'{codec.model_id:08x}'
        assert (values['frames_in'], values['frames_coded']) == ('4', '4')
        assert (values['frames_dropped'], values['frames_skipped']) == ('0', '0')
        assert int(values['bytes_total']) == sum(sizes)
        assert float(values['mean_packet_bytes']) == pytest.approx(sum(sizes) / 4, abs=0.1)
        assert float(values['ratio_of_raw_224x224x3']) == pytest.approx(
            4 * 150528 / sum(sizes), abs=0.1)
        assert 0 < float(values['encode_ms_mean']) <= float(values['encode_ms_max'])
        images.publish(Image())
        assert ros.spin_until(lambda: errors(node))
        ros.last_status('/encoder_node: camera')
        _, values = ros.last_status('/encoder_node: camera')
        assert values['error_zero_size'] == '1'
        assert [(status.level, status.message) for message in ros.everything_diagnosed
                for status in message.status if status.level != b'\x00'] \
            == [(b'\x01', 'active; errors: 1')]


def test_compressed_images():
    with graph() as ros:
        node = ros.add(EncoderNode, transport='compressed', **ALL_FRAMES)
        images = ros.publisher(CompressedImage, 'image/compressed')
        latents = ros.collect(LatentCode, 'latent')
        ros.start(node)
        assert ros.connected(images)
        for number, (image_format, extension) in enumerate(
                [('rgb8; jpeg compressed bgr8', '.jpg'), ('png', '.png')]):
            message = CompressedImage(header=header(number), format=image_format)
            message.data = array.array(
                'B', cv2.imencode(extension, picture()[:, :, ::-1])[1].tobytes())
            latent = code_one(ros, images, latents, message)
            assert latent.header == message.header
            assert (latent.image_width, latent.image_height) == (96, 64)
        images.publish(CompressedImage(format='jpeg', data=array.array('B', b'\xff\xd8\xff\xe0')))
        assert ros.spin_until(lambda: errors(node))
        assert errors(node) == {'undecodable_image': 1}
        message.header = header(9)
        assert numbers([code_one(ros, images, latents, message)]) == [9]


def test_sensor_data_publishers_match_by_default():
    with graph() as ros:
        node = ros.add(EncoderNode)
        images = ros.publisher(Image, 'image', QoSProfile(
            depth=1, reliability=QoSReliabilityPolicy.BEST_EFFORT))
        latents = ros.collect(LatentCode, 'latent')
        ros.start(node)
        assert ros.connected(images)
        assert ros.spin_until(lambda: images.publish(frame()) or latents)


def test_qos_can_be_overridden():
    name = 'qos_overrides./image.subscription.'
    with graph() as ros:
        node = ros.add(EncoderNode, **{name + 'reliability': 'reliable', name + 'depth': 7,
                                       'qos_overrides./latent.publisher.depth': 3})
        ros.collect(LatentCode, 'latent')
        ros.start(node)
        assert ros.spin_until(lambda: node.cameras[0].subscription is not None)
        infos = ros.tester.get_subscriptions_info_by_topic('/image')
        assert ros.spin_until(lambda: infos or infos.extend(
            ros.tester.get_subscriptions_info_by_topic('/image')))
        assert infos[0].qos_profile.reliability == QoSReliabilityPolicy.RELIABLE
        assert node.cameras[0].subscription.qos_profile.depth == 7
        assert node.cameras[0].publisher.qos_profile.depth == 3


# --- No work without a subscriber ---------------------------------------------------------------

def test_images_are_received_only_while_somebody_receives_latents():
    with graph() as ros:
        node = ros.add(EncoderNode, **ALL_FRAMES)
        images = ros.publisher(Image, 'image')
        ros.start(node)
        for round_ in range(2):
            ros.spin_for(0.7)
            images.publish(frame())
            ros.spin_for(0.3)
            assert images.get_subscription_count() == 0
            assert node.statistics['camera'].frames_in == 2 * round_
            latents = []
            listener = ros.tester.create_subscription(
                LatentCode, 'latent', latents.append, RELIABLE)
            assert ros.connected(images)
            for number in range(2):
                code_one(ros, images, latents, frame(number))
            ros.tester.destroy_subscription(listener)
            assert ros.spin_until(lambda: images.get_subscription_count() == 0)
            assert node.statistics['camera'].frames_done == 2 * (round_ + 1)


def test_only_the_camera_that_is_watched_works():
    with graph() as ros:
        node = ros.add(EncoderNode, cameras=['front', 'down'], **ALL_FRAMES)
        front, down = (ros.publisher(Image, f'{name}/image') for name in ('front', 'down'))
        ros.collect(LatentCode, 'down/latent')
        ros.start(node)
        assert ros.connected(down)
        ros.spin_for(0.5)
        assert front.get_subscription_count() == 0


# --- Several cameras ----------------------------------------------------------------------------

def test_each_camera_has_its_topics_and_its_sequence():
    with graph() as ros:
        node = ros.add(EncoderNode, cameras=['front', 'down', 'arm'], front__index=5,
                       arm__index=0, arm__image='gripper/picture', arm__latent='gripper/code',
                       down__transport='compressed', **ALL_FRAMES)
        assert [camera.index for camera in node.cameras] == [5, 1, 0]
        front = ros.publisher(Image, 'front/image')
        down = ros.publisher(CompressedImage, 'down/image/compressed')
        arm = ros.publisher(Image, 'gripper/picture')
        latents = {name: ros.collect(LatentCode, topic) for name, topic in (
            ('front', 'front/latent'), ('down', 'down/latent'), ('arm', 'gripper/code'))}
        ros.start(node)
        assert ros.connected(front, down, arm)
        jpeg = CompressedImage(header=header(50), format='jpeg')
        jpeg.data = array.array('B', cv2.imencode('.jpg', picture())[1].tobytes())
        front.publish(frame(1))
        front.publish(Image())
        arm.publish(frame(30))
        down.publish(jpeg)
        front.publish(frame(2))
        assert ros.spin_until(lambda: sum(map(len, latents.values())) == 4)
        assert {name: numbers(messages) for name, messages in latents.items()} \
            == {'front': [1, 2], 'down': [50], 'arm': [30]}
        assert [message.sequence for message in latents['front']] == [0, 1]
        assert latents['arm'][0].sequence == latents['down'][0].sequence == 0
        assert errors(node, 'front') == {'zero_size': 1} and not errors(node, 'down')
        _, values = ros.last_status('/encoder_node: front')
        assert values['frames_coded'] == '2'


# --- Limits -------------------------------------------------------------------------------------

def test_packets_respect_max_bytes_also_when_it_changes(codec):
    with graph() as ros:
        node = ros.add(EncoderNode, **ALL_FRAMES)
        images, latents = ros.publisher(Image, 'image'), ros.collect(LatentCode, 'latent')
        ros.start(node)
        assert ros.connected(images)
        sizes = []
        for most in (500, 120, 60):
            assert node.set_parameters([Parameter('max_bytes', value=most)])[0].successful
            sizes.append(packet_bytes(codec, code_one(ros, images, latents, frame(4))))
            assert sizes[-1] <= most
        assert sizes[0] > 120 and sizes[1] > 60


def test_max_rate_codes_the_newest_frames_and_no_more_than_it_says():
    rate = 4.0
    with graph() as ros:
        node = ros.add(EncoderNode, max_rate=rate, **ALL_FRAMES)
        images, latents = ros.publisher(Image, 'image'), ros.collect(LatentCode, 'latent')
        ros.start(node)
        assert ros.connected(images)
        start = time.monotonic()
        for number in range(80):
            images.publish(frame(number))
            ros.spin_for(0.02)
        assert ros.spin_until(lambda: latents and numbers(latents)[-1] == 79)
        allowed = 2 + rate * (time.monotonic() - start)
        assert 2 <= len(latents) <= allowed
        statistics = node.statistics['camera']
        assert statistics.frames_in == 80 == statistics.frames_done + statistics.frames_skipped
        assert statistics.frames_dropped == 0
        assert numbers(latents) == sorted(set(numbers(latents)))
        # Lifted at run time: every frame is coded again.
        assert node.set_parameters([Parameter('max_rate', value=0.0)])[0].successful
        done = len(latents)
        for number in range(100, 105):
            images.publish(frame(number))
        assert ros.spin_until(lambda: len(latents) == done + 5)


def test_byte_rate_is_kept_and_what_waits_is_the_newest_frame(codec):
    rate = 1500.0
    with graph() as ros:
        node = ros.add(EncoderNode, byte_rate=rate, **ALL_FRAMES)
        images, latents = ros.publisher(Image, 'image'), ros.collect(LatentCode, 'latent')
        ros.start(node)
        assert ros.connected(images)
        start = time.monotonic()
        for number in range(80):
            images.publish(frame(number))
            ros.spin_for(0.02)
        assert ros.spin_until(lambda: numbers(latents)[-1] == 79)
        sent = sum(packet_bytes(codec, latent) for latent in latents)
        assert sent <= 500 + rate * (time.monotonic() - start)
        statistics = node.statistics['camera']
        assert statistics.bytes_total == sent
        assert statistics.frames_dropped == 80 - len(latents) > 0
        ros.last_status('/encoder_node: camera')
        assert any(status.level == b'\x01' and 'frames dropped' in status.message
                   for array_ in ros.everything_diagnosed for status in array_.status)


def coded_by_turns(ros, node, publishers, frames):
    """
    Publish on all publishers until so many frames are coded.

    Return the bytes of each camera, and the seconds that it took.
    """
    start, number = time.monotonic(), itertools.count()
    before = {name: (one.frames_done, one.bytes_total) for name, one in node.statistics.items()}

    def publish():
        for publisher in publishers:
            publisher.publish(frame(next(number) % 100))
        ros.spin_for(0.03)
    assert ros.spin_until(lambda: publish() or frames <= sum(
        one.frames_done - before[name][0] for name, one in node.statistics.items()))
    seconds = time.monotonic() - start
    return {name: one.bytes_total - before[name][1]
            for name, one in node.statistics.items()}, seconds


def test_cameras_share_the_byte_rate_by_priority_and_use_what_others_leave(codec):
    with graph() as ros:
        node = ros.add(EncoderNode, cameras=['front', 'down'], front__priority=3,
                       byte_rate=500.0, max_bytes=100, **ALL_FRAMES)
        front, down = (ros.publisher(Image, f'{name}/image') for name in ('front', 'down'))
        ros.collect(LatentCode, 'front/latent')
        ros.collect(LatentCode, 'down/latent')
        ros.start(node)
        assert ros.connected(front, down)
        shares, seconds = coded_by_turns(ros, node, [front, down], 20)
        assert all(one.frames_dropped > 0 for one in node.statistics.values())
        assert 2.0 < shares['front'] / shares['down'] < 4.5
        # The other camera is silent: its share is used, whatever this machine is able to.
        rate = shares['down'] / seconds
        alone, seconds = coded_by_turns(ros, node, [down], 10)
        assert alone['down'] / seconds > 1.8 * rate
        # Equal from now on.
        assert node.set_parameters([Parameter('front.priority', value=1)])[0].successful
        shares, _ = coded_by_turns(ros, node, [front, down], 16)
        assert 0.6 < shares['front'] / shares['down'] < 1.7


# --- Endurance ----------------------------------------------------------------------------------

def resident_bytes():
    """Return the memory that this process has in RAM."""
    with open('/proc/self/statm') as statm:
        return int(statm.read().split()[1]) * os.sysconf('SC_PAGE_SIZE')


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists('/proc/self/statm'), reason='needs /proc')
def test_memory_stays_flat():
    with graph() as ros:
        node = ros.add(EncoderNode, max_bytes=60, **ALL_FRAMES)     # the fewer, the faster
        images = ros.publisher(Image, 'image')
        count = [0]

        def received(_):
            count[0] += 1
        ros.tester.create_subscription(LatentCode, 'latent', received, RELIABLE)
        ros.start(node)
        assert ros.connected(images)
        message = frame(3)

        def code(frames):
            for _ in range(frames):
                expected = count[0] + 1
                images.publish(message)
                assert ros.spin_until(lambda: count[0] == expected)
            ros.diagnostics.clear()
            ros.everything_diagnosed.clear()
            gc.collect()
            return resident_bytes()
        warm = code(200)
        assert code(500) - warm < 2.5 * 2 ** 20
