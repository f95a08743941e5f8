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
"""Declare node parameters with description and range, and check every value that is set."""
from dataclasses import dataclass
import math
from typing import Any, Callable, Iterable, List, Optional, Tuple

from rcl_interfaces.msg import (
    FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult)

from rclpy.exceptions import InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter


@dataclass(frozen=True)
class ParameterSpec:
    """
    One row of the parameter table.

    :param default: default value, which also fixes the type.
    :param minimum: least value of a number, with ``maximum`` the greatest.
    :param choices: the only values allowed.
    :param check: returns what is wrong with a value, or an empty string.
    :param check_change: the same, but not for the value that the node starts with.
    :param read_only: fixed when the node starts.
    :param unconfigured_only: takes effect in ``configure``, so it can be set before it only.
    """

    name: str
    default: Any
    description: str
    minimum: Optional[float] = None
    maximum: Optional[float] = None
    choices: Tuple[str, ...] = ()
    check: Optional[Callable[[Any], str]] = None
    check_change: Optional[Callable[[Any], str]] = None
    constraints: str = ''
    read_only: bool = False
    unconfigured_only: bool = False

    def descriptor(self) -> ParameterDescriptor:
        """Return the descriptor that tools such as ``ros2 param describe`` show."""
        constraints = self.constraints
        if self.choices:
            constraints = 'one of: ' + ', '.join(self.choices)
        if self.unconfigured_only:
            constraints = '; '.join(filter(None, [constraints, 'set while unconfigured']))
        descriptor = ParameterDescriptor(
            name=self.name, type=Parameter.Type.from_parameter_value(self.default).value,
            description=self.description, additional_constraints=constraints,
            read_only=self.read_only)
        if self.minimum is not None:
            if isinstance(self.default, float):
                descriptor.floating_point_range = [FloatingPointRange(
                    from_value=float(self.minimum), to_value=float(self.maximum), step=0.0)]
            else:
                descriptor.integer_range = [IntegerRange(
                    from_value=int(self.minimum), to_value=int(self.maximum), step=1)]
        return descriptor

    def problem(self, value: Any) -> str:
        """Return what is wrong with a value of the right type, or an empty string."""
        if isinstance(value, float) and not math.isfinite(value):
            return f'{value} is not a finite number'
        if self.minimum is not None and not self.minimum <= value <= self.maximum:
            return f'{value} is not in {self.minimum}..{self.maximum}'
        if self.choices and value not in self.choices:
            return f'{value!r} is not one of {", ".join(self.choices)}'
        return self.check(value) if self.check else ''


class CheckedParameters:
    """
    The parameters of one node, declared and guarded.

    :param is_unconfigured: tells whether parameters that take effect in ``configure`` may change.
    """

    def __init__(self, node: Node, is_unconfigured: Callable[[], bool]):
        """Guard the node's parameters; declare() adds them."""
        self._node = node
        self._is_unconfigured = is_unconfigured
        self._specs = {}
        node.add_on_set_parameters_callback(self._on_set)

    @property
    def specs(self) -> List[ParameterSpec]:
        """The parameters declared so far."""
        return list(self._specs.values())

    def declare(self, specs: Iterable[ParameterSpec]) -> None:
        """
        Declare parameters, with the values that files and command line give them.

        :raises rclpy.exceptions.ParameterException: if one has a wrong type or value.
        """
        for spec in specs:
            self._specs[spec.name] = spec
            self._node.declare_parameter(spec.name, spec.default, spec.descriptor())

    def value(self, name: str) -> Any:
        """Return the value that the parameter has now."""
        return self._node.get_parameter(name).value

    def reject(self, name: str, reason: str) -> None:
        """Raise the exception for a value that is wrong together with others."""
        raise InvalidParameterValueException(name, self.value(name), reason)

    def _on_set(self, parameters: List[Parameter]) -> SetParametersResult:
        for parameter in parameters:
            spec = self._specs.get(parameter.name)
            if spec is None:  # use_sim_time, qos_overrides and the like check themselves.
                continue
            if parameter.type_ == Parameter.Type.NOT_SET:
                problem = 'cannot be removed'
            else:
                problem = spec.problem(parameter.value)
                if not problem and self._node.has_parameter(spec.name):
                    problem = self._change_problem(spec, parameter.value)
            if problem:
                return SetParametersResult(
                    successful=False, reason=f'parameter {spec.name}: {problem}')
        return SetParametersResult(successful=True)

    def _change_problem(self, spec: ParameterSpec, value: Any) -> str:
        if value == self.value(spec.name):
            return ''
        if spec.unconfigured_only and not self._is_unconfigured():
            return 'takes effect in configure: clean up the node first'
        return spec.check_change(value) if spec.check_change else ''
