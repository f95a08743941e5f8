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
"""Test `auv-image-codec play` as a process, against subscribers over DDS."""
import os
from pathlib import Path
import re
import signal
import subprocess
import sys
import time

import pytest
from rosbags.interfaces import (
    Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime)
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import get_types_from_msg, get_typestore, Stores
from unshared import new_domain

from auv_image_codec.cli import interruption, play as play_module
from auv_image_codec.cli.main import main
from auv_image_codec.evaluation.bags import BagReader
from auv_image_codec.resources import share_directory

DEMO_BAG = share_directory() / 'demo' / 'robosub_gate'
DEMO_TOPIC = '/camera/image_raw/compressed'
DOMAIN = new_domain()
START_NS = 1_600_000_000 * 10**9


def write_bag(path: Path) -> Path:
    """
    Write a bag of strings: /map once, latched; /chatter every half second; /sensor best effort.

    There is also /odd, of a type that no machine has.
    """
    typestore = get_typestore(Stores.ROS2_HUMBLE)
    typestore.register(get_types_from_msg('string data', 'nowhere_msgs/msg/Odd'))
    unlimited = QosTime(0, 0)

    def qos(reliability: QosReliability, durability: QosDurability) -> Qos:
        return Qos(QosHistory.KEEP_LAST, 5, reliability, durability, unlimited, unlimited,
                   QosLiveliness.AUTOMATIC, unlimited, False)

    topics = {
        '/map': ('std_msgs', 'String', 1,
                 qos(QosReliability.RELIABLE, QosDurability.TRANSIENT_LOCAL)),
        '/chatter': ('std_msgs', 'String', 5,
                     qos(QosReliability.RELIABLE, QosDurability.VOLATILE)),
        '/sensor': ('std_msgs', 'String', 5,
                    qos(QosReliability.BEST_EFFORT, QosDurability.VOLATILE)),
        '/odd': ('nowhere_msgs', 'Odd', 5,
                 qos(QosReliability.RELIABLE, QosDurability.VOLATILE)),
    }
    with Writer(path, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        for topic, (package, name, count, profile) in topics.items():
            type_name = f'{package}/msg/{name}'
            message_type = typestore.types[type_name]
            connection = writer.add_connection(
                topic, type_name, typestore=typestore, offered_qos_profiles=[profile])
            for number in range(count):
                writer.write(connection, START_NS + number * 5 * 10**8, typestore.serialize_cdr(
                    message_type(f'{topic} {number}'), type_name))
    return path


@pytest.fixture(autouse=True)
def handlers():
    """Give the signals back that the command takes where it runs in this process."""
    former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in former.items():
        signal.signal(number, handler)


@pytest.fixture(scope='module')
def bag(tmp_path_factory) -> Path:
    """Return a bag with topics of several kinds."""
    return write_bag(tmp_path_factory.mktemp('bag') / 'kinds')


class Listener:
    """A node that subscribes to whatever a test asks for."""

    def __init__(self, rclpy):
        """Start a node in the domain of these tests."""
        from rclpy.executors import SingleThreadedExecutor
        self.context = rclpy.context.Context()
        rclpy.init(args=[], context=self.context, domain_id=DOMAIN)
        self.node = rclpy.create_node('listener', context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)

    def close(self) -> None:
        """Leave the graph."""
        self.executor.shutdown()
        self.node.destroy_node()
        self.context.shutdown()

    def collect(self, message_type, topic: str, *, reliable: bool = True, latched: bool = False,
                raw: bool = False) -> list:
        """Subscribe, and return the list that messages are added to."""
        from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
        messages: list = []
        self.node.create_subscription(
            message_type, topic, messages.append, QoSProfile(
                depth=1000,
                reliability=(ReliabilityPolicy.RELIABLE if reliable
                             else ReliabilityPolicy.BEST_EFFORT),
                durability=(DurabilityPolicy.TRANSIENT_LOCAL if latched
                            else DurabilityPolicy.VOLATILE)), raw=raw)
        return messages

    def spin_until(self, condition, timeout_s: float = 30) -> bool:
        """Handle messages until a condition holds; return whether it did in time."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                return False
            self.executor.spin_once(timeout_sec=0.05)
        return True

    def publisher_qos(self, topic: str):
        """Wait for a publisher on a topic, and return its QoS."""
        assert self.spin_until(lambda: self.node.get_publishers_info_by_topic(topic))
        return self.node.get_publishers_info_by_topic(topic)[0].qos_profile


@pytest.fixture
def listener():
    """Yield a listener, where ROS is installed."""
    rclpy = pytest.importorskip('rclpy', reason='rclpy is not installed: nothing can be played')
    listener = Listener(rclpy)
    yield listener
    listener.close()


class PlayerProcess:
    """The command as a process."""

    def __init__(self, *arguments):
        """Start it."""
        environment = dict(os.environ, ROS_DOMAIN_ID=str(DOMAIN))
        self._process = subprocess.Popen(
            [sys.executable, '-m', 'auv_image_codec.cli.main', 'play', *map(str, arguments)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)

    def ended(self) -> bool:
        """Return whether it has ended."""
        return self._process.poll() is not None

    def interrupt(self, number: int = signal.SIGINT) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def finish(self) -> tuple[int, str, str]:
        """Wait for its end; return status, standard output and standard error."""
        output, errors = self._process.communicate()
        return self._process.returncode, output, errors


@pytest.fixture
def play():
    """Yield a function that starts players, which end with the test."""
    players: list[PlayerProcess] = []

    def start(*arguments) -> PlayerProcess:
        players.append(PlayerProcess(*arguments))
        return players[-1]

    yield start
    for player in players:
        if not player.ended():
            player.interrupt(signal.SIGKILL)
            player.finish()


def test_every_byte_arrives_in_order(listener, play):
    """The demo bag's messages are published byte by byte, over the time they were recorded in."""
    from sensor_msgs.msg import CompressedImage
    received = listener.collect(CompressedImage, DEMO_TOPIC, raw=True)
    player = play(DEMO_BAG, '--rate', 4, '--wait-for-subscribers', 1)
    assert listener.spin_until(player.ended)
    status, output, errors = player.finish()
    assert (status, errors) == (0, '')
    listener.spin_until(lambda: len(received) >= 86, 5)
    with BagReader(DEMO_BAG) as recorded:
        sent = [message.data for message in recorded.messages()]
    assert len(received) == 86
    for message, original in zip(received, sent):
        assert message[:len(original)] == original
        # The middleware may fill the last word.
        assert len(message) - len(original) < 4
    played = re.fullmatch(r'played 86 messages on 1 topic in ([0-9.]+) s\n', output)
    assert played and float(played[1]) >= 8.5 / 4


def test_recorded_qos(listener, play, bag):
    """A late subscriber gets the latched message, and sensor data is best effort."""
    from rclpy.qos import DurabilityPolicy, ReliabilityPolicy
    from std_msgs.msg import String
    chatter = listener.collect(String, '/chatter')
    player = play(bag, '--topics', '/map', '/chatter', '/sensor', '--loop', '--rate', 2)
    assert listener.spin_until(lambda: chatter)
    latched = listener.collect(String, '/map', latched=True)
    assert listener.spin_until(lambda: latched)
    assert latched[0].data == '/map 0'
    for topic, reliability, durability in (
            ('/map', ReliabilityPolicy.RELIABLE, DurabilityPolicy.TRANSIENT_LOCAL),
            ('/chatter', ReliabilityPolicy.RELIABLE, DurabilityPolicy.VOLATILE),
            ('/sensor', ReliabilityPolicy.BEST_EFFORT, DurabilityPolicy.VOLATILE)):
        qos = listener.publisher_qos(topic)
        assert (qos.reliability, qos.durability) == (reliability, durability)
    player.interrupt()
    assert player.finish()[0] == 0


@pytest.mark.parametrize('option, name', [('best_effort', 'BEST_EFFORT'),
                                          ('reliable', 'RELIABLE')])
def test_qos_by_order(listener, play, bag, option, name):
    """--qos decides, whatever was recorded."""
    play(bag, '--topics', '/chatter', '/sensor', '--loop', '--qos', option)
    for topic in ('/chatter', '/sensor'):
        assert listener.publisher_qos(topic).reliability.name == name


def test_remap(listener, play, bag):
    """A topic can be played under another name."""
    from std_msgs.msg import String
    received = listener.collect(String, '/elsewhere/chatter')
    player = play(bag, '--topics', '/chatter', '--remap', '/chatter:=/elsewhere/chatter',
                  '--wait-for-subscribers', 1, '--rate', 10)
    assert listener.spin_until(lambda: len(received) == 5)
    assert [m.data for m in received] == [f'/chatter {n}' for n in range(5)]
    status, output, _ = player.finish()
    assert status == 0
    assert output.startswith('played 5 messages on 1 topic')


def test_clock(listener, play, bag):
    """/clock runs from the start of the recording to its end, never back."""
    from rosgraph_msgs.msg import Clock
    clocks = listener.collect(Clock, '/clock', reliable=False)
    player = play(bag, '--topics', '/chatter', '--clock', 50, '--delay', 1)
    assert listener.spin_until(player.ended)
    assert player.finish()[0] == 0
    times = [m.clock.sec * 10**9 + m.clock.nanosec for m in clocks]
    assert len(times) > 10
    assert times == sorted(times)
    # 2 s of messages, and half a second for the last one.
    assert START_NS <= times[0] < times[-1] < START_NS + 3 * 10**9


def test_loop_until_interrupted(listener, play, bag):
    """It starts again at the end; Ctrl-C and termination end it quietly."""
    from std_msgs.msg import String
    received = listener.collect(String, '/chatter')
    for number in (signal.SIGINT, signal.SIGTERM):
        received.clear()
        player = play(bag, '--topics', '/chatter', '--loop', '--rate', 20)
        assert listener.spin_until(lambda: len(received) > 11)
        assert not player.ended()
        player.interrupt(number)
        status, output, errors = player.finish()
        assert (status, errors) == (0, '')
        assert output.startswith('stopped after')
        texts = [m.data for m in received[:12]]
        first = texts.index('/chatter 0')
        assert texts[first:first + 5] == [f'/chatter {n}' for n in range(5)]


def test_interrupted_while_waiting(listener, play, bag):
    """Ctrl-C works before the first message, too."""
    player = play(bag, '--topics', '/chatter', '--wait-for-subscribers', 1)
    listener.publisher_qos('/chatter')
    player.interrupt()
    status, output, errors = player.finish()
    assert (status, errors) == (0, '')
    assert output.startswith('stopped after 0 messages')


def test_interrupted_anywhere(monkeypatch, capsys, bag):
    """From whichever of its functions Ctrl-C strikes in, it ends the same way."""
    pytest.importorskip('rclpy', reason='rclpy is not installed: nothing can be played')
    monkeypatch.setenv('ROS_DOMAIN_ID', str(DOMAIN))
    python = signal.getsignal(signal.SIGINT)
    files = {play_module.__file__, interruption.__file__}
    seen, struck = set(), ['something']

    def strike(frame, event, argument):
        """Interrupt, once in a run, a function that was not interrupted before."""
        code = frame.f_code
        if (event == 'call' and code.co_filename in files and code not in seen
                and signal.getsignal(signal.SIGINT) is not python):
            sys.setprofile(None)
            seen.add(code)
            struck.append(code.co_name)
            signal.raise_signal(signal.SIGINT)

    while struck:
        struck.clear()
        signal.signal(signal.SIGINT, python)
        sys.setprofile(strike)
        try:
            status = main(['play', str(bag), '--topics', '/chatter', '--rate', '100',
                           '--clock', '100', '--delay', '0.01'])
        finally:
            sys.setprofile(None)
        output, errors = capsys.readouterr()
        assert (status, errors) == (0, ''), struck
        late = {'wait_until_delivered', '__exit__'}.issuperset(struck)
        assert output.startswith('played 5 messages' if late else 'stopped after'), struck
    assert {'_playable_topics', '__enter__', '_create_publisher', 'wait_for_subscribers', 'sleep',
            'play', '_publish_clock', '__exit__'} <= {code.co_name for code in seen}


def test_nobody_listens(listener, play, bag):
    """Waiting for subscribers ends with a message that says what is missing."""
    player = play(bag, '--topics', '/chatter', '--wait-for-subscribers', 2, '--wait-timeout', 0.5)
    status, _, errors = player.finish()
    assert status == 1
    assert '/chatter has 0 of 2 subscribers' in errors
    assert len(errors.splitlines()) == 1


def test_types_that_are_not_installed(listener, play, bag):
    """Such a topic is left out with a message, unless it was asked for."""
    player = play(bag, '--rate', 20)
    status, output, errors = player.finish()
    assert status == 0
    assert output.startswith('played 11 messages on 3 topics')
    assert len(errors.splitlines()) == 1
    assert 'left out /odd: its type nowhere_msgs/msg/Odd is not installed' in errors

    status, _, errors = play(bag, '--topics', '/odd').finish()
    assert status == 1
    assert errors.startswith('auv-image-codec: play: /odd: its type nowhere_msgs/msg/Odd')
    assert len(errors.splitlines()) == 1


def test_arguments_for_ros(listener, play, bag):
    """What launch files append reaches rclpy."""
    play(bag, '--topics', '/chatter', '--loop', '--ros-args', '-r', '__node:=replay', '-r',
         '__ns:=/vehicle')
    assert listener.spin_until(
        lambda: ('replay', '/vehicle') in listener.node.get_node_names_and_namespaces())


def test_names_that_ros_refuses(listener, play, bag):
    """A topic name that ROS does not allow is a mistake in the arguments."""
    status, _, errors = play(bag, '--topics', '/chatter', '--remap', '/chatter:=/a b').finish()
    assert status == 2
    assert 'cannot publish on /a b' in errors
    assert len(errors.splitlines()) == 1


@pytest.mark.parametrize('arguments, message', [
    (['nowhere'], 'nowhere: no such bag'),
    (['.'], 'no metadata.yaml'),
    (['garbage.mcap'], 'cannot read the bag'),
    (['BAG', '--topics', '/nothing'], 'no topic /nothing in the bag, which has /chatter, /map'),
    (['BAG', '--remap', '/nothing:=/a'], 'no topic /nothing to remap'),
])
def test_bad_bags(tmp_path, monkeypatch, capsys, bag, arguments, message):
    """Each gives one line and status 1, and needs no ROS to be found out."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'garbage.mcap').write_bytes(bytes(range(200)))
    status = main(['play', *(str(bag) if a == 'BAG' else a for a in arguments)])
    errors = capsys.readouterr().err
    assert status == 1
    assert message in errors
    assert len(errors.splitlines()) == 1


@pytest.mark.parametrize('arguments', [
    ['--rate', '0'], ['--rate', '-1'], ['--rate', 'nan'], ['--rate', 'fast'], ['--clock', '0'],
    ['--delay', '-1'], ['--remap', '/a'], ['--qos', 'perfect'], ['--wait-for-subscribers', '-1'],
])
def test_wrong_usage(capsys, bag, arguments):
    """A mistake in the arguments ends with status 2 and names the argument."""
    try:
        status = main(['play', str(bag), *arguments])
    except SystemExit as leaving:  # how argparse ends
        status = leaving.code
    assert status == 2
    assert arguments[0] in capsys.readouterr().err


def test_without_ros():
    """Where rclpy is missing, the message says how to get it."""
    script = ('import sys\n'
              'sys.modules["rclpy"] = None\n'  # what makes an import fail
              'from auv_image_codec.cli.main import main\n'
              f'sys.exit(main(["play", {str(DEMO_BAG)!r}]))')
    result = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True)
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert 'ROS 2 is needed to play a bag' in result.stderr
    assert 'ros-rclpy[fastrtps]' in result.stderr
