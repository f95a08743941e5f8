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
Start the vehicle's side: camera images in, latents or frames for a modem out.

Example: ``ros2 launch auv_image_codec vehicle.launch.py camera:=/front/image_raw link:=udp
link_profile:=micromodem_rate_5 link_peer:=192.168.0.10:47002``.
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
        'link', default_value='none', choices=['none', 'udp', 'sim', 'frames'],
        description='What carries latents to the surface. none: ROS itself, or nothing; udp: a '
                    'modem that takes one datagram a frame; sim: simulated water, for udp on the '
                    'surface; frames: a modem driver that takes ModemFrame messages.'),
    DeclareLaunchArgument(
        'link_profile', default_value='',
        description='Modem profile: a name in config/link/, or a .yaml file. Empty: as the '
                    'configuration file says; test_link with link:=sim.'),
    DeclareLaunchArgument(
        'link_bind', default_value='',
        description='HOST:PORT where frames from the surface arrive, with link:=udp. Empty: as '
                    'the configuration file says.'),
    DeclareLaunchArgument(
        'link_peer', default_value='',
        description='HOST:PORT of the modem (link:=udp), or of the surface (link:=sim). Empty: '
                    'as the configuration file says.'),
    DeclareLaunchArgument(
        'modem_send', default_value='modem/send',
        description='Topic of the frames for the modem, with link:=frames.'),
    DeclareLaunchArgument(
        'modem_received', default_value='modem/received',
        description='Topic of the frames from the modem, with link:=frames.'),
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


def link_nodes(context: LaunchContext) -> List[LifecycleNode]:
    """Return the vehicle's end of the link, and the water if that is simulated."""
    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    link = value('link')
    if link == 'none':
        return []
    sender = {'transport': 'frames' if link == 'frames' else 'udp'}
    for name, argument in (('codec', 'codec'), ('weights', 'weights'), ('device', 'device'),
                           ('profile', 'link_profile'), ('udp_bind', 'link_bind'),
                           ('udp_peer', 'link_peer')):
        if value(argument):
            sender[name] = ParameterValue(value(argument), value_type=str)
    # The simulator's ports stand between those of both sides.
    simulator = {'transport': 'udp', 'surface_bind': '0.0.0.0:47012',
                 'vehicle_bind': '127.0.0.1:47011', 'vehicle_peer': '127.0.0.1:47001'}
    if link == 'sim':
        profile = ParameterValue(value('link_profile') or 'test_link', value_type=str)
        sender.update(profile=profile, udp_bind='127.0.0.1:47001', udp_peer='127.0.0.1:47011')
        simulator['profile'] = profile
        if value('link_peer'):
            simulator['surface_peer'] = ParameterValue(value('link_peer'), value_type=str)
    if value('use_sim_time') == 'true':
        sender['use_sim_time'] = True
    nodes = [LifecycleNode(
        package=PACKAGE,
        executable='link_sender_node',
        name='link_sender_node',
        namespace=LaunchConfiguration('namespace'),
        parameters=[LaunchConfiguration('config_file'), sender],
        remappings=[
            ('latent', LaunchConfiguration('latent')),
            ('modem/send', LaunchConfiguration('modem_send')),
            ('modem/received', LaunchConfiguration('modem_received')),
        ],
        ros_arguments=['--log-level', LaunchConfiguration('log_level')],
        output='screen',
        emulate_tty=True,
    )]
    if link == 'sim':
        nodes.append(LifecycleNode(
            package=PACKAGE,
            executable='link_simulator_node',
            name='link_simulator_node',
            namespace=LaunchConfiguration('namespace'),
            parameters=[LaunchConfiguration('config_file'), simulator],
            ros_arguments=['--log-level', LaunchConfiguration('log_level')],
            output='screen',
            emulate_tty=True,
        ))
    return nodes


def generate_launch_description() -> LaunchDescription:
    """Return the description of the vehicle's side."""
    return LaunchDescription([
        *ARGUMENTS, OpaqueFunction(function=encoder_node), OpaqueFunction(function=link_nodes)])
