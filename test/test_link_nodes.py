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
"""Sender, receiver and simulator as nodes: latents cross as datagrams or messages."""
import array
import itertools
import math
import random
import socket
import time

import numpy as np
import pytest

from ros_harness import (
    errors, frame, graph, node_process, numbers, picture, stop, wait_for_line)

from lifecycle_msgs.msg import Transition  # noqa: I100
from lifecycle_msgs.srv import ChangeState

from rcl_interfaces.srv import SetParameters

from rclpy.parameter import Parameter

from sensor_msgs.msg import Image

from unshared import new_address, new_domain

from auv_image_codec.codecs import create_codec
from auv_image_codec.link.frames import build_frame, Frame, parse_frame
from auv_image_codec.link.requests import BudgetRequest, build_request, MoreRequest, ResendRequest
from auv_image_codec.msg import LatentCode, LinkRequest, ModemFrame
from auv_image_codec.nodes.encoder_node import EncoderNode
from auv_image_codec.nodes.latent_conversion import latent_to_message
from auv_image_codec.nodes.link_receiver_node import LinkReceiverNode
from auv_image_codec.nodes.link_sender_node import LinkSenderNode
from auv_image_codec.nodes.link_simulator_node import LinkSimulatorNode
from auv_image_codec.srv import SendLinkRequest

CODEC = 'autoencoder'


@pytest.fixture(scope='module')
def codec():
    """Return the codec that the nodes load too."""
    return create_codec(CODEC)


@pytest.fixture
def ros():
    """Yield a graph in this process."""
    with graph() as result:
        yield result


def message(codec, number: int = 0) -> LatentCode:
    """Return a latent of a picture, with the stamp of that number."""
    from ros_harness import header
    latent = codec.encode(picture(number, 320, 240))
    return latent_to_message(codec, latent, header(number), number, 320, 240)


@pytest.fixture(scope='module')
def ends():
    """Yield both ends of a link, for what leaves them as they are."""
    with graph() as result:
        yield Link(result)


class Link:
    """Sender and receiver in one graph, with or without the simulator between them."""

    def __init__(self, ros, sender=None, receiver=None, simulator=None):
        """Start them, and wait until they are active."""
        self.ros = ros
        vehicle, surface = new_address(), new_address()
        sender_peer, receiver_peer = surface, vehicle
        self.simulator = None
        if simulator is not None:
            sender_peer, receiver_peer = new_address(), new_address()
            self.simulator = ros.add(
                LinkSimulatorNode, vehicle_bind=sender_peer, vehicle_peer=vehicle,
                surface_bind=receiver_peer, surface_peer=surface, **simulator)
            ros.start(self.simulator)
        self.sender = ros.add(LinkSenderNode, codec=CODEC, **{
            'camera.latent': 'vehicle/latent', 'udp_bind': vehicle, 'udp_peer': sender_peer,
            'listen_time': 0.0, **(sender or {})})
        self.receiver = ros.add(LinkReceiverNode, codec=CODEC, **{
            'camera.latent': 'surface/latent', 'udp_bind': surface, 'udp_peer': receiver_peer,
            **(receiver or {})})
        ros.start(self.sender)
        ros.start(self.receiver)
        self.vehicle, self.surface = vehicle, surface
        self.source = ros.publisher(LatentCode, 'vehicle/latent')
        self.received = ros.collect(LatentCode, 'surface/latent')
        assert ros.connected(self.source)
        assert ros.spin_until(
            lambda: self.receiver.cameras[0].publisher.get_subscription_count())

    def ask(self, service='link/send_request', **request):
        """Call the service of a side."""
        return self.ros.call(SendLinkRequest, service, SendLinkRequest.Request(
            request=LinkRequest(**request)))

    def finish(self, packets: int) -> None:
        """Run until so many packets were sent, and all that came of them was shown."""
        assert self.ros.spin_until(
            lambda: self.sender._sender.counts.packets_sent == packets
            and self.sender._sender.seconds_until_next() == float('inf'))
        self.ros.spin_until_quiet(self.received, 2.0)

    def values(self, node):
        """Return the diagnostics of a node."""
        return self.ros.last_status(f'/{node.get_name()}: link')[1]


def sent_to(port: str, data: bytes) -> None:
    """Send a datagram from nobody in particular."""
    host, number = port.split(':')
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(data, (host, int(number)))


# --- Latents across ---------------------------------------------------------------------------

@pytest.mark.parametrize('profile', ['evologics_s2c_500', 'seatrac', 'micromodem_fdp_2048'])
def test_a_latent_crosses_unchanged(ros, codec, profile):
    link = Link(ros, {'profile': profile, 'link_rate': 1e6, 'camera.index': 3},
                {'camera.index': 3, 'camera.frame_id': 'front_optical'})
    original = message(codec, 300)
    link.source.publish(original)
    assert ros.spin_until(lambda: link.received)
    received, = link.received
    assert received.latent == original.latent and received.codec == CODEC
    assert received.model_id == original.model_id and received.completeness == 1.0
    assert (received.image_width, received.image_height) == (320, 240)
    assert received.header.frame_id == 'front_optical'
    assert received.sequence == 300 % 256       # the first one: nothing to count on from
    late = (original.header.stamp.nanosec - received.header.stamp.nanosec) / 1e9
    assert received.header.stamp.sec == original.header.stamp.sec and 0 <= late < 1 / 512
    link.source.publish(message(codec, 513))
    assert ros.spin_until(lambda: len(link.received) == 2)
    assert link.received[1].sequence == 513 % 256 + 0


def test_sequences_count_on_beyond_a_byte(ros, codec):
    link = Link(ros, {'link_rate': 1e6})
    for number in (250, 255, 257, 256, 300):
        link.source.publish(message(codec, number))
        ros.spin_until(lambda: len(numbers(link.received)) and
                       numbers(link.received)[-1] == number)
    assert [code.sequence for code in link.received] == [250, 255, 257, 256, 300]


def test_a_lossy_link_shows_what_came(ros, codec):
    """Each packet is several frames: most lose one, and are shown from their beginning."""
    link = Link(ros, {'profile': 'evologics_s2c_im', 'link_rate': 1e5, 'queue_packets': 100},
                {'settle_time': 0.5, 'reorder_time': 0.2},
                {'loss': 0.2, 'delay': 0.1, 'link_rate': 1e5, 'seed': 4})
    sent = {number: message(codec, number) for number in range(40)}
    for number in sent:
        link.source.publish(sent[number])
        ros.spin_for(0.06)
    link.finish(40)
    parts = [code for code in link.received if code.completeness < 1.0]
    assert parts and len(set(numbers(link.received))) >= 24
    for code in link.received:
        original = np.frombuffer(sent[numbers([code])[0]].latent, np.uint8)
        latent = np.frombuffer(code.latent, np.uint8)
        certain = int(code.completeness * 500 * 0.5)
        assert np.array_equal(latent[:certain], original[:certain])
        assert code.completeness < 1.0 or np.array_equal(latent, original)
        assert codec.decode(latent, (320, 240)).shape == (240, 320, 3)
    values = link.values(link.receiver)
    assert int(values['frames_lost']) > 0 and int(values['packets_complete']) > 0
    assert float(values['completeness_mean']) < 1.0
    assert int(ros.last_status('/link_simulator_node: down')[1]['frames_lost']) > 20


def test_parity_makes_up_for_lost_frames(ros, codec):
    link = Link(ros, {'profile': 'evologics_s2c_im', 'link_rate': 1e5, 'redundancy': 1.0,
                      'queue_packets': 100},
                {'settle_time': 0.5}, {'loss': 0.2, 'delay': 0.1, 'link_rate': 1e5})
    for number in range(20):
        link.source.publish(message(codec, number))
        ros.spin_for(0.1)
    assert ros.spin_until(lambda: len(link.received) >= 18)
    assert all(code.completeness == 1.0 for code in link.received[:18])


def test_frames_travel_as_messages_for_a_modem_driver(ros, codec):
    """What a driver gets has its bytes, priority and destination; what it hands over counts."""
    sender = ros.add(LinkSenderNode, codec=CODEC, transport='frames', destination=9,
                     profile='seatrac', link_rate=1e5, listen_time=0.0,
                     **{'camera.priority': 7})
    receiver = ros.add(LinkReceiverNode, codec=CODEC, transport='frames', send_topic='up/send',
                       received_topic='down/received', **{'camera.latent': 'surface/latent'})
    source = ros.publisher(LatentCode, 'latent')
    frames = ros.collect(ModemFrame, 'modem/send')
    driver = ros.publisher(ModemFrame, 'down/received')
    received = ros.collect(LatentCode, 'surface/latent')
    requests = ros.collect(ModemFrame, 'up/send')
    for node in (sender, receiver):
        ros.start(node)
    assert ros.connected(source, driver)
    original = message(codec, 5)
    source.publish(original)
    count = ros.spin_until(
        lambda: frames and len(frames) == parse_frame(bytes(frames[0].data)).count)
    assert count, len(frames)
    assert {(item.destination, item.priority) for item in frames} == {(9, 7)}
    assert max(len(item.data) for item in frames) <= 31
    for item in frames[::-1]:
        driver.publish(item)
    assert ros.spin_until(lambda: received)
    assert received[0].latent == original.latent
    response = ros.call(SendLinkRequest, 'link/send_request', SendLinkRequest.Request(
        request=LinkRequest(type=LinkRequest.BUDGET, max_bytes=200)))
    assert response.success and ros.spin_until(lambda: requests)
    assert len(requests[0].data) <= 16
    ros.publisher(ModemFrame, 'modem/received')
    back = ros.publisher(ModemFrame, 'modem/received')
    assert ros.connected(back)
    back.publish(requests[0])
    assert ros.spin_until(lambda: sender.get_parameter('max_bytes').value == 200)


def test_the_simulator_carries_messages_too(ros):
    simulator = ros.add(LinkSimulatorNode, transport='frames', delay=0.3, link_rate=1e6, loss=0.0)
    ros.start(simulator)
    ends = {}
    for sender, receiver in (('vehicle', 'surface'), ('surface', 'vehicle')):
        ends[sender] = (ros.publisher(ModemFrame, f'{sender}/modem/send'),
                        ros.collect(ModemFrame, f'{receiver}/modem/received'))
        assert ros.connected(ends[sender][0])
    ros.spin_until(lambda: all(publisher.get_subscription_count()
                               for publisher in simulator._outputs.values()))
    for sender, (publisher, arrived) in ends.items():
        start = time.monotonic()
        publisher.publish(ModemFrame(data=array.array('B', sender.encode())))
        assert ros.spin_until(lambda: arrived)
        assert time.monotonic() - start >= 0.3
        assert bytes(arrived[0].data) == sender.encode()


# --- Encoder ----------------------------------------------------------------------------------

def test_the_encoder_is_told_what_the_link_carries(ros):
    encoder = ros.add(EncoderNode, codec=CODEC, **{'camera.latent': 'vehicle/latent'})
    ros.start(encoder)
    link = Link(ros, {'profile': 'evologics_s2c_im', 'link_rate': 800.0, 'max_bytes': 300})

    def told(name):
        return encoder.get_parameter(name).value
    assert ros.spin_until(lambda: told('max_bytes') == 300)
    # 300 bytes take five frames and their headers, 320 bytes in all, of 100 a second.
    assert told('byte_rate') == pytest.approx(300 / 3.2, rel=0.01) and told('max_rate') == 0.0
    assert ros.call(SetParameters, '/link_sender_node/set_parameters', SetParameters.Request(
        parameters=[Parameter('redundancy', value=1.0).to_parameter_msg()])).results[0].successful
    assert ros.spin_until(lambda: told('byte_rate') < 0.6 * 300 / 3.2)
    # The surface wants less.
    assert link.ask(type=LinkRequest.BUDGET, max_bytes=150, max_rate=0.5, link_rate=400).success
    assert ros.spin_until(lambda: told('max_bytes') == 150)
    assert told('max_rate') == pytest.approx(0.5)
    assert link.sender.get_parameter('link_rate').value == 400.0
    assert told('byte_rate') < 150 / 3.2 / 2


def test_frames_that_cannot_be_sent_are_not_encoded(ros):
    """A camera of 10 images a second, a link of one in two seconds."""
    encoder = ros.add(EncoderNode, codec=CODEC, **{'camera.latent': 'vehicle/latent'})
    ros.start(encoder)
    link = Link(ros, {'link_rate': 1000.0, 'max_bytes': 125})
    assert ros.spin_until(lambda: encoder.get_parameter('max_bytes').value == 125)
    camera = ros.publisher(Image, 'image')
    assert ros.connected(camera)
    start, coded = time.monotonic(), encoder.statistics['camera']
    frames = itertools.count()
    assert ros.spin_until(lambda: camera.publish(frame(next(frames))) or ros.spin_for(0.1)
                          or coded.frames_done == 7)
    assert time.monotonic() - start >= (7 - 2) * 1.0, 'more was coded than the link carries'
    assert link.sender._sender.counts.packets_dropped == 0 < coded.frames_dropped


# --- Back channel -----------------------------------------------------------------------------

def test_more_of_an_image_is_asked_for_by_its_stamp(ros, codec):
    link = Link(ros, {'profile': 'evologics_s2c_im', 'link_rate': 1e5, 'send_bytes': 120},
                {'settle_time': 0.3})
    asked = ros.collect(LinkRequest, 'link/received_request')
    assert not link.ask(type=LinkRequest.MORE).success      # no image yet
    original = message(codec, 6)
    link.source.publish(original)
    assert ros.spin_until(lambda: link.received)
    first = link.received[0]
    assert 0.2 < first.completeness < 0.8
    other = link.ask(type=LinkRequest.MORE, stamp=message(codec, 7).header.stamp)
    assert not other.success and 'stamp' in other.message
    assert link.ask(type=LinkRequest.MORE, stamp=first.header.stamp).success
    assert ros.spin_until(lambda: len(link.received) == 2)
    assert link.received[1].completeness == 1.0
    assert link.received[1].latent == original.latent
    assert link.received[1].header == first.header and link.received[1].sequence == 6
    assert ros.spin_until(lambda: asked)
    assert asked[0].type == LinkRequest.MORE and numbers([original]) == [
        asked[0].stamp.sec - 1_700_000_000]
    assert 'complete' in link.ask(type=LinkRequest.MORE).message
    values = link.values(link.sender)
    assert int(values['requests']) == 1 and int(values['frames_repeated']) > 0


def test_missing_frames_are_asked_for_by_themselves(ros, codec):
    link = Link(ros, {'profile': 'evologics_s2c_im', 'link_rate': 1e5, 'queue_packets': 100},
                {'settle_time': 0.3, 'reorder_time': 0.1, 'resend_requests': 5,
                 'resend_wait': 1.0},
                {'loss': 0.2, 'delay': 0.05, 'link_rate': 1e5})
    for number in range(10):
        link.source.publish(message(codec, number))
        ros.spin_for(0.1)
    assert ros.spin_until(lambda: len(
        {number for number, code in zip(numbers(link.received), link.received)
         if code.completeness == 1.0}) >= 9)


def test_requests_work_by_topic_and_on_the_vehicle(ros, codec):
    link = Link(ros, {'profile': 'evologics_s2c_im', 'link_rate': 1e5, 'send_bytes': 120},
                {'settle_time': 0.3})
    topic = ros.publisher(LinkRequest, 'link/request')
    assert ros.connected(topic)
    topic.publish(LinkRequest(type=LinkRequest.BUDGET, max_bytes=400))
    assert ros.spin_until(lambda: link.sender.get_parameter('max_bytes').value == 400)
    topic.publish(LinkRequest(type=77))
    assert ros.spin_until(lambda: errors(link.receiver, 'link')['request'] == 1)
    link.source.publish(message(codec, 1))
    assert ros.spin_until(lambda: link.received)
    assert link.ask('link/apply_request', type=LinkRequest.MORE).success
    assert ros.spin_until(lambda: link.received[-1].completeness == 1.0)
    refused = link.ask('link/apply_request', type=LinkRequest.RESEND, packet=99, frames=[1])
    assert not refused.success and '99' in refused.message
    refused = link.ask('link/apply_request', type=LinkRequest.BUDGET, max_bytes=5)
    assert not refused.success and 'max_bytes' in refused.message


@pytest.mark.parametrize('request_, words', [
    ({'type': 77}, '77'),
    ({'type': LinkRequest.RESEND, 'packet': 1}, 'frames'),
    ({'type': LinkRequest.RESEND, 'packet': 1, 'frames': [32]}, '32'),
    ({'type': LinkRequest.MORE}, 'no image'),
    ({'type': LinkRequest.BUDGET, 'max_rate': math.nan}, 'max_rate'),
    ({'type': LinkRequest.BUDGET, 'max_rate': math.inf}, 'max_rate'),
    ({'type': LinkRequest.BUDGET, 'max_rate': -1.0}, 'max_rate'),
])
def test_both_ends_refuse_requests_that_make_no_sense(ends, request_, words):
    for service in ('link/send_request', 'link/apply_request'):
        answer = ends.ask(service, **request_)
        assert not answer.success and words in answer.message
    assert ends.sender.state == ends.receiver.state == 'active'


# --- Hostility --------------------------------------------------------------------------------

def test_hostile_datagrams_are_counted_and_change_nothing(ros, codec):
    link = Link(ros, {'profile': 'evologics_s2c_im', 'link_rate': 1e5})
    generator = random.Random(3)
    settings = link.sender._sender.settings
    for trial in range(300):
        junk = generator.randbytes(generator.randrange(0, 3000))
        sent_to(link.surface, junk)
        sent_to(link.vehicle, junk[:30])
        if trial % 50 == 0:
            link.source.publish(message(codec, trial))
            ros.spin_for(0.2)
    # Frames with good checks that are no packet, and requests for what is not there.
    sent_to(link.surface, build_frame(Frame(1, 0, 1, bytes(200))))
    for request in (ResendRequest(9, (1,)), MoreRequest(1, 2), BudgetRequest(max_bytes=1)):
        sent_to(link.vehicle, build_request(request, 1))
    assert ros.spin_until(lambda: len(link.received) >= 6)
    assert ros.spin_until(lambda: errors(link.receiver, 'link'))
    assert set(errors(link.receiver, 'link')) == {'packet_version'}
    assert ros.spin_until(lambda: errors(link.sender, 'link')['request'] >= 280)
    assert len(link.received) == 6 and {code.completeness for code in link.received} == {1.0}
    assert int(link.values(link.receiver)['frames_refused']) > 250
    assert link.sender._sender.settings == settings
    assert link.sender.get_parameter('max_bytes').value == 500


def test_packets_of_other_weights_or_cameras_are_refused_by_name(ros, codec):
    from auv_image_codec.codecs.packet import build_packet, PacketHeader
    from auv_image_codec.link.fragmentation import fragment
    link = Link(ros)
    payload = codec.payload_from_latent(codec.encode(picture(1, 320, 240)))
    for number, (model, camera, width) in enumerate([
            (1, 0, 320), (codec.model_id, 5, 320), (codec.model_id, 0, 16384)]):
        packet = build_packet(PacketHeader(
            CODEC, model, camera, 1, 10 ** 18, width, 16384), payload)
        for data in fragment(packet, 500, number):
            sent_to(link.surface, data)
    assert ros.spin_until(lambda: sum(errors(link.receiver, 'link').values()) == 3)
    assert set(errors(link.receiver, 'link')) == {
        'unknown_model', 'unknown_camera', 'image_too_large'}
    assert link.received == []


def test_latents_that_no_frames_carry_are_refused(ros, codec):
    link = Link(ros, {'frame_bytes': 16})
    generator = np.random.default_rng(0)
    latent = generator.integers(0, 256, 500).astype(np.uint8)
    noisy = message(codec)
    noisy.latent = array.array('B', latent.tobytes())
    link.source.publish(noisy)
    foreign = message(codec)
    foreign.model_id += 1
    link.source.publish(foreign)
    assert ros.spin_until(lambda: len(errors(link.sender, 'link')) == 2)
    assert set(errors(link.sender, 'link')) == {'frame_packet_size', 'unknown_model'}


# --- Life cycle -------------------------------------------------------------------------------

@pytest.mark.parametrize('node_class, options, words', [
    (LinkSenderNode, {'profile': 'tin_can'}, 'tin_can'),
    (LinkSenderNode, {'frame_bytes': 5}, '5'),
    (LinkSenderNode, {'udp_bind': '192.0.2.99:1'}, '192.0.2.99'),
    (LinkReceiverNode, {'weights': '/nowhere'}, '/nowhere'),
    (LinkReceiverNode, {'udp_bind': '192.0.2.99:1'}, '192.0.2.99'),
    (LinkSimulatorNode, {'profile': 'tin_can'}, 'seatrac'),
])
def test_what_cannot_be_configured_is_said_and_can_be_mended(ros, node_class, options, words):
    local = ({'vehicle_bind': new_address(), 'surface_bind': new_address()}
             if node_class is LinkSimulatorNode else {'udp_bind': new_address()})
    if node_class is not LinkSimulatorNode:
        local['codec'] = CODEC
    node = ros.add(node_class, **{**local, **options})
    name = node.get_name()
    stream = 'down' if node_class is LinkSimulatorNode else 'link'
    assert ros.spin_until(
        lambda: words in ros.last_status(f'/{name}: {stream}')[0].message)
    assert node.state == 'unconfigured'
    mended = {'profile': 'test_link', 'frame_bytes': 0, 'weights': '',
              'udp_bind': local.get('udp_bind', '')}
    result = node.set_parameters([Parameter(key, value=mended[key]) for key in options])
    assert all(answer.successful for answer in result)
    for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE,
                       Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP,
                       Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
        assert ros.call(ChangeState, f'/{name}/change_state', ChangeState.Request(
            transition=Transition(id=transition))).success
    assert node.state == 'active'


def test_what_is_inactive_neither_sends_nor_shows(ros, codec):
    link = Link(ros)
    link.source.publish(message(codec, 1))
    assert ros.spin_until(lambda: link.received)
    link.receiver.trigger_deactivate()
    link.source.publish(message(codec, 2))
    assert ros.spin_until(lambda: link.sender._sender.counts.packets_sent == 2
                          and link.sender._sender.seconds_until_next() == float('inf'))
    assert not link.ask(type=LinkRequest.BUDGET, max_bytes=99).success
    link.receiver.trigger_activate()
    link.source.publish(message(codec, 3))
    assert ros.spin_until(lambda: len(link.received) == 2)
    assert numbers(link.received) == [1, 3]


@pytest.mark.parametrize('name, stream', [
    ('link_sender_node', 'link'), ('link_receiver_node', 'link'),
    ('link_simulator_node', 'up')])
def test_each_is_a_process_that_ends_cleanly(ros, name, stream):
    ports = ({'vehicle_bind': new_address(), 'surface_bind': new_address()}
             if name == 'link_simulator_node' else {'udp_bind': new_address()})
    with node_process(name, ros.domain, *arguments(codec=CODEC, **ports)) as process:
        wait_for_line(process, 'configured: ')
        ros.wait_for_state(f'/{name}: {stream}', 'active')
        stop(process)


# --- The whole way ----------------------------------------------------------------------------

@pytest.mark.slow
def test_two_ros_networks_joined_by_a_bad_link(codec):
    """
    Images cross from one ROS domain to another, which only the simulated water joins.

    5 kbit/s, 2 s of delay, a fifth of the frames lost, each side's nodes as processes of their
    own: as many packets arrive as the loss allows, and every one of them shows an image.
    """
    domains = new_domain(), new_domain()
    ports = {name: new_address() for name in ('vehicle', 'surface', 'from_vehicle', 'from_surface')}
    with graph() as vehicle, graph() as surface, \
            node_process('link_simulator_node', domains[0], *arguments(
                profile='test_link', seed=7, vehicle_bind=ports['from_vehicle'],
                vehicle_peer=ports['vehicle'], surface_bind=ports['from_surface'],
                surface_peer=ports['surface'])) as simulator, \
            node_process('link_sender_node', vehicle.domain, *arguments(
                codec=CODEC, profile='test_link', udp_bind=ports['vehicle'],
                udp_peer=ports['from_vehicle'])) as sender, \
            node_process('encoder_node', vehicle.domain, *arguments(codec=CODEC)) as encoder, \
            node_process('link_receiver_node', surface.domain, *arguments(
                codec=CODEC, udp_bind=ports['surface'],
                udp_peer=ports['from_surface'])) as receiver, \
            node_process('decoder_node', surface.domain, *arguments(codec=CODEC)) as decoder:
        processes = (simulator, sender, encoder, receiver, decoder)
        for process in processes:
            wait_for_line(process, 'configured: ')
        camera = vehicle.publisher(Image, 'image')
        latents = surface.collect(LatentCode, 'latent')
        images = surface.collect(Image, 'reconstructed/image')
        assert vehicle.connected(camera)
        start = time.monotonic()
        for number in itertools.count():
            camera.publish(frame(number, width=192, height=128))
            vehicle.spin_for(0.1)
            surface.spin_for(0.1)
            if len(set(numbers(latents))) >= 20:
                break
        surface.spin_until_quiet(latents, 8.0)
        assert surface.spin_until(lambda: set(numbers(images)) == set(numbers(latents))), \
            'a packet arrived and showed no image'
        sent = vehicle.last_status('/link_sender_node: link')[1]
        arrived = surface.last_status('/link_receiver_node: link')[1]
        stop(*processes)
    packets = int(sent['packets_sent'])
    assert packets >= 20 and float(sent['airtime_share']) <= 1.0
    assert 8 * int(sent['bytes_sent']) <= 5000 * (time.monotonic() - start)
    shown = set(numbers(latents))
    assert 0.5 * packets < len(shown) <= packets
    # Whatever begins shows: four of five first frames arrive, less three standard deviations.
    assert len(shown) >= 0.8 * packets - 3 * (packets * 0.16) ** 0.5
    assert {(image.width, image.height) for image in images} == {(192, 128)}
    assert 0 < int(arrived['packets_complete']) < packets
    assert float(arrived['completeness_mean']) < 1.0


def arguments(**parameters) -> list:
    """Return the command line for parameters."""
    return [word for name, value in parameters.items() for word in ('-p', f'{name}:={value}')]
