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


def segments(process) -> set:
    """Return the shared memory that Fast DDS has for a process."""
    mapped = Path(f'/proc/{process.pid}/maps').read_text()
    return {line.split()[-1] for line in mapped.splitlines() if '/dev/shm/fast' in line}


@pytest.mark.skipif('fastrtps' not in rclpy.get_rmw_implementation_identifier(),
                    reason='the middleware is not Fast DDS')
@pytest.mark.skipif(not Path('/proc/self/maps').is_file(), reason='no /proc/PID/maps here')
def test_a_node_has_no_shared_memory_to_leave_behind():
    with graph() as ros:
        with node_process('decoder_node', ros.domain, '-p', 'autostart:=false') as process:
            ros.last_status('/decoder_node: camera')
            assert not segments(process)
