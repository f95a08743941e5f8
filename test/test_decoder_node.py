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
"""The decoder's node, with real messages over DDS."""
import array
import random
import threading

from enhancer_harness import write_tiny_enhancer

import pytest

from ros_harness import errors, graph, header, numbers, picture, RELIABLE

import numpy as np  # noqa: I100

from sensor_msgs.msg import CameraInfo, Image

from auv_image_codec.codecs import create_codec
from auv_image_codec.codecs.enhancer import Enhancer
from auv_image_codec.codecs.packet import OVERHEAD_BYTES
from auv_image_codec.msg import LatentCode
from auv_image_codec.nodes.decoder_node import DecoderNode
from auv_image_codec.nodes.image_conversion import image_to_rgb
from auv_image_codec.nodes.latent_conversion import latent_to_message


@pytest.fixture(scope='module')
def codec():
    return create_codec()


@pytest.fixture(scope='module')
def latent(codec):
    return codec.encode(picture())


@pytest.fixture(scope='module')
def running():
    """Yield a graph with an active decoder that somebody looks at."""
    with graph() as ros:
        node = ros.add(DecoderNode, max_image_pixels=10 ** 6)
        codes = ros.publisher(LatentCode, 'latent')
        images = ros.collect(Image, 'reconstructed/image')
        ros.start(node)
        assert ros.connected(codes)
        wait_for_viewers(ros, node)
        yield ros, node, codes, images


def wait_for_viewers(ros, node):
    """Run until the decoder knows that somebody receives its images."""
    for camera in node.cameras:
        assert ros.spin_until(
            lambda: camera.reconstructed.image_publisher.get_subscription_count() > 0)


def decode_one(ros, codes, images, message):
    """Publish a latent and return its reconstruction."""
    count = len(images)
    codes.publish(message)
    assert ros.spin_until(lambda: len(images) > count)
    return images[-1]


def code(codec, latent, number=0, width=96, height=64):
    """Return a LatentCode message."""
    return latent_to_message(codec, latent, header(number), number, width, height)


@pytest.mark.parametrize('width, height', [(96, 64), (1, 1), (224, 224), (640, 480), (3, 500)])
def test_reconstruction_has_the_sources_header_and_size(running, codec, latent, width, height):
    ros, node, codes, images = running
    message = code(codec, latent, width, width, height)
    image = decode_one(ros, codes, images, message)
    assert image.header == message.header
    assert (image.width, image.height, image.encoding) == (width, height, 'rgb8')
    np.testing.assert_array_equal(image_to_rgb(image), codec.decode(latent, (width, height)))


def changed(**fields):
    def change(message):
        for name, value in fields.items():
            setattr(message, name, value)
    return change


HOSTILE = {
    'an empty message': (lambda message: LatentCode(), 'unknown_codec'),
    'another codec': (changed(codec='hologram'), 'unknown_codec'),
    'a very long codec name': (changed(codec='x' * 100000), 'unknown_codec'),
    'other weights': (changed(model_id=1), 'unknown_model'),
    'too few values': (changed(latent=array.array('B', bytes(499)), latent_dim=499),
                       'invalid_latent'),
    'too many values': (changed(latent=array.array('B', bytes(4096)), latent_dim=4096),
                        'invalid_latent'),
    'no values': (changed(latent=array.array('B'), latent_dim=0), 'invalid_latent'),
    'another dimension than it says': (changed(latent_dim=3), 'invalid_latent'),
    'zero width': (changed(image_width=0), 'zero_size'),
    'zero height': (changed(image_height=0), 'zero_size'),
    'an enormous size': (changed(image_width=65535, image_height=65535), 'image_too_large'),
    'one pixel too many': (changed(image_width=1000, image_height=1001), 'image_too_large'),
}


@pytest.mark.parametrize('name', sorted(HOSTILE))
def test_hostile_latent_is_counted_and_the_next_one_is_decoded(running, codec, latent, name):
    ros, node, codes, images = running
    change, kind = HOSTILE[name]
    message = code(codec, latent)
    message = change(message) or message
    before, count = errors(node), len(images)
    codes.publish(message)
    assert ros.spin_until(lambda: errors(node) != before)
    assert errors(node) - before == {kind: 1}
    image = decode_one(ros, codes, images, code(codec, latent, 5))
    assert len(images) == count + 1 and numbers([image]) == [5]


def test_survives_two_hundred_random_latents(running, codec, latent):
    ros, node, codes, images = running
    generator = random.Random(17)
    before_in = node.statistics['camera'].frames_in
    before_done, before_errors = node.statistics['camera'].frames_done, sum(errors(node).values())
    for number in range(200):
        message = LatentCode(header=header(number, 'x' * generator.choice([0, 3, 5000])))
        message.header.stamp.sec = generator.choice([-2 ** 31, -1, 0, 1, 2 ** 31 - 1])
        message.header.stamp.nanosec = generator.choice([0, 2 ** 32 - 1])
        message.codec = generator.choice([codec.name, codec.name, '', '\u2603', 'JPEG'])
        message.model_id = generator.choice([codec.model_id, codec.model_id, 0, 2 ** 32 - 1])
        message.sequence = generator.randrange(2 ** 32)
        message.image_width = generator.choice([0, 1, 64, 224, 65535])
        message.image_height = generator.choice([0, 1, 48, 224, 65535])
        length = generator.choice([0, 1, 499, 500, 500, 500, 501, 4096])
        message.latent_dim = generator.choice([length, length, length, 0, 65535])
        message.latent = array.array('B', generator.randbytes(length))
        if generator.random() < 0.5:            # as large as it could be
            message.latent[:2] = array.array('B', latent[:2].tobytes())[:length]
        codes.publish(message)
        assert ros.spin_until(
            lambda: node.statistics['camera'].frames_in == before_in + number + 1)
    statistics = node.statistics['camera']
    decoded = statistics.frames_done - before_done
    assert decoded > 0 and decoded + sum(errors(node).values()) - before_errors == 200
    assert 'internal' not in errors(node)
    image = decode_one(ros, codes, images, code(codec, latent, 6))
    np.testing.assert_array_equal(image_to_rgb(image), codec.decode(latent, (96, 64)))


def test_unknown_model_is_said_once_and_counted_every_time(codec, latent):
    with graph() as ros:
        node = ros.add(DecoderNode)
        lines = []
        log = node.get_logger()
        node._log_defect._log = lambda line: (lines.append(line), log.warning(line))
        codes = ros.publisher(LatentCode, 'latent')
        ros.start(node)
        assert ros.connected(codes)
        for number in range(20):
            message = code(codec, latent, number)
            message.model_id ^= 1
            codes.publish(message)
            assert ros.spin_until(lambda: errors(node)['unknown_model'] == number + 1)
        assert len(lines) == 1
        assert f'{codec.model_id:08x}' in lines[0] and f'{codec.model_id ^ 1:08x}' in lines[0]


def test_decodes_only_while_somebody_looks(codec, latent):
    with graph() as ros:
        node = ros.add(DecoderNode)
        codes = ros.publisher(LatentCode, 'latent')
        ros.start(node)
        assert ros.connected(codes)
        codes.publish(code(codec, latent))
        statistics = node.statistics['camera']
        assert ros.spin_until(lambda: statistics.frames_in == 1)
        assert (statistics.frames_skipped, statistics.frames_done) == (1, 0)
        images = ros.collect(Image, 'reconstructed/image')
        wait_for_viewers(ros, node)
        decode_one(ros, codes, images, code(codec, latent))
        assert statistics.frames_done == 1


def test_diagnostics_tell_what_happened(codec, latent):
    with graph() as ros:
        node = ros.add(DecoderNode)
        codes = ros.publisher(LatentCode, 'latent')
        images = ros.collect(Image, 'reconstructed/image')
        ros.start(node)
        assert ros.connected(codes)
        wait_for_viewers(ros, node)
        for number in range(3):
            decode_one(ros, codes, images, code(codec, latent, number))
        ros.last_status('/decoder_node: camera')
        status, values = ros.last_status('/decoder_node: camera')
        assert status.level == b'\x00'
        assert status.hardware_id == f'{codec.name}/{codec.model_id:08x}'
        size = OVERHEAD_BYTES + len(codec.payload_from_latent(latent))
        assert (values['frames_in'], values['frames_decoded']) == ('3', '3')
        assert int(values['bytes_total']) == 3 * size
        assert 0 < float(values['decode_ms_mean']) <= float(values['decode_ms_max'])
        codes.publish(LatentCode())
        assert ros.spin_until(lambda: errors(node))
        ros.last_status('/decoder_node: camera')
        _, values = ros.last_status('/decoder_node: camera')
        assert values['error_unknown_codec'] == '1'
        assert any(status.level == b'\x01' and 'errors: 1' in status.message
                   for message in ros.everything_diagnosed for status in message.status)


# --- Calibration --------------------------------------------------------------------------------

def calibration(width=640, height=480):
    """Return a calibration for a camera of another size than the pictures here."""
    return CameraInfo(
        width=width, height=height, distortion_model='plumb_bob', d=[0.1, 0.0, 0.0, 0.0, 0.0],
        k=[500.0, 0.0, 320.0, 0.0, 500.0, 240.0, 0.0, 0.0, 1.0],
        r=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        p=[500.0, 0.0, 320.0, 0.0, 0.0, 500.0, 240.0, 0.0, 0.0, 0.0, 1.0, 0.0])


def test_calibration_from_its_topic_is_scaled_and_stamped(codec, latent):
    with graph() as ros:
        node = ros.add(DecoderNode)
        codes = ros.publisher(LatentCode, 'latent')
        source = ros.publisher(CameraInfo, 'camera_info')
        images = ros.collect(Image, 'reconstructed/image')
        infos = ros.collect(CameraInfo, 'reconstructed/camera_info')
        ros.start(node)
        assert ros.connected(codes, source)
        wait_for_viewers(ros, node)
        assert ros.spin_until(
            lambda: node.cameras[0].reconstructed.info_publisher.get_subscription_count())
        decode_one(ros, codes, images, code(codec, latent, 1, 320, 120))
        assert not infos, 'a calibration is published before any is known'
        source.publish(calibration())
        assert ros.spin_until(lambda: node.cameras[0].calibration is not None)
        source.publish(CameraInfo())  # without a size: refused, the good one stays
        assert ros.spin_until(lambda: errors(node))
        assert errors(node) == {'calibration': 1}
        image = decode_one(ros, codes, images, code(codec, latent, 2, 320, 120))
        assert ros.spin_until(lambda: infos)
        assert infos[0].header == image.header
        assert (infos[0].width, infos[0].height) == (320, 120)
        assert list(infos[0].k) == [250.0, 0.0, 160.0, 0.0, 125.0, 60.0, 0.0, 0.0, 1.0]
        assert list(infos[0].d) == [0.1, 0.0, 0.0, 0.0, 0.0]


def test_calibration_from_a_file(codec, latent, tmp_path):
    path = tmp_path / 'front.yaml'
    path.write_text(
        'image_width: 96\nimage_height: 64\ndistortion_model: plumb_bob\n'
        'camera_matrix: {data: [80, 0, 48, 0, 80, 32, 0, 0, 1]}\n'
        'distortion_coefficients: {data: [0, 0, 0, 0, 0]}\n'
        'rectification_matrix: {data: [1, 0, 0, 0, 1, 0, 0, 0, 1]}\n'
        'projection_matrix: {data: [80, 0, 48, 0, 0, 80, 32, 0, 0, 0, 1, 0]}\n')
    with graph() as ros:
        node = ros.add(DecoderNode, cameras=['front', 'down'],
                       front__camera_info_url=path.as_uri())
        codes = {name: ros.publisher(LatentCode, f'{name}/latent') for name in ('front', 'down')}
        images = {name: ros.collect(Image, f'{name}/reconstructed/image')
                  for name in ('front', 'down')}
        infos = {name: ros.collect(CameraInfo, f'{name}/reconstructed/camera_info')
                 for name in ('front', 'down')}
        ros.start(node)
        assert ros.connected(*codes.values())
        wait_for_viewers(ros, node)
        assert ros.spin_until(lambda: all(
            camera.reconstructed.info_publisher.get_subscription_count()
            for camera in node.cameras))
        for name in ('down', 'front'):
            decode_one(ros, codes[name], images[name], code(codec, latent, 3))
        assert ros.spin_until(lambda: infos['front'])
        assert numbers(infos['front']) == [3] and list(infos['front'][0].k)[0] == 80.0
        assert not infos['down']


# --- Enhanced images ----------------------------------------------------------------------------

@pytest.fixture(scope='module')
def enhancer_weights(codec, tmp_path_factory):
    """Return a folder with weights of a tiny enhancer, which changes every image."""
    return write_tiny_enhancer(tmp_path_factory.mktemp('enhancer'), codec)


def test_enhanced_images_follow_the_reconstructions(codec, latent, enhancer_weights, monkeypatch):
    with graph() as ros:
        node = ros.add(DecoderNode, enhance='always', enhancer_weights=str(enhancer_weights))
        codes = ros.publisher(LatentCode, 'latent')
        source = ros.publisher(CameraInfo, 'camera_info')
        images = ros.collect(Image, 'reconstructed/image')
        enhanced = ros.collect(Image, 'enhanced/image')
        infos = ros.collect(CameraInfo, 'enhanced/camera_info')
        ros.start(node)
        assert ros.connected(codes, source)
        wait_for_viewers(ros, node)
        assert ros.spin_until(lambda: all(
            publisher.get_subscription_count() for publisher in (
                node.cameras[0].enhanced.image_publisher,
                node.cameras[0].enhanced.info_publisher)))
        source.publish(calibration())
        assert ros.spin_until(lambda: node.cameras[0].calibration is not None)
        message = code(codec, latent, 7, 320, 120)
        decoded, decode = [], node.codec.decode
        monkeypatch.setattr(node.codec, 'decode', lambda *arguments: (
            decoded.append(arguments), decode(*arguments))[1])
        reconstructed = decode_one(ros, codes, images, message)
        assert ros.spin_until(lambda: enhanced and infos)
        assert len(decoded) == 1        # what costs most serves both images
        assert enhanced[0].header == infos[0].header == message.header
        assert (infos[0].width, infos[0].height) == (320, 120)
        expected = Enhancer(codec, enhancer_weights).enhance(latent, (320, 120))
        np.testing.assert_array_equal(image_to_rgb(enhanced[0]), expected)
        assert not np.array_equal(expected, image_to_rgb(reconstructed))
        ros.last_status('/decoder_node: camera')
        _, values = ros.last_status('/decoder_node: camera')
        assert values['enhanced_image'] == 'synthesised'
        assert values['frames_enhanced'] == '1'
        assert float(values['enhance_ms_mean']) > 0


def test_enhances_only_while_somebody_looks(codec, latent, enhancer_weights):
    with graph() as ros:
        node = ros.add(DecoderNode, enhancer_weights=str(enhancer_weights))
        codes = ros.publisher(LatentCode, 'latent')
        images = ros.collect(Image, 'reconstructed/image')
        ros.start(node)
        assert ros.connected(codes)
        wait_for_viewers(ros, node)
        for number in range(3):
            decode_one(ros, codes, images, code(codec, latent, number))
        node._worker.stop()     # what it may have in work is done then
        assert node.enhancements['camera'].frames_done == 0
        node._worker.start()
        enhanced = ros.collect(Image, 'enhanced/image')
        assert ros.spin_until(
            lambda: node.cameras[0].enhanced.image_publisher.get_subscription_count())
        decode_one(ros, codes, images, code(codec, latent, 3))
        assert ros.spin_until(lambda: enhanced)
        assert numbers(enhanced) == [3]


def test_enhanced_images_alone_can_be_received(codec, latent, enhancer_weights):
    with graph() as ros:
        node = ros.add(DecoderNode, enhancer_weights=str(enhancer_weights))
        codes = ros.publisher(LatentCode, 'latent')
        enhanced = ros.collect(Image, 'enhanced/image')
        ros.start(node)
        assert ros.connected(codes)
        assert ros.spin_until(
            lambda: node.cameras[0].enhanced.image_publisher.get_subscription_count())
        codes.publish(code(codec, latent, 1))
        assert ros.spin_until(lambda: enhanced)
        assert node.statistics['camera'].frames_done == 0


def test_a_slow_enhancer_delays_no_reconstruction_and_drops_the_oldest(
        codec, latent, enhancer_weights, monkeypatch):
    enhance, go_on = Enhancer.enhance, threading.Event()

    def wait_and_enhance(*arguments):
        assert go_on.wait(60)
        return enhance(*arguments)
    monkeypatch.setattr(Enhancer, 'enhance', wait_and_enhance)
    with graph() as ros:
        node = ros.add(DecoderNode, enhancer_weights=str(enhancer_weights))
        codes = ros.publisher(LatentCode, 'latent')
        images = ros.collect(Image, 'reconstructed/image')
        enhanced = ros.collect(Image, 'enhanced/image')
        ros.start(node)
        assert ros.connected(codes)
        wait_for_viewers(ros, node)
        assert ros.spin_until(
            lambda: node.cameras[0].enhanced.image_publisher.get_subscription_count())
        try:
            decode_one(ros, codes, images, code(codec, latent, 0))
            assert ros.spin_until(lambda: not node._worker._jobs)   # the first is in work
            for number in range(1, 6):
                decode_one(ros, codes, images, code(codec, latent, number))
            assert not enhanced
        finally:
            go_on.set()
        assert ros.spin_until(lambda: len(enhanced) == 2)
        assert numbers(images) == [0, 1, 2, 3, 4, 5] and numbers(enhanced) == [0, 5]
        assert node.enhancements['camera'].frames_replaced == 4


@pytest.mark.parametrize('parameters, reason', [
    ({'enhance': 'never'}, 'off'),
    ({'enhance': 'auto', 'enhancer_weights': '/nowhere'}, 'off: /nowhere'),
])
def test_without_an_enhancer_there_is_no_topic(codec, latent, parameters, reason):
    with graph() as ros:
        node = ros.add(DecoderNode, **parameters)
        codes = ros.publisher(LatentCode, 'latent')
        images = ros.collect(Image, 'reconstructed/image')
        ros.start(node)
        assert ros.connected(codes)
        wait_for_viewers(ros, node)
        decode_one(ros, codes, images, code(codec, latent))
        assert not node.get_publishers_info_by_topic('/enhanced/image')
        _, values = ros.last_status('/decoder_node: camera')
        assert values['enhanced_image'].startswith(reason)


def test_an_enhancer_that_is_demanded_but_missing_fails_configure(codec, tmp_path):
    with graph() as ros:
        node = ros.add(DecoderNode, enhance='always', enhancer_weights=str(tmp_path))
        status, _ = ros.last_status('/decoder_node: camera')
        assert ros.spin_until(lambda: node._start_timer is None)
        status, _ = ros.last_status('/decoder_node: camera')
        assert status.level == b'\x02'
        assert node.state == 'unconfigured' and str(tmp_path) in status.message
        write_tiny_enhancer(tmp_path, codec)
        node.trigger_configure()
        node.trigger_activate()
        assert node.state == 'active'


# --- Several cameras ----------------------------------------------------------------------------

def test_each_camera_has_its_topics(codec, latent):
    with graph() as ros:
        node = ros.add(DecoderNode, cameras=['front', 'down'],
                       down__reconstructed_image='seabed/picture', down__latent='seabed/code')
        front, down = (ros.publisher(LatentCode, topic)
                       for topic in ('front/latent', 'seabed/code'))
        images = {'front': ros.collect(Image, 'front/reconstructed/image'),
                  'down': ros.collect(Image, 'seabed/picture')}
        ros.start(node)
        assert ros.connected(front, down)
        wait_for_viewers(ros, node)
        front.publish(code(codec, latent, 1))
        down.publish(code(codec, latent, 2))
        down.publish(LatentCode())
        assert ros.spin_until(lambda: all(images.values()) and errors(node, 'down'))
        assert numbers(images['front']) == [1] and numbers(images['down']) == [2]
        assert errors(node, 'down') == {'unknown_codec': 1} and not errors(node, 'front')
        assert [camera.reconstructed.info_topic for camera in node.cameras] \
            == ['front/reconstructed/camera_info', 'seabed/camera_info']


def test_default_subscribers_match_the_images(codec, latent):
    with graph() as ros:
        node = ros.add(DecoderNode)
        infos = []
        ros.collect(Image, 'reconstructed/image', RELIABLE)
        ros.start(node)
        assert ros.spin_until(lambda: infos or infos.extend(
            ros.tester.get_publishers_info_by_topic('/reconstructed/image')))
        assert infos[0].qos_profile.reliability == RELIABLE.reliability
