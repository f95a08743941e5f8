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
Run the whole system on the shipped bag: player, encoder and decoder, a process each, over DDS.

Writes contact_sheet.png, metrics.json and the logs of the processes. Exit status 0 if every frame
arrived in a packet of at most 500 bytes, else 1.
"""
from __future__ import annotations

import argparse
import ctypes
import json
import os
from pathlib import Path
import shutil
import signal
import statistics
import subprocess
import sys
import time

HERE = Path(__file__).resolve().parent
SOURCE_TOPIC = '/camera/image_raw/compressed'
LATENT_TOPIC = '/latent'
RECONSTRUCTED_TOPIC = '/reconstructed/image'
MAX_PACKET_BYTES = 500
CONTACT_SHEET_ROWS = 6
TRIAL_STAMP_NS = 10**9  # no frame of a bag is that old
TRIAL_PERIOD_S = 1.0


class DemoError(Exception):
    """Something that ends the demo early."""


def _die_with_parent() -> None:
    """Have the kernel stop this process when the demo is gone, even if it was killed."""
    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


def find_executable(name: str) -> str:
    """
    Return the path of an installed executable: beside this Python, or of a colcon workspace.

    :raises DemoError: if the package is not installed.
    """
    candidates = [Path(sys.executable).parent / name, Path(sys.prefix) / 'bin' / name]
    for prefix in filter(None, os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep)):
        candidates.append(Path(prefix) / 'lib' / 'auv_image_codec' / name)
    for candidate in candidates:
        if candidate.is_file():
            return str(candidate)
    found = shutil.which(name)
    if not found:
        raise DemoError(f'{name} is not installed: run `make install`, or source the workspace '
                        'that auv_image_codec was built in')
    return found


class Process:
    """A child process with a log file, which never outlives the demo."""

    def __init__(self, name: str, command: list[str], log_folder: Path):
        """Start it, with both its outputs into ``NAME.log``."""
        self.name = name
        self.log = log_folder / f'{name}.log'
        with self.log.open('wb') as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True, preexec_fn=_die_with_parent)

    @property
    def status(self) -> int | None:
        """Exit status, or None while it runs."""
        return self._process.poll()

    def describe_end(self) -> str:
        """Return how it ended, with the end of its log."""
        return f'{self.name} ended with status {self.status}; {self.describe_log()}'

    def describe_log(self) -> str:
        """Return the end of its log."""
        lines = self.log.read_text(errors='replace').splitlines()[-8:]
        return '\n    '.join([f'the log of {self.name} ends with:', *lines])

    def stop(self) -> None:
        """Stop it if it runs: politely, then firmly, with whatever it may have started."""
        for number, patience_s in ((signal.SIGINT, 15), (signal.SIGTERM, 5), (signal.SIGKILL, 5)):
            if self.status is not None:
                return
            os.killpg(self._process.pid, number)
            try:
                self._process.wait(patience_s)
            except subprocess.TimeoutExpired:
                continue


class Recorder:
    """Node that subscribes to everything that the demo measures."""

    def __init__(self, interruption):
        """
        Subscribe; every queue holds the whole demo, so that nothing is lost here.

        :param interruption: the signals that end spin().
        """
        from diagnostic_msgs.msg import DiagnosticArray
        import rclpy
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.qos import QoSProfile, ReliabilityPolicy
        from sensor_msgs.msg import CompressedImage, Image

        from auv_image_codec.msg import LatentCode

        self._rclpy = rclpy
        self._interruption = interruption
        rclpy.init(args=[], signal_handler_options=rclpy.SignalHandlerOptions.NO)
        self.node = rclpy.create_node('demo_recorder')
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self._trial_sent_at = 0.0
        self.trial_returned = False
        self.sources: dict[int, bytes] = {}
        self.latents: dict[int, object] = {}
        self.images: dict[int, object] = {}
        self.seconds: dict[int, float] = {}
        self.diagnostics: dict[str, float] = {}
        self._sent_at: dict[int, float] = {}
        reliable = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)
        for message_type, topic, callback in (
                (CompressedImage, SOURCE_TOPIC, self._on_source),
                (LatentCode, LATENT_TOPIC, self._on_latent),
                (Image, RECONSTRUCTED_TOPIC, self._on_image),
                (DiagnosticArray, '/diagnostics', self._on_diagnostics)):
            self.node.create_subscription(message_type, topic, callback, reliable)
        self._trial_publisher = self.node.create_publisher(CompressedImage, SOURCE_TOPIC, reliable)

    def close(self) -> None:
        """Leave the ROS graph."""
        self._executor.shutdown()
        self.node.destroy_node()
        self._rclpy.try_shutdown()

    @staticmethod
    def stamp_ns(message) -> int:
        """Return a message's stamp in nanoseconds."""
        return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec

    def _on_source(self, message) -> None:
        self.sources[self.stamp_ns(message)] = bytes(message.data)
        self._sent_at[self.stamp_ns(message)] = time.monotonic()

    def _on_latent(self, message) -> None:
        self.latents[self.stamp_ns(message)] = message

    def _on_image(self, message) -> None:
        stamp_ns = self.stamp_ns(message)
        if stamp_ns == TRIAL_STAMP_NS:
            self.trial_returned = True
            return
        self.images[stamp_ns] = message
        if stamp_ns in self._sent_at:
            self.seconds[stamp_ns] = time.monotonic() - self._sent_at[stamp_ns]

    def _on_diagnostics(self, message) -> None:
        for status in message.status:
            for item in status.values:
                try:
                    self.diagnostics[item.key] = float(item.value)
                except ValueError:
                    continue

    def spin(self, seconds: float) -> None:
        """Handle messages for a while, unless the demo is interrupted."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._interruption.check()
            self._executor.spin_once(timeout_sec=left)

    def is_connected(self) -> bool:
        """Return whether encoder, decoder and recorder see all of their topics."""
        node = self.node
        return (node.count_subscribers(SOURCE_TOPIC) >= 2
                and node.count_publishers(LATENT_TOPIC) >= 1
                and node.count_subscribers(LATENT_TOPIC) >= 2
                and node.count_publishers(RECONSTRUCTED_TOPIC) >= 1)

    def send_trial(self, data: bytes) -> None:
        """
        Send an image of the recorder's own, once in a while.

        Seen from here, encoder and decoder are connected before they have found each other; until
        then, what is sent is lost. So nothing but an image that came back says that they are.
        """
        from sensor_msgs.msg import CompressedImage
        if time.monotonic() - self._trial_sent_at < TRIAL_PERIOD_S:
            return
        self._trial_sent_at = time.monotonic()
        message = CompressedImage(format='jpeg', data=data)
        message.header.stamp.sec = TRIAL_STAMP_NS // 10**9
        self._trial_publisher.publish(message)


def check_alive(processes: list[Process]) -> None:
    """
    Do nothing while all processes run.

    :raises DemoError: if one has ended.
    """
    for process in processes:
        if process.status is not None:
            raise DemoError(process.describe_end())


def wait_until_ready(recorder: Recorder, nodes: list[Process], trial: bytes,
                     timeout_s: float) -> None:
    """
    Wait until an image comes through.

    :raises DemoError: if a node ends, or the time is up.
    """
    deadline = time.monotonic() + timeout_s
    while not recorder.trial_returned:
        check_alive(nodes)
        if time.monotonic() > deadline:
            logs = '\n'.join(node.describe_log() for node in nodes)
            raise DemoError(f'no image came through encoder and decoder in {timeout_s:g} s\n{logs}')
        if recorder.is_connected():
            recorder.send_trial(trial)
        recorder.spin(0.1)


def record(recorder: Recorder, player: Process, nodes: list[Process], frames: int,
           idle_s: float) -> None:
    """
    Record until every frame has come back, or none has come for a while after playing.

    :raises DemoError: if a process fails.
    """
    from tqdm import tqdm
    quiet_since = time.monotonic()
    with tqdm(total=frames, unit='frame', desc='reconstructed', file=sys.stdout,
              mininterval=0.1 if sys.stdout.isatty() else 2) as bar:
        while len(recorder.images) < frames:
            recorder.spin(0.1)
            arrived = len(recorder.images) - bar.n
            bar.update(arrived)
            check_alive(nodes)
            if player.status not in (None, 0):
                raise DemoError(player.describe_end())
            if player.status is None or arrived:
                quiet_since = time.monotonic()
            elif time.monotonic() - quiet_since > idle_s:
                return
        bar.update(len(recorder.images) - bar.n)


def run_processes(args: argparse.Namespace, frames: int, trial: bytes, interruption) -> Recorder:
    """
    Run encoder, decoder and player, and return what was recorded.

    :param trial: image file to find out with that images come through.
    :param interruption: the signals that end it.

    :raises DemoError: if that fails.
    """
    log_folder = args.output / 'log'
    log_folder.mkdir(parents=True, exist_ok=True)
    recorder = Recorder(interruption)
    processes: list[Process] = []

    def start(name: str, *command: str) -> Process:
        processes.append(Process(name, [find_executable(command[0]), *command[1:]], log_folder))
        return processes[-1]

    try:
        # Queues for the whole bag in place of "newest frame wins": here no frame may be lost,
        # however busy the machine is.
        nodes = [
            start('encoder_node', 'encoder_node', '--ros-args',
                  '-r', f'image/compressed:={SOURCE_TOPIC}',
                  '-p', 'transport:=compressed',
                  '-p', 'image_reliability:=reliable', '-p', f'image_queue_depth:={frames}',
                  '-p', f'qos_overrides.{LATENT_TOPIC}.publisher.depth:={frames}'),
            start('decoder_node', 'decoder_node', '--ros-args',
                  '-p', f'qos_overrides.{LATENT_TOPIC}.subscription.depth:={frames}',
                  '-p', f'qos_overrides.{RECONSTRUCTED_TOPIC}.publisher.depth:={frames}')]
        print('starting encoder_node and decoder_node ...', flush=True)
        wait_until_ready(recorder, nodes, trial, args.start_timeout)
        player = start('player', 'auv-image-codec', 'play', str(args.bag), '--topics',
                       SOURCE_TOPIC, '--rate', str(args.rate), '--qos', 'reliable',
                       '--wait-for-subscribers', '2')
        record(recorder, player, nodes, frames, args.idle_timeout)
        # The nodes publish diagnostics once a second: wait for the final ones, with the trial.
        deadline = time.monotonic() + 5
        while (time.monotonic() < deadline
               and recorder.diagnostics.get('frames_decoded', 0) <= len(recorder.images)):
            recorder.spin(0.1)
        deadline = time.monotonic() + 15
        while player.status is None and time.monotonic() < deadline:
            recorder.spin(0.1)
        check_alive(nodes)
        if player.status is None:
            raise DemoError('the player did not end')
    finally:
        for process in reversed(processes):
            process.stop()
        recorder.close()
    for process in processes:
        if process.status != 0:
            raise DemoError(process.describe_end())
    return recorder


def packet_of(codec, message) -> bytes:
    """
    Return the packet of a LatentCode, as it would cross the link.

    :raises DemoError: if the latent does not come out of the packet as it went in.
    """
    import numpy as np

    from auv_image_codec.codecs.packet import build_packet, PacketHeader, parse_packet
    latent = np.array(message.latent, np.uint8)
    header = PacketHeader(
        codec=message.codec, model_id=message.model_id, camera=0, sequence=message.sequence % 256,
        stamp_ns=Recorder.stamp_ns(message), width=message.image_width,
        height=message.image_height)
    packet = build_packet(header, codec.payload_from_latent(latent))
    _, payload = parse_packet(packet, [codec.model_id])
    if not np.array_equal(codec.latent_from_payload(payload), latent):
        raise DemoError(f'frame {message.sequence}: its packet decodes to another latent')
    return packet


def image_array(message):
    """Return an rgb8 or bgr8 sensor_msgs/Image as a uint8 array, RGB."""
    import numpy as np
    rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)
    pixels = rows[:, :3 * message.width].reshape(message.height, message.width, 3)
    if message.encoding not in ('rgb8', 'bgr8'):
        raise DemoError(f'a reconstruction of encoding {message.encoding}')
    return pixels if message.encoding == 'rgb8' else pixels[:, :, ::-1]


def evaluate(recorder: Recorder, stamps: list[int], args: argparse.Namespace,
             interruption) -> dict:
    """Measure what was recorded, draw the contact sheet, and return the metrics."""
    import io

    import numpy as np
    from PIL import Image

    from auv_image_codec.codecs import create_codec
    from auv_image_codec.evaluation.contact_sheet import ContactSheetRow, write_contact_sheet
    from auv_image_codec.evaluation.metrics import psnr_db

    codec = create_codec(side='decoder')

    def source_pixels(stamp_ns: int):
        return np.array(Image.open(io.BytesIO(recorder.sources[stamp_ns])).convert('RGB'))

    def at_codec_size(pixels):
        return np.array(Image.fromarray(pixels).resize(codec.input_size, Image.LANCZOS))

    sizes = {stamp: len(packet_of(codec, recorder.latents[stamp]))
             for stamp in stamps if stamp in recorder.latents}
    arrived = [stamp for stamp in stamps if stamp in recorder.images and stamp in sizes
               and stamp in recorder.sources]
    psnr, source_values = {}, 0
    for stamp in arrived:
        interruption.check()
        source = source_pixels(stamp)
        reconstruction = image_array(recorder.images[stamp])
        if source.shape != reconstruction.shape:
            raise DemoError(f'a reconstruction of shape {reconstruction.shape} for a source of '
                            f'shape {source.shape}')
        psnr[stamp] = psnr_db(at_codec_size(source), at_codec_size(reconstruction))
        source_values += source.size
    if not arrived:
        raise DemoError('no frame arrived')

    shown = [arrived[round(i * (len(arrived) - 1) / (CONTACT_SHEET_ROWS - 1))]
             for i in range(CONTACT_SHEET_ROWS)]
    rows = [ContactSheetRow(source_pixels(stamp), image_array(recorder.images[stamp]),
                            f'frame {stamps.index(stamp)}\n{sizes[stamp]} bytes\n'
                            f'{psnr[stamp]:.2f} dB') for stamp in sorted(set(shown))]
    mean_bytes = statistics.mean(sizes.values())
    mean_psnr_db = statistics.mean(psnr.values())
    width, height = codec.input_size
    write_contact_sheet(
        args.output / 'contact_sheet.png', rows,
        f'{args.bag.name}: {codec.name}, {mean_bytes:.0f} bytes a frame, '
        f'PSNR {mean_psnr_db:.2f} dB at {width}x{height}')
    return {
        'bag': args.bag.name,
        'codec': codec.name,
        'model_id': f'{codec.model_id:08x}',
        'frames_sent': len(stamps),
        'latents_received': len(sizes),
        'frames_received': len(arrived),
        'min_packet_bytes': min(sizes.values()),
        'mean_packet_bytes': mean_bytes,
        'max_packet_bytes': max(sizes.values()),
        'ratio': 3 * width * height / mean_bytes,
        'ratio_source': source_values / len(arrived) / mean_bytes,
        'mean_psnr_db': mean_psnr_db,
        'min_psnr_db': min(psnr.values()),
        'encode_ms': recorder.diagnostics.get('encode_ms_mean'),
        'decode_ms': recorder.diagnostics.get('decode_ms_mean'),
        'latency_ms': (statistics.median(recorder.seconds.values()) * 1e3
                       if recorder.seconds else None),
    }


def print_table(metrics: dict) -> None:
    """Print what a reader wants to know."""
    def number(value: float | None, form: str) -> str:
        return 'not reported' if value is None else format(value, form)

    rows = [
        ('frames sent', str(metrics['frames_sent'])),
        ('frames received', str(metrics['frames_received'])),
        ('bytes a frame, whole packet (mean)', number(metrics['mean_packet_bytes'], '.1f')),
        ('bytes a frame, whole packet (most)', str(metrics['max_packet_bytes'])),
        ('ratio against 224x224 RGB', number(metrics['ratio'], '.0f') + ':1'),
        ('ratio against the source frame', number(metrics['ratio_source'], '.0f') + ':1'),
        ('PSNR at 224x224, mean (dB)', number(metrics['mean_psnr_db'], '.2f')),
        ('encode (ms)', number(metrics['encode_ms'], '.1f')),
        ('decode (ms)', number(metrics['decode_ms'], '.1f')),
        ('camera message to reconstruction (ms)', number(metrics['latency_ms'], '.1f')),
    ]
    width = max(len(name) for name, _ in rows)
    print()
    for name, value in rows:
        print(f'  {name:{width}}  {value:>12}')
    print()


def problems_of(metrics: dict) -> list[str]:
    """Return what went wrong, in words; nothing is what the demo is for."""
    problems = []
    lost = metrics['frames_sent'] - metrics['frames_received']
    if lost:
        problems.append(f'{lost} of {metrics["frames_sent"]} frames were lost')
    if metrics['max_packet_bytes'] > MAX_PACKET_BYTES:
        problems.append(f'a packet has {metrics["max_packet_bytes"]} bytes, more than '
                        f'{MAX_PACKET_BYTES}')
    return problems


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0].strip())
    parser.add_argument('--bag', type=Path, default=HERE / 'robosub_gate',
                        help='bag with compressed images on ' + SOURCE_TOPIC)
    parser.add_argument('--output', type=Path, default=Path('demo_output'), help='output folder')
    parser.add_argument('--rate', type=float, default=1.0, help='speed of playing')
    parser.add_argument('--domain-id', type=int, default=20 + os.getpid() % 80,
                        help='ROS_DOMAIN_ID, so that the demo meets no other nodes')
    parser.add_argument('--start-timeout', type=float, default=120, metavar='S',
                        help='seconds that the nodes may take to start')
    parser.add_argument('--idle-timeout', type=float, default=30, metavar='S',
                        help='seconds to wait for another frame when all are played')
    return parser.parse_args()


def main() -> int:
    """Run the demo, and return its exit status."""
    args = parse_arguments()
    # For the children too; before ROS is imported here.
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    os.environ['ROS_DOMAIN_ID'] = str(args.domain_id)
    os.environ['PYTHONUNBUFFERED'] = '1'
    try:
        from auv_image_codec.cli.interruption import Interruption
        interruption = Interruption(signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        import rclpy  # noqa: F401

        from auv_image_codec.errors import AuvImageCodecError
        from auv_image_codec.evaluation.bags import read_compressed_images
        import auv_image_codec.msg  # noqa: F401
    except ImportError as error:
        print(f'run_demo: auv_image_codec is not installed ({error}): run `make install`',
              file=sys.stderr)
        return 1
    try:
        images = list(read_compressed_images(args.bag, SOURCE_TOPIC))
        if not images:
            raise DemoError(f'{args.bag}: no message on {SOURCE_TOPIC}')
        stamps = [image.stamp_ns for image in images]
        args.output.mkdir(parents=True, exist_ok=True)
        recorder = run_processes(args, len(stamps), images[0].data, interruption)
        metrics = evaluate(recorder, stamps, args, interruption)
    except KeyboardInterrupt:
        print(f'\nrun_demo: stopped by signal {interruption.number}', file=sys.stderr)
        return 128 + interruption.number
    except (DemoError, AuvImageCodecError, OSError) as error:
        print(f'run_demo: {error}', file=sys.stderr)
        return 1
    problems = problems_of(metrics)
    metrics['problems'] = problems
    (args.output / 'metrics.json').write_text(json.dumps(metrics, indent=2) + '\n')
    print_table(metrics)
    print(f'{args.output / "contact_sheet.png"}: source, reconstruction, error\n'
          f'{args.output / "metrics.json"}: these numbers')
    for problem in problems:
        print(f'run_demo: {problem}', file=sys.stderr)
    return 1 if problems else 0


if __name__ == '__main__':
    sys.exit(main())
