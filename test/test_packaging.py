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
"""What the package declares, and what each way of building installs."""
import ast
from configparser import ConfigParser
import os
from pathlib import Path
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
import zipfile

import pytest

from auv_image_codec import __version__

SOURCE = Path(__file__).resolve().parent.parent
PACKAGE = 'auv_image_codec'
MANIFEST = ElementTree.parse(SOURCE / 'package.xml').getroot()
SETUP = ConfigParser()
SETUP.read(SOURCE / 'setup.cfg')

# Import name: requirement in setup.cfg, key in package.xml (None: no rosdep key exists).
THIRD_PARTY = {
    'constriction': ('constriction', None),
    'cv2': ('opencv-python-headless', 'python3-opencv'),
    'lightning': ('lightning', None),
    'matplotlib': ('matplotlib', 'python3-matplotlib'),
    'numpy': ('numpy', 'python3-numpy'),
    'PIL': ('Pillow', 'python3-pil'),
    'pillow_heif': ('pillow-heif', None),
    'rosbags': ('rosbags', 'python3-rosbags-pip'),
    'safetensors': ('safetensors', None),
    'tensorboard': ('tensorboard', 'python3-tensorboard-pip'),
    'torch': ('torch', 'python3-torch'),
    'torchmetrics': ('torchmetrics', None),
    'tqdm': ('tqdm', 'python3-tqdm'),
    'webdataset': ('webdataset', None),
    'yaml': ('PyYAML', 'python3-yaml'),
    'zfec': ('zfec', None),
}
# pip does not install these: apt does on a ROS machine, `make install` elsewhere.
ROS = {
    'builtin_interfaces', 'cv_bridge', 'diagnostic_msgs', 'lifecycle_msgs', 'rcl_interfaces',
    'rclpy', 'rosgraph_msgs', 'sensor_msgs', 'std_msgs',
}


def requirements(extra: str = None) -> set:
    """Return the names that setup.cfg requires, always or for an extra."""
    lines = (SETUP['options.extras_require'][extra] if extra
             else SETUP['options']['install_requires'])
    return {re.match(r'[A-Za-z0-9_-]+', line)[0] for line in lines.split('\n') if line}


def manifest_keys() -> set:
    """Return every package and rosdep key that package.xml depends on at run time."""
    return {element.text for tag in ('depend', 'exec_depend') for element in MANIFEST.iter(tag)}


def imported(path: Path) -> set:
    """Return the top-level names that a Python file imports from elsewhere."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split('.')[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module.split('.')[0])
    return names - set(sys.stdlib_module_names) - {PACKAGE}


def console_scripts() -> dict:
    """Return the executables by name, each with its entry point."""
    lines = SETUP['options.entry_points']['console_scripts'].split('\n')
    return dict(re.split(r'\s*=\s*', line) for line in lines if line)


# --- Declarations ---------------------------------------------------------------------------


def test_versions_agree():
    """Module, manifest and the newest entry of the changelog name one version."""
    assert MANIFEST.findtext('version') == __version__
    versions = re.findall(r'^(\d+\.\d+\.\d+) \(', (SOURCE / 'CHANGELOG.rst').read_text(), re.M)
    assert versions[0] == __version__


def test_every_import_is_declared():
    """Each import is a requirement of pip, a key of rosdep, or listed as one without a key."""
    comments = (SOURCE / 'package.xml').read_text()
    undeclared = []
    for path in sorted((SOURCE / PACKAGE).rglob('*.py')):
        allowed = requirements()
        if 'training' in path.parts:
            allowed |= requirements('training')
        for name in sorted(imported(path)):
            where = f'{path.relative_to(SOURCE)} imports {name}'
            if name in ROS:
                if name not in manifest_keys():
                    undeclared.append(f'{where}: not in package.xml')
                continue
            requirement, key = THIRD_PARTY.get(name, (None, None))
            if name == 'pillow_heif':                    # optional wherever it is used
                allowed = allowed | requirements('heif')
            if requirement not in allowed:
                undeclared.append(f'{where}: not in setup.cfg')
            elif key is None and requirement not in comments or key and key not in manifest_keys():
                undeclared.append(f'{where}: not in package.xml')
    assert not undeclared, '\n'.join(undeclared)


def test_every_requirement_is_in_the_manifest():
    """What pip installs is known to a reader of package.xml too, by key or by name."""
    keys = dict(THIRD_PARTY.values())
    comments = (SOURCE / 'package.xml').read_text()
    for requirement in requirements() | requirements('training') | requirements('heif'):
        key = keys[requirement]
        assert key in manifest_keys() if key else requirement in comments, requirement


def test_launch_of_pypi_is_never_installed():
    """Nothing takes `launch` from PyPI, where it is another project than ROS's."""
    declared = requirements() | requirements('training') | requirements('test')
    assert not {name for name in declared if name.startswith('launch')}
    assert not re.search(r'[\s"]launch[\s"=<>]', (SOURCE / 'Makefile').read_text()
                         .replace("PyPI's `launch`", '').replace('demo launch msg', ''))


# --- make -----------------------------------------------------------------------------------


@pytest.mark.parametrize('tool', ['g++', 'cmake'])
def test_make_names_a_missing_tool(tool, tmp_path):
    """On a machine without a compiler or cmake, `make install` says so in one line."""
    needed = ['sh', 'bash', 'find', 'test', 'python3', 'g++', 'cmake']
    (tmp_path / 'bin').mkdir()
    for name in needed:
        if name != tool and shutil.which(name):
            (tmp_path / 'bin' / name).symlink_to(shutil.which(name))
    source = tmp_path / 'source'
    source.mkdir()
    for name in ('Makefile', 'package.xml', 'setup.py', 'setup.cfg', 'CMakeLists.txt'):
        shutil.copy(SOURCE / name, source)
    make = shutil.which('make') or pytest.skip('make is not installed')
    result = subprocess.run(
        [make, 'install'], cwd=source, text=True, capture_output=True,
        env={'PATH': str(tmp_path / 'bin'), 'HOME': str(tmp_path)})
    assert result.returncode != 0
    assert f'{tool} is missing: sudo apt install {tool}' in result.stderr.splitlines()
    assert not (source / '.venv').exists()


# --- Builds ---------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def source_copy(tmp_path_factory):
    """Return a copy of the sources, so that builds leave nothing in this directory."""
    copy = tmp_path_factory.mktemp('workspace') / PACKAGE
    shutil.copytree(SOURCE, copy, symlinks=True, ignore=shutil.ignore_patterns(
        '.*', '__pycache__', '*.pyc', 'build', 'install', 'log', 'runs', 'demo_output', 'test'))
    (copy / 'test').mkdir()
    (copy / PACKAGE / 'left_behind.pyc').write_bytes(b'')
    return copy


@pytest.fixture(scope='module')
def environment():
    """Return the environment variables for a build: prefixes of ROS, nothing of this checkout."""
    if shutil.which('cmake') is None or shutil.which('g++') is None:
        pytest.skip('cmake or g++ is not installed: nothing can be built')
    pytest.importorskip('rosidl_adapter', reason='rosidl is not installed: no messages')
    values = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}
    python_path = [path for path in os.environ.get('PYTHONPATH', '').split(os.pathsep)
                   if path and Path(path).resolve() != SOURCE]
    if python_path:
        values['PYTHONPATH'] = os.pathsep.join(python_path)
    values['PATH'] = os.pathsep.join([str(Path(sys.prefix) / 'bin'), values['PATH']])
    for name in ('AMENT_PREFIX_PATH', 'CMAKE_PREFIX_PATH'):
        values[name] = os.pathsep.join(filter(None, [values.get(name), sys.prefix]))
    values['PYTHONDONTWRITEBYTECODE'] = '1'
    return values


def expected_share() -> set:
    """Return the files that every build puts into share/auv_image_codec, from the sources."""
    return {str(path.relative_to(SOURCE))
            for directory in ('launch', 'config', 'weights', 'demo')
            for path in (SOURCE / directory).rglob('*')
            if path.is_file() and '__pycache__' not in path.parts
            and path.name != 'run_demo.py'}


def expected_modules() -> set:
    """Return the Python modules of the sources, relative to the package."""
    return {str(path.relative_to(SOURCE / PACKAGE)) for path in (SOURCE / PACKAGE).rglob('*.py')}


def run(command: list, **options) -> str:
    """Run a command, and return its standard output; show everything where it fails."""
    result = subprocess.run(
        [str(word) for word in command], text=True, capture_output=True, **options)
    assert result.returncode == 0, f'{command}\n{result.stdout}\n{result.stderr}'
    return result.stdout


def check_installation(prefix: Path, modules: Path) -> None:
    """Check what a build has put under a prefix, whose Python package is in `modules`."""
    share = prefix / 'share' / PACKAGE
    installed = {str(path.relative_to(share)) for path in share.rglob('*') if path.is_file()}
    assert expected_share() <= installed
    assert {'package.xml', 'msg/LatentCode.msg', 'msg/LatentCode.idl',
            'srv/SendLinkRequest.srv'} <= installed
    assert (prefix / 'share/ament_index/resource_index/packages' / PACKAGE).is_file()
    # ament compiles what it has installed, into __pycache__; the sources' own files stay there.
    assert not list(modules.glob('*.pyc'))
    python_files = {str(path.relative_to(modules)) for path in modules.rglob('*.py')}
    assert expected_modules() <= python_files
    assert {'msg/__init__.py', 'msg/_latent_code.py', 'srv/_send_link_request.py'} <= python_files
    assert not {path for path in python_files - expected_modules()
                if not path.startswith(('msg/', 'srv/'))}
    scripts = {path.name: path for path in (prefix / 'lib' / PACKAGE).iterdir()}
    assert set(scripts) == set(console_scripts())
    assert all(os.access(path, os.X_OK) for path in scripts.values())


def check_it_runs(prefix: Path, modules: Path, environment: dict, directory: Path) -> None:
    """Run an installed executable as `ros2 run` does, and use the installed message."""
    environment = dict(environment)
    environment['PYTHONPATH'] = os.pathsep.join(
        filter(None, [str(modules.parent), environment.get('PYTHONPATH')]))
    environment['LD_LIBRARY_PATH'] = os.pathsep.join(
        filter(None, [str(prefix / 'lib'), environment.get('LD_LIBRARY_PATH')]))
    environment['AMENT_PREFIX_PATH'] = os.pathsep.join(
        [str(prefix), environment['AMENT_PREFIX_PATH']])
    version = run([prefix / 'lib' / PACKAGE / 'auv-image-codec', '--version'],
                  env=environment, cwd=directory)
    assert __version__ in version
    printed = run([sys.executable, '-c',
                   'from auv_image_codec.msg import LatentCode\n'
                   'from auv_image_codec.resources import share_directory\n'
                   'from rclpy.serialization import serialize_message\n'
                   'serialize_message(LatentCode(latent=bytes(500)))\n'
                   'print(share_directory())\n'], env=environment, cwd=directory)
    assert Path(printed.strip()).samefile(prefix / 'share' / PACKAGE)


@pytest.fixture(scope='module')
def build_base(tmp_path_factory):
    """Return a build directory for all ways to install: what is compiled is the same."""
    return tmp_path_factory.mktemp('build')


@pytest.mark.slow
@pytest.mark.parametrize('options', [[], ['--symlink-install']], ids=['plain', 'symlink'])
def test_colcon_build(options, source_copy, build_base, environment, tmp_path):
    """`colcon build` installs everything, and what it installed runs."""
    if shutil.which('colcon', path=environment['PATH']) is None:
        pytest.skip('colcon is not installed')
    # The one way copies modules here, and the other makes symbolic links.
    shutil.rmtree(build_base / PACKAGE / 'ament_cmake_python', ignore_errors=True)
    run(['colcon', '--log-base', tmp_path / 'log', 'build', *options,
         '--base-paths', source_copy, '--build-base', build_base,
         '--install-base', tmp_path / 'install',
         '--cmake-args', f'-DPython3_EXECUTABLE={sys.executable}', '-DBUILD_TESTING=OFF'],
        env=environment, cwd=tmp_path)
    prefix = tmp_path / 'install' / PACKAGE
    modules = next(prefix.glob(f'**/python3*/*-packages/{PACKAGE}'))
    check_installation(prefix, modules)
    assert (modules / 'errors.py').is_symlink() == bool(options)
    assert (prefix / 'share' / PACKAGE / 'launch' / 'vehicle.launch.py').is_symlink() \
        == bool(options)
    assert [path.name for path in (prefix / 'bin').iterdir()] == ['auv-image-codec']
    assert os.access(prefix / 'bin' / 'auv-image-codec', os.X_OK)
    if not options:                    # a symbolic link leads back to the source's package.xml
        check_it_runs(prefix, modules, environment, tmp_path)


@pytest.mark.slow
def test_pip_wheel(source_copy, environment, tmp_path):
    """`pip install .` installs the same files, executables and entry points."""
    pytest.importorskip('setuptools', minversion='61', reason='setuptools is older than 61')
    run([sys.executable, '-m', 'pip', 'wheel', '--no-deps', '--no-build-isolation',
         '--wheel-dir', tmp_path, source_copy], env=environment, cwd=tmp_path)
    wheel, = tmp_path.glob('*.whl')
    assert 'none-any' not in wheel.name, 'a wheel with compiled type support fits one platform'
    prefix = tmp_path / 'prefix'
    modules = prefix / 'lib' / 'modules' / PACKAGE
    with zipfile.ZipFile(wheel) as archive:
        for info in archive.infolist():
            name, separator, below = info.filename.partition('.data/data/')
            target = prefix / below if separator else modules.parent / name
            if not info.is_dir():
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.read(info))
                target.chmod(info.external_attr >> 16 & 0o777 or 0o644)
    check_installation(prefix, modules)
    check_it_runs(prefix, modules, environment, tmp_path)
    entry_points = ConfigParser()
    entry_points.read(next(modules.parent.glob('*.dist-info')) / 'entry_points.txt')
    assert dict(entry_points['console_scripts']) == console_scripts()
