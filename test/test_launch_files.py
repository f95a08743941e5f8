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
"""The launch files and the RViz layout, as far as they can be checked without starting them."""
import ast
from pathlib import Path

import pytest

import yaml

SOURCE = Path(__file__).resolve().parent.parent
LAUNCH_FILES = sorted((SOURCE / 'launch').glob('*.launch.py'))
NODES = {'vehicle': 'encoder_node', 'surface': 'decoder_node'}


def calls(path: Path, function: str) -> list:
    """Return the calls of a function in a Python file."""
    return [node for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            and node.func.id == function]


def keywords(call: ast.Call) -> dict:
    """Return the keyword arguments of a call that are literals."""
    literals = {}
    for keyword in call.keywords:
        try:
            literals[keyword.arg] = ast.literal_eval(keyword.value)
        except ValueError:
            pass
    return literals


def declared_arguments(path: Path) -> dict:
    """Return the launch arguments that a launch file declares: name to literal keywords."""
    return {call.args[0].value: keywords(call) for call in calls(path, 'DeclareLaunchArgument')}


def strings(path: Path) -> list:
    """Return all string literals of a Python file."""
    return [node.value for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)]


def displays() -> dict:
    """Return the image displays of the RViz layout by name."""
    layout = yaml.safe_load((SOURCE / 'config' / 'surface.rviz').read_text())
    return {display['Name']: display for display in layout['Visualization Manager']['Displays']}


def test_there_are_three_launch_files():
    """Vehicle, surface and replay are the documented ways to start."""
    assert [path.name for path in LAUNCH_FILES] == [
        'replay.launch.py', 'surface.launch.py', 'vehicle.launch.py']


@pytest.mark.parametrize('path', LAUNCH_FILES, ids=lambda path: path.stem)
def test_every_argument_is_described(path):
    """Each argument says what it is for, has a default, and one of its choices as default."""
    arguments = declared_arguments(path)
    assert arguments
    for name, literals in arguments.items():
        assert len(literals.get('description', '')) > 10, f'{path.name}: {name} is not described'
        if 'choices' in literals:
            assert literals['default_value'] in literals['choices'], f'{path.name}: {name}'


@pytest.mark.parametrize('path', LAUNCH_FILES, ids=lambda path: path.stem)
def test_files_that_a_launch_file_names_exist(path):
    """Configuration, layout and included launch files are where they are looked for."""
    directories = {'.yaml': 'config', '.rviz': 'config', '.py': 'launch'}
    named = [text for text in strings(path)
             if Path(text).suffix in directories and ' ' not in text]
    assert named
    for text in named:
        assert (SOURCE / directories[Path(text).suffix] / text).is_file(), text


def test_replay_passes_arguments_that_the_included_files_declare():
    """A misspelt argument of an included launch file would be ignored without a word."""
    replay = SOURCE / 'launch' / 'replay.launch.py'
    common = next(
        ast.literal_eval(node.value) for node in ast.parse(replay.read_text()).body
        if isinstance(node, ast.Assign) and node.targets[0].id == 'COMMON_ARGUMENTS')
    included = calls(replay, 'include')
    assert [call.args[0].value for call in included] == ['surface.launch.py', 'vehicle.launch.py']
    for call in included:
        declared = declared_arguments(SOURCE / 'launch' / call.args[0].value)
        passed = [*common, *(keyword.arg for keyword in call.keywords)]
        assert set(passed) <= set(declared)
        # Both sides have it, with different defaults.
        assert 'config_file' in passed


@pytest.mark.parametrize('side, node', NODES.items())
def test_node_names_match_the_configuration_files(side, node):
    """The parameters of a configuration file reach the node only under its name."""
    call = calls(SOURCE / 'launch' / f'{side}.launch.py', 'LifecycleNode')[0]
    assert keywords(call)['name'] == keywords(call)['executable'] == node
    configuration = yaml.safe_load((SOURCE / 'config' / f'{side}.yaml').read_text())
    assert next(iter(configuration)) == f'/**/{node}'


@pytest.mark.parametrize('side, node', NODES.items())
def test_overrides_are_parameters_of_the_node(side, node):
    """Arguments that set a parameter have the name of one in the configuration file."""
    path = SOURCE / 'launch' / f'{side}.launch.py'
    configuration = yaml.safe_load((SOURCE / 'config' / f'{side}.yaml').read_text())
    parameters = next(iter(configuration.values()))['ros__parameters']
    overrides = next(ast.literal_eval(loop.iter) for loop in ast.walk(ast.parse(path.read_text()))
                     if isinstance(loop, ast.For))
    assert set(overrides) <= set(parameters)
    assert set(overrides) <= set(declared_arguments(path))


@pytest.mark.parametrize('side, nodes', [
    ('vehicle', {'encoder_node', 'link_sender_node', 'link_simulator_node'}),
    ('surface', {'decoder_node', 'link_receiver_node'})])
def test_every_node_of_a_side_has_its_block_of_parameters(side, nodes):
    """Nodes have the names that the configuration file has blocks for."""
    named = calls(SOURCE / 'launch' / f'{side}.launch.py', 'LifecycleNode')
    assert {keywords(call)['name'] for call in named} == nodes
    assert all(keywords(call)['name'] == keywords(call)['executable'] for call in named)
    configuration = yaml.safe_load((SOURCE / 'config' / f'{side}.yaml').read_text())
    assert set(configuration) == {f'/**/{name}' for name in nodes}


@pytest.mark.parametrize('path', LAUNCH_FILES, ids=lambda path: path.stem)
def test_the_link_is_a_choice_everywhere(path):
    """The same words on both sides; one machine alone has no modem driver."""
    choices = ['none', 'udp', 'sim'] + ['frames'] * ('replay' not in path.name)
    assert declared_arguments(path)['link'].get('choices') == choices


@pytest.mark.parametrize('side, link, started', [
    ('vehicle', 'none', []), ('vehicle', 'udp', ['link_sender_node']),
    ('vehicle', 'frames', ['link_sender_node']),
    ('vehicle', 'sim', ['link_sender_node', 'link_simulator_node']),
    ('surface', 'none', []), ('surface', 'udp', ['link_receiver_node']),
    ('surface', 'frames', ['link_receiver_node']), ('surface', 'sim', ['link_receiver_node'])])
def test_a_link_starts_its_nodes(side, link, started):
    """Each choice of link starts the nodes that it needs, with the way to the modem."""
    pytest.importorskip('launch_ros', reason='launch_ros is not installed')
    import importlib.util

    from launch import LaunchContext
    path = SOURCE / 'launch' / f'{side}.launch.py'
    spec = importlib.util.spec_from_file_location(side, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    context = LaunchContext()
    for argument in module.ARGUMENTS:
        if argument.name not in ('config_file', 'rviz_config', 'camera'):
            argument.execute(context)
    context.launch_configurations['link'] = link
    function = module.link_nodes if side == 'vehicle' else module.link_receiver_node
    nodes = function(context)
    assert [node.node_executable for node in nodes] == started


def test_rviz_shows_source_reconstruction_and_enhanced_image():
    """Topics are relative, so that they follow namespace and remappings of the launch file."""
    assert {name: display['Topic']['Value'] for name, display in displays().items()} == {
        'Source': 'image',
        'Reconstruction': 'reconstructed/image',
        'Enhanced (synthesised)': 'enhanced/image',
    }


def test_rviz_subscribes_with_quality_of_service_that_matches():
    """Cameras offer best effort at least; the decoder publishes reliably."""
    reliability = {name: display['Topic']['Reliability Policy']
                   for name, display in displays().items()}
    assert reliability == {
        'Source': 'Best Effort', 'Reconstruction': 'Reliable',
        'Enhanced (synthesised)': 'Reliable'}
    assert all(display['Class'] == 'rviz_default_plugins/Image'
               and display['Topic']['Durability Policy'] == 'Volatile'
               and display['Topic']['History Policy'] == 'Keep Last'
               for display in displays().values())


def test_rviz_topics_are_remapped_with_the_decoder():
    """Every topic that RViz shows and an argument can rename is renamed for RViz too."""
    text = (SOURCE / 'launch' / 'surface.launch.py').read_text()
    rviz = text[text.index('def rviz_node'):]
    assert "('image', LaunchConfiguration('source'))" in rviz
    assert '*IMAGE_REMAPPINGS' in rviz


@pytest.mark.parametrize('path', LAUNCH_FILES, ids=lambda path: path.stem)
def test_launch_accepts_the_file(path):
    """The launch API builds the description, and finds the same arguments."""
    pytest.importorskip('launch_ros', reason='launch_ros is not installed')
    from launch import LaunchContext
    from launch.launch_description_sources import PythonLaunchDescriptionSource
    description = PythonLaunchDescriptionSource(str(path)).get_launch_description(LaunchContext())
    arguments = {argument.name for argument in description.get_launch_arguments()}
    assert set(declared_arguments(path)) <= arguments
