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
"""
``auv-image-codec play``: publish a bag on its topics, for machines without rosbag2.

The recorded bytes are sent as they are, so every message type works whose Python package is
installed. This is the one command that needs ROS.
"""
from __future__ import annotations

import argparse
from collections.abc import Callable
import importlib
import math
from pathlib import Path
import signal
import sys
import time

from auv_image_codec.cli.files import print_error, UsageError
from auv_image_codec.cli.interruption import Interruption, LONGEST_SLEEP_S
from auv_image_codec.errors import AuvImageCodecError, BagError

CLOCK_TOPIC = '/clock'
_ACKNOWLEDGE_TIMEOUT_S = 10.0


def _positive(text: str) -> float:
    """Parse a finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f'{text!r} is not a number above 0')
    return value


def _not_negative(text: str) -> float:
    """Parse a finite number of at least 0."""
    return 0.0 if text.strip() in ('0', '0.0') else _positive(text)


def _remapping(text: str) -> tuple[str, str]:
    """Parse FROM:=TO."""
    source, separator, target = text.partition(':=')
    if not separator or not source or not target:
        raise argparse.ArgumentTypeError(f'{text!r} is not FROM:=TO')
    return source, target


def add_parser(subparsers) -> argparse.ArgumentParser:
    """Add the command to the command line, and return its parser."""
    parser = subparsers.add_parser(
        'play', help='publish a bag on its topics (needs ROS 2)',
        description='Publish the messages of a rosbag2 bag (mcap or sqlite3) on their topics, '
        'with the timing of the recording. Ctrl-C stops it.')
    parser.add_argument('bag', type=Path, metavar='BAG',
                        help='bag folder, or a .mcap or .db3 file')
    parser.add_argument('--topics', nargs='+', metavar='TOPIC',
                        help='topics to play, as named in the bag (default: all)')
    parser.add_argument('--remap', action='append', default=[], type=_remapping,
                        metavar='FROM:=TO', help='publish topic FROM of the bag as TO; may be '
                        'repeated')
    parser.add_argument('--rate', type=_positive, default=1.0, metavar='R',
                        help='speed, as a factor of the recording (default: 1)')
    parser.add_argument('--loop', action='store_true', help='start again at the end, until Ctrl-C')
    parser.add_argument(
        '--clock', nargs='?', type=_positive, const=40.0, metavar='HZ',
        help='publish the time of the recording on /clock, HZ times a second (default: 40), for '
        'nodes with use_sim_time')
    parser.add_argument(
        '--qos', choices=('recorded', 'reliable', 'best_effort'), default='recorded',
        help='reliability to offer (default: the recorded one)')
    parser.add_argument(
        '--wait-for-subscribers', type=int, default=0, metavar='N',
        help='wait until every topic has N subscribers (default: 0, start at once)')
    parser.add_argument('--wait-timeout', type=_not_negative, default=60.0, metavar='S',
                        help='give up waiting after S seconds; 0 never does (default: 60)')
    parser.add_argument('--delay', type=_not_negative, default=0.0, metavar='S',
                        help='wait S seconds before the first message (default: 0)')
    parser.add_argument('--ros-args', nargs=argparse.REMAINDER, metavar='...',
                        help='everything after it goes to ROS')
    return parser


def _import_rclpy():
    try:
        import rclpy
        import rclpy.exceptions
        import rclpy.node
        import rclpy.qos
    except ImportError as error:
        raise AuvImageCodecError(
            f'ROS 2 is needed to play a bag, and rclpy cannot be imported ({error}): source the '
            "setup file of your ROS 2, or pip install 'ros-rclpy[fastrtps]'") from error
    return rclpy


def _message_class(type_name: str):
    """
    Return the Python class of a message type such as ``sensor_msgs/msg/Image``.

    :raises ImportError: if its package is not installed here.
    """
    package, _, name = type_name.partition('/msg/')
    try:
        return getattr(importlib.import_module(f'{package}.msg'), name)
    except (AttributeError, ValueError) as error:
        raise ImportError(f'no message type {type_name}') from error


class Player:
    """
    Publish messages of a bag with its timing.

    Use it as a context manager: it creates and destroys the ROS context and node. What it waits
    for ends with KeyboardInterrupt.
    """

    def __init__(self, topics: dict, remappings: dict[str, str], qos: str,
                 clock_hz: float | None, ros_args: list[str] | None, interruption: Interruption):
        """
        Take what to publish, but open nothing yet.

        :param topics: BagTopic by name.
        :param remappings: topic to publish on, by name in the bag.
        :param qos: ``recorded``, ``reliable`` or ``best_effort``.
        :param clock_hz: messages a second on /clock, or None for none.
        :param ros_args: arguments for rclpy, without ``--ros-args``.
        :param interruption: the signals that end it.
        """
        self._topics = topics
        self._remappings = remappings
        self._qos = qos
        self._clock_period_s = 1 / clock_hz if clock_hz else None
        self._next_tick_s = 0.0
        self._ros_args = ['--ros-args', *ros_args] if ros_args else []
        self._interruption = interruption
        self._publishers: dict = {}
        self._clock_publisher = None
        self.sent = 0
        self.failed = 0

    def __enter__(self) -> Player:
        """Create the node and its publishers."""
        self._rclpy = _import_rclpy()
        # The signals are taken already; rclpy must not take them away.
        self._rclpy.init(args=self._ros_args,
                         signal_handler_options=self._rclpy.SignalHandlerOptions.NO)
        try:
            self._node = self._rclpy.node.Node(
                'auv_image_codec_player', start_parameter_services=False)
            for topic in self._topics.values():
                self._create_publisher(topic)
            if self._clock_period_s:
                self._create_clock_publisher()
        except BaseException:
            self._rclpy.try_shutdown()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Destroy the node."""
        self._node.destroy_node()
        self._rclpy.try_shutdown()

    def _create_publisher(self, topic) -> None:
        qos = self._rclpy.qos
        reliable = topic.reliable if self._qos == 'recorded' else self._qos == 'reliable'
        profile = qos.QoSProfile(
            history=qos.HistoryPolicy.KEEP_LAST, depth=topic.depth,
            reliability=qos.ReliabilityPolicy.RELIABLE if reliable
            else qos.ReliabilityPolicy.BEST_EFFORT,
            durability=qos.DurabilityPolicy.TRANSIENT_LOCAL if topic.transient_local
            else qos.DurabilityPolicy.VOLATILE)
        name = self._remappings.get(topic.name, topic.name)
        try:
            self._publishers[topic.name] = self._node.create_publisher(
                _message_class(topic.type_name), name, profile)
        except self._rclpy.exceptions.NameValidationException as error:
            reason = str(error).splitlines()[0].rstrip(':')
            raise UsageError(f'cannot publish on {name}: {reason}') from error

    def _create_clock_publisher(self) -> None:
        try:
            self._clock_class = _message_class('rosgraph_msgs/msg/Clock')
        except ImportError as error:
            raise AuvImageCodecError(
                f'--clock needs the package rosgraph_msgs, which cannot be imported '
                f'({error})') from error
        qos = self._rclpy.qos
        self._clock_publisher = self._node.create_publisher(
            self._clock_class, CLOCK_TOPIC,
            qos.QoSProfile(depth=1, reliability=qos.ReliabilityPolicy.BEST_EFFORT))

    def _publish_clock(self, time_ns: int) -> None:
        message = self._clock_class()
        message.clock.sec, message.clock.nanosec = divmod(time_ns, 10**9)
        self._clock_publisher.publish(message)

    def _sleep_until(self, due_s: float, recorded_time_ns: Callable[[float], int]) -> None:
        """Sleep until a time on the monotonic clock, publishing /clock on the way."""
        while True:
            now = time.monotonic()
            if self._clock_publisher is not None and now >= self._next_tick_s:
                self._publish_clock(recorded_time_ns(now))
                self._next_tick_s = now + self._clock_period_s
            wake = due_s if self._clock_publisher is None else min(due_s, self._next_tick_s)
            self._interruption.sleep(wake - now)
            if now >= due_s:
                return

    def wait_for_subscribers(self, count: int, timeout_s: float) -> None:
        """
        Wait until every topic has so many subscribers.

        :param timeout_s: seconds to wait, 0 for no limit.
        :raises AuvImageCodecError: if there are fewer after that time.
        """
        deadline = time.monotonic() + timeout_s if timeout_s else math.inf
        for publisher in self._publishers.values():
            while (present := publisher.get_subscription_count()) < count:
                if time.monotonic() > deadline:
                    raise AuvImageCodecError(
                        f'{publisher.topic_name} has {present} of {count} subscribers after '
                        f'{timeout_s:g} s: are they running, in the same ROS_DOMAIN_ID, and with '
                        'a QoS that matches?')
                self._interruption.sleep(0.02)

    def play(self, bag, rate: float, on_message: Callable[[], object]) -> None:
        """Publish the bag's messages once, and return when the last one is due to end."""
        start_s, start_ns = time.monotonic(), bag.start_time_ns

        def recorded_time_ns(now_s: float) -> int:
            return start_ns + max(round((now_s - start_s) * rate * 1e9), 0)

        count = 0
        for message in bag.messages(self._topics):
            self._sleep_until(
                start_s + (message.log_time_ns - start_ns) / 1e9 / rate, recorded_time_ns)
            try:
                self._publishers[message.topic].publish(message.data)
                self.sent += 1
            # rclpy's RCLError: a reliable publisher whose queue cannot take more for now.
            except RuntimeError as error:
                self.failed += 1
                if self.failed == 1:
                    print_error(f'play: {message.topic}: a message was not sent: {error}')
            count += 1
            on_message()
        # The last message lasts as long as the mean one, so that looping keeps the rhythm.
        mean_period_s = bag.duration_ns / 1e9 / max(count - 1, 1)
        self._sleep_until(
            start_s + (bag.duration_ns / 1e9 + mean_period_s) / rate, recorded_time_ns)

    def wait_until_delivered(self) -> None:
        """Wait until reliable subscribers have acknowledged every message."""
        from rclpy.duration import Duration
        for publisher in self._publishers.values():
            deadline = time.monotonic() + _ACKNOWLEDGE_TIMEOUT_S
            while not publisher.wait_for_all_acked(Duration(seconds=LONGEST_SLEEP_S)):
                self._interruption.check()
                if time.monotonic() > deadline:
                    print_error(f'play: {publisher.topic_name}: a subscriber did not acknowledge '
                                f'every message within {_ACKNOWLEDGE_TIMEOUT_S:g} s')
                    break


def _playable_topics(bag, names: list[str] | None) -> dict:
    """
    Return the topics to play: those named, or all whose message type is installed here.

    :raises BagError: if the bag lacks a named topic, or there is nothing to play.
    :raises AuvImageCodecError: if the type of a named topic is not installed.
    """
    playable = {}
    for name, topic in bag.select(names).items():
        try:
            _message_class(topic.type_name)
        except ImportError as error:
            problem = (f'{name}: its type {topic.type_name} is not installed here ({error}): '
                       'source the workspace that has it')
            if names is not None:
                raise AuvImageCodecError(problem) from error
            print_error(f'play: left out {problem}')
            continue
        playable[name] = topic
    if not sum(topic.message_count for topic in playable.values()):
        raise BagError(f'{bag.path}: there is no message to play')
    return playable


def run(args: argparse.Namespace) -> int:
    """Play the bag, and return the exit status."""
    if args.wait_for_subscribers < 0:
        raise UsageError('--wait-for-subscribers must not be negative')
    # Before all that takes time, which on a slow machine is seconds.
    interruption = Interruption(signal.SIGINT, signal.SIGTERM)
    from auv_image_codec.evaluation.bags import BagReader
    with BagReader(args.bag) as bag:
        bag.select(args.topics)
        for source, _ in args.remap:
            if source not in bag.topics:
                raise BagError(f'{args.bag}: no topic {source} to remap in the bag, which has '
                               f'{", ".join(bag.topics) or "none"}')
        _import_rclpy()
        topics = _playable_topics(bag, args.topics)
        with Player(topics, dict(args.remap), args.qos, args.clock, args.ros_args,
                    interruption) as player:
            return _play(player, bag, topics, args, interruption)


def _play(player: Player, bag, topics: dict, args: argparse.Namespace,
          interruption: Interruption) -> int:
    """Play once or in a loop, with a progress bar, until the end or Ctrl-C."""
    from tqdm import tqdm
    total = sum(topic.message_count for topic in topics.values())
    outcome = 'played'
    start_s = end_s = time.monotonic()
    try:
        player.wait_for_subscribers(args.wait_for_subscribers, args.wait_timeout)
        interruption.sleep(args.delay)
        start_s = time.monotonic()
        with tqdm(total=None if args.loop else total, unit='message', leave=False,
                  disable=not sys.stderr.isatty()) as bar:
            while True:
                player.play(bag, args.rate, bar.update)
                if not args.loop:
                    break
        end_s = time.monotonic()
        player.wait_until_delivered()
    except KeyboardInterrupt:
        outcome = 'stopped after'
        end_s = time.monotonic()
    print(f'{outcome} {player.sent} messages on {len(topics)} topic'
          f'{"s" if len(topics) > 1 else ""} in {end_s - start_s:.1f} s', flush=True)
    if player.failed:
        print_error(f'play: {player.failed} messages were not sent')
    return 1 if player.failed else 0
