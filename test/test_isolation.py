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
"""How the tests' own processes talk: a killed one must not disturb those that come after it."""
from pathlib import Path

import pytest

from ros_harness import graph, node_process, rclpy

SHARED_MEMORY = Path('/dev/shm')


def segments() -> set:
    return {path.name for path in SHARED_MEMORY.glob('*fastdds*')}


@pytest.mark.skipif('fastrtps' not in rclpy.get_rmw_implementation_identifier(),
                    reason='the middleware is not Fast DDS')
@pytest.mark.skipif(not SHARED_MEMORY.is_dir(), reason=f'no {SHARED_MEMORY} here')
def test_a_killed_node_leaves_no_shared_memory():
    before = segments()
    with graph() as ros:
        with node_process('decoder_node', ros.domain, '-p', 'autostart:=false') as process:
            ros.last_status('/decoder_node: camera')
            assert not segments() - before
            process.kill()
            process.wait()
    assert not segments() - before
