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
"""Parameters of the nodes: described, ranged, checked, and listed in config/."""
import math

import pytest

from ros_harness import graph, ROOT

from rcl_interfaces.msg import ParameterType  # noqa: I100
from rcl_interfaces.srv import ListParameters

from rclpy.exceptions import ParameterException
from rclpy.parameter import Parameter

import yaml

from auv_image_codec.nodes.decoder_node import DecoderNode
from auv_image_codec.nodes.encoder_node import EncoderNode
from auv_image_codec.nodes.link_receiver_node import LinkReceiverNode
from auv_image_codec.nodes.link_sender_node import LinkSenderNode
from auv_image_codec.nodes.link_simulator_node import LinkSimulatorNode

NODES = {'encoder_node': EncoderNode, 'decoder_node': DecoderNode,
         'link_sender_node': LinkSenderNode, 'link_receiver_node': LinkReceiverNode,
         'link_simulator_node': LinkSimulatorNode}
CONFIG = {'encoder_node': 'vehicle.yaml', 'decoder_node': 'surface.yaml',
          'link_sender_node': 'vehicle.yaml', 'link_receiver_node': 'surface.yaml',
          'link_simulator_node': 'vehicle.yaml'}
OF_EVERY_NODE = ('use_sim_time', 'start_type_description_service', 'qos_overrides.')


def own_parameters(ros, node):
    """Return the names of the parameters that are not every ROS node's, as tools see them."""
    response = ros.call(
        ListParameters, f'/{node.get_name()}/list_parameters', ListParameters.Request())
    return sorted(
        name for name in response.result.names if not name.startswith(OF_EVERY_NODE))


@pytest.mark.parametrize('name', sorted(NODES))
def test_every_parameter_is_described(name):
    with graph() as ros:
        node = ros.add(NODES[name], cameras=['front', 'down'], autostart=False)
        names = own_parameters(ros, node)
        assert len(names) > 10
        for descriptor in node.describe_parameters(names):
            assert len(descriptor.description) > 15, descriptor.name
            assert descriptor.description.endswith('.'), descriptor.name
            if descriptor.type == ParameterType.PARAMETER_INTEGER:
                assert len(descriptor.integer_range) == 1, descriptor.name
            if descriptor.type == ParameterType.PARAMETER_DOUBLE:
                assert len(descriptor.floating_point_range) == 1, descriptor.name
            documented = descriptor.name.replace('front.', 'NAME.').replace('down.', 'NAME.')
            assert f'| `{documented}` |' in (ROOT / 'docs' / 'nodes.md').read_text(), \
                f'docs/nodes.md has no row for {documented}'


def flat(values, prefix=''):
    """Return nested parameters as {'a.b': value}."""
    result = {}
    for key, value in values.items():
        if isinstance(value, dict):
            result.update(flat(value, f'{prefix}{key}.'))
        else:
            result[prefix + key] = value
    return result


@pytest.mark.parametrize('name', sorted(NODES))
def test_config_lists_every_parameter_with_its_default(name):
    document = yaml.safe_load((ROOT / 'config' / CONFIG[name]).read_text())
    listed = flat(document[f'/**/{name}']['ros__parameters'])
    with graph() as ros:
        node = ros.add(NODES[name], autostart=False)
        declared = {key: node.get_parameter(key).value for key in own_parameters(ros, node)}
        declared['autostart'] = True
        assert listed == declared
        assert {key: type(value) for key, value in listed.items()} \
            == {key: type(value) for key, value in declared.items()}


BAD_SETTINGS = [
    ('encoder_node', 'max_bytes', 0), ('encoder_node', 'max_bytes', 4097),
    ('encoder_node', 'max_bytes', 500.0), ('encoder_node', 'max_bytes', 'many'),
    ('encoder_node', 'max_rate', -0.1), ('encoder_node', 'max_rate', math.nan),
    ('encoder_node', 'max_rate', math.inf), ('encoder_node', 'max_rate', 1001.0),
    ('encoder_node', 'byte_rate', -1.0), ('encoder_node', 'byte_rate', math.nan),
    ('encoder_node', 'camera.priority', 0), ('encoder_node', 'camera.priority', 1001),
    ('encoder_node', 'camera.index', 3), ('encoder_node', 'camera.latent', 'elsewhere'),
    ('encoder_node', 'cameras', ['other']), ('encoder_node', 'transport', 'compressed'),
    ('encoder_node', 'image_queue_depth', 5), ('encoder_node', 'image_reliability', 'reliable'),
    ('decoder_node', 'max_image_pixels', 0), ('decoder_node', 'max_image_pixels', 2 ** 31),
    ('decoder_node', 'codec', 'hologram'), ('decoder_node', 'threads', -1),
    ('decoder_node', 'autostart', True), ('decoder_node', 'enhance', 'perhaps'),
    ('decoder_node', 'camera.enhanced_image', 'elsewhere'),
    ('link_sender_node', 'link_rate', 0.5), ('link_sender_node', 'link_rate', -1.0),
    ('link_sender_node', 'redundancy', 2.1), ('link_sender_node', 'max_bytes', 31),
    ('link_sender_node', 'listen_time', -2.0), ('link_sender_node', 'queue_packets', 0),
    ('link_sender_node', 'store_packets', 65), ('link_sender_node', 'udp_peer', 'nowhere'),
    ('link_sender_node', 'udp_peer', 'host:99999'), ('link_sender_node', 'destination', 256),
    ('link_sender_node', 'transport', 'frames'), ('link_sender_node', 'camera.priority', 0),
    ('link_receiver_node', 'settle_time', 30.0), ('link_receiver_node', 'reorder_time', -1.0),
    ('link_receiver_node', 'most_packets', 129), ('link_receiver_node', 'resend_requests', -1),
    ('link_receiver_node', 'camera.frame_id', 'other'),
    ('link_simulator_node', 'loss', 1.1), ('link_simulator_node', 'delay', -2.0),
    ('link_simulator_node', 'seed', -1), ('link_simulator_node', 'vehicle_bind', ':5'),
]


@pytest.fixture(scope='module')
def unconfigured():
    """Yield one node of each kind, not started."""
    with graph() as ros:
        yield {name: ros.add(node_class, autostart=False) for name, node_class in NODES.items()}


@pytest.mark.parametrize('name, parameter, value', BAD_SETTINGS)
def test_bad_values_are_refused_with_a_reason(unconfigured, name, parameter, value):
    node = unconfigured[name]
    before = node.get_parameter(parameter).value
    result = node.set_parameters([Parameter(parameter, value=value)])[0]
    assert not result.successful
    assert result.reason
    assert node.get_parameter(parameter).value == before


def test_several_parameters_are_set_all_or_none(unconfigured):
    node = unconfigured['encoder_node']
    result = node.set_parameters_atomically(
        [Parameter('max_bytes', value=200), Parameter('max_rate', value=-1.0)])
    assert not result.successful
    assert node.get_parameter('max_bytes').value == 500


def test_parameters_cannot_be_removed(unconfigured):
    node = unconfigured['encoder_node']
    result = node.set_parameters([Parameter('max_bytes', Parameter.Type.NOT_SET)])[0]
    assert not result.successful
    assert node.get_parameter('max_bytes').value == 500


BAD_STARTS = [
    ('encoder_node', {'max_bytes': 1}, 'max_bytes'),
    ('encoder_node', {'max_bytes': 'many'}, 'max_bytes'),
    ('encoder_node', {'transport': 'smoke'}, 'raw, compressed'),
    ('encoder_node', {'image_reliability': 'sometimes'}, 'best_effort, reliable'),
    ('encoder_node', {'image_queue_depth': 1001}, 'image_queue_depth'),
    ('encoder_node', {'cameras': ['a', 'a']}, 'repeat'),
    ('encoder_node', {'cameras': ['front camera']}, 'front camera'),
    ('encoder_node', {'cameras': ['']}, 'not a camera name'),
    ('encoder_node', {'cameras': list('abcdefghi')}, '9 cameras'),
    ('encoder_node', {'cameras': ['a', 'b'], 'b__index': 0}, 'b.index'),
    ('encoder_node', {'cameras': ['a', 'b'], 'b__image': 'a/image'}, 'b.image'),
    ('encoder_node', {'cameras': ['a', 'b'], 'b__image': '/a/image'}, 'b.image'),
    ('encoder_node', {'cameras': ['a', 'b'], 'b__latent': 'a/latent'}, 'b.latent'),
    ('encoder_node', {'camera__index': 8}, 'camera.index'),
    ('encoder_node', {'camera__image': 'no topic'}, 'camera.image'),
    ('encoder_node', {'camera__transport': 'theora'}, 'theora'),
    ('decoder_node', {'cameras': ['a', 'b'], 'b__latent': 'a/latent'}, 'b.latent'),
    ('decoder_node', {'cameras': ['a', 'b'], 'b__reconstructed_image': 'a/reconstructed/image'},
     'b.reconstructed_image'),
    ('decoder_node', {'cameras': ['a', 'b'], 'a__reconstructed_image': 'x/a',
                      'b__reconstructed_image': 'x/b'}, 'b.reconstructed_image'),
    ('decoder_node', {'camera__reconstructed_image': 'picture'}, 'camera.reconstructed_image'),
    ('decoder_node', {'camera__enhanced_image': 'reconstructed/picture'},
     'camera.enhanced_image'),
    ('decoder_node', {'enhance': 'perhaps'}, 'auto, always, never'),
    ('decoder_node', {'max_image_pixels': -5}, 'max_image_pixels'),
    ('link_sender_node', {'transport': 'smoke'}, 'udp, frames'),
    ('link_sender_node', {'udp_bind': 'here'}, 'HOST:PORT'),
    ('link_sender_node', {'cameras': ['a', 'b'], 'b__index': 0}, 'b.index'),
    ('link_sender_node', {'cameras': ['a', 'b'], 'b__latent': 'a/latent'}, 'b.latent'),
    ('link_receiver_node', {'cameras': ['a', 'b'], 'b__latent': 'a/latent'}, 'b.latent'),
    ('link_receiver_node', {'most_packets': 0}, 'most_packets'),
    ('link_simulator_node', {'transport': 'smoke'}, 'udp, frames'),
]


@pytest.mark.parametrize('name, parameters, words', BAD_STARTS)
def test_bad_start_values_name_the_parameter(name, parameters, words):
    with graph() as ros:
        with pytest.raises(ParameterException) as caught:
            ros.add(NODES[name], **parameters)
        assert words in str(caught.value)


def test_an_unknown_codec_is_refused_when_set_but_not_at_start(unconfigured):
    with graph() as ros:
        node = ros.add(EncoderNode, codec='hologram', autostart=False)
        assert node.get_parameter('codec').value == 'hologram'
        result = node.set_parameters([Parameter('codec', value='holograms')])[0]
        assert not result.successful and 'autoencoder' in result.reason
