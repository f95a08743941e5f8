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
"""How frames get from a node to its modem and back: UDP datagrams, or ROS messages."""
import array
import ipaddress
import socket
from typing import Any, Callable, List, Tuple

from auv_image_codec.errors import RequestError
from auv_image_codec.link.frames import LARGEST_FRAME
from auv_image_codec.msg import ModemFrame
from auv_image_codec.nodes.node_base import ManagedNode, reliable, topic_problem
from auv_image_codec.nodes.parameters import ParameterSpec

TRANSPORTS = ('udp', 'frames')
FRAME_DEPTH = 100
UDP_PERIOD = 0.05  # seconds between looks for datagrams: nothing to a modem, and no load
MOST_DATAGRAMS = 200  # read at once, so that a flood does not stop the node


class TransportError(RequestError):
    """A socket that cannot be opened."""

    kind = 'transport'


def address_problem(address: str) -> str:
    """Return what is wrong with HOST:PORT, or an empty string."""
    try:
        parse_address(address)
    except ValueError as error:
        return str(error)
    return ''


def parse_address(address: str) -> Tuple[str, int]:
    """
    Return host and port of HOST:PORT.

    :raises ValueError: if it is something else.
    """
    host, colon, port = address.rpartition(':')
    if not colon or not host or not port.isdecimal() or not 0 <= int(port) <= 65535:
        raise ValueError(f'{address!r} is not HOST:PORT')
    return host, int(port)


def transport_parameters(bind: str, peer: str) -> List[ParameterSpec]:
    """Return the parameters of a node with one modem, with its default addresses."""
    return [
        ParameterSpec('transport', 'udp',
                      'How frames get to the modem: udp (one datagram a frame) or frames '
                      '(ModemFrame messages).', choices=TRANSPORTS, read_only=True),
        ParameterSpec('udp_bind', bind, 'Address to receive datagrams at, HOST:PORT.',
                      check=address_problem, constraints='HOST:PORT', unconfigured_only=True),
        ParameterSpec('udp_peer', peer,
                      'Address to send datagrams to: the modem or its simulator, HOST:PORT.',
                      check=address_problem, constraints='HOST:PORT', unconfigured_only=True),
        ParameterSpec('send_topic', '',
                      'Topic of the frames for the modem; empty for modem/send.',
                      check=topic_problem, read_only=True),
        ParameterSpec('received_topic', '',
                      'Topic of the frames from the modem; empty for modem/received.',
                      check=topic_problem, read_only=True),
        ParameterSpec('destination', 0, 'Address of the modem that frames are for; 0 for all.',
                      minimum=0, maximum=255),
    ]


class UdpPort:
    """
    Datagrams, one a frame.

    :param bind: HOST:PORT to receive at.
    :param peer: HOST:PORT to send to.
    :raises TransportError: if the addresses cannot be used.
    """

    def __init__(self, bind: str, peer: str):
        """Open the socket."""
        self._socket = None
        try:
            self._peer = _resolve(parse_address(peer))
            local = _resolve(parse_address(bind))
            family = (socket.AF_INET6 if ipaddress.ip_address(local[0]).version == 6
                      else socket.AF_INET)
            self._socket = socket.socket(family, socket.SOCK_DGRAM)
            self._socket.setblocking(False)
            self._socket.bind(local)
        except (OSError, ValueError) as error:
            self.close()
            raise TransportError(f'no UDP from {bind} to {peer}: {error}') from error

    def send(self, data: bytes) -> None:
        """
        Send a datagram.

        :raises TransportError: if it cannot be handed to the network.
        """
        try:
            self._socket.sendto(data, self._peer)
        except OSError as error:
            raise TransportError(f'cannot send to {self._peer}: {error}') from error

    def receive(self) -> List[bytes]:
        """Return the datagrams that are there."""
        datagrams = []
        for _ in range(MOST_DATAGRAMS):
            try:
                datagrams.append(self._socket.recv(LARGEST_FRAME + 1))
            except BlockingIOError:
                break
            except OSError:  # An earlier datagram found nobody at the peer: that is lost.
                continue
        return datagrams

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _resolve(address: Tuple[str, int]) -> Tuple[str, int]:
    return socket.getaddrinfo(*address, type=socket.SOCK_DGRAM)[0][4][:2]


class FrameTransport:
    """
    The modem as a node sees it: send() frames, and get those that arrive.

    :param node: the node, with transport_parameters() declared.
    :param received: called with the bytes of each frame that arrives while it is open.
    """

    def __init__(self, node: ManagedNode, received: Callable[[bytes], None]):
        """Open nothing."""
        self._node = node
        self._received = received
        self._port = None
        self._timer = None
        self._publisher: Any = None
        self._subscription: Any = None

    def configure(self) -> None:
        """
        Open the socket, or create the publisher.

        :raises TransportError: if the addresses cannot be used.
        """
        value = self._node.parameters.value
        if value('transport') == 'udp':
            self._port = UdpPort(value('udp_bind'), value('udp_peer'))
        else:
            self._publisher = self._node.publisher(
                ModemFrame, value('send_topic') or 'modem/send', reliable(FRAME_DEPTH))

    def activate(self) -> None:
        """Receive."""
        if self._port is not None:
            self._port.receive()  # What came before is not for us.
            self._timer = self._node.every(UDP_PERIOD, self._read)
        else:
            self._subscription = self._node.subscription(
                ModemFrame, self._node.parameters.value('received_topic') or 'modem/received',
                lambda message: self._received(bytes(message.data)), reliable(FRAME_DEPTH))

    def deactivate(self) -> None:
        """Receive no more. May be called twice."""
        if self._timer is not None:
            self._node.destroy_timer(self._timer)
            self._timer = None
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None

    def cleanup(self) -> None:
        """Close everything. May be called twice."""
        if self._port is not None:
            self._port.close()
            self._port = None
        if self._publisher is not None:
            self._node.destroy_lifecycle_publisher(self._publisher)
            self._publisher = None

    def send(self, data: bytes, priority: int = 0) -> None:
        """
        Hand a frame to the modem.

        :param priority: of the camera whose packet it is, 0..255.
        :raises TransportError: if it cannot be handed over.
        """
        if self._port is not None:
            self._port.send(data)
            return
        message = ModemFrame(destination=self._node.parameters.value('destination'),
                             priority=min(priority, 255))
        message.header.stamp = self._node.get_clock().now().to_msg()
        message.data = array.array('B', data)
        self._publisher.publish(message)

    def _read(self) -> None:
        for data in self._port.receive():
            self._received(data)
