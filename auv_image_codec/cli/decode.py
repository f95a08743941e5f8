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
"""``auv-image-codec decode``: packet files to PNG images."""
from __future__ import annotations

import argparse
from collections.abc import Callable
import io
from pathlib import Path
import re
from typing import Any

from auv_image_codec.atomic_write import write_atomically
from auv_image_codec.cli.files import (
    add_codec_arguments, create_output_folder, Failures, find_files, open_codec, output_paths,
    PACKET_SUFFIX, UsageError, with_progress)
from auv_image_codec.errors import AuvImageCodecError, WeightsError

LARGEST_SIDE = 16384  # As in packets.

# Written into our PNG files, and looked for before one is replaced.
SOFTWARE = 'auv-image-codec decode'
# And into enhanced ones.
SYNTHESISED = 'Detail in this image is synthesised: it was not sent, and need not be there.'


def _size(text: str) -> tuple[int, int]:
    """Parse WIDTHxHEIGHT."""
    match = re.fullmatch(r'(\d+)[xX](\d+)', text)
    size = (int(match[1]), int(match[2])) if match else (0, 0)
    if not all(1 <= side <= LARGEST_SIDE for side in size):
        raise argparse.ArgumentTypeError(
            f'{text!r} is not a size: give WIDTHxHEIGHT in pixels, as in 640x480, each at most '
            f'{LARGEST_SIDE}')
    return size


def add_parser(subparsers) -> argparse.ArgumentParser:
    """Add the command to the command line, and return its parser."""
    parser = subparsers.add_parser(
        'decode', help='turn packet files into PNG images',
        description='Turn packets back into images, one PNG file each, at the size of the camera '
        'image. A packet that fails a check gives no image.')
    parser.add_argument(
        'inputs', nargs='+', type=Path, metavar='FILE_OR_FOLDER',
        help='packet files, or folders with .auv files (subfolders included)')
    parser.add_argument('-o', '--output', required=True, type=Path, metavar='FOLDER',
                        help='folder for the images')
    parser.add_argument('--size', type=_size, metavar='WxH',
                        help='size of the images in pixels (default: as the camera image)')
    parser.add_argument('--enhance', action='store_true',
                        help='also write NAME.enhanced.png, with detail that is synthesised: it '
                        'was not sent, and need not be there')
    parser.add_argument('--enhancer-weights', type=Path, metavar='FOLDER',
                        help='folder with the weights of the enhancer (default: the ones that '
                        'come with the package)')
    parser.add_argument('--overwrite', action='store_true',
                        help='also replace PNG files that this command did not write')
    add_codec_arguments(parser)
    return parser


def _is_ours(path: Path) -> bool:
    """Return whether a file is a PNG that this command wrote."""
    from PIL import Image
    try:
        with Image.open(path) as image:
            return image.info.get('Software') == SOFTWARE
    except Exception:
        return False


def _png(pixels, capture_time_ns: int, comment: str = '') -> bytes:
    """Return the bytes of a PNG file."""
    from datetime import datetime, timezone

    from PIL import Image, PngImagePlugin
    notes = PngImagePlugin.PngInfo()
    notes.add_text('Software', SOFTWARE)
    time = datetime.fromtimestamp(capture_time_ns // 10**6 / 1000, timezone.utc)
    notes.add_text('Creation Time', time.isoformat(timespec='milliseconds'))
    if comment:
        notes.add_text('Comment', comment)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format='PNG', pnginfo=notes)
    return buffer.getvalue()


class _Loaded:
    """What a function loads by the name of a codec, each once."""

    def __init__(self, load: Callable[[str], Any]):
        self._load = load
        self._loaded: dict = {}

    def get(self, name: str):
        """Return what was loaded; where weights failed to load, raise the same error again."""
        if name not in self._loaded:
            try:
                self._loaded[name] = self._load(name)
            except WeightsError as error:
                self._loaded[name] = error
        if isinstance(self._loaded[name], WeightsError):
            raise self._loaded[name]
        return self._loaded[name]


def _enhanced_paths(inputs: list, outputs: list[Path], folder: Path) -> list[Path]:
    """Return where the enhanced images go, all different from each other and the outputs."""
    enhanced = output_paths(inputs, folder, '.enhanced.png')
    taken = {str(path).casefold() for path in outputs}
    for path in enhanced:
        if str(path).casefold() in taken:
            raise UsageError(f'{path} would be the image of one packet and the enhanced image of '
                             'another: decode them into different folders')
    return enhanced


def run(args: argparse.Namespace) -> int:
    """Decode the packets, and return the exit status."""
    inputs = find_files(args.inputs, lambda path: path.suffix.lower() == PACKET_SUFFIX)
    outputs = output_paths(inputs, args.output, '.png')
    enhanced = (_enhanced_paths(inputs, outputs, args.output) if args.enhance
                else [None] * len(inputs))
    create_output_folder(args.output)

    from auv_image_codec.codecs import decode_packet
    from auv_image_codec.codecs.enhancer import Enhancer
    from auv_image_codec.codecs.packet import read_header
    codecs = _Loaded(lambda name: open_codec(name, args.weights, args.device, 'decoder'))
    enhancers = _Loaded(lambda name: Enhancer(codecs.get(name), args.enhancer_weights,
                                              args.device))
    failures = Failures('decode')
    packet_bytes = image_bytes = images = 0
    for source, output, enhanced_output in with_progress(
            list(zip(inputs, outputs, enhanced)), 'packet'):
        try:
            packet = source.path.read_bytes()
            header, pixels = decode_packet(
                codecs.get(read_header(packet).codec), packet, size=args.size)
            kept = next((path for path in filter(None, (output, enhanced_output))
                         if path.exists() and not args.overwrite and not _is_ours(path)), None)
            if kept:
                failures.add(source.path, f'{kept} exists and is not one of our images: '
                             'choose another folder, or give --overwrite')
                continue
            write_atomically(output, _png(pixels, header.stamp_ns))
            if enhanced_output:
                write_atomically(enhanced_output, _png(
                    enhancers.get(header.codec).enhance_packet(packet, args.size),
                    header.stamp_ns, SYNTHESISED))
        except (AuvImageCodecError, OSError) as error:
            failures.add(source.path, error)
            continue
        images += 1
        packet_bytes += len(packet)
        image_bytes += pixels.size

    summary = f'{images} of {len(inputs)} packets decoded'
    if images:
        summary += (f': {packet_bytes} bytes, {packet_bytes / images:.1f} bytes a packet, '
                    f'{image_bytes / packet_bytes:.0f}:1 against the images')
    print(summary)
    return 1 if failures.count else 0
