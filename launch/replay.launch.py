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
Replay a bag through both sides on one machine: player, encoder, decoder, RViz if wanted.

Example: ``ros2 launch auv_image_codec replay.launch.py`` plays the shipped bag;
``bag:=PATH camera:=/front/image_raw transport:=raw`` another one; ``link:=sim`` puts simulated
water between both sides.
"""
from typing import List

from launch import LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument, ExecuteProcess, GroupAction, IncludeLaunchDescription, OpaqueFunction,
    RegisterEventHandler, Shutdown, TimerAction)
from launch.conditions import IfCondition
from launch.event_handlers import OnProcessExit
from launch.launch_description_entity import LaunchDescriptionEntity
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, PythonExpression

from launch_ros.substitutions import ExecutableInPackage, FindPackageShare

PACKAGE = 'auv_image_codec'
SHARE = FindPackageShare(PACKAGE)

# Arguments of both sides that are passed on as they are.
COMMON_ARGUMENTS = ('link', 'namespace', 'codec', 'weights', 'device', 'log_level', 'use_sim_time')

# Both sides are in one ROS network here: with a link, the surface's latents need a name of their
# own.
SURFACE_LATENT = PythonExpression([
    "'latent' if '", LaunchConfiguration('link'), "' == 'none' else 'received/latent'"])

ARGUMENTS = [
    DeclareLaunchArgument(
        'bag', default_value=PathJoinSubstitution([SHARE, 'demo', 'robosub_gate']),
        description='Bag to play: its directory, or a .mcap or .db3 file.'),
    DeclareLaunchArgument(
        'camera', default_value='/camera/image_raw',
        description='Topic of the raw camera images in the bag; the compressed ones are on '
                    'CAMERA/compressed.'),
    DeclareLaunchArgument(
        'transport', default_value='compressed', choices=['raw', 'compressed'],
        description='Which images of the camera the bag has.'),
    DeclareLaunchArgument(
        'topics', default_value='',
        description='Topics of the bag to play, separated by spaces; each must find a subscriber. '
                    "Empty: the camera's images."),
    DeclareLaunchArgument(
        'rate', default_value='1.0', description='Speed, as a factor of the recording.'),
    DeclareLaunchArgument(
        'loop', default_value='false', choices=['true', 'false'],
        description='Start the bag again at its end.'),
    DeclareLaunchArgument(
        'exit_at_end', default_value='false', choices=['true', 'false'],
        description='Stop everything two seconds after the last message.'),
    DeclareLaunchArgument(
        'camera_info', default_value='camera_info',
        description="Topic of the camera's calibration, if it is among `topics`."),
    DeclareLaunchArgument(
        'namespace', default_value='', description='Namespace of the nodes and their topics.'),
    DeclareLaunchArgument(
        'vehicle_config_file',
        default_value=PathJoinSubstitution([SHARE, 'config', 'vehicle.yaml']),
        description='Parameters of the encoder.'),
    DeclareLaunchArgument(
        'surface_config_file',
        default_value=PathJoinSubstitution([SHARE, 'config', 'surface.yaml']),
        description='Parameters of the decoder.'),
    DeclareLaunchArgument(
        'codec', default_value='',
        description='Name of the codec. Empty: as the configuration files say.'),
    DeclareLaunchArgument(
        'weights', default_value='',
        description='Directory with the weights of the codec. '
                    'Empty: as the configuration files say.'),
    DeclareLaunchArgument(
        'device', default_value='',
        description='Where the networks run: cpu, cuda or cuda:N. '
                    'Empty: as the configuration files say.'),
    DeclareLaunchArgument(
        'enhance', default_value='', choices=['', 'auto', 'always', 'never'],
        description='Whether to offer images with synthesised detail; auto: where there are '
                    'weights for it. Empty: as the configuration file says.'),
    DeclareLaunchArgument(
        'link', default_value='none', choices=['none', 'udp', 'sim'],
        description='What is between both sides. none: nothing; udp: both ends of the link, and '
                    'no loss; sim: simulated water between them.'),
    DeclareLaunchArgument(
        'link_profile', default_value='',
        description='Modem profile: a name in config/link/, or a .yaml file. Empty: as the '
                    'configuration file says; test_link with link:=sim.'),
    DeclareLaunchArgument(
        'log_level', default_value='info', choices=['debug', 'info', 'warn', 'error', 'fatal'],
        description='Least severe messages to log.'),
    DeclareLaunchArgument(
        'use_sim_time', default_value='false', choices=['true', 'false'],
        description='Publish the time of the recording on /clock, and let the nodes take it.'),
    DeclareLaunchArgument(
        'rviz', default_value='false', choices=['true', 'false'],
        description='Open RViz with the source, the reconstruction and the enhanced image.'),
]


def include(launch_file: str, **arguments) -> GroupAction:
    """Include a launch file in a scope of its own, so that its arguments stay its own."""
    values = {name: LaunchConfiguration(name) for name in COMMON_ARGUMENTS}
    values.update(arguments)
    return GroupAction([IncludeLaunchDescription(
        PythonLaunchDescriptionSource(PathJoinSubstitution([SHARE, 'launch', launch_file])),
        launch_arguments=values.items())])


def player(context: LaunchContext) -> List[LaunchDescriptionEntity]:
    """Return the player of the bag, and what to do at its end."""
    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    suffix = '/compressed' if value('transport') == 'compressed' else ''
    topics = value('topics').split() or [value('camera') + suffix]
    command = [
        ExecutableInPackage(package=PACKAGE, executable='auv-image-codec'), 'play', value('bag'),
        '--rate', value('rate'), '--topics', *topics, '--wait-for-subscribers', '1']
    if value('loop') == 'true':
        command.append('--loop')
    if value('use_sim_time') == 'true':
        command.append('--clock')
    # Not a Node: the player names its own node and plays on the topics of the bag.
    process = ExecuteProcess(cmd=command, name='player', output='screen', emulate_tty=True)
    stop = TimerAction(period=2.0, actions=[Shutdown(reason='the bag is at its end')])
    return [process, RegisterEventHandler(
        OnProcessExit(target_action=process, on_exit=[stop]),
        condition=IfCondition(LaunchConfiguration('exit_at_end')))]


def generate_launch_description() -> LaunchDescription:
    """Return the description of player, vehicle and surface."""
    return LaunchDescription([
        *ARGUMENTS,
        include(
            'surface.launch.py',
            config_file=LaunchConfiguration('surface_config_file'),
            latent=SURFACE_LATENT,
            camera_info=LaunchConfiguration('camera_info'),
            source=LaunchConfiguration('camera'),
            enhance=LaunchConfiguration('enhance'),
            rviz=LaunchConfiguration('rviz')),
        include(
            'vehicle.launch.py',
            config_file=LaunchConfiguration('vehicle_config_file'),
            link_profile=LaunchConfiguration('link_profile'),
            camera=LaunchConfiguration('camera'),
            transport=LaunchConfiguration('transport')),
        OpaqueFunction(function=player),
    ])
