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
"""The water between two modems, for machines that have none."""
import array
import time
from typing import Any, Dict, List, Optional

from auv_image_codec.link.profiles import load_profile
from auv_image_codec.link.simulator import DOWN, SimulatedLink, UP
from auv_image_codec.msg import ModemFrame
from auv_image_codec.nodes.diagnostics import LinkStatistics
from auv_image_codec.nodes.frame_transport import (
    address_problem, FRAME_DEPTH, TRANSPORTS, UdpPort)
from auv_image_codec.nodes.node_base import ManagedNode, reliable, run_node
from auv_image_codec.nodes.parameters import ParameterSpec

DIRECTIONS = {DOWN: 'down', UP: 'up'}
PERIOD = 0.02  # seconds between looks for frames that come and go
# Parameters of the model that replace the profile's, unless they are negative.
MODEL_PARAMETERS = {
    'link_rate': ('Bits a second each way', 1e9),
    'frame_seconds': ('Seconds that each frame takes besides its bytes', 60.0),
    'delay': ('Seconds under way', 3600.0),
    'jitter': ('Seconds by which the delay varies both ways', 3600.0),
    'loss': ('Share of frames lost while the link is good', 1.0),
    'burst_loss': ('Share of frames lost while the link is bad', 1.0),
    'burst_start': ('Chance at each frame that a good link turns bad', 1.0),
    'burst_end': ('Chance at each frame that a bad link turns good', 1.0),
    'bit_error_rate': ('Share of bits that arrive flipped', 1.0),
}

PARAMETERS = (
    ParameterSpec('profile', 'test_link',
                  'Modem profile: a name in config/link/, or the path of a .yaml file.',
                  unconfigured_only=True),
    ParameterSpec('seed', 0, 'Start of the random numbers: the same gives the same losses.',
                  minimum=0, maximum=2 ** 31 - 1, unconfigured_only=True),
    ParameterSpec('transport', 'udp',
                  'How frames come and go: udp (one datagram a frame) or frames (ModemFrame '
                  'messages, where both sides are in one ROS network).', choices=TRANSPORTS,
                  read_only=True),
    ParameterSpec('vehicle_bind', '127.0.0.1:47011',
                  "Address where the vehicle's datagrams arrive, HOST:PORT.",
                  check=address_problem, constraints='HOST:PORT', unconfigured_only=True),
    ParameterSpec('vehicle_peer', '127.0.0.1:47001',
                  'Address where the vehicle listens, HOST:PORT.',
                  check=address_problem, constraints='HOST:PORT', unconfigured_only=True),
    ParameterSpec('surface_bind', '127.0.0.1:47012',
                  "Address where the surface's datagrams arrive, HOST:PORT.",
                  check=address_problem, constraints='HOST:PORT', unconfigured_only=True),
    ParameterSpec('surface_peer', '127.0.0.1:47002',
                  'Address where the surface listens, HOST:PORT.',
                  check=address_problem, constraints='HOST:PORT', unconfigured_only=True),
    *(ParameterSpec(name, -1.0, f'{description}; below 0.0 for the profile.',
                    minimum=-1.0, maximum=most)
      for name, (description, most) in MODEL_PARAMETERS.items()),
)


class LinkSimulatorNode(ManagedNode):
    """Takes frames from both sides, and hands them over late, damaged or not at all."""

    NAME = 'link_simulator_node'
    STREAM = ''

    def __init__(self, **kwargs: Any):
        """
        Declare the parameters.

        :raises rclpy.exceptions.ParameterException: if a parameter is wrong.
        """
        super().__init__(self.NAME, **kwargs)
        self.parameters.declare(PARAMETERS)
        self.statistics = {name: LinkStatistics(
            lambda direction=direction: self._values(direction))
            for direction, name in DIRECTIONS.items()}
        self._profile = None
        self._link: Optional[SimulatedLink] = None
        # Of each side: where frames come from it, and go to it.
        self._ports: Dict[int, UdpPort] = {}
        self._outputs: Dict[int, Any] = {}
        self._inputs: List[Any] = []
        self._timer = None

    # --- Life cycle --------------------------------------------------------------------------

    def load(self) -> None:
        """Read the profile."""
        self._profile = load_profile(self.parameters.value('profile'))

    def description(self) -> str:
        """Return profile and model."""
        model = self._link.model
        return (f'profile {self._profile.name}, {model.link_rate:g} bit/s, {model.delay:g} s, '
                f'{100 * model.mean_loss:.0f} % of the frames lost')

    def configure(self) -> None:
        """Open both sides."""
        value = self.parameters.value
        self._link = SimulatedLink(self._profile.model, value('seed'))
        self._link.configure(**self._changes())
        if value('transport') == 'udp':
            # Frames that come from the vehicle go down to the surface's port, and back.
            self._ports[DOWN] = UdpPort(value('vehicle_bind'), value('vehicle_peer'))
            self._ports[UP] = UdpPort(value('surface_bind'), value('surface_peer'))
        else:
            for direction, side in ((DOWN, 'surface'), (UP, 'vehicle')):
                self._outputs[direction] = self.publisher(
                    ModemFrame, f'{side}/modem/received', reliable(FRAME_DEPTH))

    def activate(self) -> None:
        """Carry frames."""
        if self._outputs:
            for direction, side in ((DOWN, 'vehicle'), (UP, 'surface')):
                self._inputs.append(self.subscription(
                    ModemFrame, f'{side}/modem/send',
                    lambda message, direction=direction: self._link.send(
                        direction, bytes(message.data), time.monotonic()),
                    reliable(FRAME_DEPTH)))
        self._timer = self.every(PERIOD, self._carry)

    def deactivate(self) -> None:
        """Let everything sink."""
        for subscription in self._inputs:
            self.destroy_subscription(subscription)
        self._inputs = []
        if self._timer is not None:
            self.destroy_timer(self._timer)
            self._timer = None

    def cleanup(self) -> None:
        """Close both sides."""
        for port in self._ports.values():
            port.close()
        for publisher in self._outputs.values():
            self.destroy_lifecycle_publisher(publisher)
        self._ports, self._outputs, self._link = {}, {}, None

    def _changes(self) -> Dict[str, float]:
        """Return what the model must have, by name."""
        model = self._profile.model
        changes = {}
        for name in MODEL_PARAMETERS:
            value = self.parameters.value(name)
            # No link has a rate of 0.
            is_given = value > 0 if name == 'link_rate' else value >= 0
            changes[name] = value if is_given else getattr(model, name)
        return changes

    # --- Frames ------------------------------------------------------------------------------

    def _carry(self) -> None:
        """Take the frames that were sent, and hand over those that have arrived."""
        changes = self._changes()
        if any(getattr(self._link.model, name) != value for name, value in changes.items()):
            self._link.configure(**changes)
        now = time.monotonic()
        for direction, port in self._ports.items():
            for data in port.receive():
                self._link.send(direction, data, now)
        for direction, data, _ in self._link.poll(now):
            try:
                self._hand_over(direction, data)
            except Exception as error:
                self.defect(DIRECTIONS[direction], error)

    def _hand_over(self, direction: int, data: bytes) -> None:
        if self._ports:
            self._ports[1 - direction].send(data)
            return
        message = ModemFrame()
        message.header.stamp = self.get_clock().now().to_msg()
        message.data = array.array('B', data)
        self._outputs[direction].publish(message)

    # --- Diagnostics -------------------------------------------------------------------------

    def _values(self, direction: int) -> Dict[str, Any]:
        if self._link is None:
            return {}
        counts = self._link.counts[direction]
        return {
            'profile': self._profile.name,
            'frames_sent': counts.sent,
            'frames_arrived': counts.arrived,
            'frames_lost': counts.lost,
            'frames_overflowed': counts.overflowed,
            'frames_collided': counts.collided,
            'frames_damaged': counts.damaged,
            'airtime_s': counts.airtime,
        }


def main(args: Optional[List[str]] = None) -> int:
    """Run the node; return the exit status."""
    return run_node(LinkSimulatorNode, args)
