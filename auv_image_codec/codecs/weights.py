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
Weights files: safetensors with the codec, the network's shape and the model id in their metadata.

A codec's weights are a directory of two files, so that a vehicle carries only its half:
``encoder.safetensors`` and ``decoder.safetensors``. The model id is the first four bytes of the
SHA-256 of the decoder file, as a big-endian number; the encoder file names the decoder that it
was trained with, so both ends know the same id and a mismatch is noticed.

Files that ship are compressed (``xz -9e``, a quarter less): ``decoder.safetensors.xz``. Model ids
are of the content.
"""
from dataclasses import dataclass
import hashlib
import json
import lzma
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from auv_image_codec.atomic_write import write_atomically
from auv_image_codec.errors import WeightsError

# All metadata is one entry: safetensors writes several in random order, and the model id, a hash
# of the file, must be the same for the same weights.
METADATA_KEY = 'auv_image_codec'
FORMAT_VERSION = 1
SUFFIX = '.safetensors'
COMPRESSED = '.xz'
IDENTIFYING_PARTS = ('decoder', 'context')  # that decide what a packet means: one of each codec
NETWORK_PREFIX = 'network.'         # of the keys of a network's own tensors
SCALE_SUFFIX = '.row_scale'         # of the key that holds an int8 matrix's scales
LARGE_MATRIX = 1_000_000            # elements
LARGE_KERNEL = 4_096                # elements, of an enhancer: most of its bytes are kernels


@dataclass(frozen=True)
class Weights:
    """
    One weights file, read.

    ``file_id`` is a hash of the file, a uint32; ``network`` holds the keyword arguments of the
    network's class, ``tensors`` its state (float32) and the quantizer's and entropy model's tables,
    as stored.
    """

    codec: str
    part: str
    model_id: int
    file_id: int
    network: dict
    tensors: dict[str, np.ndarray]


def weights_path(directory: Path, part: str) -> Path:
    """Return the path of a part, for example 'encoder', in a weights directory."""
    return Path(directory) / f'{part}{SUFFIX}'


def is_weights_file(path: Path) -> bool:
    """Return whether a path has the name of a weights file, compressed or not."""
    return path.name.lower().endswith((SUFFIX, SUFFIX + COMPRESSED))


def has_weights_file(path: Path) -> bool:
    """Return whether read_weights_file() would find a file."""
    return path.is_file() or path.with_name(path.name + COMPRESSED).is_file()


def read_weights_file(path: Path) -> bytes:
    """
    Return the content of a weights file, which may lie there compressed, as ``PATH.xz``.

    :param path: of the file, with or without its ``.xz``.
    :raises OSError: if there is no such file, or it cannot be read.
    :raises WeightsError: if the compressed file is damaged.
    """
    compressed = path if path.suffix == COMPRESSED else path.with_name(path.name + COMPRESSED)
    if path == compressed or not path.exists() and compressed.exists():
        try:
            return lzma.decompress(compressed.read_bytes())
        except lzma.LZMAError as error:
            raise WeightsError(f'{compressed}: damaged: {error}') from error
    return path.read_bytes()


def model_id_of_bytes(content: bytes) -> int:
    """Return the model id, a uint32, of the content of an identifying part's file."""
    return int.from_bytes(hashlib.sha256(content).digest()[:4], 'big')


def read_weights(directory: Path, codec: str, part: str) -> Weights:
    """
    Read one part of a codec's weights, or an enhancer's.

    :param directory: the directory that holds the file.
    :param codec: the codec that the weights must be of.
    :param part: 'encoder' or 'decoder' (autoencoder), 'context' or 'restoration' (wavelet), or
        'enhancer'.
    :raises WeightsError: if the file is missing, malformed, or of another codec or part.
    """
    path = weights_path(directory, part)
    try:
        content = read_weights_file(path)
    except OSError as error:
        raise WeightsError(
            f'{path}: weights of codec {codec!r} cannot be read: {error.strerror}') from error
    try:
        stored, metadata = parse_weights(content)
        tensors = _restore(stored)
    except (WeightsError, KeyError, ValueError) as error:
        raise WeightsError(f'{path}: {error}') from error
    if (metadata.get('codec'), metadata.get('part')) != (codec, part):
        raise WeightsError(
            f'{path}: holds the {metadata.get("part")} of codec {metadata.get("codec")!r}, '
            f'not the {part} of {codec!r}')
    try:
        network = metadata['network']
        file_id = model_id_of_bytes(content)
        model_id = (file_id if part in IDENTIFYING_PARTS
                    else int(metadata.get('model_id', '0'), 16))
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f'{path}: malformed metadata: {error!r}') from error
    return Weights(codec, part, model_id, file_id, network, tensors)


def parse_weights(content: bytes) -> tuple[dict[str, np.ndarray], dict]:
    """
    Return the tensors, as they are stored, and the metadata of a weights file's content.

    :raises WeightsError: if it is not a safetensors file of this package and format version.
    """
    try:
        tensors = load(content)
        # safetensors reads metadata from files only; the header is JSON behind its length
        length = int.from_bytes(content[:8], 'little')
        entries = json.loads(content[8:8 + length]).get('__metadata__', {})
        metadata = json.loads(entries.get(METADATA_KEY, 'null'))
    except (SafetensorError, KeyError, ValueError) as error:
        raise WeightsError(f'not a safetensors file: {error}') from error
    if not isinstance(metadata, dict):
        raise WeightsError('a safetensors file, but not of this package')
    if metadata.get('format_version') != FORMAT_VERSION:
        raise WeightsError(
            f'weights format version is {metadata.get("format_version")!r}, this release reads '
            f'version {FORMAT_VERSION}')
    return tensors, metadata


def compact(tensors: dict[str, np.ndarray], large: int = LARGE_MATRIX) -> dict[str, np.ndarray]:
    """
    Return a network's tensors in the types they are stored in.

    Large matrices, which are most of the bytes, become int8 with one scale a row; other float
    tensors of a network float16; tables stay as they are. A convolution's kernels are a matrix
    with a row for each output.

    :param large: from how many elements on a matrix is large.
    """
    stored = {}
    for key, tensor in tensors.items():
        if not key.startswith(NETWORK_PREFIX):
            stored[key] = np.ascontiguousarray(tensor)
        elif tensor.ndim > 1 and tensor.size >= large:
            rows = tensor.reshape(len(tensor), -1)
            scale = np.abs(rows).max(1, keepdims=True).clip(1e-12) / 127
            stored[key] = np.rint(rows / scale).astype(np.int8).reshape(tensor.shape)
            stored[key + SCALE_SUFFIX] = scale[:, 0].astype(np.float32)
        else:
            stored[key] = np.ascontiguousarray(tensor).astype(np.float16)
    return stored


def _restore(stored: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Undo compact, as far as rounding allows."""
    tensors = {}
    for key, tensor in stored.items():
        if key.endswith(SCALE_SUFFIX):
            continue
        if key + SCALE_SUFFIX in stored:
            scale = stored[key + SCALE_SUFFIX].reshape(-1, *[1] * (tensor.ndim - 1))
            tensor = tensor.astype(np.float32) * scale
        tensors[key] = tensor.astype(np.float32) if key.startswith(NETWORK_PREFIX) else tensor
    return tensors


def rounded(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return tensors as they will be read back: what a quantizer must be calibrated on."""
    return _restore(compact(tensors))


def write_weights(directory: Path, codec: str, network: dict[str, dict],
                  tensors: dict[str, dict[str, np.ndarray]]) -> int:
    """
    Write both halves of a codec's weights, each replaced in one step.

    :param network: for each part, the keyword arguments of its network's class.
    :param tensors: for each part, its tensors.
    :returns: the new model id.
    """
    decoder = _content(codec, 'decoder', network['decoder'], tensors['decoder'])
    model_id = model_id_of_bytes(decoder)
    encoder = _content(codec, 'encoder', network['encoder'], tensors['encoder'], model_id)
    write_atomically(weights_path(directory, 'decoder'), decoder)
    write_atomically(weights_path(directory, 'encoder'), encoder)
    return model_id


def write_part(directory: Path, codec: str, part: str, network: dict,
               tensors: dict[str, np.ndarray]) -> None:
    """
    Write one part of a codec's weights that no other part depends on, in one step.

    :param network: the keyword arguments of the network's class.
    """
    write_atomically(weights_path(directory, part), _content(codec, part, network, tensors))


def write_enhancer_weights(directory: Path, codec: str, model_id: int, network: dict,
                           tensors: dict[str, np.ndarray]) -> None:
    """
    Write the weights of an enhancer in one step.

    :param codec: the codec whose images it enhances.
    :param model_id: of that codec's weights.
    :param network: the keyword arguments of the network's class.
    """
    write_atomically(weights_path(directory, 'enhancer'),
                     _content(codec, 'enhancer', network, tensors, model_id))


def _content(codec: str, part: str, network: dict, tensors: dict[str, np.ndarray],
             model_id: int | None = None) -> bytes:
    metadata = {'format_version': FORMAT_VERSION, 'codec': codec, 'part': part,
                'network': network}
    if model_id is not None:
        metadata['model_id'] = f'{model_id:08x}'
    large = LARGE_KERNEL if part in ('enhancer', 'restoration') else LARGE_MATRIX
    return save(compact(tensors, large), {METADATA_KEY: json.dumps(metadata)})
