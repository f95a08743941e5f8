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
"""The surface's node: latents in, reconstructed and enhanced images out."""
from dataclasses import dataclass
import time
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from sensor_msgs.msg import CameraInfo, Image

from std_msgs.msg import Header

from auv_image_codec.codecs.base import resample
from auv_image_codec.codecs.enhancer import Enhancer, has_enhancer
from auv_image_codec.codecs.packet import OVERHEAD_BYTES
from auv_image_codec.errors import WeightsError
from auv_image_codec.msg import LatentCode
from auv_image_codec.nodes.background import NewestWorker
from auv_image_codec.nodes.camera_info import load_camera_info, scale_camera_info
from auv_image_codec.nodes.cameras import default_topic
from auv_image_codec.nodes.diagnostics import EnhancementStatistics
from auv_image_codec.nodes.image_conversion import rgb_to_image
from auv_image_codec.nodes.latent_conversion import latent_from_message
from auv_image_codec.nodes.node_base import (
    best_effort, CodecNode, reliable, run_node, topic_problem)
from auv_image_codec.nodes.parameters import ParameterSpec

LATENT_DEPTH = 10
IMAGE_DEPTH = 10

PARAMETERS = (
    ParameterSpec('enhance', 'auto',
                  'Publish enhanced images, whose detail is synthesised: always, never, or '
                  'auto where there are weights of an enhancer for the codec.',
                  choices=('auto', 'always', 'never'), unconfigured_only=True),
    ParameterSpec('enhancer_weights', '',
                  "Folder with the enhancer's weights; empty for the shipped ones.",
                  unconfigured_only=True),
)


def camera_parameters(name: str) -> List[ParameterSpec]:
    """Return the parameters of one camera."""
    several = 'with several cameras below NAME/.'
    return [
        ParameterSpec(f'{name}.latent', '', f'Latent topic; empty for latent, {several}',
                      check=topic_problem, read_only=True),
        ParameterSpec(f'{name}.reconstructed_image', '',
                      'Topic of the reconstruction, with camera_info beside it; empty for '
                      f'reconstructed/image, {several}', check=topic_problem, read_only=True),
        ParameterSpec(f'{name}.enhanced_image', '',
                      'Topic of the enhanced image, with camera_info beside it; empty for '
                      f'enhanced/image, {several}', check=topic_problem, read_only=True),
        ParameterSpec(f'{name}.camera_info', '',
                      f'Topic of the calibration; empty for camera_info, {several}',
                      check=topic_problem, read_only=True),
        ParameterSpec(f'{name}.camera_info_url', '',
                      'Calibration file: a path, file:// or package:// URL; empty for none.',
                      unconfigured_only=True),
    ]


@dataclass
class ImageOutput:
    """Images of one camera and kind, and the calibration scaled to them."""

    image_topic: str
    image_publisher: Any = None
    info_publisher: Any = None

    @property
    def info_topic(self) -> str:
        """Topic of the scaled calibration, where image_transport looks for it."""
        return self.image_topic.rpartition('/')[0] + '/camera_info' \
            if '/' in self.image_topic else 'camera_info'

    def is_wanted(self) -> bool:
        """Return whether somebody receives this."""
        return self.image_publisher is not None and bool(
            self.image_publisher.get_subscription_count()
            or self.info_publisher.get_subscription_count())

    def publish(self, image: np.ndarray, header: Header,
                calibration: Optional[CameraInfo]) -> None:
        """Publish an image, uint8 (height, width, 3), and its calibration, if that is known."""
        self.image_publisher.publish(rgb_to_image(image, header))
        if calibration is not None:
            info = scale_camera_info(calibration, image.shape[1], image.shape[0])
            info.header = header
            self.info_publisher.publish(info)


@dataclass
class DecodedCamera:
    """One camera: its topics, and its calibration once that is known."""

    name: str
    latent_topic: str
    reconstructed: ImageOutput
    enhanced: ImageOutput
    source_info_topic: str
    subscriptions: tuple = ()
    calibration: Optional[CameraInfo] = None

    @property
    def outputs(self) -> Tuple[ImageOutput, ImageOutput]:
        """Everything that is published."""
        return self.reconstructed, self.enhanced


class EnhancementJob(NamedTuple):
    """A latent to enhance; ``decoded`` is its image, where somebody looks at that one too."""

    camera: DecodedCamera
    latent: np.ndarray
    decoded: Optional[np.ndarray]
    size: Tuple[int, int]
    header: Header


class DecoderNode(CodecNode):
    """Subscribes to LatentCode and publishes what the codec makes of it, while somebody looks."""

    NAME = 'decoder_node'

    def __init__(self, **kwargs: Any):
        """
        Declare the parameters; nothing is loaded before configure.

        :raises rclpy.exceptions.ParameterException: if a parameter is wrong.
        """
        super().__init__(self.NAME, side='decoder', verb='decoded', **kwargs)
        self.parameters.declare(PARAMETERS)
        self._enhancer: Optional[Enhancer] = None
        self._enhancement = 'off'
        self._worker = NewestWorker(self._enhance)
        self.enhancements: Dict[str, EnhancementStatistics] = {
            name: EnhancementStatistics() for name in self.camera_names}
        self.cameras = [self._declare_camera(name) for name in self.camera_names]
        self.check_unique('latent', [self.full_topic(camera.latent_topic)
                                     for camera in self.cameras], 'latent topic')
        self._check_image_topics()

    def _check_image_topics(self) -> None:
        taken: Dict[str, str] = {
            self.full_topic(camera.source_info_topic): 'the one that the calibration comes from'
            for camera in self.cameras}
        for kind in ('reconstructed', 'enhanced'):
            for camera in self.cameras:
                output = getattr(camera, kind)
                for what, topic in (('image', output.image_topic),
                                    ('camera_info', output.info_topic)):
                    full = self.full_topic(topic)
                    if full in taken:
                        self.parameters.reject(f'{camera.name}.{kind}_image',
                                               f'its {what} topic {topic!r} is {taken[full]}')
                    taken[full] = f"taken by camera {camera.name!r}'s {kind} image"

    def _declare_camera(self, name: str) -> DecodedCamera:
        self.parameters.declare(camera_parameters(name))

        def topic(parameter: str, default: str) -> str:
            return (self.parameters.value(f'{name}.{parameter}')
                    or default_topic(default, name, self.camera_names))
        return DecodedCamera(
            name=name,
            latent_topic=topic('latent', 'latent'),
            reconstructed=ImageOutput(topic('reconstructed_image', 'reconstructed/image')),
            enhanced=ImageOutput(topic('enhanced_image', 'enhanced/image')),
            source_info_topic=topic('camera_info', 'camera_info'))

    # --- Life cycle --------------------------------------------------------------------------

    def configure(self) -> None:
        """Load the enhancer, read the calibrations and create the publishers."""
        self._load_enhancer()
        for camera in self.cameras:
            url = self.parameters.value(f'{camera.name}.camera_info_url')
            camera.calibration = load_camera_info(url) if url else None
            for output in camera.outputs if self._enhancer else (camera.reconstructed,):
                output.image_publisher = self.publisher(
                    Image, output.image_topic, reliable(IMAGE_DEPTH))
                output.info_publisher = self.publisher(
                    CameraInfo, output.info_topic, reliable(IMAGE_DEPTH))

    def _load_enhancer(self) -> None:
        wanted = self.parameters.value('enhance')
        weights = self.parameters.value('enhancer_weights') or None
        self._enhancement = 'off'
        if wanted == 'never':
            return
        if wanted == 'auto' and not weights and not has_enhancer(self.codec.name):
            self._enhancement = f'off: no enhancer comes with codec {self.codec.name}'
            return
        try:
            self._enhancer = Enhancer(self.codec, weights, self.parameters.value('device'))
        except WeightsError as error:
            if wanted == 'always':
                raise
            self._enhancement = f'off: {error}'
            self.get_logger().warning(f'without enhanced images: {error}')
            return
        self._enhancement = 'synthesised'

    def activate(self) -> None:
        """Subscribe to latents and calibrations."""
        if self._enhancer:
            self._worker.start()
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
        self._worker.stop()

    def cleanup(self) -> None:
        """Destroy the publishers, and forget enhancer and calibrations."""
        for camera in self.cameras:
            for output in camera.outputs:
                for publisher in filter(None, (output.image_publisher, output.info_publisher)):
                    self.destroy_lifecycle_publisher(publisher)
                output.image_publisher = output.info_publisher = None
            camera.calibration = None
        self._enhancer = None
        self._enhancement = 'off'

    def more_values(self, camera: str) -> List[Tuple[str, str]]:
        """Return what the diagnostics tell of a camera's enhanced images."""
        return [('enhanced_image', self._enhancement), *self.enhancements[camera].key_values()]

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
            size = (message.image_width, message.image_height)
            enhanced = camera.enhanced.is_wanted()
            decoded = None
            if camera.reconstructed.is_wanted():
                decoded = self.codec.decode(latent, self.codec.decoded_size(latent))
                camera.reconstructed.publish(resample(decoded, size), message.header,
                                             camera.calibration)
                packet_bytes = OVERHEAD_BYTES + len(self.codec.payload_from_latent(latent))
                statistics.done(packet_bytes, time.perf_counter() - start)
            elif not enhanced:
                statistics.frames_skipped += 1
        except Exception as error:
            self.defect(camera.name, error)
            return
        if enhanced and self._worker.submit(
                camera.name, EnhancementJob(camera, latent, decoded, size, message.header)):
            self.enhancements[camera.name].frames_replaced += 1

    def _enhance(self, name: str, job: EnhancementJob) -> None:
        """Enhance an image and publish it, in a thread of its own."""
        start = time.perf_counter()
        try:
            image = self._enhancer.enhance(job.latent, job.size, job.decoded)
            job.camera.enhanced.publish(image, job.header, job.camera.calibration)
        except Exception as error:
            self.defect(name, error)
            return
        self.enhancements[name].done(time.perf_counter() - start)


def main(args: Optional[List[str]] = None) -> int:
    """Run the node; return the exit status."""
    return run_node(DecoderNode, args)
