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
"""``auv-image-codec bag``: image files to a rosbag2 bag."""
from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path

from auv_image_codec.cli.files import (
    Failures, find_files, InputFile, UsageError, with_progress)
from auv_image_codec.errors import InvalidImageError


def _time_ns(text: str) -> int:
    """Parse an ISO 8601 time; without a time zone it is UTC. Return nanoseconds since 1970."""
    try:
        # Python before 3.11 does not read the Z.
        time = datetime.fromisoformat(text[:-1] + '+00:00' if text.endswith('Z') else text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f'{text!r} is not an ISO 8601 time, as in 2026-05-01T12:00:00Z') from None
    if time.tzinfo is None:
        time = time.replace(tzinfo=timezone.utc)
    return round(time.timestamp() * 1000) * 10**6


def _note(text: str) -> tuple[str, str]:
    """Parse KEY=TEXT."""
    key, separator, value = text.partition('=')
    if not separator or not key:
        raise argparse.ArgumentTypeError(f'{text!r} is not KEY=TEXT')
    return key, value


def add_parser(subparsers) -> argparse.ArgumentParser:
    """Add the command to the command line, and return its parser."""
    parser = subparsers.add_parser(
        'bag', help='turn image files into a bag',
        description='Write images, in the order of their names, as a rosbag2 bag (mcap) of '
        'sensor_msgs/msg/CompressedImage. JPEG and PNG files go in byte by byte; others are '
        'written as PNG.')
    parser.add_argument(
        'inputs', nargs='+', type=Path, metavar='IMAGE_OR_FOLDER',
        help='image files, or folders with image files (subfolders included)')
    parser.add_argument('-o', '--output', required=True, type=Path, metavar='BAG',
                        help='folder to create for the bag')
    parser.add_argument(
        '--topic', default='/camera/image_raw/compressed',
        help='topic of the images (default: %(default)s)')
    parser.add_argument('--frame-id', default='camera_optical_frame',
                        help='frame_id in the headers (default: %(default)s)')
    parser.add_argument('--fps', default=10.0, type=float,
                        help='images a second (default: %(default)g)')
    parser.add_argument(
        '--start', type=_time_ns, metavar='TIME',
        help='time of the first image, ISO 8601 (default: when it was taken or last modified)')
    parser.add_argument(
        '--note', action='append', default=[], type=_note, metavar='KEY=TEXT',
        help='entry for custom_data in metadata.yaml, such as the source and licence of the '
        'images; may be repeated')
    return parser


def _image_file(path: Path) -> tuple[int, str, bytes]:
    """Return capture time, format and bytes of an image file, as a message carries them."""
    from auv_image_codec.cli.images import load_image
    data = path.read_bytes()
    # Decoded even where the bytes go in as they are, so that a damaged file is not recorded.
    image = load_image(path, data)
    if image.file_format in ('JPEG', 'PNG'):
        return image.capture_time_ns, image.file_format.lower(), data
    import cv2
    encoded = cv2.imencode('.png', cv2.cvtColor(image.pixels, cv2.COLOR_RGB2BGR))[1]
    return image.capture_time_ns, 'png', encoded.tobytes()


def _stamped_images(inputs: Sequence[InputFile], start_ns: int | None, fps: float,
                    failures: Failures) -> Iterator[tuple[int, str, bytes]]:
    """Yield stamp, format and bytes of each image that can be read."""
    number = 0
    for file in with_progress(inputs, 'image'):
        try:
            capture_time_ns, image_format, data = _image_file(file.path)
        except (InvalidImageError, OSError) as error:
            failures.add(file.path, error)
            continue
        if start_ns is None:
            start_ns = capture_time_ns
        yield start_ns + round(number * 1e9 / fps), image_format, data
        number += 1


def run(args: argparse.Namespace) -> int:
    """Write the bag, and return the exit status."""
    if not 0 < args.fps < float('inf'):
        raise UsageError(f'--fps must be a number above 0, not {args.fps:g}')
    if not args.topic.startswith('/'):
        raise UsageError(f'--topic must be absolute, as in /{args.topic}')
    inputs = find_files(args.inputs)

    from auv_image_codec.evaluation.bags import write_compressed_images
    failures = Failures('bag')
    count = write_compressed_images(
        args.output, _stamped_images(inputs, args.start, args.fps, failures), args.topic,
        args.frame_id, custom_data=dict(args.note))
    print(f'{count} of {len(inputs)} images written to {args.output}: topic {args.topic}, '
          f'{(count - 1) / args.fps:.1f} s')
    return 1 if failures.count else 0
