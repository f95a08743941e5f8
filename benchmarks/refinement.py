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
Print what refinement at encode time buys, for how much time.

Each image is coded with more and more steps; gains are means over images, and times ratios to
the plain encoding of the same image in the same run.

    python3 benchmarks/refinement.py --data ../shared/data/eval/val-lsui.tar
"""
import argparse
from pathlib import Path
import sys
import time

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from auv_image_codec.cli.files import run_script, with_progress  # noqa: E402
from auv_image_codec.codecs import create_codec  # noqa: E402
from auv_image_codec.evaluation.metrics import psnr_db  # noqa: E402
from auv_image_codec.evaluation.sources import decode_image, list_images  # noqa: E402
from auv_image_codec.training.data import evenly_spaced  # noqa: E402


def main() -> int:
    """Refine, and print a table a budget."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument('--data', type=Path,
                        default=ROOT.parent / 'shared' / 'data' / 'eval' / 'val-lsui.tar',
                        help='tar file, folder or bag with images (default: %(default)s)')
    parser.add_argument('--images', type=int, default=40,
                        help='so many of them, evenly spaced (default: 40)')
    parser.add_argument('--max-bytes', nargs='+', type=int, default=[100, 500],
                        help='limits of a packet (default: 100 500)')
    parser.add_argument('--steps', nargs='+', type=int, default=[1, 3, 10, 30],
                        help='steps to try (default: 1 3 10 30)')
    args = parser.parse_args()

    codec = create_codec('wavelet')
    pixels = [decode_image(image.read(), codec.input_size[0])
              for image in evenly_spaced(list_images([args.data]), args.images)]
    codec.refine(pixels[0], args.max_bytes[0], 1)       # what is loaded once costs no image
    for max_bytes in args.max_bytes:
        gains, times = [], []
        for image in with_progress(pixels, 'image'):
            began = time.perf_counter()
            latents = [codec.encode(image, max_bytes)]
            seconds = [time.perf_counter() - began]
            for steps in args.steps:
                began = time.perf_counter()
                latents.append(codec.refine(image, max_bytes, steps))
                seconds.append(time.perf_counter() - began)
            plain, *refined = [psnr_db(image, codec.decode(latent, codec.input_size))
                               for latent in latents]
            gains.append(np.array(refined) - plain)
            times.append(seconds)
        gains, times = np.array(gains), np.array(times)
        ratios = np.median(times[:, 1:] / times[:, :1], 0)
        print(f'\n{len(pixels)} images of {args.data.name}, {max_bytes} bytes; an encoding takes '
              f'{1e3 * np.median(times[:, 0]):.0f} ms\n\n'
              '| steps | gain, dB (5th to 95th percentile) | time, encodings |\n|---|---|---|')
        for index, steps in enumerate(args.steps):
            low, high = np.percentile(gains[:, index], [5, 95])
            print(f'| {steps} | {gains[:, index].mean():.2f} ({low:.2f} to {high:.2f}) '
                  f'| {ratios[index]:.0f} |')
    return 0


if __name__ == '__main__':
    run_script(main)
