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
"""ROS domains and UDP ports that no other test uses now, in this process or beside it."""
import itertools
import os
import socket

# Tests may run in several processes at once (pytest-xdist): each has every n-th number.
_PROCESSES = int(os.environ.get('PYTEST_XDIST_WORKER_COUNT', '1'))
_PROCESS = int(os.environ.get('PYTEST_XDIST_WORKER', 'gw0')[2:])
_counter = itertools.count(os.getpid() * 7)


def _number(count: int) -> int:
    """Return a number from 0 to below ``count``, for this process alone."""
    return (next(_counter) * _PROCESSES + _PROCESS) % (count // _PROCESSES * _PROCESSES)


def new_domain() -> int:
    """Return a ROS domain (1 to 99, whose ports are below 32,768) that no other test uses."""
    return 1 + _number(99)


def new_address() -> str:
    """
    Return HOST:PORT on this machine that nobody uses.

    The port is above those of ROS domains, and above those that Linux gives to whoever asks for
    any: nobody takes it until the test does.
    """
    while True:
        address = '127.0.0.1', 61_000 + _number(4500)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as trial:
            try:
                trial.bind(address)
            except OSError:
                continue
            return '{}:{}'.format(*address)
