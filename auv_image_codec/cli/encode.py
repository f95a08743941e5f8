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
"""``auv-image-codec encode``: image files to packet files."""
from __future__ import annotations

import argparse
import math
from pathlib import Path

from auv_image_codec.atomic_write import write_atomically
from auv_image_codec.cli.files import (
    add_codec_arguments, create_output_folder, Failures, find_files, open_codec, output_paths,
    PACKET_SUFFIX, UsageError, with_progress)
from auv_image_codec.errors import BudgetError, RefinementError


def add_parser(subparsers) -> argparse.ArgumentParser:
    """Add the command to the command line, and return its parser."""
    parser = subparsers.add_parser(
        'encode', help='code image files into packet files',
        description='Code images into packets, one .auv file each, which holds the bytes of the '
        'packet and nothing else. Its capture time is the EXIF time of the photograph, else when '
        'the file was last modified; its sequence number counts the images of this run.')
    parser.add_argument(
        'inputs', nargs='+', type=Path, metavar='IMAGE_OR_FOLDER',
        help='image files, or folders with image files (subfolders included)')
    parser.add_argument('-o', '--output', required=True, type=Path, metavar='FOLDER',
                        help='folder for the packet files')
    parser.add_argument('--codec', default='wavelet', metavar='NAME',
                        help='codec to use (default: wavelet)')
    parser.add_argument('--max-bytes', default=500, type=int, metavar='N',
                        help='limit of a whole packet in bytes (default: 500)')
    parser.add_argument('--refine', default=0, type=int, metavar='STEPS',
                        help='packets to try for each image, for a better one of as many bytes, '
                        'some 0.2 s each (default: 0; codec wavelet only)')
    parser.add_argument('--refine-seconds', default=math.inf, type=float, metavar='S',
                        help='end the refinement of an image in time (default: no limit)')
    parser.add_argument('--camera', default=0, type=int, metavar='INDEX',
                        help='camera index to write into the packets, 0 to 7 (default: 0)')
    add_codec_arguments(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Code the images, and return the exit status."""
    if not 0 <= args.camera <= 7:
        raise UsageError(f'--camera must be 0 to 7, not {args.camera}')
    if args.refine < 0 or not args.refine_seconds >= 0:
        raise UsageError('--refine and --refine-seconds must not be negative')
    # Packets of an earlier run may lie beside the images.
    inputs = find_files(args.inputs, lambda path: path.suffix.lower() != PACKET_SUFFIX)
    outputs = output_paths(inputs, args.output, PACKET_SUFFIX)
    create_output_folder(args.output)
    codec = open_codec(args.codec, args.weights, args.device, side='encoder')

    from auv_image_codec.cli.images import load_image
    from auv_image_codec.codecs import encode_packet
    failures = Failures('encode')
    packet_bytes = source_bytes = sequence = 0
    for source, output in with_progress(list(zip(inputs, outputs)), 'image'):
        try:
            image = load_image(source.path)
            height, width = image.pixels.shape[:2]
            packet = encode_packet(
                codec, image.pixels, camera=args.camera, sequence=sequence,
                stamp_ns=image.capture_time_ns, max_bytes=args.max_bytes,
                refinement_steps=args.refine, refinement_seconds=args.refine_seconds)
            write_atomically(output, packet)
        except (BudgetError, RefinementError):
            raise
        # ValueError: an image that cannot be coded, or a capture time that no packet holds.
        except (ValueError, OSError) as error:
            failures.add(source.path, error)
            continue
        sequence += 1
        packet_bytes += len(packet)
        source_bytes += 3 * width * height

    summary = f'{sequence} of {len(inputs)} images coded'
    if sequence:
        width, height = codec.input_size
        summary += (
            f': {packet_bytes} bytes, {packet_bytes / sequence:.1f} bytes a packet, '
            f'{3 * width * height * sequence / packet_bytes:.0f}:1 against {width}x{height} RGB, '
            f'{source_bytes / packet_bytes:.0f}:1 against the images')
    print(summary)
    return 1 if failures.count else 0
