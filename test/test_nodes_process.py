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
"""Both nodes as their own processes: start, talk, stop."""
import contextlib
from importlib import import_module
import random
import signal

import pytest

from ros_harness import (
    frame, Graph, header, node_process, numbers, PATIENCE, picture, ROOT, stop, wait_for_line)

import numpy as np  # noqa: I100

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.parameter import Parameter
from rclpy.serialization import serialize_message

from sensor_msgs.msg import Image

from unshared import new_domain

from auv_image_codec.msg import LatentCode
from auv_image_codec.nodes.decoder_node import DecoderNode
from auv_image_codec.nodes.image_conversion import image_to_rgb, rgb_to_image
from auv_image_codec.nodes.node_base import RCLError, spin

NODES = ['encoder_node', 'decoder_node']


@pytest.fixture
def ros():
    """Yield a graph in this process."""
    result = Graph()
    yield result
    result.close()


def refusal(monkeypatch, capfd, name: str, *arguments: str) -> str:
    """Start a node in this process, which it must refuse with status 1; return its output."""
    monkeypatch.setenv('ROS_DOMAIN_ID', str(new_domain()))
    main = import_module(f'auv_image_codec.nodes.{name}').main
    assert main([name, '--ros-args', *arguments]) == 1
    output, errors = capfd.readouterr()
    assert 'Traceback' not in output + errors
    return errors


@pytest.mark.parametrize('signal_number', [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize('name', NODES)
def test_stops_cleanly_when_interrupted(ros, name, signal_number):
    with node_process(name, ros.domain) as process:
        wait_for_line(process, 'configured: codec wavelet')
        ros.wait_for_state(f'/{name}: camera', 'active')
        stop(process, number=signal_number)


@pytest.mark.parametrize('name', NODES)
def test_stops_cleanly_before_it_is_configured(ros, name):
    with node_process(name, ros.domain, '-p', 'autostart:=false') as process:
        ros.wait_for_state(f'/{name}: camera', 'unconfigured')
        stop(process)


@pytest.mark.parametrize('name', NODES)
def test_missing_weights_are_one_clear_line_and_no_crash(ros, name):
    with node_process(name, ros.domain, '-p', 'weights:=/nowhere/at/all') as process:
        read = wait_for_line(process, 'not started')
        assert '/nowhere/at/all' in read and 'Traceback' not in read
        assert ros.spin_until(
            lambda: ros.last_status(f'/{name}: camera')[0].level == b'\x02')
        stop(process)


@pytest.mark.parametrize('arguments, words', [
    (['-p', 'max_bytes:=1'], 'max_bytes'),
    (['-p', 'max_rate:=5'], 'max_rate'),
    (['-p', 'cameras:=[a, a]'], 'cameras'),
    (['-r', '__node:=not a name'], 'not a name'),
    (['--params-file', '/nowhere.yaml'], 'nowhere.yaml'),
    (['--nonsense'], '--nonsense'),
])
def test_bad_arguments_are_said_and_end_with_status_1(monkeypatch, capfd, arguments, words):
    assert words in refusal(monkeypatch, capfd, 'encoder_node', *arguments)


def test_the_status_is_that_of_the_process():
    with node_process('encoder_node', new_domain(), '--nonsense') as process:
        output, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 1
        assert '--nonsense' in output and 'Traceback' not in output


def test_goes_on_when_the_middleware_raises():
    rclpy.init(args=[], domain_id=new_domain())
    node = DecoderNode(parameter_overrides=[Parameter('autostart', value=False)])
    calls = []

    def raise_once_and_stop_later():
        calls.append(len(calls))
        if len(calls) == 1:
            raise RCLError('failed to take message')
        if len(calls) == 3:
            rclpy.shutdown()
    node.every(0.01, raise_once_and_stop_later)
    with contextlib.suppress(ExternalShutdownException):
        spin(node)
    assert len(calls) >= 3
    node.destroy_node()


@pytest.mark.parametrize('namespace', ['/', '/auv/front'])
@pytest.mark.parametrize('name, file', [
    ('encoder_node', 'vehicle.yaml'), ('decoder_node', 'surface.yaml')])
def test_parameter_files_reach_the_node_in_any_namespace(
        monkeypatch, capfd, tmp_path, name, file, namespace):
    path = tmp_path / file
    path.write_text((ROOT / 'config' / file).read_text().replace('threads: 1', 'threads: 999'))
    output = refusal(monkeypatch, capfd, name, '--params-file', str(path),
                     '-r', f'__ns:={namespace}')
    assert 'threads' in output and '999' in output


def test_survives_bytes_that_are_no_message(ros):
    with node_process('decoder_node', ros.domain, '-p',
                      'qos_overrides./latent.subscription.depth:=100') as process:
        codes = ros.publisher(LatentCode, 'latent')
        assert ros.connected(codes)
        generator = random.Random(5)
        # Valid but for its strings: these must arrive, and be refused by name.
        message = serialize_message(LatentCode(codec='abcdefgh'))
        text = message.index(b'abcdefgh')
        for _ in range(20):
            codes.publish(bytes([0, 1, 0, 0]) + generator.randbytes(generator.randrange(100)))
            codes.publish(message[:generator.randrange(len(message))])
            codes.publish(message[:text] + generator.randbytes(8) + message[text + 8:])
        ros.last_status('/decoder_node: camera')
        assert ros.spin_until(lambda: int(
            ros.last_status('/decoder_node: camera')[1].get('error_unknown_codec', 0)) >= 20)
        stop(process)


def test_images_cross_two_processes_with_their_stamps(ros):
    parameters = str(ROOT / 'config' / 'vehicle.yaml')
    with node_process('encoder_node', ros.domain, '--params-file', parameters,
                      '-p', 'image_reliability:=reliable', '-p', 'image_queue_depth:=100',
                      '-r', 'image:=/sensors/front') as encoder, \
            node_process('decoder_node', ros.domain, '--params-file',
                         str(ROOT / 'config' / 'surface.yaml')) as decoder:
        source = ros.publisher(Image, '/sensors/front')
        pictures = ros.collect(Image, 'reconstructed/image')
        assert ros.last_status('/encoder_node: camera')
        assert ros.last_status('/decoder_node: camera')
        assert ros.connected(source)
        # The decoder may not have found this process yet: until it has, it decodes nothing.
        assert ros.spin_until(
            lambda: source.publish(frame(0)) or ros.spin_for(0.1) or pictures)
        grey = np.full((48, 80, 3), (90, 120, 100), np.uint8)
        source.publish(Image(header=header(98)))
        source.publish(rgb_to_image(grey, header(1, 'front_optical')))
        source.publish(rgb_to_image(picture(2), header(2, 'front_optical')))
        assert ros.spin_until(lambda: {1, 2} <= set(numbers(pictures)))
        pictures = [image for image in pictures if numbers([image]) != [0]]
        assert numbers(pictures) == [1, 2]
        assert [(image.width, image.height) for image in pictures] == [(80, 48), (96, 64)]
        assert {image.header.frame_id for image in pictures} == {'front_optical'}
        assert {image.header.stamp.nanosec for image in pictures} == {123_456_789}
        # Trained weights give a flat picture back nearly as it was.
        assert np.abs(image_to_rgb(pictures[0]).astype(int) - grey).mean() < 12
        stop(encoder, decoder)
