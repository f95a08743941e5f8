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
"""The Fast DDS profile, as Fast DDS itself takes it."""
import os
from pathlib import Path
import subprocess
import sys

import pytest
from unshared import new_domain

PROFILE = Path(__file__).resolve().parent.parent / 'config' / 'fastdds_large_images.xml'
SHARED_MEMORY = Path('/dev/shm')

# Prints the bytes of the largest shared-memory segment of a node.
MEASURE = """
from pathlib import Path
import rclpy

rclpy.init()
node = rclpy.create_node('test_fastdds_profile')
mapped = {line.split()[-1] for line in Path('/proc/self/maps').read_text().splitlines()}
print(max(Path(path).stat().st_size for path in mapped if path.startswith('/dev/shm/fast')))
rclpy.shutdown()
"""


def largest_segment(**variables: str) -> int:
    """Return the bytes of the largest segment of a node, and check that nothing is complained."""
    environment = {name: value for name, value in os.environ.items()
                   if not name.endswith('_DEFAULT_PROFILES_FILE')}
    environment.update(ROS_AUTOMATIC_DISCOVERY_RANGE='LOCALHOST',
                       ROS_DOMAIN_ID=str(new_domain()), **variables)
    result = subprocess.run([sys.executable, '-c', MEASURE], env=environment, text=True,
                            capture_output=True)
    assert result.returncode == 0, result.stderr
    assert 'XMLPARSER' not in result.stdout + result.stderr
    return int(result.stdout.split()[-1])


def test_profile_makes_the_segment_large():
    """With the profile a segment holds ten raw 1280x720 images, without it not one."""
    rclpy = pytest.importorskip('rclpy', reason='rclpy is not installed')
    if 'fastrtps' not in rclpy.get_rmw_implementation_identifier():
        pytest.skip('the middleware is not Fast DDS')
    if not os.access(SHARED_MEMORY, os.W_OK):
        pytest.skip(f'{SHARED_MEMORY} is not writable: no shared memory')
    image = 3 * 1280 * 720
    assert largest_segment() < image
    # The one name up to ROS 2 Jazzy, the other since Kilted.
    profile = str(PROFILE)
    assert largest_segment(FASTDDS_DEFAULT_PROFILES_FILE=profile,
                           FASTRTPS_DEFAULT_PROFILES_FILE=profile) > 10 * image
