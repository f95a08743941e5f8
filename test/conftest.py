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
"""What all tests share."""
import os
from pathlib import Path

import pytest
import torch

# Before anything of ROS, and for every process that a test starts: this machine only, and no
# shared memory, which a killed process leaves locked for those that come after it.
if 'fastrtps' in os.environ.get('RMW_IMPLEMENTATION', 'rmw_fastrtps_cpp'):
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'SYSTEM_DEFAULT'      # as the profile says
    # Fast DDS 3 complains of the name that Fast DDS 2 knows.
    old = os.environ.get('ROS_DISTRO') in ('humble', 'iron', 'jazzy')
    os.environ['FASTRTPS_DEFAULT_PROFILES_FILE' if old else 'FASTDDS_DEFAULT_PROFILES_FILE'] = str(
        Path(__file__).resolve().with_name('fastdds_loopback.xml'))
else:
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'


@pytest.fixture(scope='session', autouse=True)
def one_thread():
    """
    Compute with one thread.

    The networks are small: threads that wait for each other gain little, and lose much where
    other tests use the processors.
    """
    torch.set_num_threads(1)
