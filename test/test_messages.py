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
"""LatentCode as rosidl compiles it, and its way between two processes over DDS."""
import array
import os
import subprocess
import sys
import time

import pytest
from unshared import new_domain

rclpy = pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 here')
msg = pytest.importorskip(
    'auv_image_codec.msg', reason='the generated messages are not installed')
LatentCode, LinkRequest, ModemFrame = msg.LatentCode, msg.LinkRequest, msg.ModemFrame
serialization = pytest.importorskip('rclpy.serialization')
deserialize_message = serialization.deserialize_message
serialize_message = serialization.serialize_message

DOMAIN_ID = new_domain()
TIMEOUT_S = 60.0
SEND_AGAIN_S = 0.5

# The other process: sends back what it receives, with the sequence raised by one.
ECHO = """
import rclpy
from rclpy.node import Node
from auv_image_codec.msg import LatentCode

rclpy.init()
node = Node('echo')
publisher = node.create_publisher(LatentCode, 'echo', 10)

def send_back(message):
    message.sequence += 1
    publisher.publish(message)

node.create_subscription(LatentCode, 'latent', send_back, 10)
rclpy.spin(node)
"""


def example() -> LatentCode:
    """Return a message in which every field differs from its default."""
    message = LatentCode(
        codec='autoencoder', model_id=0xdeadbeef, sequence=41, image_width=1920,
        image_height=1080, latent_dim=500, completeness=0.25,
        latent=array.array('B', [(7 * index) % 256 for index in range(500)]))
    message.header.stamp.sec = 1564617600
    message.header.stamp.nanosec = 123456789
    message.header.frame_id = 'front_camera_optical_frame'
    return message


def test_latent_is_bytes_for_python():
    """The latent is an array of unsigned bytes, which numpy and bytes() take without a loop."""
    message = example()
    assert message.latent.typecode == 'B'
    assert bytes(message.latent)[:3] == b'\x00\x07\x0e'


def test_latent_is_bounded():
    """A latent of more than 4096 bytes is refused before it can be sent."""
    assert len(serialize_message(LatentCode(latent=bytes(4096)))) > 4096
    # Up to ROS 2 Jazzy the message refuses it, since Kilted the serialization.
    with pytest.raises((AssertionError, RuntimeError)):
        serialize_message(LatentCode(latent=bytes(4097)))


def test_a_latent_is_complete_unless_somebody_says_otherwise():
    """A program that knows nothing of links makes complete latents."""
    assert LatentCode().completeness == 1.0


def test_a_frame_is_bounded_bytes():
    """Data is an array of unsigned bytes, at most those of the largest frame."""
    frame = ModemFrame(destination=7, priority=3, data=array.array('B', bytes(2048)))
    assert deserialize_message(serialize_message(frame), ModemFrame) == frame
    with pytest.raises((AssertionError, RuntimeError)):
        serialize_message(ModemFrame(data=bytes(2049)))


def test_every_field_of_a_request_survives_serialization():
    """Each kind of request travels as a message, and its frames are bounded."""
    request = LinkRequest(type=LinkRequest.RESEND, packet=200, frames=bytes(range(32)),
                          wanted=400, max_bytes=300, max_rate=0.5, link_rate=2000)
    request.stamp.sec = 5
    assert deserialize_message(serialize_message(request), LinkRequest) == request
    with pytest.raises((AssertionError, RuntimeError)):
        serialize_message(LinkRequest(frames=bytes(33)))


def test_every_field_survives_serialization():
    """The bytes that DDS carries give the same message, and are little more than the latent."""
    message = example()
    data = serialize_message(message)
    assert deserialize_message(data, LatentCode) == message
    assert len(data) < 500 + 100


def test_two_processes_exchange_a_message():
    """A message reaches another process and comes back with every field as it was sent."""
    environment = dict(os.environ, ROS_DOMAIN_ID=str(DOMAIN_ID))
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=DOMAIN_ID)
    with subprocess.Popen([sys.executable, '-c', ECHO], env=environment) as echo:
        try:
            received = exchange(context, echo)
        finally:
            echo.kill()
            rclpy.shutdown(context=context)
    expected = example()
    expected.sequence += 1
    assert received == expected


def exchange(context, echo: subprocess.Popen) -> LatentCode:
    """Send the example until it comes back, as both ends have to find each other first."""
    node = rclpy.create_node('test_messages', context=context)
    executor = rclpy.executors.SingleThreadedExecutor(context=context)
    executor.add_node(node)
    received = []
    publisher = node.create_publisher(LatentCode, 'latent', 10)
    subscription = node.create_subscription(LatentCode, 'echo', received.append, 10)
    deadline = time.monotonic() + TIMEOUT_S
    sent_at = 0.0
    while not received and time.monotonic() < deadline:
        assert echo.poll() is None, 'the other process is gone'
        if time.monotonic() - sent_at > SEND_AGAIN_S:
            publisher.publish(example())
            sent_at = time.monotonic()
        executor.spin_once(timeout_sec=0.1)
    node.destroy_subscription(subscription)
    node.destroy_node()
    assert received, f'no answer within {TIMEOUT_S:g} s'
    return received[0]
