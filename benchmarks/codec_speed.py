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
Print how many images a second each codec encodes and decodes, with one thread and with more.

All images take turns in one run; of some rounds the fastest counts for each, since whatever else
the machine does can only add to a time.

    python3 benchmarks/codec_speed.py --data ../shared/data/eval/val-lsui.tar
"""
import argparse
from pathlib import Path
import sys
import time

import numpy as np
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from auv_image_codec.cli.files import run_script, with_progress  # noqa: E402
from auv_image_codec.codecs import codec_names, create_codec, DEFAULT_CODEC  # noqa: E402
from auv_image_codec.codecs.base import Codec  # noqa: E402
from auv_image_codec.evaluation.sources import decode_image, list_images  # noqa: E402
from auv_image_codec.training.data import evenly_spaced  # noqa: E402


def measure(codecs: dict[str, Codec], images: list[np.ndarray], threads: list[int], rounds: int,
            max_bytes: int) -> dict[tuple[str, str, int], np.ndarray]:
    """Return the seconds that each image takes, by codec, direction and threads."""
    seconds = {(name, what, count): np.full(len(images), np.inf)
               for name in codecs for what in ('encode', 'decode') for count in threads}
    for _ in with_progress(range(rounds), 'round'):
        for count in threads:
            torch.set_num_threads(count)
            for index, image in enumerate(images):
                for name, codec in codecs.items():
                    began = time.perf_counter()
                    latent = codec.encode(image, max_bytes)
                    middle = time.perf_counter()
                    codec.decode(latent, codec.input_size)
                    for what, spent in (('encode', middle - began),
                                        ('decode', time.perf_counter() - middle)):
                        best = seconds[name, what, count]
                        best[index] = min(best[index], spent)
    return seconds


def main() -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument(
        '--data', type=Path,
        default=ROOT.parent / 'shared' / 'data' / 'eval' / 'test-uieb-challenging.tar',
        help='tar file, folder or bag with images (default: %(default)s)')
    parser.add_argument('--images', type=int, default=1000,
                        help='at most so many of them, evenly spaced (default: 1000)')
    parser.add_argument('--threads', nargs='+', type=int, default=[1, 2],
                        help='numbers of threads to try (default: 1 2)')
    parser.add_argument('--rounds', type=int, default=3, help='over all images (default: 3)')
    parser.add_argument('--max-bytes', type=int, default=500,
                        help='limit of a packet (default: 500)')
    args = parser.parse_args()

    codecs = {name: create_codec(name) for name in codec_names()}
    images = [decode_image(image.read(), codecs[DEFAULT_CODEC].input_size[0])
              for image in evenly_spaced(list_images([args.data]), args.images)]
    seconds = measure(codecs, images, args.threads, args.rounds, args.max_bytes)
    print(f'\n{len(images)} images of {args.data.name}, packets of at most {args.max_bytes} '
          'bytes\n\n| codec | | threads | images a second | slowest image, ms | times as fast |\n'
          '|---|---|---|---|---|---|')
    for (name, what, count), spent in seconds.items():
        ratio = seconds[name, what, args.threads[0]].sum() / spent.sum()
        print(f'| {name} | {what} | {count} | {len(spent) / spent.sum():.1f} '
              f'| {1e3 * spent.max():.0f} | {ratio:.2f} |')
    return 0


if __name__ == '__main__':
    run_script(main)
