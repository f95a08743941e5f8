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
Start the surface's side: latents in, images out, and RViz with ``rviz:=true``.

Example: ``ros2 launch auv_image_codec surface.launch.py latent:=/front/latent rviz:=true``.
"""
from typing import List

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution

from launch_ros.actions import LifecycleNode, Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

PACKAGE = 'auv_image_codec'

ARGUMENTS = [
    DeclareLaunchArgument(
        'latent', default_value='latent',
        description='Topic of the latents. For the camera named `camera`; a configuration file '
                    'with several cameras names their topics itself.'),
    DeclareLaunchArgument(
        'camera_info', default_value='camera_info',
        description="Topic of the camera's calibration, where the surface has it."),
    DeclareLaunchArgument(
        'reconstructed', default_value='reconstructed',
        description='Prefix of the topics to publish on: RECONSTRUCTED/image and '
                    'RECONSTRUCTED/camera_info.'),
    DeclareLaunchArgument(
        'enhanced', default_value='enhanced',
        description='Prefix of the topics of images with synthesised detail: ENHANCED/image and '
                    'ENHANCED/camera_info.'),
    DeclareLaunchArgument(
        'namespace', default_value='', description='Namespace of the nodes and their topics.'),
    DeclareLaunchArgument(
        'config_file',
        default_value=PathJoinSubstitution([FindPackageShare(PACKAGE), 'config', 'surface.yaml']),
        description='Parameters of the decoder.'),
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
        'enhance', default_value='', choices=['', 'auto', 'always', 'never'],
        description='Whether to offer images with synthesised detail; auto: where there are '
                    'weights for it. Empty: as the configuration file says.'),
    DeclareLaunchArgument(
        'enhancer_weights', default_value='',
        description='Directory with the weights of the enhancer. '
                    'Empty: as the configuration file says.'),
    DeclareLaunchArgument(
        'link', default_value='none', choices=['none', 'udp', 'sim', 'frames'],
        description='What brings latents from the vehicle. none: ROS itself, or nothing; udp: a '
                    'modem that hands over one datagram a frame; sim: the simulated water that '
                    "the vehicle's launch file starts; frames: a modem driver that publishes "
                    'ModemFrame messages.'),
    DeclareLaunchArgument(
        'link_bind', default_value='',
        description='HOST:PORT where frames from the vehicle arrive, with link:=udp and sim. '
                    'Empty: as the configuration file says.'),
    DeclareLaunchArgument(
        'link_peer', default_value='',
        description='HOST:PORT of the modem (link:=udp), or of the simulated water (link:=sim). '
                    'Empty: as the configuration file says; 127.0.0.1:47012 with link:=sim.'),
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
    DeclareLaunchArgument(
        'rviz', default_value='false', choices=['true', 'false'],
        description='Open RViz with the source, the reconstruction and the enhanced image.'),
    DeclareLaunchArgument(
        'rviz_config',
        default_value=PathJoinSubstitution([FindPackageShare(PACKAGE), 'config', 'surface.rviz']),
        description='Layout of RViz.'),
    DeclareLaunchArgument(
        'source', default_value='image',
        description='Topic of the raw camera images to show beside the reconstruction in RViz, '
                    'where there is one.'),
]

IMAGE_REMAPPINGS = [
    ('reconstructed/image', [LaunchConfiguration('reconstructed'), '/image']),
    ('reconstructed/camera_info', [LaunchConfiguration('reconstructed'), '/camera_info']),
    ('enhanced/image', [LaunchConfiguration('enhanced'), '/image']),
    ('enhanced/camera_info', [LaunchConfiguration('enhanced'), '/camera_info']),
]


def decoder_node(context: LaunchContext) -> List[LifecycleNode]:
    """Return the decoder: parameters from the file, and above them the arguments that are set."""
    overrides = {}
    for name in ('codec', 'weights', 'device', 'enhance', 'enhancer_weights'):
        value = LaunchConfiguration(name).perform(context)
        if value:
            overrides[name] = ParameterValue(value, value_type=str)
    if LaunchConfiguration('use_sim_time').perform(context) == 'true':
        overrides['use_sim_time'] = True
    return [LifecycleNode(
        package=PACKAGE,
        executable='decoder_node',
        name='decoder_node',
        namespace=LaunchConfiguration('namespace'),
        parameters=[LaunchConfiguration('config_file'), overrides],
        remappings=[
            ('latent', LaunchConfiguration('latent')),
            ('camera_info', LaunchConfiguration('camera_info')),
            *IMAGE_REMAPPINGS,
        ],
        ros_arguments=['--log-level', LaunchConfiguration('log_level')],
        output='screen',
        emulate_tty=True,
    )]


def link_receiver_node(context: LaunchContext) -> List[LifecycleNode]:
    """Return the surface's end of the link."""
    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    link = value('link')
    if link == 'none':
        return []
    overrides = {'transport': 'frames' if link == 'frames' else 'udp'}
    if link == 'sim':
        overrides['udp_peer'] = '127.0.0.1:47012'
    for name, argument in (('codec', 'codec'), ('weights', 'weights'), ('device', 'device'),
                           ('udp_bind', 'link_bind'), ('udp_peer', 'link_peer')):
        if value(argument):
            overrides[name] = ParameterValue(value(argument), value_type=str)
    if value('use_sim_time') == 'true':
        overrides['use_sim_time'] = True
    return [LifecycleNode(
        package=PACKAGE,
        executable='link_receiver_node',
        name='link_receiver_node',
        namespace=LaunchConfiguration('namespace'),
        parameters=[LaunchConfiguration('config_file'), overrides],
        remappings=[
            ('latent', LaunchConfiguration('latent')),
            ('modem/send', LaunchConfiguration('modem_send')),
            ('modem/received', LaunchConfiguration('modem_received')),
        ],
        ros_arguments=['--log-level', LaunchConfiguration('log_level')],
        output='screen',
        emulate_tty=True,
    )]


def rviz_node() -> Node:
    """Return RViz, whose relative topics are remapped as the decoder's are."""
    return Node(
        package='rviz2',
        executable='rviz2',
        name='rviz2',
        namespace=LaunchConfiguration('namespace'),
        arguments=['-d', LaunchConfiguration('rviz_config')],
        parameters=[{'use_sim_time': ParameterValue(
            LaunchConfiguration('use_sim_time'), value_type=bool)}],
        remappings=[('image', LaunchConfiguration('source')), *IMAGE_REMAPPINGS],
        condition=IfCondition(LaunchConfiguration('rviz')),
        output='screen',
    )


def generate_launch_description() -> LaunchDescription:
    """Return the description of the surface's side."""
    # RViz first: where it is not installed, launch gives up before anything runs.
    return LaunchDescription([
        *ARGUMENTS, rviz_node(), OpaqueFunction(function=decoder_node),
        OpaqueFunction(function=link_receiver_node)])
