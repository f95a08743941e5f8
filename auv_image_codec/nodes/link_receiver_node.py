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
"""The surface's end of the link: frames from the modem in, latents out, requests back out."""
from collections import deque
from dataclasses import dataclass
import time
from typing import Any, Deque, Dict, List, Optional, Tuple

from std_msgs.msg import Header

from auv_image_codec.codecs.packet import PacketHeader, parse_cut_packet, parse_packet, SEQUENCES
from auv_image_codec.errors import AuvImageCodecError, InvalidImageError, RequestError
from auv_image_codec.link.frames import RECEIVER_MEMORY
from auv_image_codec.link.reassembly import Assembled
from auv_image_codec.link.receiver import KNOWN_PACKETS, LinkReceiver
from auv_image_codec.link.requests import MoreRequest, packet_identity, Request
from auv_image_codec.msg import LatentCode, LinkRequest
from auv_image_codec.nodes.cameras import CAMERA_LIMIT, default_topic
from auv_image_codec.nodes.diagnostics import LinkStatistics
from auv_image_codec.nodes.frame_transport import FrameTransport, transport_parameters
from auv_image_codec.nodes.latent_conversion import latent_to_message
from auv_image_codec.nodes.node_base import CodecNode, reliable, run_node, topic_problem
from auv_image_codec.nodes.parameters import ParameterSpec
from auv_image_codec.nodes.request_conversion import PacketStamps, request_from_message
from auv_image_codec.srv import SendLinkRequest

LATENT_DEPTH = 10
POLL_PERIOD = 0.1  # seconds between looks whether a packet's frames have stopped coming
LATENCY_WINDOW = 100  # packets in the mean and maximum of the latency
LINK = 'link'  # the stream of the diagnostics

PARAMETERS = (
    ParameterSpec('settle_time', 5.0,
                  'Seconds without a frame of a packet after which what came of it is shown.',
                  minimum=0.0, maximum=RECEIVER_MEMORY - 1),
    ParameterSpec('reorder_time', 1.0,
                  'The same, once frames of a later packet have come.',
                  minimum=0.0, maximum=RECEIVER_MEMORY - 1),
    ParameterSpec('most_packets', 32, 'Packets that are put together at a time.',
                  minimum=1, maximum=128, unconfigured_only=True),
    ParameterSpec('resend_requests', 0,
                  'How often the missing frames of a packet are asked for; 0 for never.',
                  minimum=0, maximum=10),
    ParameterSpec('resend_wait', 10.0, 'Seconds between two such requests.',
                  minimum=0.1, maximum=RECEIVER_MEMORY),
)


def camera_parameters(name: str, position: int) -> List[ParameterSpec]:
    """Return the parameters of one camera, the one at a position in the list of names."""
    return [
        ParameterSpec(f'{name}.latent', '',
                      'Latent topic; empty for latent, with several cameras below NAME/.',
                      check=topic_problem, read_only=True),
        ParameterSpec(f'{name}.index', position, 'Number of the camera in the packet.',
                      minimum=0, maximum=CAMERA_LIMIT - 1, read_only=True),
        ParameterSpec(f'{name}.frame_id', '',
                      "frame_id of the camera's images, which no packet carries; empty for NAME.",
                      read_only=True),
    ]


@dataclass
class ReceivedCamera:
    """One camera whose latents are received."""

    name: str
    latent_topic: str
    index: int
    frame_id: str
    publisher: Any = None
    sequence: Optional[int] = None  # of the newest image so far

    def count(self, wire: int) -> int:
        """Return an image's sequence from the packet's, which counts modulo 256."""
        if self.sequence is None:
            return wire
        step = (wire - self.sequence + SEQUENCES // 2) % SEQUENCES - SEQUENCES // 2
        return max(0, self.sequence + step)


class LinkReceiverNode(CodecNode):
    """Puts packets together from frames, and publishes their latents, cut ones too."""

    NAME = 'link_receiver_node'
    STREAM = ''

    def __init__(self, **kwargs: Any):
        """
        Declare the parameters; nothing is loaded before configure.

        :raises rclpy.exceptions.ParameterException: if a parameter is wrong.
        """
        super().__init__(self.NAME, side='decoder', **kwargs)
        self.parameters.declare(PARAMETERS)
        self.parameters.declare(transport_parameters('0.0.0.0:47002', '127.0.0.1:47001'))
        self.cameras = [self._declare_camera(name, position)
                        for position, name in enumerate(self.camera_names)]
        self.check_unique('index', [camera.index for camera in self.cameras], 'index')
        self.check_unique('latent', [self.full_topic(camera.latent_topic)
                                     for camera in self.cameras], 'latent topic')
        self.statistics = {LINK: LinkStatistics(self._values)}
        self._transport = FrameTransport(self, self._receive)
        self._receiver: Optional[LinkReceiver] = None
        self._stamps = PacketStamps(KNOWN_PACKETS)
        self._latencies: Deque[float] = deque(maxlen=LATENCY_WINDOW)
        self._completeness: Deque[float] = deque(maxlen=LATENCY_WINDOW)
        self._requests_sent = 0
        self._poll_timer = None
        self._service = None
        self._subscription = None

    def _declare_camera(self, name: str, position: int) -> ReceivedCamera:
        self.parameters.declare(camera_parameters(name, position))
        value = self.parameters.value
        return ReceivedCamera(
            name=name,
            latent_topic=(value(f'{name}.latent')
                          or default_topic('latent', name, self.camera_names)),
            index=value(f'{name}.index'), frame_id=value(f'{name}.frame_id') or name)

    # --- Life cycle --------------------------------------------------------------------------

    def configure(self) -> None:
        """Open the way to the modem and create the publishers."""
        value = self.parameters.value
        self._receiver = LinkReceiver(
            value('settle_time'), value('reorder_time'), value('most_packets'))
        self._transport.configure()
        for camera in self.cameras:
            camera.publisher = self.publisher(
                LatentCode, camera.latent_topic, reliable(LATENT_DEPTH))
        self._service = self.create_service(
            SendLinkRequest, 'link/send_request', self._request_service)

    def activate(self) -> None:
        """Listen to the modem, and to what is asked for."""
        self._transport.activate()
        self._subscription = self.subscription(
            LinkRequest, 'link/request', self._request, reliable(10))
        self._poll_timer = self.every(POLL_PERIOD, self._poll)

    def deactivate(self) -> None:
        """Stop to listen."""
        self._transport.deactivate()
        if self._subscription is not None:
            self.destroy_subscription(self._subscription)
            self._subscription = None
        if self._poll_timer is not None:
            self.destroy_timer(self._poll_timer)
            self._poll_timer = None

    def cleanup(self) -> None:
        """Close the way to the modem, and forget the packets."""
        self._transport.cleanup()
        for camera in self.cameras:
            if camera.publisher is not None:
                self.destroy_lifecycle_publisher(camera.publisher)
                camera.publisher = None
        if self._service is not None:
            self.destroy_service(self._service)
            self._service = None
        self._receiver = None
        self._stamps.clear()

    # --- Packets -----------------------------------------------------------------------------

    def _receive(self, data: bytes) -> None:
        """Take a frame from the modem."""
        for packet in self._receiver.push(data, time.monotonic()):
            self._show(packet)

    def _poll(self) -> None:
        """Show what came of packets whose frames have stopped coming, and ask for the rest."""
        value, now = self.parameters.value, time.monotonic()
        self._receiver.reassembler.configure(value('settle_time'), value('reorder_time'))
        self._receiver.resend_requests = value('resend_requests')
        self._receiver.resend_wait = value('resend_wait')
        for packet in self._receiver.poll(now):
            self._show(packet)
        for request in self._receiver.due_requests(now):
            try:
                self._send_request(request)
            except RequestError as error:
                self.defect(LINK, error)

    def _show(self, packet: Assembled) -> None:
        """Publish the latent of a packet, or of its beginning."""
        try:
            header, latent, completeness = self._decode(packet)
            camera = next((camera for camera in self.cameras
                           if camera.index == header.camera), None)
            if camera is None:
                raise InvalidImageError(
                    f'a packet of camera {header.camera}, which no camera has as its index',
                    'unknown_camera')
            if header.width * header.height > self.parameters.value('max_image_pixels'):
                raise InvalidImageError(
                    f'an image of {header.width}x{header.height} pixels (max_image_pixels)',
                    'image_too_large')
            sequence = camera.count(header.sequence)
            ros_header = Header(frame_id=camera.frame_id)
            ros_header.stamp.sec, ros_header.stamp.nanosec = divmod(header.stamp_ns, 10 ** 9)
            camera.publisher.publish(latent_to_message(
                self.codec, latent, ros_header, sequence, header.width, header.height,
                completeness))
        except Exception as error:
            self.defect(LINK, error)
            return
        camera.sequence = max(camera.sequence or 0, sequence)
        self._receiver.shown(packet)
        self._stamps.add(packet_identity(packet.data), header.stamp_ns)
        self._completeness.append(completeness)
        self._latencies.append(
            (self.get_clock().now().nanoseconds - header.stamp_ns) / 1e9)

    def _decode(self, packet: Assembled) -> Tuple[PacketHeader, Any, float]:
        """Return header, latent and completeness of a packet; raise what is wrong with it."""
        if packet.whole:
            header, payload = parse_packet(packet.data, [self.codec.model_id])
            return header, self.codec.latent_from_payload(payload), 1.0
        header, prefix = parse_cut_packet(packet.data, [self.codec.model_id])
        latent, certain = self.codec.latent_from_payload_prefix(prefix)
        return header, latent, min(packet.completeness, certain)

    # --- Requests ----------------------------------------------------------------------------

    def _request(self, message: LinkRequest) -> None:
        """Send a request that came on the topic."""
        try:
            self._send_request(request_from_message(message, self._more))
        except AuvImageCodecError as error:
            self.defect(LINK, error)

    def _request_service(self, request: SendLinkRequest.Request,
                         response: SendLinkRequest.Response) -> SendLinkRequest.Response:
        """Send a request that came by the service, and say whether it was sent."""
        try:
            if self.state != 'active':
                raise RequestError(f'the node is {self.state}')
            self._send_request(request_from_message(request.request, self._more))
            response.success = True
        except AuvImageCodecError as error:
            response.message = str(error)
        return response

    def _more(self, stamp: int, wanted: int) -> MoreRequest:
        identity = self._stamps.identity(stamp)
        if identity is None:
            raise RequestError('no image of this stamp was received')
        return self._receiver.more_of(identity, wanted)

    def _send_request(self, request: Request) -> None:
        self._transport.send(self._receiver.build(request))
        self._requests_sent += 1

    # --- Diagnostics -------------------------------------------------------------------------

    def _values(self) -> Dict[str, Any]:
        if self._receiver is None:
            return {}
        counts = self._receiver.counts
        window, shares = self._latencies, self._completeness
        return {
            'frames_received': counts.frames_received,
            'frames_duplicate': counts.frames_duplicate,
            'frames_lost': counts.frames_lost,
            'frames_refused': sum(counts.errors.values()),
            'packets_complete': counts.packets_complete,
            'packets_partial': counts.packets_partial,
            'packets_lost': counts.packets_lost,
            'packets_repeated': self._receiver.packets_repeated,
            'packets_open': self._receiver.reassembler.open_packets,
            'completeness_mean': sum(shares) / len(shares) if shares else 0.0,
            'requests_sent': self._requests_sent,
            'latency_s_mean': sum(window) / len(window) if window else 0.0,
            'latency_s_max': max(window, default=0.0),
            **{f'error_{kind}': count for kind, count in sorted(counts.errors.items())},
        }


def main(args: Optional[List[str]] = None) -> int:
    """Run the node; return the exit status."""
    return run_node(LinkReceiverNode, args)
