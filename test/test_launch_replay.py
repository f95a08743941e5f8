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
"""Launch replay.launch.py for real: the shipped bag crosses to the surface, water or not."""
import os
import time
import unittest

import pytest

pytest.importorskip('launch_ros', reason='launch_ros is not installed: nothing can be launched')
pytest.importorskip('launch_testing', reason='launch_testing is not installed')

from launch import LaunchDescription  # noqa: E402, I100
from launch.actions import IncludeLaunchDescription  # noqa: E402
from launch.launch_description_sources import PythonLaunchDescriptionSource  # noqa: E402
from launch.substitutions import PathJoinSubstitution  # noqa: E402

from launch_ros.substitutions import FindPackageShare  # noqa: E402

import launch_testing  # noqa: E402
import launch_testing.actions  # noqa: E402
import launch_testing.asserts  # noqa: E402

import rclpy  # noqa: E402

from sensor_msgs.msg import Image  # noqa: E402

from unshared import new_domain  # noqa: E402

from auv_image_codec.codecs import DEFAULT_CODEC  # noqa: E402
from auv_image_codec.msg import LatentCode  # noqa: E402

NAMESPACE = 'launch_test'
TIMEOUT_S = 100.0


@pytest.mark.launch_test
@launch_testing.parametrize('link', ['none', 'sim'])
def generate_test_description(link):
    """Replay the shipped bag in a ROS domain of this test's own."""
    os.environ['ROS_DOMAIN_ID'] = str(new_domain())
    replay = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(PathJoinSubstitution(
            [FindPackageShare('auv_image_codec'), 'launch', 'replay.launch.py'])),
        launch_arguments={
            'namespace': NAMESPACE, 'loop': 'true', 'link': link,
            'sigterm_timeout': '30'}.items())      # a busy machine ends slowly
    return LaunchDescription([replay, launch_testing.actions.ReadyToTest()])


class TestWhileItRuns(unittest.TestCase):
    """What the launched nodes publish."""

    def test_images_cross_as_latents(self, link):
        """A latent and a reconstruction of one stamp come, with the size of the camera image."""
        rclpy.init()
        node = rclpy.create_node('listener')
        latents, images = {}, {}

        def keep(messages):
            return lambda message: messages.__setitem__(
                (message.header.stamp.sec, message.header.stamp.nanosec), message)

        topic = 'latent' if link == 'none' else 'received/latent'
        node.create_subscription(LatentCode, f'{NAMESPACE}/{topic}', keep(latents), 10)
        node.create_subscription(Image, f'{NAMESPACE}/reconstructed/image', keep(images), 10)
        try:
            deadline = time.monotonic() + TIMEOUT_S
            while time.monotonic() < deadline and not latents.keys() & images.keys():
                rclpy.spin_once(node, timeout_sec=0.5)
        finally:
            node.destroy_node()
            rclpy.shutdown()
        both = latents.keys() & images.keys()
        self.assertTrue(both, f'{len(latents)} latents, {len(images)} images, none of one stamp')
        stamp = both.pop()
        self.assertEqual(latents[stamp].codec, DEFAULT_CODEC)
        self.assertLessEqual(len(latents[stamp].latent), 500)
        self.assertEqual((images[stamp].width, images[stamp].height),
                         (latents[stamp].image_width, latents[stamp].image_height))


@launch_testing.post_shutdown_test()
class TestAfterShutdown(unittest.TestCase):
    """How the processes end."""

    def test_processes_exit_cleanly(self, proc_info):
        """Ctrl-C ends encoder, decoder and player without an error."""
        launch_testing.asserts.assertExitCodes(proc_info)
