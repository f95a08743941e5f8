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
"""``auv-image-codec evaluate``: how good codecs are on your images."""
from __future__ import annotations

import argparse
from pathlib import Path

from auv_image_codec.cli.files import (
    add_codec_arguments, create_output_folder, Failures, open_codec, print_error, UsageError,
    with_progress)


def add_parser(subparsers) -> argparse.ArgumentParser:
    """Add the command to the command line, and return its parser."""
    parser = subparsers.add_parser(
        'evaluate', help='measure codecs on images: table, plots, contact sheet',
        description='Send every image through codecs under one packet limit, and compare what '
        'comes out: MSE, PSNR, SSIM, MS-SSIM, LPIPS, bytes and times (docs/metrics.md). JPEG, '
        'WebP, AVIF and HEIC get the header and checks of our packets added to their files, and '
        'may choose their best size and quality. The output folder gets results.json, '
        'per_image.csv, rate_distortion.png, per_image.png and contact_sheet.png. A run that was '
        'stopped goes on when it is called again.')
    parser.add_argument(
        'sources', nargs='+', type=Path, metavar='SOURCE',
        help='folders with images, tar files of images, bags, or image files')
    parser.add_argument('-o', '--output', required=True, type=Path, metavar='FOLDER',
                        help='folder for the results')
    parser.add_argument(
        '--codecs', nargs='+', metavar='NAME',
        help='what to compare: wavelet, autoencoder, wavelet-enhanced, autoencoder-enhanced '
        '(synthesised detail), wavelet-refined, jpeg, webp, avif, heic; avif and heic give a '
        'second row each, -payload, in which their container is not counted (default: all that '
        'are available but wavelet-refined, which takes seconds an image)')
    parser.add_argument('--enhancer-weights', type=Path, metavar='FOLDER',
                        help='folder with the weights of the enhancer (default: the ones that '
                        'come with the package)')
    parser.add_argument('--max-bytes', default=500, type=int, metavar='N',
                        help='limit of a whole packet in bytes (default: 500)')
    parser.add_argument('--rates', nargs='+', default=[], type=int, metavar='N',
                        help='more limits, for the rate-distortion plot')
    parser.add_argument('--limit', type=int, metavar='N', help='evaluate the first N images only')
    parser.add_argument(
        '--size', default=224, type=int, metavar='PIXELS',
        help='resample images to so many pixels a side first, and take errors there (default: '
        '%(default)s)')
    parser.add_argument('--topic', help='topic of bags (default: all of images, compressed or raw)')
    parser.add_argument('--fresh', action='store_true',
                        help='start anew where the output folder holds an evaluation')
    parser.add_argument('--update', action='store_true',
                        help='where it holds one with other codecs or weights, keep the results '
                        'of those that are the same')
    add_codec_arguments(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Evaluate, and return the exit status."""
    for name in ('max_bytes', 'limit', 'size'):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise UsageError(f'--{name.replace("_", "-")} must be at least 1, not {value}')
    try:
        from auv_image_codec.evaluation.evaluate import (
            Evaluation, format_table, SettingsError, table_notes, write_figures)
        import torchmetrics.functional.image  # noqa: F401
    except ImportError as error:
        raise UsageError(f'evaluate needs a package that is not installed: {error}') from error
    from auv_image_codec.codecs.packet import LARGEST_PACKET_BYTES, OVERHEAD_BYTES
    from auv_image_codec.evaluation.contenders import open_contenders
    from auv_image_codec.evaluation.sources import list_images, SourceError
    rates = sorted({args.max_bytes, *args.rates})
    if not OVERHEAD_BYTES < rates[0] <= rates[-1] <= LARGEST_PACKET_BYTES:
        raise UsageError(f'limits must be {OVERHEAD_BYTES + 1} to {LARGEST_PACKET_BYTES} bytes')
    try:
        images = list_images(args.sources, args.limit, args.topic)
    except SourceError as error:
        raise UsageError(str(error)) from error
    create_output_folder(args.output)
    contenders, unavailable = open_contenders(
        args.codecs, lambda name: open_codec(name, args.weights, args.device, side='both'),
        args.enhancer_weights, args.device)
    for name, reason in unavailable.items():
        print_error(f'evaluate: without {name}: {reason}')

    try:
        evaluation = Evaluation(images, contenders, args.output, rates, args.size, args.fresh,
                                args.update)
    except SettingsError as error:
        raise UsageError(str(error)) from error
    if evaluation.done:
        print(f'{evaluation.done} of {len(images)} images were evaluated before')
    failures = Failures('evaluate')
    results = evaluation.run(lambda name, reason: failures.add(Path(name), reason),
                             lambda items: with_progress(items, 'image'))
    title = ', '.join(path.resolve().stem for path in args.sources[:3])
    figures = write_figures(evaluation, results, title + (', ...' if args.sources[3:] else ''))
    print(f'{len(images) - failures.count} of {len(images)} images evaluated')
    print(format_table(results.summary))
    print(table_notes(results.summary, args.size))
    print(f'{args.output}: results.json, per_image.csv, '
          + ', '.join(path.name for path in figures))
    return 1 if failures.count else 0
