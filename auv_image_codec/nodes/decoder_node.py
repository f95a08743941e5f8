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
"""The surface's node: latents in, reconstructed images out."""
from dataclasses import dataclass
import time
from typing import Any, List, Optional

from sensor_msgs.msg import CameraInfo, Image

from auv_image_codec.codecs.packet import OVERHEAD_BYTES
from auv_image_codec.msg import LatentCode
from auv_image_codec.nodes.camera_info import load_camera_info, scale_camera_info
from auv_image_codec.nodes.cameras import default_topic
from auv_image_codec.nodes.image_conversion import rgb_to_image
from auv_image_codec.nodes.latent_conversion import latent_from_message
from auv_image_codec.nodes.node_base import (
    best_effort, CodecNode, reliable, run_node, topic_problem)
from auv_image_codec.nodes.parameters import ParameterSpec

LATENT_DEPTH = 10
IMAGE_DEPTH = 10


def camera_parameters(name: str) -> List[ParameterSpec]:
    """Return the parameters of one camera."""
    several = 'with several cameras below NAME/.'
    return [
        ParameterSpec(f'{name}.latent', '', f'Latent topic; empty for latent, {several}',
                      check=topic_problem, read_only=True),
        ParameterSpec(f'{name}.reconstructed_image', '',
                      'Topic of the reconstruction, with camera_info beside it; empty for '
                      f'reconstructed/image, {several}', check=topic_problem, read_only=True),
        ParameterSpec(f'{name}.camera_info', '',
                      f'Topic of the calibration; empty for camera_info, {several}',
                      check=topic_problem, read_only=True),
        ParameterSpec(f'{name}.camera_info_url', '',
                      'Calibration file: a path, file:// or package:// URL; empty for none.',
                      unconfigured_only=True),
    ]


@dataclass
class DecodedCamera:
    """One camera: its topics, and its calibration once that is known."""

    name: str
    latent_topic: str
    image_topic: str
    source_info_topic: str
    image_publisher: Any = None
    info_publisher: Any = None
    subscriptions: tuple = ()
    calibration: Optional[CameraInfo] = None

    @property
    def info_topic(self) -> str:
        """Topic of the scaled calibration, where image_transport looks for it."""
        return self.image_topic.rpartition('/')[0] + '/camera_info' \
            if '/' in self.image_topic else 'camera_info'


class DecoderNode(CodecNode):
    """Subscribes to LatentCode and publishes what the codec makes of it, while somebody looks."""

    NAME = 'decoder_node'

    def __init__(self, **kwargs: Any):
        """
        Declare the parameters; nothing is loaded before configure.

        :raises rclpy.exceptions.ParameterException: if a parameter is wrong.
        """
        super().__init__(self.NAME, side='decoder', verb='decoded', **kwargs)
        self.cameras = [self._declare_camera(name) for name in self.camera_names]
        self.check_unique('latent', [self.full_topic(camera.latent_topic)
                                     for camera in self.cameras], 'latent topic')
        self.check_unique('reconstructed_image', [self.full_topic(camera.image_topic)
                                                  for camera in self.cameras], 'image topic')
        self.check_unique('reconstructed_image', [self.full_topic(camera.info_topic)
                                                  for camera in self.cameras],
                          'camera_info topic')
        for camera in self.cameras:
            if self.full_topic(camera.info_topic) == self.full_topic(camera.source_info_topic):
                self.parameters.reject(
                    f'{camera.name}.reconstructed_image',
                    f'its camera_info topic {camera.info_topic!r} is the one that the '
                    'calibration comes from')

    def _declare_camera(self, name: str) -> DecodedCamera:
        self.parameters.declare(camera_parameters(name))

        def topic(parameter: str, default: str) -> str:
            return (self.parameters.value(f'{name}.{parameter}')
                    or default_topic(default, name, self.camera_names))
        return DecodedCamera(
            name=name,
            latent_topic=topic('latent', 'latent'),
            image_topic=topic('reconstructed_image', 'reconstructed/image'),
            source_info_topic=topic('camera_info', 'camera_info'))

    # --- Life cycle --------------------------------------------------------------------------

    def configure(self) -> None:
        """Read the calibrations and create the publishers."""
        for camera in self.cameras:
            url = self.parameters.value(f'{camera.name}.camera_info_url')
            camera.calibration = load_camera_info(url) if url else None
            camera.image_publisher = self.publisher(
                Image, camera.image_topic, reliable(IMAGE_DEPTH))
            camera.info_publisher = self.publisher(
                CameraInfo, camera.info_topic, reliable(IMAGE_DEPTH))

    def activate(self) -> None:
        """Subscribe to latents and calibrations."""
        for camera in self.cameras:
            camera.subscriptions = (
                self.subscription(
                    LatentCode, camera.latent_topic,
                    lambda message, camera=camera: self._receive(camera, message),
                    reliable(LATENT_DEPTH)),
                self.subscription(
                    CameraInfo, camera.source_info_topic,
                    lambda message, camera=camera: self._calibrate(camera, message),
                    best_effort(1)))

    def deactivate(self) -> None:
        """Unsubscribe."""
        for camera in self.cameras:
            for subscription in camera.subscriptions:
                self.destroy_subscription(subscription)
            camera.subscriptions = ()

    def cleanup(self) -> None:
        """Destroy the publishers and forget the calibrations."""
        for camera in self.cameras:
            for publisher in filter(None, (camera.image_publisher, camera.info_publisher)):
                self.destroy_lifecycle_publisher(publisher)
            camera.image_publisher = camera.info_publisher = camera.calibration = None

    # --- Messages ----------------------------------------------------------------------------

    def _calibrate(self, camera: DecodedCamera, message: CameraInfo) -> None:
        try:
            scale_camera_info(message, message.width, message.height)
        except Exception as error:
            self.defect(camera.name, error)
            return
        camera.calibration = message

    def _receive(self, camera: DecodedCamera, message: LatentCode) -> None:
        statistics = self.statistics[camera.name]
        statistics.frames_in += 1
        start = time.perf_counter()
        try:
            latent = latent_from_message(
                self.codec, message, self.parameters.value('max_image_pixels'))
            if not (camera.image_publisher.get_subscription_count()
                    or camera.info_publisher.get_subscription_count()):
                statistics.frames_skipped += 1
                return
            size = (message.image_width, message.image_height)
            image = self.codec.decode(latent, size)
            camera.image_publisher.publish(rgb_to_image(image, message.header))
            if camera.calibration is not None:
                info = scale_camera_info(camera.calibration, *size)
                info.header = message.header
                camera.info_publisher.publish(info)
            packet_bytes = OVERHEAD_BYTES + len(self.codec.payload_from_latent(latent))
        except Exception as error:
            self.defect(camera.name, error)
            return
        statistics.done(packet_bytes, time.perf_counter() - start)


def main(args: Optional[List[str]] = None) -> int:
    """Run the node; return the exit status."""
    return run_node(DecoderNode, args)
