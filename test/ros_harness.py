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
"""Run nodes in this process or as their own, over real DDS, away from everybody else's."""
from collections import Counter
from contextlib import contextmanager
import os
from pathlib import Path
import signal
import subprocess
import sys
import tempfile
import time

import pytest

# Before anything of ROS; how tests talk is in conftest.py.
os.environ.setdefault('ROS_LOG_DIR', tempfile.mkdtemp(prefix='ros_log_'))

rclpy = pytest.importorskip('rclpy', reason='rclpy is not installed: no nodes to test')
pytest.importorskip('auv_image_codec.msg',
                    reason='the messages are not generated: install the package first')

from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402, I100

import numpy as np  # noqa: E402

from rclpy.context import Context  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from rclpy.qos import QoSProfile, QoSReliabilityPolicy  # noqa: E402
from rclpy.time import Time  # noqa: E402

from std_msgs.msg import Header  # noqa: E402

from unshared import new_domain  # noqa: E402

import auv_image_codec.errors as errors_module  # noqa: E402
from auv_image_codec.nodes.image_conversion import rgb_to_image  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
# Where this process has the package from: processes that it starts must have the same.
PACKAGE_PATH = str(Path(errors_module.__file__).resolve().parent.parent)
RELIABLE = QoSProfile(depth=1000, reliability=QoSReliabilityPolicy.RELIABLE)
# Seconds: longer than what is waited for can take on a machine that has much else to do.
PATIENCE = 120.0


def picture(seed: int = 0, width: int = 96, height: int = 64) -> np.ndarray:
    """Return an RGB picture with something in it, uint8 (height, width, 3)."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (4, 6, 3)).astype(np.uint8)
    return np.kron(coarse, np.ones((height // 4, width // 6, 1), np.uint8))


def header(number: int = 0, frame_id: str = 'camera_optical') -> Header:
    """Return a header whose stamp tells the number of the frame."""
    result = Header(frame_id=frame_id)
    result.stamp.sec, result.stamp.nanosec = 1_700_000_000 + number, 123_456_789
    return result


def frame(number: int = 0, **size: int):
    """Return an image message."""
    return rgb_to_image(picture(number, **size), header(number))


def numbers(messages) -> list:
    """Return the frame numbers of messages, from their stamps."""
    return [message.header.stamp.sec - 1_700_000_000 for message in messages]


class Graph:
    """Nodes of one ROS domain in this process, which run only while a test spins them."""

    def __init__(self):
        """Start a context with a node for the test's own topics."""
        self.domain = new_domain()
        self.context = Context()
        rclpy.init(args=[], context=self.context, domain_id=self.domain)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.nodes = []
        self.tester = self._add(Node('tester', context=self.context))
        self.diagnostics = []
        self.everything_diagnosed = []
        self.tester.create_subscription(DiagnosticArray, '/diagnostics', self._diagnosed, 50)

    def _diagnosed(self, message):
        self.diagnostics.append(message)
        self.everything_diagnosed.append(message)

    def _add(self, node):
        self.nodes.append(node)
        self.executor.add_node(node)
        return node

    def add(self, node_class, **parameters):
        """Add a node with parameters (a.b is written a__b)."""
        overrides = [Parameter(name.replace('__', '.'), value=value)
                     for name, value in parameters.items()]
        return self._add(node_class(context=self.context, parameter_overrides=overrides))

    def remove(self, node):
        """Destroy a node."""
        self.executor.remove_node(node)
        self.nodes.remove(node)
        node.destroy_node()

    def spin_until(self, condition, timeout: float = PATIENCE) -> bool:
        """Run the nodes until a condition holds; return whether it did in time."""
        end = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > end:
                return False
            self.executor.spin_once(timeout_sec=0.02)
        return True

    def spin_for(self, seconds: float) -> None:
        """Run the nodes for a while."""
        self.spin_until(lambda: False, seconds)

    def spin_until_quiet(self, messages: list, seconds: float) -> None:
        """Run the nodes until no more messages have been added to a list for a while."""
        number = -1
        while len(messages) > number:
            number = len(messages)
            self.spin_for(seconds)

    def start(self, node) -> None:
        """Run until a node is active."""
        assert self.spin_until(lambda: node.state == 'active'), f'{node.get_name()}: {node.state}'

    def publisher(self, message_type, topic, qos=RELIABLE):
        """Return a publisher of the test."""
        return self.tester.create_publisher(message_type, topic, qos)

    def collect(self, message_type, topic, qos=RELIABLE) -> list:
        """Subscribe; return the list that messages are added to."""
        messages = []
        self.tester.create_subscription(message_type, topic, messages.append, qos)
        return messages

    def connected(self, *endpoints) -> bool:
        """Run until every publisher (of the test) has a subscriber."""
        return self.spin_until(
            lambda: all(endpoint.get_subscription_count() for endpoint in endpoints))

    def call(self, service_type, name, request):
        """Call a service; return its response."""
        client = self.tester.create_client(service_type, name)
        assert self.spin_until(client.service_is_ready), f'no service {name}'
        future = client.call_async(request)
        assert self.spin_until(future.done), f'{name} does not answer'
        self.tester.destroy_client(client)
        return future.result()

    def last_status(self, name: str):
        """Run until a diagnostic status of a name comes that was made later than this call."""
        self.diagnostics.clear()
        now = self.tester.get_clock().now().nanoseconds

        def found():
            return [status for array in self.diagnostics for status in array.status
                    if status.name == name and Time.from_msg(array.header.stamp).nanoseconds >= now]
        assert self.spin_until(found), f'no diagnostics of {name}'
        status = found()[-1]
        return status, {item.key: item.value for item in status.values}

    def wait_for_state(self, name: str, state: str) -> None:
        """Run until a diagnostic status tells a state; one that is on its way may be older."""
        assert self.spin_until(lambda: self.last_status(name)[1]['state'] == state), name

    def close(self) -> None:
        """Destroy everything."""
        for node in list(self.nodes):
            self.remove(node)
        self.executor.shutdown()
        rclpy.shutdown(context=self.context)


@contextmanager
def graph():
    """Yield a Graph, and close it."""
    result = Graph()
    try:
        yield result
    finally:
        result.close()


def errors(node, camera: str = 'camera') -> Counter:
    """Return a copy of the error counters of a node's camera."""
    return Counter(node.statistics[camera].errors)


@contextmanager
def node_process(name: str, domain: int, *arguments: str):
    """Run encoder_node or decoder_node as its own process, with output to a pipe."""
    environment = dict(
        os.environ, ROS_DOMAIN_ID=str(domain), OMP_NUM_THREADS='1', PYTHONUNBUFFERED='1',
        PYTHONPATH=os.pathsep.join(filter(None, [PACKAGE_PATH, os.environ.get('PYTHONPATH')])))
    code = f'import sys; from auv_image_codec.nodes.{name} import main; sys.exit(main())'
    process = subprocess.Popen(
        [sys.executable, '-c', code, '--ros-args', *arguments], env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=listen_to_interrupts)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.stdout.close()
        process.wait()


def listen_to_interrupts() -> None:
    """Undo what a shell does to its background jobs, and their children inherit."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def stop(*processes, number: int = signal.SIGINT) -> None:
    """Interrupt processes, and check that they end as they should."""
    for process in processes:
        process.send_signal(number)
    for process in processes:
        output, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, output
        assert 'Traceback' not in output


def wait_for_line(process, words: str, timeout: float = PATIENCE) -> str:
    """Read a process's output up to a line with some words; return what was read."""
    timer = time.monotonic() + timeout
    read = ''
    while time.monotonic() < timer:
        line = process.stdout.readline()
        read += line
        if words in line:
            return read
        if not line:
            break
    raise AssertionError(f'no {words!r} in:\n{read}')
