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
What the encoder node costs beside its codec, and how soon it delivers.

Three paths code the same frames by turns in one run, so that what else the machine does hits all:

- codec: ``codec.encode`` and the packet, on an RGB array;
- node: from the image message in to the LatentCode handed to the middleware;
- topic: from ``publish`` of the image to the latent in a subscriber, over DDS.

Then the node starts as a process of its own, several times, and the time to its first latent is
taken.

    python3 benchmarks/node_overhead.py --json node_overhead.json
"""
import argparse
import json
import os
from pathlib import Path
import signal
import statistics
import subprocess
import sys
import time

os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import rclpy  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from rclpy.qos import QoSProfile  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402
from std_msgs.msg import Header  # noqa: E402

from auv_image_codec.codecs import encode_packet  # noqa: E402
from auv_image_codec.msg import LatentCode  # noqa: E402
from auv_image_codec.nodes.encoder_node import EncoderNode  # noqa: E402
from auv_image_codec.nodes.image_conversion import rgb_to_image  # noqa: E402

BUDGET_RATIO = 1.15
BUDGET_START_S = 5.0


def natural_picture(width: int, height: int, seed: int) -> np.ndarray:
    """Return smooth colour with some grain, uint8 (height, width, 3)."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width]
    waves = [np.sin(rows / (20 + 9 * c) + seed) + np.cos(columns / (31 + 7 * c)) for c in range(3)]
    noise = generator.normal(0, 6, (height, width, 3))
    return np.clip(np.stack(waves, axis=2) * 50 + 120 + noise, 0, 255).astype(np.uint8)


def spin_until(executor, condition, timeout: float = 30.0) -> None:
    """Run nodes until a condition holds."""
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise SystemExit('node_overhead: nothing arrives')
        executor.spin_once(timeout_sec=0.01)


def measure_overhead(width: int, height: int, frames: int, threads: int) -> dict:
    """Return the median milliseconds of the three paths."""
    rclpy.init(args=[])
    node = EncoderNode(parameter_overrides=[
        Parameter('threads', value=threads), Parameter('image_reliability', value='reliable'),
        Parameter('image_queue_depth', value=10)])
    tester = Node('benchmark')
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    executor.add_node(tester)
    latents = []
    tester.create_subscription(LatentCode, 'latent', latents.append, 10)
    publisher = tester.create_publisher(Image, 'image', QoSProfile(depth=10))
    spin_until(executor, lambda: publisher.get_subscription_count() > 0)

    pictures = [natural_picture(width, height, seed) for seed in range(8)]
    messages = [rgb_to_image(picture, Header()) for picture in pictures]
    camera = node.cameras[0]
    times = {'codec': [], 'node': [], 'topic': []}
    for number in range(frames):
        picture, message = pictures[number % 8], messages[number % 8]
        start = time.perf_counter()
        encode_packet(node.codec, picture, sequence=number)
        times['codec'].append(time.perf_counter() - start)
        start = time.perf_counter()
        node._receive(camera, message)
        times['node'].append(time.perf_counter() - start)
        count = len(latents) + 1  # The one that is on its way, and the next one.
        spin_until(executor, lambda: len(latents) >= count)
        start = time.perf_counter()
        publisher.publish(message)
        spin_until(executor, lambda: len(latents) > count)
        times['topic'].append(time.perf_counter() - start)
    done = node.statistics['camera'].frames_done
    node.destroy_node()
    tester.destroy_node()
    rclpy.shutdown()
    if done != 2 * frames:
        raise SystemExit(f'node_overhead: {done} of {2 * frames} frames were coded')
    warm = frames // 10
    result = {f'{path}_ms': 1e3 * statistics.median(values[warm:])
              for path, values in times.items()}
    # Ratios of neighbours: what slows the machine for a while slows both.
    result['node_over_codec'] = statistics.median(
        node_time / codec_time for node_time, codec_time in zip(times['node'], times['codec']))
    result['topic_over_codec'] = statistics.median(
        topic_time / codec_time for topic_time, codec_time in zip(times['topic'], times['codec']))
    return result


def measure_start(runs: int) -> list:
    """Return the seconds from starting the process to its first latent, for each run."""
    seconds = []
    code = 'import sys; from auv_image_codec.nodes.encoder_node import main; sys.exit(main())'
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(
        filter(None, [str(ROOT), os.environ.get('PYTHONPATH')])))
    for _ in range(runs):
        rclpy.init(args=[])
        tester = Node('benchmark')
        executor = SingleThreadedExecutor()
        executor.add_node(tester)
        latents = []
        tester.create_subscription(LatentCode, 'latent', latents.append, 10)
        publisher = tester.create_publisher(Image, 'image', QoSProfile(depth=1))
        message = rgb_to_image(natural_picture(640, 480, 0), Header())
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, '-c', code, '--ros-args', '--log-level', 'error'], env=environment)

        def publish_and_look() -> bool:
            publisher.publish(message)
            executor.spin_once(timeout_sec=0.02)
            return bool(latents)
        spin_until(executor, publish_and_look, timeout=60.0)
        seconds.append(time.perf_counter() - start)
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)
        tester.destroy_node()
        rclpy.shutdown()
    return seconds


def main() -> int:
    """Measure, print a table, and tell whether the budgets hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('--frames', type=int, default=200)
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--starts', type=int, default=3)
    parser.add_argument('--sizes', nargs='+', default=['224x224', '640x480', '1280x720'])
    parser.add_argument('--json', type=Path, help='write the numbers to this file')
    arguments = parser.parse_args()
    results = {'threads': arguments.threads, 'frames': arguments.frames, 'sizes': {}}
    print('median of a frame       codec ms   node ms  topic ms  node/codec  topic/codec')
    for size in arguments.sizes:
        width, height = map(int, size.split('x'))
        row = measure_overhead(width, height, arguments.frames, arguments.threads)
        results['sizes'][size] = row
        print(f'{size:22} {row["codec_ms"]:9.2f} {row["node_ms"]:9.2f} {row["topic_ms"]:9.2f} '
              f'{row["node_over_codec"]:11.3f} {row["topic_over_codec"]:12.3f}', flush=True)
    results['start_to_first_latent_s'] = measure_start(arguments.starts)
    worst_start = max(results['start_to_first_latent_s'])
    print('start to first latent: '
          + ', '.join(f'{value:.2f} s' for value in results['start_to_first_latent_s']))
    worst = max(row['node_over_codec'] for row in results['sizes'].values())
    results['within_budget'] = worst <= BUDGET_RATIO and worst_start <= BUDGET_START_S
    print(f'budgets: node/codec {worst:.3f} <= {BUDGET_RATIO}, start {worst_start:.2f} s <= '
          f'{BUDGET_START_S} s: {"held" if results["within_budget"] else "MISSED"}')
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + '\n')
    return 0 if results['within_budget'] else 1


if __name__ == '__main__':
    sys.exit(main())
