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
"""Test the demo: its verdict, that it measures, and that it leaves nothing behind."""
import importlib.util
import json
import os
from pathlib import Path
import signal
import subprocess
import sys
import time
import uuid

import numpy as np
from PIL import Image
import pytest
from unshared import new_domain

from auv_image_codec.cli.main import main
from auv_image_codec.evaluation.bags import read_compressed_images

SCRIPT = Path(__file__).resolve().parent.parent / 'demo' / 'run_demo.py'
MARK = 'AUV_IMAGE_CODEC_TEST_MARK'
FRAMES = 12

spec = importlib.util.spec_from_file_location('run_demo', SCRIPT)
run_demo = importlib.util.module_from_spec(spec)
spec.loader.exec_module(run_demo)


# --- Parts -------------------------------------------------------------------------------------


@pytest.mark.parametrize('metrics, problems', [
    ({'frames_sent': 86, 'frames_received': 86, 'max_packet_bytes': 500}, []),
    ({'frames_sent': 86, 'frames_received': 85, 'max_packet_bytes': 500},
     ['1 of 86 frames were lost']),
    ({'frames_sent': 86, 'frames_received': 86, 'max_packet_bytes': 501},
     ['a packet has 501 bytes, more than 500']),
])
def test_verdict(metrics, problems):
    """One lost frame, or one byte too many, is a failure."""
    assert run_demo.problems_of(metrics) == problems


def test_executables(tmp_path, monkeypatch):
    """They are found in a colcon workspace; where they are missing, the message says so."""
    executable = tmp_path / 'lib' / 'auv_image_codec' / 'some_node'
    executable.parent.mkdir(parents=True)
    executable.touch()
    monkeypatch.setenv('AMENT_PREFIX_PATH', f'/nowhere{os.pathsep}{tmp_path}')
    assert run_demo.find_executable('some_node') == str(executable)
    with pytest.raises(run_demo.DemoError, match='other_node is not installed'):
        run_demo.find_executable('other_node')


def test_image_array():
    """Rows may be padded, and colours may come in either order."""
    class Message:
        height, width, step, encoding = 2, 2, 8, 'bgr8'
        data = bytes([1, 2, 3, 4, 5, 6, 0, 0, 7, 8, 9, 10, 11, 12, 0, 0])

    assert run_demo.image_array(Message).tolist() == [
        [[3, 2, 1], [6, 5, 4]], [[9, 8, 7], [12, 11, 10]]]
    Message.encoding = 'rgb8'
    assert run_demo.image_array(Message)[1, 0].tolist() == [7, 8, 9]
    Message.encoding = 'mono16'
    with pytest.raises(run_demo.DemoError, match='mono16'):
        run_demo.image_array(Message)


# --- The whole ---------------------------------------------------------------------------------


class Demo:
    """The demo as a process, with its children recognizable by a mark in their environment."""

    def __init__(self, output: Path, *arguments: str):
        """Start it."""
        self.output = output
        self._mark = f'{MARK}={uuid.uuid4()}'
        name, _, value = self._mark.partition('=')
        self.process = subprocess.Popen(
            [sys.executable, str(SCRIPT), '--output', str(output), '--domain-id',
             str(new_domain()), *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, name: value})

    def finish(self) -> tuple[int, str, str]:
        """Wait for its end; return status, standard output and standard error."""
        output, errors = self.process.communicate()
        return self.process.returncode, output, errors

    def children(self) -> dict[int, str]:
        """Return the command lines of the processes it started that still run, by their id."""
        found = {}
        for folder in Path('/proc').iterdir():
            try:
                environment = (folder / 'environ').read_bytes().split(b'\0')
                if (self._mark.encode() in environment
                        and int(folder.name) != self.process.pid):
                    found[int(folder.name)] = (folder / 'cmdline').read_bytes().decode()
            except (OSError, ValueError):
                continue
        return found

    def wait_for_children(self, number: int, timeout_s: float = 150) -> dict[int, str]:
        """Wait until it has so many children, each with a command of its own, and return them."""
        deadline = time.monotonic() + timeout_s
        # between fork and exec a child still has the demo's command line, then none
        while len(children := self.children()) != number or any(
                not command or 'run_demo' in command for command in children.values()):
            assert time.monotonic() < deadline, (
                f'{children} instead of {number} processes\n{self.logs()}')
            assert number == 0 or self.process.poll() is None, self.finish()
            time.sleep(0.1)
        return children

    def logs(self) -> str:
        """Return what its processes have written."""
        return '\n'.join(f'{path.name}:\n{path.read_text()}'
                         for path in sorted(self.output.glob('log/*.log')))


@pytest.fixture
def demo(tmp_path):
    """Yield a function that starts the demo, where there is ROS; nothing of it is left."""
    pytest.importorskip('rclpy', reason='rclpy is not installed: there is no demo')
    pytest.importorskip('auv_image_codec.msg', reason='the messages of auv_image_codec are not '
                        'generated: there is no demo')
    if not Path('/proc/self/environ').is_file():
        pytest.skip('no /proc: the processes of the demo cannot be found')
    started: list[Demo] = []

    def start(*arguments: str) -> Demo:
        started.append(Demo(tmp_path / 'output', *arguments))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
            one.process.communicate()


@pytest.fixture
def short_bag(tmp_path) -> Path:
    """Return a bag of the demo's first frames: all of them take a minute of computing."""
    folder = tmp_path / 'frames'
    folder.mkdir()
    frames = read_compressed_images(SCRIPT.parent / 'robosub_gate')
    for number, frame in zip(range(FRAMES), frames):
        (folder / f'{number:02}.jpg').write_bytes(frame.data)
    assert main(['bag', str(folder), '-o', str(tmp_path / 'short')]) == 0
    return tmp_path / 'short'


@pytest.mark.slow
def test_every_frame_arrives(demo, short_bag):
    """All frames arrive in small packets; table, pictures and metrics say the same."""
    running = demo('--bag', str(short_bag))
    status, output, errors = running.finish()
    assert status == 0, f'{errors}\n{running.logs()}'
    running.wait_for_children(0)
    metrics = json.loads((running.output / 'metrics.json').read_text())
    assert metrics['problems'] == []
    assert metrics['frames_sent'] == metrics['frames_received'] == FRAMES
    assert 16 < metrics['min_packet_bytes'] <= metrics['max_packet_bytes'] <= 500
    assert metrics['ratio'] == pytest.approx(224 * 224 * 3 / metrics['mean_packet_bytes'])
    assert metrics['ratio_source'] == pytest.approx(640 * 480 * 3 / metrics['mean_packet_bytes'])
    assert metrics['mean_psnr_db'] > 25
    assert metrics['encode_ms'] > 0
    assert metrics['decode_ms'] > 0
    for text in ('frames sent', 'frames received', 'bytes a frame', 'ratio', 'PSNR', 'encode (ms)',
                 'decode (ms)', f'{metrics["mean_psnr_db"]:.2f}'):
        assert text in output
    with Image.open(running.output / 'contact_sheet.png') as sheet:
        pixels = np.array(sheet.convert('RGB'))
    assert min(pixels.shape[:2]) > 1000
    assert pixels.std() > 20, 'the contact sheet is empty'
    for name in ('encoder_node', 'decoder_node', 'player'):
        assert (running.output / 'log' / f'{name}.log').is_file()


@pytest.mark.slow
@pytest.mark.parametrize('victim', ['encoder_node', 'decoder_node'])
def test_a_node_that_dies(demo, victim):
    """The demo fails with the node's name, and stops the other processes."""
    running = demo()
    children = running.wait_for_children(2)
    [process] = [pid for pid, command in children.items() if victim in command]
    os.kill(process, signal.SIGKILL)
    status, _, errors = running.finish()
    assert status == 1
    assert f'{victim} ended with status -9' in errors
    assert 'Traceback' not in errors
    assert running.children() == {}
    assert not (running.output / 'metrics.json').exists()


@pytest.mark.slow
@pytest.mark.parametrize('number, children', [
    (signal.SIGTERM, 2),    # while the nodes start
    (signal.SIGINT, 3),     # with the player
    (signal.SIGKILL, 3),
])
def test_stopping_the_demo_stops_everything(demo, number, children):
    """Whichever way and whenever it goes, it takes its processes along."""
    running = demo()
    running.wait_for_children(children)
    running.process.send_signal(number)
    status, _, errors = running.finish()
    assert status in (-number, 128 + number)
    assert 'Traceback' not in errors
    running.wait_for_children(0, timeout_s=60)


def test_no_such_bag(demo, tmp_path):
    """A mistyped bag is one line, before anything is started."""
    status, _, errors = demo('--bag', str(tmp_path / 'nowhere')).finish()
    assert status == 1
    assert errors == f'run_demo: {tmp_path / "nowhere"}: no such bag\n'
