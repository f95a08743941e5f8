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
"""The vehicle's node: camera images in, latents of at most a packet's bytes out."""
from dataclasses import dataclass, field
import math
import time
from typing import Any, Callable, List, Optional, Tuple

import numpy as np

from rclpy.qos import QoSProfile

from sensor_msgs.msg import CompressedImage, Image

from auv_image_codec.codecs import encode_latent
from auv_image_codec.codecs.packet import build_packet, DEFAULT_MAX_BYTES, PacketHeader
from auv_image_codec.link.token_bucket import FairShare, TokenBucket
from auv_image_codec.msg import LatentCode
from auv_image_codec.nodes.background import NewestWorker
from auv_image_codec.nodes.cameras import CAMERA_LIMIT, default_topic
from auv_image_codec.nodes.image_conversion import compressed_image_to_rgb, image_to_rgb
from auv_image_codec.nodes.latent_conversion import latent_to_message, stamp_to_ns
from auv_image_codec.nodes.node_base import (
    best_effort, CodecNode, POLL_PERIOD, reliable, run_node, topic_problem)
from auv_image_codec.nodes.parameters import ParameterSpec

TRANSPORTS = ('raw', 'compressed')
LATENT_DEPTH = 10
# A change of the rates at run time must not wait for a pause computed with the old ones.
LONGEST_WAIT = 0.5

PARAMETERS = (
    ParameterSpec('transport', 'raw',
                  'What cameras publish: raw (Image) or compressed (CompressedImage).',
                  choices=TRANSPORTS, read_only=True),
    ParameterSpec('image_reliability', 'best_effort', 'Reliability of the image subscriptions.',
                  choices=('best_effort', 'reliable'), read_only=True),
    ParameterSpec('image_queue_depth', 1,
                  'Frames of a camera that wait while the node is busy; 1 keeps the newest.',
                  minimum=1, maximum=1000, read_only=True),
    ParameterSpec('max_bytes', DEFAULT_MAX_BYTES,
                  'Largest packet in bytes, header and checks included.',
                  minimum=32, maximum=4096),
    ParameterSpec('refinement_steps', 0,
                  'Packets to try for each frame, for a better image of as many bytes; 0 for '
                  'none. Codec wavelet only.', minimum=0, maximum=1000),
    ParameterSpec('refinement_seconds', 0.0, 'Time limit of a refinement; 0.0 for none.',
                  minimum=0.0, maximum=3600.0),
    ParameterSpec('max_rate', 0.0, 'Most frames a second of each camera; 0.0 for all.',
                  minimum=0.0, maximum=1000.0),
    ParameterSpec('byte_rate', 0.0,
                  'Packet bytes a second of all cameras together; 0.0 for no limit.',
                  minimum=0.0, maximum=1e9),
)


def camera_parameters(name: str, position: int) -> List[ParameterSpec]:
    """Return the parameters of one camera, the one at a position in the list of names."""
    return [
        ParameterSpec(f'{name}.image', '',
                      'Image topic; empty for image or image/compressed, with several cameras '
                      'below NAME/.', check=topic_problem, read_only=True),
        ParameterSpec(f'{name}.latent', '',
                      'Latent topic; empty for latent, with several cameras below NAME/.',
                      check=topic_problem, read_only=True),
        ParameterSpec(f'{name}.transport', '',
                      'What this camera publishes; empty for the parameter transport.',
                      choices=('', *TRANSPORTS), read_only=True),
        ParameterSpec(f'{name}.index', position, 'Number of the camera in the packet.',
                      minimum=0, maximum=CAMERA_LIMIT - 1, read_only=True),
        ParameterSpec(f'{name}.priority', 1,
                      'Weight of the camera when cameras share byte_rate.',
                      minimum=1, maximum=1000),
    ]


@dataclass
class EncodedCamera:
    """One camera: its settings, and the frame that waits to be coded."""

    name: str
    image_topic: str
    latent_topic: str
    index: int
    message_type: type
    to_rgb: Callable[[Any, int], np.ndarray]
    sequence: int = 0
    publisher: Any = None
    subscription: Any = None
    waiting: Optional[Any] = None
    last_slot: float = field(default=-1e9)  # steady seconds; the rate limit counts from here


@dataclass
class EncodingJob:
    """A frame, and what became of it: its latent, or the error."""

    camera: EncodedCamera
    message: Any
    start: float = field(default_factory=time.perf_counter)
    latent: Optional[np.ndarray] = None
    size: Tuple[int, int] = (0, 0)      # width and height of the image
    error: Optional[Exception] = None

    @property
    def done(self) -> bool:
        """Whether anything became of it yet."""
        return self.latent is not None or self.error is not None


class EncoderNode(CodecNode):
    """
    Subscribes to images and publishes a LatentCode for each, while somebody listens.

    Frames of a camera that come faster than its limits allow replace each other: the newest one
    waits, and is coded as soon as it may be. A refinement, which takes seconds, runs in a thread
    of its own, so that the node answers meanwhile.
    """

    NAME = 'encoder_node'

    def __init__(self, **kwargs: Any):
        """
        Declare the parameters; nothing is loaded before configure.

        :raises rclpy.exceptions.ParameterException: if a parameter is wrong.
        """
        super().__init__(self.NAME, side='encoder', verb='coded', **kwargs)
        self.parameters.declare(PARAMETERS)
        self.cameras = [self._declare_camera(name, position)
                        for position, name in enumerate(self.camera_names)]
        self.check_unique('index', [camera.index for camera in self.cameras], 'index')
        self.check_unique('image', [self.full_topic(camera.image_topic)
                                    for camera in self.cameras], 'image topic')
        self.check_unique('latent', [self.full_topic(camera.latent_topic)
                                     for camera in self.cameras], 'latent topic')
        self._share = FairShare()
        self._budget: Optional[TokenBucket] = None
        self._wake_timer = None
        self._poll_timer = None
        self._worker = NewestWorker(lambda _, job: self._refine(job))
        self._refining: Optional[EncodingJob] = None
        self._refined = self.create_guard_condition(self._finish_refinement)

    def _declare_camera(self, name: str, position: int) -> EncodedCamera:
        self.parameters.declare(camera_parameters(name, position))
        value = self.parameters.value
        compressed = (value(f'{name}.transport') or value('transport')) == 'compressed'
        topic = 'image/compressed' if compressed else 'image'
        return EncodedCamera(
            name=name,
            image_topic=value(f'{name}.image') or default_topic(topic, name, self.camera_names),
            latent_topic=(value(f'{name}.latent')
                          or default_topic('latent', name, self.camera_names)),
            index=value(f'{name}.index'),
            message_type=CompressedImage if compressed else Image,
            to_rgb=compressed_image_to_rgb if compressed else image_to_rgb)

    # --- Life cycle --------------------------------------------------------------------------

    def configure(self) -> None:
        """Try the codec once, which also makes the first frame fast, and create publishers."""
        width, height = self.codec.input_size
        grey = np.full((height, width, 3), 128, dtype=np.uint8)
        encode_latent(self.codec, grey, self.parameters.value('max_bytes'),
                      min(1, self.parameters.value('refinement_steps')))
        for camera in self.cameras:
            camera.publisher = self.publisher(
                LatentCode, camera.latent_topic, reliable(LATENT_DEPTH),
                on_matched=lambda _: self._follow_subscribers())

    def activate(self) -> None:
        """Subscribe to the images that somebody wants."""
        self._worker.start()
        self._wake_timer = self.every(LONGEST_WAIT, self._wake)
        self._wake_timer.cancel()
        # Besides matched events, where there are any: cheap, and a lost event costs nothing.
        self._poll_timer = self.every(POLL_PERIOD, self._follow_subscribers)
        self._follow_subscribers()

    def deactivate(self) -> None:
        """Unsubscribe, and forget the frames that wait or are refined."""
        self._worker.stop()
        if self._refining is not None:
            self.statistics[self._refining.camera.name].frames_skipped += 1
            self._refining = None
        for camera in self.cameras:
            self._unsubscribe(camera)
        for timer in filter(None, (self._wake_timer, self._poll_timer)):
            self.destroy_timer(timer)
        self._wake_timer = self._poll_timer = None

    def cleanup(self) -> None:
        """Destroy the publishers."""
        for camera in self.cameras:
            if camera.publisher is not None:
                self.destroy_lifecycle_publisher(camera.publisher)
                camera.publisher = None

    # --- Subscriptions -----------------------------------------------------------------------

    def _follow_subscribers(self) -> None:
        """Receive the images of exactly the cameras whose latents somebody receives."""
        if self.state != 'active':
            return
        for camera in self.cameras:
            wanted = camera.publisher.get_subscription_count() > 0
            if wanted and camera.subscription is None:
                camera.subscription = self.subscription(
                    camera.message_type, camera.image_topic,
                    lambda message, camera=camera: self._receive(camera, message),
                    self._image_qos())
            elif not wanted:
                self._unsubscribe(camera)

    def _unsubscribe(self, camera: EncodedCamera) -> None:
        if camera.waiting is not None:
            self.statistics[camera.name].frames_skipped += 1
            camera.waiting = None
        if camera.subscription is not None:
            self.destroy_subscription(camera.subscription)
            camera.subscription = None

    def _image_qos(self) -> QoSProfile:
        reliability = self.parameters.value('image_reliability')
        return (reliable if reliability == 'reliable' else best_effort)(
            self.parameters.value('image_queue_depth'))

    # --- Frames ------------------------------------------------------------------------------

    def _receive(self, camera: EncodedCamera, message: Any) -> None:
        statistics = self.statistics[camera.name]
        statistics.frames_in += 1
        if camera.waiting is not None:
            if self._refining is not None or self._seconds_to_slot(camera) > 0:
                statistics.frames_skipped += 1  # as refinement_steps or max_rate ask
            else:
                statistics.frames_dropped += 1  # byte_rate is too low for it
        camera.waiting = message
        self._wake()

    def _wake(self) -> None:
        """Code every waiting frame that may go now, and sleep until the next one may."""
        if self.state != 'active':
            return
        self._wake_timer.cancel()
        while self._refining is None:
            waiting = [camera for camera in self.cameras if camera.waiting is not None]
            if not waiting:
                return
            pauses = {camera.name: self._seconds_to_slot(camera) for camera in waiting}
            due = {camera.name: camera for camera in waiting if pauses[camera.name] <= 0}
            pause = self._seconds_to_budget() if due else min(pauses.values())
            if pause > 0:
                self._wake_timer.timer_period_ns = max(
                    1, int(1e9 * min(pause, LONGEST_WAIT)))
                self._wake_timer.reset()
                return
            for name in due:
                self._share.set_weight(name, self.parameters.value(f'{name}.priority'))
            camera = due[self._share.choose(due)]
            message, camera.waiting = camera.waiting, None
            self._code(camera, message)

    def _seconds_to_slot(self, camera: EncodedCamera) -> float:
        """Return how long max_rate holds the camera's next frame back."""
        rate = self.parameters.value('max_rate')
        return camera.last_slot + 1.0 / rate - time.monotonic() if rate > 0 else 0.0

    def _seconds_to_budget(self) -> float:
        """Return how long byte_rate holds back a packet of the largest size."""
        rate, most = self.parameters.value('byte_rate'), self.parameters.value('max_bytes')
        if rate <= 0:
            self._budget = None
            return 0.0
        if self._budget is None:
            self._budget = TokenBucket(rate, most)
        elif (self._budget.rate, self._budget.capacity) != (rate, most):
            self._budget.configure(rate, most)
        return self._budget.seconds_until(most)

    def _take_slot(self, camera: EncodedCamera) -> None:
        rate, now = self.parameters.value('max_rate'), time.monotonic()
        # On the grid of the rate, or else every wait would add its own delay to the period.
        slot = camera.last_slot + 1.0 / rate if rate > 0 else now
        camera.last_slot = slot if rate > 0 and now - slot < 1.0 / rate else now

    def _code(self, camera: EncodedCamera, message: Any) -> None:
        """Publish the latent of an image, now or when it is refined."""
        if camera.publisher.get_subscription_count() == 0:
            self.statistics[camera.name].frames_skipped += 1
            return
        job = EncodingJob(camera, message)
        if self.parameters.value('refinement_steps'):
            self._refining = job
            self._worker.submit(camera.name, job)
        else:
            self._encode(job)
            self._finish(job)

    def _encode(self, job: EncodingJob) -> None:
        value = self.parameters.value
        try:
            image = job.camera.to_rgb(job.message, value('max_image_pixels'))
            job.size = image.shape[1], image.shape[0]
            job.latent = encode_latent(
                self.codec, image, value('max_bytes'), value('refinement_steps'),
                value('refinement_seconds') or math.inf, lambda: self._worker.stopping)
        except Exception as error:
            job.error = error

    def _refine(self, job: EncodingJob) -> None:
        """Encode a frame in the worker's thread; the node's own publishes it."""
        self._encode(job)
        self._refined.trigger()

    def _finish_refinement(self) -> None:
        job = self._refining
        if job is not None and job.done:    # else its trigger came from one that was forgotten
            self._refining = None
            self._finish(job)
            self._wake()

    def _finish(self, job: EncodingJob) -> None:
        """Publish a frame's latent, and charge its packet to the camera."""
        camera, (width, height) = job.camera, job.size
        try:
            if job.error is not None:
                raise job.error
            # As the link will build it, for its true size and its limits.
            packet = build_packet(
                PacketHeader(
                    codec=self.codec.name, model_id=self.codec.model_id, camera=camera.index,
                    sequence=camera.sequence, stamp_ns=stamp_to_ns(job.message.header.stamp),
                    width=width, height=height),
                self.codec.payload_from_latent(job.latent))
            camera.publisher.publish(latent_to_message(
                self.codec, job.latent, job.message.header, camera.sequence, width, height))
        except Exception as error:
            self.defect(camera.name, error)
            return
        self.statistics[camera.name].done(len(packet), time.perf_counter() - job.start)
        camera.sequence = (camera.sequence + 1) % 2 ** 32
        self._take_slot(camera)
        self._share.charge(camera.name, len(packet))
        if self._budget is not None:
            self._budget.take(len(packet))


def main(args: Optional[List[str]] = None) -> int:
    """Run the node; return the exit status."""
    return run_node(EncoderNode, args)
