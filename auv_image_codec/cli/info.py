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
"""``auv-image-codec info``: what is in packet files and weights."""
from __future__ import annotations

import argparse
from datetime import datetime, timedelta, timezone
import json
from pathlib import Path

from auv_image_codec.cli.files import Failures, find_files, PACKET_SUFFIX, UsageError
from auv_image_codec.errors import AuvImageCodecError, PacketError, UnknownModelError, WeightsError

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def add_parser(subparsers) -> argparse.ArgumentParser:
    """Add the command to the command line, and return its parser."""
    parser = subparsers.add_parser(
        'info', help='show what is in packet files and weights',
        description='Show the header of packets, the sizes of their parts and whether their '
        'checks pass; or the codec, model id and metadata of weights.')
    parser.add_argument(
        'inputs', nargs='+', type=Path, metavar='FILE',
        help='packet files, weights files (.safetensors or .safetensors.xz), or folders with '
        'either')
    parser.add_argument(
        '--weights', type=Path, metavar='FOLDER',
        help='weights that the packets were made with, for the check of the payload (default: '
        'the ones that come with the package)')
    parser.add_argument('--json', action='store_true', help='print JSON, a list of objects')
    return parser


def _model_ids(weights: Path | None) -> list[int]:
    """Return the ids of the models in a folder, or of all that come with the package."""
    from auv_image_codec.codecs import codec_names
    from auv_image_codec.codecs.weights import (
        has_weights_file, IDENTIFYING_PARTS, model_id_of_bytes, read_weights_file, weights_path)
    from auv_image_codec.resources import weights_directory
    folders = [weights] if weights else [weights_directory(name) for name in codec_names()]
    ids = []
    for folder in folders:
        paths = [weights_path(folder, part) for part in IDENTIFYING_PARTS]
        found = [path for path in paths if has_weights_file(path)]
        if weights and not found:
            raise WeightsError(f'{weights}: weights cannot be read: there is no '
                               f'{" or ".join(path.name for path in paths)}')
        ids += [model_id_of_bytes(read_weights_file(path)) for path in found]
    return ids


def describe_packet(packet: bytes, model_ids: list[int]) -> dict:
    """
    Return what is in a packet.

    :param packet: its bytes.
    :param model_ids: of the models that its payload can be checked with.
    :raises PacketError: if its header cannot be read, for one of the reasons of read_header().
    """
    from auv_image_codec.codecs.packet import (
        HEADER_BYTES, MODEL_BITS, OVERHEAD_BYTES, parse_packet, read_header, VERSION)
    header = read_header(packet)
    model_id_bits, payload_check, reason = MODEL_BITS, 'failed', None
    try:
        header, _ = parse_packet(packet, model_ids)
        model_id_bits, payload_check = 32, 'passed'
    except UnknownModelError as error:
        payload_check, reason = 'not possible', str(error)
    except PacketError as error:
        reason = str(error)
    capture_time = _EPOCH + timedelta(microseconds=header.stamp_ns // 1000)
    return {
        'kind': 'packet',
        'bytes': len(packet),
        'header_bytes': HEADER_BYTES,
        'check_bytes': OVERHEAD_BYTES - HEADER_BYTES,
        'payload_bytes': len(packet) - OVERHEAD_BYTES,
        'version': VERSION,
        'codec': header.codec,
        'model_id': f'{header.model_id:08x}',
        'model_id_bits': model_id_bits,
        'camera': header.camera,
        'sequence': header.sequence,
        'capture_time': capture_time.isoformat(timespec='milliseconds'),
        'stamp_ns': header.stamp_ns,
        'width': header.width,
        'height': header.height,
        'ratio': round(3 * header.width * header.height / len(packet), 1),
        'header_check': 'passed',
        'payload_check': payload_check,
        'payload_check_reason': reason,
    }


def describe_weights(path: Path) -> dict:
    """
    Return what is in a weights file.

    :raises WeightsError: if it is not a safetensors file of this package.
    """
    from auv_image_codec.codecs.weights import (
        IDENTIFYING_PARTS, model_id_of_bytes, parse_weights, read_weights_file)
    content = read_weights_file(path)
    tensors, metadata = parse_weights(content)
    model_id = metadata.get('model_id')
    if metadata.get('part') in IDENTIFYING_PARTS:
        model_id = f'{model_id_of_bytes(content):08x}'
    return {
        'kind': 'weights',
        'bytes': path.stat().st_size,
        'codec': metadata.get('codec'),
        'part': metadata.get('part'),
        'model_id': model_id,
        'tensors': len(tensors),
        'values': sum(tensor.size for tensor in tensors.values()),
        'metadata': {key: metadata[key] for key in sorted(metadata)
                     if key not in ('codec', 'part', 'model_id')},
    }


def _print_description(path: Path, description: dict) -> None:
    print(f'{path}: {description["kind"]}, {description["bytes"]} bytes')
    for key, value in description.items():
        if key not in ('kind', 'bytes', 'file', 'metadata') and value is not None:
            print(f'  {key.replace("_", " "):20} {value}')
    for key, value in description.get('metadata', {}).items():
        print(f'  {key:20} {value}')


def _report_strangers(described: list[dict], failures: Failures) -> None:
    """Report encoder and decoder files that lie together without belonging together."""
    decoders = {Path(d['file']).parent: d['model_id'] for d in described
                if d.get('part') == 'decoder'}
    for description in described:
        if description.get('part') != 'encoder':
            continue
        path = Path(description['file'])
        decoder = decoders.get(path.parent, description['model_id'])
        if decoder != description['model_id']:
            failures.add(path, f'belongs to model {description["model_id"]}, but the decoder '
                         f'beside it is model {decoder}')


def run(args: argparse.Namespace) -> int:
    """Show what is in the files, and return the exit status."""
    from auv_image_codec.codecs.weights import is_weights_file
    inputs = find_files(args.inputs, lambda path: is_weights_file(path)
                        or path.suffix.lower() == PACKET_SUFFIX)
    if args.weights and not args.weights.is_dir():
        raise UsageError(f'{args.weights}: no such folder')
    is_weights = [is_weights_file(source.path) for source in inputs]
    model_ids = [] if all(is_weights) else _model_ids(args.weights)
    failures = Failures('info')
    described = []
    for source, weights in zip(inputs, is_weights):
        try:
            description = (describe_weights(source.path) if weights else
                           describe_packet(source.path.read_bytes(), model_ids))
        except (AuvImageCodecError, OSError) as error:
            failures.add(source.path, error)
            description = {'error': str(error)}
        else:
            if description.get('payload_check') == 'failed':
                failures.add(source.path, description['payload_check_reason'])
            if not args.json:
                _print_description(source.path, description)
        described.append({'file': str(source.path), **description})
    _report_strangers(described, failures)
    if args.json:
        print(json.dumps(described, indent=2))
    return 1 if failures.count else 0
