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
"""The life cycle of both nodes, through the services that `ros2 lifecycle` calls."""
import shutil

from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState

import pytest

from ros_harness import frame, graph
from weights_harness import copy_weights

from rcl_interfaces.srv import SetParameters  # noqa: I100

from rclpy.parameter import Parameter

from sensor_msgs.msg import CameraInfo, Image

from auv_image_codec.msg import LatentCode
from auv_image_codec.nodes.decoder_node import DecoderNode
from auv_image_codec.nodes.encoder_node import EncoderNode

CONFIGURE = Transition.TRANSITION_CONFIGURE
CLEANUP = Transition.TRANSITION_CLEANUP
ACTIVATE = Transition.TRANSITION_ACTIVATE
DEACTIVATE = Transition.TRANSITION_DEACTIVATE
NODES = [EncoderNode, DecoderNode]


def change(ros, node, transition) -> bool:
    """Ask for a transition; return whether it succeeded."""
    request = ChangeState.Request()
    request.transition.id = transition
    return ros.call(ChangeState, f'/{node.get_name()}/change_state', request).success


def state(ros, node) -> int:
    """Return the state that the node tells."""
    return ros.call(GetState, f'/{node.get_name()}/get_state',
                    GetState.Request()).current_state.id


def set_parameter(ros, node, name, value):
    """Set a parameter as `ros2 param set` does; return the result."""
    request = SetParameters.Request(
        parameters=[Parameter(name, value=value).to_parameter_msg()])
    return ros.call(SetParameters, f'/{node.get_name()}/set_parameters', request).results[0]


@pytest.mark.parametrize('node_class', NODES)
def test_without_autostart_nothing_happens_until_asked(node_class):
    with graph() as ros:
        node = ros.add(node_class, autostart=False)
        ros.spin_for(0.5)
        assert state(ros, node) == State.PRIMARY_STATE_UNCONFIGURED
        assert node.codec is None
        assert change(ros, node, CONFIGURE)
        assert state(ros, node) == State.PRIMARY_STATE_INACTIVE
        assert change(ros, node, ACTIVATE)
        assert state(ros, node) == State.PRIMARY_STATE_ACTIVE


def cut_off(folder):
    for part in folder.iterdir():
        part.write_bytes(part.read_bytes()[:1000])


def swap(folder):
    encoder, decoder = folder / 'encoder.safetensors', folder / 'decoder.safetensors'
    encoder.rename(folder / 'x')
    decoder.rename(encoder)
    (folder / 'x').rename(decoder)


def remove(folder):
    shutil.rmtree(folder)


@pytest.mark.parametrize('damage', [cut_off, swap, remove])
@pytest.mark.parametrize('node_class', NODES)
def test_bad_weights_fail_to_configure_and_can_be_mended(node_class, damage, tmp_path):
    folder = copy_weights(tmp_path / 'weights')
    damage(folder)
    with graph() as ros:
        node = ros.add(node_class, codec='autoencoder', weights=str(folder))
        name = f'/{node.get_name()}: camera'
        status, values = ros.last_status(name)
        assert status.level == b'\x02' and str(folder) in status.message
        assert values['state'] == 'unconfigured'
        assert state(ros, node) == State.PRIMARY_STATE_UNCONFIGURED
        assert not change(ros, node, CONFIGURE)
        shutil.rmtree(folder, ignore_errors=True)
        copy_weights(folder)
        assert change(ros, node, CONFIGURE)
        assert change(ros, node, ACTIVATE)
        ros.last_status(name)
        status, values = ros.last_status(name)
        assert (status.level, values['state']) == (b'\x00', 'active')


@pytest.mark.parametrize('node_class', NODES)
def test_wrong_settings_fail_to_configure_and_can_be_mended_by_parameter(node_class):
    with graph() as ros:
        node = ros.add(node_class, codec='hologram', weights='/nowhere', device='abacus',
                       autostart=False)
        for name, value in (('codec', 'autoencoder'), ('weights', ''), ('device', 'cpu')):
            assert not change(ros, node, CONFIGURE)
            assert state(ros, node) == State.PRIMARY_STATE_UNCONFIGURED
            assert set_parameter(ros, node, name, value).successful
        assert change(ros, node, CONFIGURE)
        result = set_parameter(ros, node, 'device', 'cuda')
        assert not result.successful and 'clean up' in result.reason


def test_a_bad_calibration_fails_to_configure_and_can_be_mended():
    with graph() as ros:
        node = ros.add(DecoderNode, camera__camera_info_url='/nowhere.yaml', autostart=False)
        assert not change(ros, node, CONFIGURE)
        assert set_parameter(ros, node, 'camera.camera_info_url', '').successful
        assert change(ros, node, CONFIGURE)


def topics_of(node):
    """Return the topics of a node that are not every node's."""
    everywhere = ('/parameter_events', '/rosout', '/diagnostics', 'transition_event')
    pairs = [*node.get_publisher_names_and_types_by_node(node.get_name(), node.get_namespace()),
             *node.get_subscriber_names_and_types_by_node(node.get_name(), node.get_namespace())]
    return sorted(topic for topic, _ in pairs if not topic.endswith(everywhere))


def test_encoder_can_be_cycled_and_releases_everything():
    with graph() as ros:
        node = ros.add(EncoderNode, autostart=False, image_reliability='reliable')
        images, latents = ros.publisher(Image, 'image'), ros.collect(LatentCode, 'latent')
        for round_ in range(4):
            assert change(ros, node, CONFIGURE)
            assert topics_of(node) == ['/latent']
            for _ in range(2):
                assert change(ros, node, ACTIVATE)
                assert ros.connected(images)
                count = len(latents)
                images.publish(frame())
                assert ros.spin_until(lambda: len(latents) > count)
                assert change(ros, node, DEACTIVATE)
                assert topics_of(node) == ['/latent']
                assert ros.spin_until(lambda: images.get_subscription_count() == 0)
            assert change(ros, node, CLEANUP)
            assert topics_of(node) == [] and node.codec is None
            assert len(list(node.timers)) == 1, 'only the timer of the diagnostics may stay'
        assert node.statistics['camera'].frames_done == 8


def test_decoder_can_be_cycled_and_releases_everything():
    with graph() as ros:
        encoder = ros.add(EncoderNode, image_reliability='reliable')
        node = ros.add(DecoderNode, autostart=False)
        images, pictures = ros.publisher(Image, 'image'), ros.collect(Image, 'reconstructed/image')
        ros.collect(CameraInfo, 'reconstructed/camera_info')
        ros.start(encoder)
        outputs = ['/enhanced/camera_info', '/enhanced/image',
                   '/reconstructed/camera_info', '/reconstructed/image']
        for round_ in range(3):
            assert change(ros, node, CONFIGURE)
            assert topics_of(node) == outputs
            for _ in range(2):
                assert change(ros, node, ACTIVATE)
                assert topics_of(node) == sorted(['/camera_info', '/latent', *outputs])
                assert ros.connected(images)
                assert ros.spin_until(
                    lambda: node.cameras[0].reconstructed.image_publisher.get_subscription_count())
                count = len(pictures)
                images.publish(frame(round_))
                assert ros.spin_until(lambda: len(pictures) > count)
                assert change(ros, node, DEACTIVATE)
                assert ros.spin_until(lambda: images.get_subscription_count() == 0)
            assert change(ros, node, CLEANUP)
            assert topics_of(node) == [] and node.codec is None
        assert node.statistics['camera'].frames_done == 6


@pytest.mark.parametrize('node_class', NODES)
@pytest.mark.parametrize('steps, transition', [
    ([], Transition.TRANSITION_UNCONFIGURED_SHUTDOWN),
    ([CONFIGURE], Transition.TRANSITION_INACTIVE_SHUTDOWN),
    ([CONFIGURE, ACTIVATE], Transition.TRANSITION_ACTIVE_SHUTDOWN)])
def test_shuts_down_from_every_state(node_class, steps, transition):
    with graph() as ros:
        node = ros.add(node_class, autostart=False)
        for step in steps:
            assert change(ros, node, step)
        assert change(ros, node, transition)
        assert state(ros, node) == State.PRIMARY_STATE_FINALIZED
        assert topics_of(node) == [] and node.codec is None
        assert not change(ros, node, CONFIGURE)


@pytest.mark.parametrize('node_class', NODES)
def test_transitions_that_do_not_fit_the_state_are_refused(node_class):
    with graph() as ros:
        node = ros.add(node_class, autostart=False)
        assert not change(ros, node, ACTIVATE)
        assert not change(ros, node, CLEANUP)
        assert change(ros, node, CONFIGURE)
        assert not change(ros, node, CONFIGURE)
        assert not change(ros, node, DEACTIVATE)
        assert state(ros, node) == State.PRIMARY_STATE_INACTIVE
