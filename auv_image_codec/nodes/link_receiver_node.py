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
from auv_image_codec.nodes.latent_conversion import latent_to_message
from auv_image_codec.nodes.link_node import LATENT_DEPTH, LINK, LinkCamera, LinkNode
from auv_image_codec.nodes.node_base import reliable, run_node
from auv_image_codec.nodes.parameters import ParameterSpec

POLL_PERIOD = 0.1  # seconds between looks whether a packet's frames have stopped coming
LATENCY_WINDOW = 100  # packets in the mean and maximum of the latency

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


@dataclass
class ReceivedCamera(LinkCamera):
    """One camera whose latents are received."""

    frame_id: str
    publisher: Any = None
    sequence: Optional[int] = None  # of the newest image so far

    def count(self, wire: int) -> int:
        """Return an image's sequence from the packet's, which counts modulo 256."""
        if self.sequence is None:
            return wire
        step = (wire - self.sequence + SEQUENCES // 2) % SEQUENCES - SEQUENCES // 2
        return max(0, self.sequence + step)


class LinkReceiverNode(LinkNode):
    """Puts packets together from frames, and publishes their latents, cut ones too."""

    NAME = 'link_receiver_node'
    SERVICE = 'link/send_request'

    def __init__(self, **kwargs: Any):
        """
        Declare the parameters; nothing is loaded before configure.

        :raises rclpy.exceptions.ParameterException: if a parameter is wrong.
        """
        super().__init__(
            self.NAME, 'decoder', PARAMETERS, bind='0.0.0.0:47002', peer='127.0.0.1:47001',
            most_stamps=KNOWN_PACKETS, **kwargs)
        self._receiver: Optional[LinkReceiver] = None
        self._latencies: Deque[float] = deque(maxlen=LATENCY_WINDOW)
        self._completeness: Deque[float] = deque(maxlen=LATENCY_WINDOW)
        self._requests_sent = 0

    def declare_camera(self, name: str, position: int) -> ReceivedCamera:
        """Declare the parameters of a camera, and return it."""
        settings = self.common_settings(name, position)
        self.parameters.declare([
            ParameterSpec(f'{name}.frame_id', '',
                          "frame_id of the camera's images, which no packet carries; empty for "
                          'NAME.', read_only=True)])
        return ReceivedCamera(
            **settings, frame_id=self.parameters.value(f'{name}.frame_id') or name)

    # --- Life cycle --------------------------------------------------------------------------

    def configure(self) -> None:
        """Open the way to the modem and create the publishers."""
        value = self.parameters.value
        self._receiver = LinkReceiver(
            value('settle_time'), value('reorder_time'), value('most_packets'))
        super().configure()
        for camera in self.cameras:
            camera.publisher = self.publisher(
                LatentCode, camera.latent_topic, reliable(LATENT_DEPTH))

    def activate(self) -> None:
        """Listen to the modem, and to what is asked for."""
        super().activate()
        self.listen(LinkRequest, 'link/request', self._request, reliable(10))
        self.repeat(POLL_PERIOD, self._poll)

    def cleanup(self) -> None:
        """Close the way to the modem, and forget the packets."""
        super().cleanup()
        for camera in self.cameras:
            if camera.publisher is not None:
                self.destroy_lifecycle_publisher(camera.publisher)
                camera.publisher = None
        self._receiver = None

    # --- Packets -----------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
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
                self.perform(request)
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
        self.stamps.add(packet_identity(packet.data), header.stamp_ns)
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
            self.perform(self.request_from(message))
        except AuvImageCodecError as error:
            self.defect(LINK, error)

    def perform(self, request: Request) -> None:
        """Send a request to the vehicle."""
        self.transport.send(self._receiver.build(request))
        self._requests_sent += 1

    def more_of(self, identity: int, wanted: int) -> MoreRequest:
        """Return the request for the rest of a packet."""
        return self._receiver.more_of(identity, wanted)

    # --- Diagnostics -------------------------------------------------------------------------

    def values(self) -> Dict[str, Any]:
        """Return the counts of frames, packets and requests, and how late packets came."""
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
