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
"""What the nodes share: life cycle, codec, parameters, diagnostics."""
import sys
import time
import traceback
from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple, Type

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus

import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import NameValidationException, ParameterException
from rclpy.executors import ExternalShutdownException
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from rclpy.qos import QoSHistoryPolicy, QoSProfile, QoSReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.validate_topic_name import validate_topic_name

from auv_image_codec.codecs import codec_names, create_codec
from auv_image_codec.errors import AuvImageCodecError
from auv_image_codec.nodes.cameras import camera_names_problem, first_duplicate
from auv_image_codec.nodes.diagnostics import status, StreamStatistics, ThrottledLog
from auv_image_codec.nodes.image_conversion import DEFAULT_MAX_PIXELS
from auv_image_codec.nodes.parameters import CheckedParameters, ParameterSpec

try:
    from rclpy.event_handler import PublisherEventCallbacks, UnsupportedEventTypeError
except ImportError:  # Humble has no matched events.
    PublisherEventCallbacks = None
    UnsupportedEventTypeError = RuntimeError

RCLError = rclpy_implementation.RCLError
UnknownROSArgsError = rclpy_implementation.UnknownROSArgsError
DIAGNOSTICS_PERIOD = 1.0  # seconds
POLL_PERIOD = 0.25  # seconds between looks for subscribers without matched events


def codec_problem(name: str) -> str:
    """Return what is wrong with a codec name, or an empty string."""
    names = codec_names()
    return '' if name in names else f'{name!r} is not one of {", ".join(names)}'


def topic_problem(topic: str) -> str:
    """Return what is wrong with a topic name, or an empty string; empty stands for a default."""
    if topic:
        try:
            validate_topic_name(topic)
        except NameValidationException as error:
            return ' '.join(str(error).split())
    return ''


def reliable(depth: int) -> QoSProfile:
    """Return the QoS of what must arrive: reliable, the newest ``depth`` kept."""
    return QoSProfile(history=QoSHistoryPolicy.KEEP_LAST, depth=depth,
                      reliability=QoSReliabilityPolicy.RELIABLE)


def best_effort(depth: int) -> QoSProfile:
    """Return the QoS of sensor data: the newest ``depth`` kept, nothing sent again."""
    return QoSProfile(history=QoSHistoryPolicy.KEEP_LAST, depth=depth,
                      reliability=QoSReliabilityPolicy.BEST_EFFORT)


AUTOSTART = ParameterSpec('autostart', True, 'Configure and activate when the node starts.',
                          read_only=True)
CODEC_PARAMETERS = (
    # Unknown names are refused when set later; at start they fail in configure, where they can
    # be mended.
    ParameterSpec('codec', 'wavelet', 'Name of the codec.', check_change=codec_problem,
                  constraints='a codec of the registry', unconfigured_only=True),
    ParameterSpec('weights', '', 'Folder with weights of the codec; empty for the shipped ones.',
                  unconfigured_only=True),
    ParameterSpec('device', 'cpu', 'Where the network of the codec runs: cpu, cuda or cuda:N.',
                  unconfigured_only=True),
    ParameterSpec('threads', 1, 'CPU threads of the network library; 0 for its default.',
                  minimum=0, maximum=256, unconfigured_only=True),
    ParameterSpec('cameras', ['camera'], 'Names of the cameras, each with its own parameters.',
                  check=camera_names_problem, constraints='1 to 8 names, each once',
                  read_only=True),
    ParameterSpec('max_image_pixels', DEFAULT_MAX_PIXELS,
                  'Images with more pixels (width times height) are refused.',
                  minimum=1, maximum=2 ** 30),
)


class ManagedNode(LifecycleNode):
    """
    A lifecycle node with checked parameters, and one diagnostic status for each of its streams.

    A derived class declares its parameters and fills ``statistics`` in its constructor, and
    overrides load(), configure(), activate(), deactivate() and cleanup(). load() and configure()
    raise AuvImageCodecError for what a user can mend; the node then stays unconfigured, says why,
    and can be configured again.
    """

    STREAM = 'camera'  # what a stream is, for the log

    def __init__(self, name: str, **kwargs: Any):
        """
        Declare the parameter autostart and start the diagnostics.

        :param kwargs: for LifecycleNode (context, namespace, parameter_overrides ...).
        """
        super().__init__(name, **kwargs)
        self.state = 'unconfigured'
        self._failure = ''
        self.parameters = CheckedParameters(self, lambda: self.state == 'unconfigured')
        self.parameters.declare([AUTOSTART])
        # By stream, such as a camera; each counts errors, and tells them and more.
        self.statistics: Dict[str, Any] = {}
        self._log_defect = ThrottledLog(self.get_logger().warning)
        self._steady_clock = Clock(clock_type=ClockType.STEADY_TIME)
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self.every(DIAGNOSTICS_PERIOD, self._publish_diagnostics)
        self._start_timer = None
        if self.parameters.value('autostart'):
            # At the first spin, when the derived class is complete.
            self._start_timer = self.every(0.0, self._autostart)

    # --- Helpers for derived classes ---------------------------------------------------------

    def every(self, seconds: float, callback: Callable[[], None]):
        """Return a timer on the steady clock, so that simulated time does not stop it."""
        return self.create_timer(seconds, callback, clock=self._steady_clock)

    def full_topic(self, topic: str) -> str:
        """Return the topic's full name, remapping included."""
        return self.resolve_topic_name(topic)

    def publisher(self, message_type: Type, topic: str, qos: QoSProfile,
                  on_matched: Optional[Callable[[Any], None]] = None):
        """
        Return a lifecycle publisher whose QoS can be overridden.

        :param on_matched: called when subscribers come and go, where the ROS distribution and
            the middleware tell; see polls_for_subscribers.
        """
        options = {'qos_overriding_options': QoSOverridingOptions.with_default_policies()}
        if on_matched is not None and PublisherEventCallbacks is not None:
            try:
                return self.create_lifecycle_publisher(
                    message_type, topic, qos,
                    event_callbacks=PublisherEventCallbacks(matched=on_matched), **options)
            except (UnsupportedEventTypeError, TypeError):
                self.get_logger().debug('no matched events: polling for subscribers')
        return self.create_lifecycle_publisher(message_type, topic, qos, **options)

    def subscription(self, message_type: Type, topic: str, callback: Callable[[Any], None],
                     qos: QoSProfile):
        """Return a subscription whose QoS can be overridden."""
        return self.create_subscription(
            message_type, topic, callback, qos,
            qos_overriding_options=QoSOverridingOptions.with_default_policies())

    def defect(self, stream: str, error: BaseException) -> None:
        """Count what went wrong with one message, and log it unless that happened just now."""
        if not self.context.ok():
            return  # The middleware is going away: not the message's fault.
        if isinstance(error, AuvImageCodecError):
            kind, message = error.kind, str(error)
        elif isinstance(error, RCLError):
            kind, message = 'publish', f'cannot publish: {error}'
        else:
            kind = 'internal'
            message = f'{type(error).__name__}: {error}'
            self.get_logger().debug(''.join(traceback.format_exception(error)))
        self.statistics[stream].errors[kind] += 1
        self._log_defect(f'{self.STREAM} {stream}'.strip(), kind, message)

    # --- Life cycle --------------------------------------------------------------------------

    def load(self) -> None:
        """Load what configure() needs; raise AuvImageCodecError for what the user can mend."""

    def configure(self) -> None:
        """Create publishers; raise AuvImageCodecError for what the user can mend."""

    def activate(self) -> None:
        """Create subscriptions."""

    def deactivate(self) -> None:
        """Destroy what activate() created. May be called twice."""

    def cleanup(self) -> None:
        """Destroy what configure() created. May be called twice."""

    def unload(self) -> None:
        """Release what load() loaded. May be called twice."""

    def description(self) -> str:
        """Return what was configured, for the log."""
        return ''

    def identity(self) -> Tuple[str, List[Tuple[str, str]]]:
        """Return the hardware id of the diagnostics, and what they tell first, as (key, value)."""
        return '', []

    def more_values(self, stream: str) -> List[Tuple[str, str]]:
        """Return what else the diagnostics of a stream tell, as (key, value)."""
        return []

    def on_configure(self, state) -> TransitionCallbackReturn:
        """Load what is needed and create the publishers."""
        try:
            self.load()
            self.configure()
            result = super().on_configure(state)
        except AuvImageCodecError as error:
            self._release()
            self._failure = str(error)
            self.get_logger().error(f'cannot configure: {error}')
            return TransitionCallbackReturn.FAILURE
        except Exception as error:
            self._release()
            self._failure = f'{type(error).__name__}: {error}'
            self.get_logger().error(f'cannot configure: {self._failure}')
            self.get_logger().debug(traceback.format_exc())
            return TransitionCallbackReturn.FAILURE
        self._failure = ''
        self.state = 'inactive'
        self.get_logger().info(f'configured: {self.description()}')
        return result

    def on_activate(self, state) -> TransitionCallbackReturn:
        """Start to work."""
        self.state = 'active'
        try:
            result = super().on_activate(state)
            self.activate()
        except Exception as error:
            self.deactivate()
            super().on_deactivate(state)
            self.state = 'inactive'
            self._failure = f'{type(error).__name__}: {error}'
            self.get_logger().error(f'cannot activate: {self._failure}')
            return TransitionCallbackReturn.FAILURE
        return result

    def on_deactivate(self, state) -> TransitionCallbackReturn:
        """Stop to work; what was loaded stays."""
        self.deactivate()
        self.state = 'inactive'
        return super().on_deactivate(state)

    def on_cleanup(self, state) -> TransitionCallbackReturn:
        """Release everything, so that the node can be configured again."""
        self._release()
        self.state = 'unconfigured'
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state) -> TransitionCallbackReturn:
        """Release everything."""
        self._release()
        self.state = 'finalized'
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, state) -> TransitionCallbackReturn:
        """Release everything, so that the node can be configured again."""
        self._release()
        self.state = 'unconfigured'
        return TransitionCallbackReturn.SUCCESS

    def _release(self) -> None:
        self.deactivate()
        self.cleanup()
        self.unload()

    def _autostart(self) -> None:
        self.destroy_timer(self._start_timer)
        self._start_timer = None
        if self.state != 'unconfigured':
            return  # Somebody was faster.
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()
        else:
            self.get_logger().error(
                'not started; once that is mended: ros2 lifecycle set '
                f'{self.get_fully_qualified_name()} configure, and then activate')

    # --- Diagnostics -------------------------------------------------------------------------

    def _publish_diagnostics(self) -> None:
        message = DiagnosticArray()
        message.header.stamp = self.get_clock().now().to_msg()
        hardware, identity = self.identity()
        for stream, statistics in self.statistics.items():
            level, text = DiagnosticStatus.OK, self.state
            rising = statistics.rising()
            if rising:
                level, text = DiagnosticStatus.WARN, f'{self.state}; {rising}'
            if self._failure:
                level, text = DiagnosticStatus.ERROR, f'{self.state}: {self._failure}'
            message.status.append(status(
                level, f'{self.get_fully_qualified_name()}: {stream}', text, hardware,
                [('state', self.state), *identity, *statistics.key_values(),
                 *self.more_values(stream)]))
        try:
            self._diagnostics.publish(message)
        except RCLError as error:
            if self.context.ok():
                self.get_logger().debug(f'no diagnostics: {error}')


class CodecNode(ManagedNode):
    """A managed node around one codec, for one or several cameras."""

    def __init__(self, name: str, side: str, verb: str = '', **kwargs: Any):
        """
        Declare the common parameters and start the diagnostics.

        :param side: ``encoder`` or ``decoder``, which half of the codec is loaded.
        :param verb: ``coded`` or ``decoded``, for counters of each camera; empty where a derived
            class counts something else.
        :param kwargs: for LifecycleNode (context, namespace, parameter_overrides ...).
        """
        super().__init__(name, **kwargs)
        self._side = side
        self.codec = None
        self.parameters.declare(CODEC_PARAMETERS)
        self.camera_names: List[str] = list(self.parameters.value('cameras'))
        if verb:
            self.statistics = {camera: StreamStatistics(verb) for camera in self.camera_names}

    def check_unique(self, parameter: str, values: Iterable, what: str) -> None:
        """
        Refuse to start when two cameras share a value.

        :param parameter: parameter below the camera's name, to blame.
        """
        values = list(values)
        position = first_duplicate(values)
        if position >= 0:
            self.parameters.reject(
                f'{self.camera_names[position]}.{parameter}',
                f'{what} {values[position]!r} is taken by camera '
                f'{self.camera_names[values.index(values[position])]!r}')

    def description(self) -> str:
        """Return codec, model and cameras."""
        return (f'codec {self.codec.name}, model {self.codec.model_id:08x}, cameras '
                f'{", ".join(self.camera_names)}')

    def identity(self) -> Tuple[str, List[Tuple[str, str]]]:
        """Return CODEC/MODEL, and both of them."""
        codec, model = self.parameters.value('codec'), ''
        if self.codec is not None:
            codec, model = self.codec.name, f'{self.codec.model_id:08x}'
        return f'{codec}/{model}' if model else codec, [('codec', codec), ('model_id', model)]

    def unload(self) -> None:
        """Release the codec."""
        self.codec = None

    def load(self) -> None:
        """Load the codec."""
        threads = self.parameters.value('threads')
        if threads:
            import torch  # Only the number of its threads: the nodes know no tensors.
            torch.set_num_threads(threads)
        self.codec = create_codec(
            self.parameters.value('codec'), weights=self.parameters.value('weights') or None,
            device=self.parameters.value('device'), side=self._side)


def spin(node: ManagedNode) -> None:
    """
    Run a node until its context shuts down, whatever arrives.

    Some middlewares raise when they take a message that they cannot read. It is lost; the node
    goes on.
    """
    log = ThrottledLog(node.get_logger().warning)
    while node.context.ok():
        try:
            rclpy.spin(node)
        except RCLError as error:
            if node.context.ok():
                log('middleware', 'middleware', ' '.join(str(error).split()))
                time.sleep(0.01)  # Should it stay like this, leave the processor to others.


def run_node(node_class: Type[ManagedNode], args: Optional[List[str]] = None) -> int:
    """
    Run a node until it is interrupted.

    :param args: command line, sys.argv by default.
    :return: exit status: 0 after SIGINT or SIGTERM, 1 if the node cannot start.
    """
    node = None
    try:
        rclpy.init(args=args)
        node = node_class()
        spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except (ParameterException, NameValidationException, RCLError, UnknownROSArgsError) as error:
        if node is None:
            print(f'{node_class.NAME}: {" ".join(str(error).split())}', file=sys.stderr)
            return 1
        raise
    finally:
        try:
            if node is not None:
                node.on_shutdown(None)
                node.destroy_node()
            rclpy.try_shutdown()
        except KeyboardInterrupt:
            pass  # A second Ctrl-C: we are leaving anyway.
    return 0
