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
Start the vehicle's side: camera images in, latents out.

Example: ``ros2 launch auv_image_codec vehicle.launch.py camera:=/front/image_raw``.
"""
from typing import List

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution

from launch_ros.actions import LifecycleNode
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

PACKAGE = 'auv_image_codec'

ARGUMENTS = [
    DeclareLaunchArgument(
        'camera', default_value='image',
        description='Topic of the raw camera images; the compressed ones are on '
                    'CAMERA/compressed. For the camera named `camera`; a configuration file with '
                    'several cameras names their topics itself.'),
    DeclareLaunchArgument(
        'latent', default_value='latent', description='Topic to publish latents on.'),
    DeclareLaunchArgument(
        'transport', default_value='', choices=['', 'raw', 'compressed'],
        description='Which images of the camera to subscribe to. '
                    'Empty: as the configuration file says.'),
    DeclareLaunchArgument(
        'namespace', default_value='', description='Namespace of the node and its topics.'),
    DeclareLaunchArgument(
        'config_file',
        default_value=PathJoinSubstitution([FindPackageShare(PACKAGE), 'config', 'vehicle.yaml']),
        description='Parameters of the encoder.'),
    DeclareLaunchArgument(
        'codec', default_value='',
        description='Name of the codec. Empty: as the configuration file says.'),
    DeclareLaunchArgument(
        'weights', default_value='',
        description='Directory with the weights of the codec. '
                    'Empty: as the configuration file says.'),
    DeclareLaunchArgument(
        'device', default_value='',
        description='Where the network runs: cpu, cuda or cuda:N. '
                    'Empty: as the configuration file says.'),
    DeclareLaunchArgument(
        'log_level', default_value='info', choices=['debug', 'info', 'warn', 'error', 'fatal'],
        description='Least severe messages to log.'),
    DeclareLaunchArgument(
        'use_sim_time', default_value='false', choices=['true', 'false'],
        description='Take the time from /clock, for replayed bags and simulators.'),
]


def encoder_node(context: LaunchContext) -> List[LifecycleNode]:
    """Return the encoder: parameters from the file, and above them the arguments that are set."""
    overrides = {}
    for name in ('codec', 'weights', 'device', 'transport'):
        value = LaunchConfiguration(name).perform(context)
        if value:
            overrides[name] = ParameterValue(value, value_type=str)
    if LaunchConfiguration('use_sim_time').perform(context) == 'true':
        overrides['use_sim_time'] = True
    return [LifecycleNode(
        package=PACKAGE,
        executable='encoder_node',
        name='encoder_node',
        namespace=LaunchConfiguration('namespace'),
        parameters=[LaunchConfiguration('config_file'), overrides],
        remappings=[
            ('image', LaunchConfiguration('camera')),
            ('image/compressed', [LaunchConfiguration('camera'), '/compressed']),
            ('latent', LaunchConfiguration('latent')),
        ],
        ros_arguments=['--log-level', LaunchConfiguration('log_level')],
        output='screen',
        emulate_tty=True,
    )]


def generate_launch_description() -> LaunchDescription:
    """Return the description of the vehicle's side."""
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=encoder_node)])
