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
How far a fixed vector of so many numbers goes, and what it leaves out: docs/autoencoder.md.

Principal components of the training images are the best that a linear map can do with so many
numbers. Beside them: as many wavelet coefficients, those that are largest in each image, which
no packet could hold without also saying which they are; and what whole packets reach.

    python3 benchmarks/fixed_vector.py --data ../shared/data
"""
import argparse
from pathlib import Path
import sys

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402

from auv_image_codec.cli.files import open_codec, print_error, run_script  # noqa: E402
from auv_image_codec.evaluation.contenders import open_contenders  # noqa: E402
from auv_image_codec.networks.autoencoder import (  # noqa: E402
    AutoencoderDecoder, AutoencoderEncoder, DECODER_CHANNELS, INPUT_SIZE)
from auv_image_codec.networks.wavelet_transform import principal_analysis, synthesis  # noqa: E402
from auv_image_codec.training.closed_form import start_from_principal_components  # noqa: E402
from auv_image_codec.training.data import as_network_input, ImageArray, load_shard  # noqa: E402

BAND_EDGES = (0, 7, 14, 28, 56, 112, 224)   # of the cosine transform's indices, an octave each


class Components:
    """
    Principal components of training images, by the networks that training starts with.

    :param training: the images.
    :param count: of components.
    """

    def __init__(self, training: list[ImageArray], count: int):
        self._encoder = AutoencoderEncoder(count, DECODER_CHANNELS)
        self._decoder = AutoencoderDecoder(count)
        start_from_principal_components(self._encoder, self._decoder, training, seed=0)

    @torch.inference_mode()
    def restored(self, image: np.ndarray, count: int) -> np.ndarray:
        """Return an image, float [224, 224, 3], from its first so many components."""
        latent = self._encoder(_input(image))
        latent[:, count:] = 0
        return _image(self._decoder(latent))


@torch.inference_mode()
def largest_coefficients(image: np.ndarray, count: int) -> np.ndarray:
    """Return an image, float [224, 224, 3], from its largest so many wavelet coefficients."""
    levels, bases = principal_analysis(_input(image))
    least = torch.cat([level.abs().flatten() for level in levels]).topk(count).values[-1]
    kept = [level * (level.abs() >= least) for level in levels]
    return _image(synthesis(kept, bases, *image.shape[:2]))


def _input(image: np.ndarray) -> torch.Tensor:
    return as_network_input(torch.from_numpy(np.array(image))[None])


def _image(output: torch.Tensor) -> np.ndarray:
    return output[0].permute(1, 2, 0).clamp(0, 1).numpy()


def _mean_psnr_db(errors: list[np.ndarray]) -> float:
    return float(np.mean([-10 * np.log10(np.square(error).mean()) for error in errors]))


def _band_energies(errors: list[np.ndarray]) -> np.ndarray:
    """Return the mean squared value of errors [H, W, 3] in each octave; they add up to the MSE."""
    rows, columns = np.mgrid[:INPUT_SIZE, :INPUT_SIZE]
    band = np.digitize(np.maximum(rows, columns), BAND_EDGES) - 1
    energies = np.zeros(len(BAND_EDGES) - 1)
    for error in errors:
        for channel in range(3):
            energy = np.square(cv2.dct(np.ascontiguousarray(error[..., channel], np.float32)))
            energies += np.bincount(band.ravel(), energy.ravel(), len(energies))
    return energies / (len(errors) * errors[0].size)


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument('--data', type=Path, default=ROOT.parent / 'shared' / 'data',
                        help='folder with train and eval (default: %(default)s)')
    parser.add_argument('--set', default='eval/test-uieb-challenging.tar',
                        help='images to measure (default: %(default)s)')
    parser.add_argument('--train', nargs='+', help='images to find components in',
                        default=[f'train/train-000{number}.tar' for number in range(3)])
    parser.add_argument('--decoded', type=Path, default=ROOT / 'runs' / 'decoded',
                        help='folder of decoded shards (default: %(default)s)')
    parser.add_argument('--counts', nargs='+', type=int, default=[125, 250, 500, 1000],
                        help='of numbers a vector (default: %(default)s)')
    parser.add_argument('--numbers', type=int, default=500,
                        help="the count of the second table (default: %(default)s, the codec's)")
    args = parser.parse_args()
    counts = sorted({*args.counts, args.numbers})

    training = [load_shard(args.data / name, INPUT_SIZE, args.decoded) for name in args.train]
    images = load_shard(args.data / args.set, INPUT_SIZE, args.decoded).images
    originals = [image / np.float32(255) for image in images]
    components = Components(training, counts[-1])

    print(f'{len(images)} images of {args.set}, PSNR in dB, means over images.\n')
    print('| numbers, as floats | ' + ' | '.join(map(str, counts)) + ' |')
    print('|---' * (len(counts) + 1) + '|')
    left = {'the images, less their mean colour': [
        original - original.mean((0, 1)) for original in originals]}

    def show(name, restore, keep=False):
        values = []
        for count in counts:
            errors = [restore(image, count) - image / np.float32(255) for image in images]
            values.append(_mean_psnr_db(errors))
            if keep and count == args.numbers:
                left[f'{count} {name}'] = errors
        print(f'| {name} | ' + ' | '.join(f'{value:.2f}' for value in values) + ' |', flush=True)

    show('principal components', components.restored, keep=True)
    if len(training) > 1:
        show(f'principal components of {len(training[0]):,} images instead of '
             f'{sum(map(len, training)):,}', Components(training[:1], counts[-1]).restored)
    show('largest wavelet coefficients of each image', largest_coefficients, keep=True)

    contenders, unavailable = open_contenders(
        ['autoencoder', 'webp', 'wavelet'], lambda name: open_codec(name, None, 'cpu', 'both'))
    for name, reason in unavailable.items():
        print_error(f'without {name}: {reason}')
    for contender in contenders:
        coded = [next(iter(contender.code(np.ascontiguousarray(image), [500])))
                 for image in images]
        left[f'{contender.rows[0]}, 500 bytes'] = [
            item.image / np.float32(255) - original for item, original in zip(coded, originals)]

    print('\nSquared error times 10^5, by the period of the detail in pixels.\n')
    periods = [f'{2 * INPUT_SIZE // high} to {2 * INPUT_SIZE // low}' if low else
               f'over {2 * INPUT_SIZE // high}' for low, high in zip(BAND_EDGES, BAND_EDGES[1:])]
    print('| | ' + ' | '.join(periods) + ' | all | PSNR, dB |')
    print('|---' * (len(periods) + 3) + '|')
    for name, errors in left.items():
        bands = 1e5 * _band_energies(errors)
        print(f'| {name} | ' + ' | '.join(f'{band:.1f}' for band in bands)
              + f' | {bands.sum():.0f} | {_mean_psnr_db(errors):.2f} |')
    return 0


if __name__ == '__main__':
    run_script(main)
