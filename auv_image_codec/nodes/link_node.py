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
"""What both ends of the link share: cameras, the way to the modem, requests by a service."""
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Sequence, Type

from rclpy.qos import QoSProfile

from auv_image_codec.errors import AuvImageCodecError, RequestError
from auv_image_codec.link.requests import MoreRequest, Request
from auv_image_codec.nodes.cameras import CAMERA_LIMIT, default_topic
from auv_image_codec.nodes.diagnostics import LinkStatistics
from auv_image_codec.nodes.frame_transport import FrameTransport, transport_parameters
from auv_image_codec.nodes.node_base import CodecNode, topic_problem
from auv_image_codec.nodes.parameters import ParameterSpec
from auv_image_codec.nodes.request_conversion import PacketStamps, request_from_message
from auv_image_codec.srv import SendLinkRequest

LATENT_DEPTH = 10
LINK = 'link'  # the stream of the diagnostics


@dataclass
class LinkCamera:
    """One camera whose latents cross."""

    name: str
    latent_topic: str
    index: int


class LinkNode(CodecNode):
    """
    One end of the link.

    A derived class overrides declare_camera(), receive(), perform(), more_of() and values(), and
    extends configure(), activate() and cleanup().
    """

    SERVICE = ''  # its topic
    STREAM = ''

    def __init__(self, name: str, side: str, parameters: Sequence[ParameterSpec], bind: str,
                 peer: str, most_stamps: int, **kwargs: Any):
        """
        Declare the parameters; nothing is loaded before configure.

        :param side: ``encoder`` or ``decoder``, which half of the codec is loaded.
        :param parameters: of the derived class.
        :param bind: default address to receive datagrams at, HOST:PORT.
        :param peer: default address to send them to, HOST:PORT.
        :param most_stamps: how many packets requests can name by their stamps.
        :raises rclpy.exceptions.ParameterException: if a parameter is wrong.
        """
        super().__init__(name, side=side, **kwargs)
        self.parameters.declare(parameters)
        self.parameters.declare(transport_parameters(bind, peer))
        self.cameras: List[Any] = [self.declare_camera(name, position)
                                   for position, name in enumerate(self.camera_names)]
        self.check_unique('index', [camera.index for camera in self.cameras], 'index')
        self.check_unique('latent', [self.full_topic(camera.latent_topic)
                                     for camera in self.cameras], 'latent topic')
        self.statistics = {LINK: LinkStatistics(self.values)}
        self.transport = FrameTransport(self, self.receive)
        self.stamps = PacketStamps(most_stamps)
        self._service = None
        self._timers_while_active: List[Any] = []
        self._subscriptions_while_active: List[Any] = []

    # --- For derived classes -----------------------------------------------------------------

    def declare_camera(self, name: str, position: int) -> LinkCamera:
        """Declare the parameters of the camera at a position in the list of names; return it."""
        raise NotImplementedError

    def receive(self, data: bytes) -> None:
        """Take what came from the modem."""
        raise NotImplementedError

    def perform(self, request: Request) -> None:
        """Do what a request asks for; raise AuvImageCodecError where that cannot be done."""
        raise NotImplementedError

    def more_of(self, identity: int, wanted: int) -> MoreRequest:
        """Return the request for so many bytes of a packet; raise RequestError for none."""
        raise NotImplementedError

    def values(self) -> Dict[str, Any]:
        """Return what the diagnostics tell of the link, none before configure."""
        raise NotImplementedError

    def common_settings(self, name: str, position: int) -> Dict[str, Any]:
        """Declare the parameters that every camera has; return what LinkCamera takes."""
        self.parameters.declare([
            ParameterSpec(f'{name}.latent', '',
                          'Latent topic; empty for latent, with several cameras below NAME/.',
                          check=topic_problem, read_only=True),
            ParameterSpec(f'{name}.index', position, 'Number of the camera in the packet.',
                          minimum=0, maximum=CAMERA_LIMIT - 1, read_only=True)])
        value = self.parameters.value
        return {'name': name, 'index': value(f'{name}.index'), 'latent_topic': (
            value(f'{name}.latent') or default_topic('latent', name, self.camera_names))}

    def repeat(self, seconds: float, callback: Callable[[], None]):
        """Return a timer that deactivate() ends."""
        self._timers_while_active.append(self.every(seconds, callback))
        return self._timers_while_active[-1]

    def listen(self, message_type: Type, topic: str, callback: Callable[[Any], None],
               qos: QoSProfile) -> None:
        """Subscribe until deactivate()."""
        self._subscriptions_while_active.append(
            self.subscription(message_type, topic, callback, qos))

    def request_from(self, message: Any) -> Request:
        """Return the request of a LinkRequest; raise RequestError if it makes no sense here."""
        return request_from_message(message, self._more)

    # --- Life cycle --------------------------------------------------------------------------

    def configure(self) -> None:
        """Open the way to the modem."""
        self.transport.configure()
        self._service = self.create_service(SendLinkRequest, self.SERVICE, self._serve)

    def activate(self) -> None:
        """Listen to the modem."""
        self.transport.activate()

    def deactivate(self) -> None:
        """Stop to send and to listen."""
        self.transport.deactivate()
        while self._subscriptions_while_active:
            self.destroy_subscription(self._subscriptions_while_active.pop())
        while self._timers_while_active:
            self.destroy_timer(self._timers_while_active.pop())

    def cleanup(self) -> None:
        """Close the way to the modem, and forget the packets."""
        self.transport.cleanup()
        if self._service is not None:
            self.destroy_service(self._service)
            self._service = None
        self.stamps.clear()

    # --- Requests ----------------------------------------------------------------------------

    def _serve(self, request: SendLinkRequest.Request,
               response: SendLinkRequest.Response) -> SendLinkRequest.Response:
        """Do what a request asks for, and say why where that cannot be done."""
        try:
            if self.state != 'active':
                raise RequestError(f'the node is {self.state}')
            self.perform(self.request_from(request.request))
            response.success = True
        except AuvImageCodecError as error:
            response.message = str(error)
        return response

    def _more(self, stamp: int, wanted: int) -> MoreRequest:
        identity = self.stamps.identity(stamp)
        if identity is None:
            raise RequestError('no image of this stamp is known')
        return self.more_of(identity, wanted)
