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
"""The vehicle's end of the link: latents in, frames for the modem out, requests back in."""
import math
from typing import Any, Dict, List, Optional

from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.srv import SetParameters

from rclpy.parameter import Parameter

from auv_image_codec.codecs.packet import (
    build_packet, DEFAULT_MAX_BYTES, LARGEST_PACKET_BYTES, PacketHeader)
from auv_image_codec.errors import FrameError, RequestError
from auv_image_codec.link.fragmentation import largest_packet
from auv_image_codec.link.profiles import load_profile
from auv_image_codec.link.requests import (
    BudgetRequest, MoreRequest, packet_identity, Request)
from auv_image_codec.link.sender import LARGEST_STORE, LinkSender, SenderSettings
from auv_image_codec.msg import LatentCode, LinkRequest
from auv_image_codec.nodes.latent_conversion import latent_from_message, stamp_to_ns
from auv_image_codec.nodes.link_node import LATENT_DEPTH, LINK, LinkCamera, LinkNode
from auv_image_codec.nodes.node_base import reliable, run_node, topic_problem
from auv_image_codec.nodes.parameters import ParameterSpec
from auv_image_codec.nodes.request_conversion import request_to_message

LONGEST_WAIT = 0.5  # seconds; a change of the rate must not wait for a pause of the old one
ENCODER_PERIOD = 5.0  # seconds between looks whether the encoder still has its budget


def link_rate_problem(rate: float) -> str:
    """Return what is wrong with a rate, or an empty string."""
    return '' if rate == 0 or rate >= 1 else f'{rate} is neither 0.0 nor at least 1.0'


PARAMETERS = (
    ParameterSpec('profile', 'evologics_s2c_500',
                  'Modem profile: a name in config/link/, or the path of a .yaml file.',
                  unconfigured_only=True),
    ParameterSpec('frame_bytes', 0, 'Most bytes of a frame, 16 or more; 0 for the profile.',
                  minimum=0, maximum=2048, unconfigured_only=True),
    ParameterSpec('link_rate', 0.0,
                  'Bits a second of the link, which are never exceeded; 0.0 for the profile.',
                  minimum=0.0, maximum=1e9, check=link_rate_problem),
    ParameterSpec('listen_time', -1.0,
                  'Seconds of silence after each packet, in which a half-duplex modem hears '
                  'requests; -1.0 for the profile.', minimum=-1.0, maximum=3600.0),
    ParameterSpec('redundancy', 0.0,
                  'Frames of Reed-Solomon parity for each frame of data, rounded up.',
                  minimum=0.0, maximum=2.0),
    ParameterSpec('max_bytes', DEFAULT_MAX_BYTES,
                  'Largest packet in bytes, header and checks included, that the encoder is told.',
                  minimum=32, maximum=4096),
    ParameterSpec('max_rate', 0.0,
                  'Most images a second of each camera that the encoder is told; 0.0 leaves its '
                  'own.', minimum=0.0, maximum=1000.0),
    ParameterSpec('send_bytes', 0,
                  'Bytes of the beginning of each packet that are sent unasked; 0 for all.',
                  minimum=0, maximum=4096),
    ParameterSpec('queue_packets', 2,
                  'Packets of a camera that wait; newer ones push the oldest out.',
                  minimum=1, maximum=1000),
    ParameterSpec('max_age', 30.0,
                  'Seconds after which a packet that waits is dropped; 0.0 for never.',
                  minimum=0.0, maximum=86400.0),
    ParameterSpec('store_packets', 32, 'Packets sent last that can be asked for again.',
                  minimum=0, maximum=LARGEST_STORE),
    ParameterSpec('encoder', 'encoder_node',
                  'Node that is told how many bytes the link carries; empty for none.',
                  check=topic_problem, read_only=True),
)


class LinkSenderNode(LinkNode):
    """Makes packets of latents, and hands their frames to the modem no faster than it sends."""

    NAME = 'link_sender_node'
    SERVICE = 'link/apply_request'

    def __init__(self, **kwargs: Any):
        """
        Declare the parameters; nothing is loaded before configure.

        :raises rclpy.exceptions.ParameterException: if a parameter is wrong.
        """
        super().__init__(
            self.NAME, 'encoder', PARAMETERS, bind='0.0.0.0:47001', peer='127.0.0.1:47002',
            most_stamps=2 * LARGEST_STORE, **kwargs)
        self._sender: Optional[LinkSender] = None
        self._profile = None
        self._requests = None
        self._encoder = None
        self._told: Dict[str, Any] = {}
        self._wake_timer = None

    def declare_camera(self, name: str, position: int) -> LinkCamera:
        """Declare the parameters of a camera, and return it."""
        settings = self.common_settings(name, position)
        self.parameters.declare([
            ParameterSpec(f'{name}.priority', 1,
                          'Weight of the camera when cameras share the link.',
                          minimum=1, maximum=1000)])
        return LinkCamera(**settings)

    # --- Life cycle --------------------------------------------------------------------------

    def load(self) -> None:
        """Read the modem's profile, and load the codec."""
        self._profile = load_profile(self.parameters.value('profile'))
        super().load()

    def description(self) -> str:
        """Return codec, cameras and link."""
        settings = self._sender.settings
        return (f'{super().description()}; profile {self._profile.name}, frames of '
                f'{settings.frame_bytes} bytes, {settings.link_rate:g} bit/s')

    def configure(self) -> None:
        """Open the way to the modem."""
        frame_bytes = self.parameters.value('frame_bytes') or self._profile.frame_bytes
        try:
            largest_packet(frame_bytes)
        except ValueError as error:
            raise FrameError(str(error)) from error
        self._sender = LinkSender(SenderSettings(frame_bytes=frame_bytes, **self._settings()))
        super().configure()
        self._requests = self.publisher(LinkRequest, 'link/received_request', reliable(10))
        name = self.parameters.value('encoder')
        if name:
            self._encoder = self.create_client(SetParameters, f'{name}/set_parameters')

    def activate(self) -> None:
        """Subscribe to latents and listen to the modem."""
        super().activate()
        for camera in self.cameras:
            self.listen(LatentCode, camera.latent_topic,
                        lambda message, camera=camera: self._send(camera, message),
                        reliable(LATENT_DEPTH))
        self._wake_timer = self.repeat(LONGEST_WAIT, self._wake)
        self.repeat(ENCODER_PERIOD, self._tell_encoder_again)
        self._tell_encoder_again()

    def cleanup(self) -> None:
        """Close the way to the modem, and forget the packets."""
        super().cleanup()
        if self._requests is not None:
            self.destroy_lifecycle_publisher(self._requests)
            self._requests = None
        if self._encoder is not None:
            self.destroy_client(self._encoder)
            self._encoder = None
        self._sender = None
        self._told = {}

    def _settings(self) -> Dict[str, Any]:
        """Return the sender's settings that can change at run time."""
        value, model = self.parameters.value, self._profile.model
        listen_time = value('listen_time')
        return {
            'link_rate': value('link_rate') or model.link_rate,
            'frame_seconds': model.frame_seconds,
            'listen_time': listen_time if listen_time >= 0 else self._profile.listen_time,
            'redundancy': value('redundancy'),
            'send_bytes': value('send_bytes'),
            'queue_packets': value('queue_packets'),
            'max_age': value('max_age'),
            'store_packets': value('store_packets'),
        }

    # --- Frames ------------------------------------------------------------------------------

    def _send(self, camera: LinkCamera, message: LatentCode) -> None:
        """Queue the packet of a latent."""
        try:
            latent = latent_from_message(
                self.codec, message, self.parameters.value('max_image_pixels'))
            stamp = stamp_to_ns(message.header.stamp)
            packet = build_packet(
                PacketHeader(
                    codec=self.codec.name, model_id=self.codec.model_id, camera=camera.index,
                    sequence=message.sequence, stamp_ns=stamp, width=message.image_width,
                    height=message.image_height),
                self.codec.payload_from_latent(latent))
            self._sender.offer(packet, camera.index)
        except Exception as error:
            self.defect(LINK, error)
            return
        self.stamps.add(packet_identity(packet), stamp)
        self._wake()

    def _wake(self) -> None:
        """Send what may go now, and sleep until more may."""
        self._follow_parameters()
        while True:
            frame = self._sender.next_frame()
            if frame is None:
                break
            try:
                self.transport.send(frame.data, self._priority(frame.camera))
            except Exception as error:
                self.defect(LINK, error)
        pause = min(self._sender.seconds_until_next(), LONGEST_WAIT)
        self._wake_timer.timer_period_ns = max(1_000_000, math.ceil(1e9 * pause))
        self._wake_timer.reset()

    def _priority(self, index: int) -> int:
        return next((self.parameters.value(f'{camera.name}.priority')
                     for camera in self.cameras if camera.index == index), 0)

    def _follow_parameters(self) -> None:
        """Take over what was set since the last time, and tell the encoder."""
        for camera in self.cameras:
            self._sender.set_weight(
                camera.index, self.parameters.value(f'{camera.name}.priority'))
        settings = self._settings()
        if any(getattr(self._sender.settings, name) != value
               for name, value in settings.items()):
            self._sender.configure(**settings)
        budget = self._budget()
        if budget != self._told:
            self._tell_encoder(budget)

    # --- Encoder -----------------------------------------------------------------------------

    def _budget(self) -> Dict[str, Any]:
        """Return what the encoder's parameters should be, so that all it codes can be sent."""
        settings = self._sender.settings
        most = max(32, min(self.parameters.value('max_bytes'), LARGEST_PACKET_BYTES,
                           settings.largest_packet))
        budget = {'max_bytes': most, 'byte_rate': most * settings.packet_rate(most)}
        if self.parameters.value('max_rate') > 0:
            budget['max_rate'] = self.parameters.value('max_rate')
        return budget

    def _tell_encoder_again(self) -> None:
        """Tell the encoder its budget, for it may have started after us, or again."""
        self._tell_encoder(self._budget())

    def _tell_encoder(self, budget: Dict[str, Any]) -> None:
        if self._encoder is None or not self._encoder.service_is_ready():
            return
        parameters: List[ParameterMessage] = [
            Parameter(name, value=value).to_parameter_msg() for name, value in budget.items()]
        future = self._encoder.call_async(SetParameters.Request(parameters=parameters))
        future.add_done_callback(self._encoder_answered)
        self._told = budget

    def _encoder_answered(self, future: Any) -> None:
        for result in future.result().results:
            if not result.successful:
                self.defect(LINK, RequestError(f'the encoder refuses its budget: {result.reason}'))

    # --- Requests ----------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Do what a message of the back channel asks for."""
        try:
            request = self._sender.receive(data)
            if request is not None:
                self._requests.publish(request_to_message(request, self.stamps.stamp))
                self._apply_budget(request)
        except Exception as error:
            self.defect(LINK, error)
        self._wake()

    def perform(self, request: Request) -> None:
        """Do what somebody on the vehicle asks for."""
        self._sender.apply(request)
        self._apply_budget(request)
        self._wake()

    def more_of(self, identity: int, wanted: int) -> MoreRequest:
        """Return the request for a packet from its beginning."""
        return MoreRequest(identity, 0, wanted)

    def _apply_budget(self, request: Request) -> None:
        """Set the parameters that a request for another budget names."""
        if not isinstance(request, BudgetRequest):
            return
        values = {'link_rate': float(request.link_rate), 'max_bytes': request.max_bytes,
                  'max_rate': request.max_rate}
        for result in self.set_parameters(
                [Parameter(name, value=value) for name, value in values.items() if value]):
            if not result.successful:
                raise RequestError(result.reason)

    # --- Diagnostics -------------------------------------------------------------------------

    def values(self) -> Dict[str, Any]:
        """Return the counts of packets, frames and requests, and what the encoder was told."""
        if self._sender is None:
            return {}
        sender, counts = self._sender, self._sender.counts
        return {
            'profile': self._profile.name,
            'link_rate': sender.settings.link_rate,
            'largest_packet': sender.settings.largest_packet,
            'packets_queued': counts.packets_queued,
            'packets_sent': counts.packets_sent,
            'packets_dropped': counts.packets_dropped,
            'packets_expired': counts.packets_expired,
            'packets_waiting': sender.queued_packets(),
            'queue_age_s': sender.queue_age(),
            'frames_sent': counts.frames_sent,
            'frames_repeated': counts.frames_repeated,
            'bytes_sent': counts.bytes_sent,
            'airtime_s': counts.airtime,
            'airtime_share': sender.recent_airtime_share(),
            'requests': counts.requests,
            'requests_repeated': counts.requests_repeated,
            'encoder_max_bytes': self._told.get('max_bytes', ''),
            'encoder_byte_rate': self._told.get('byte_rate', ''),
        }


def main(args: Optional[List[str]] = None) -> int:
    """Run the node; return the exit status."""
    return run_node(LinkSenderNode, args)
