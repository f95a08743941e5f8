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
"""What is compared: our codecs, and image files forced to the same packet limit."""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
import time

import numpy as np
import PIL

from auv_image_codec.codecs import codec_class, codec_names, decode_packet, encode_packet
from auv_image_codec.codecs.base import Codec
from auv_image_codec.codecs.enhancer import Enhancer, has_enhancer
from auv_image_codec.codecs.image_file import (
    CONTAINER, FORMATS, ImageFileSearch, unavailable_reason)
from auv_image_codec.codecs.packet import OVERHEAD_BYTES
from auv_image_codec.errors import AuvImageCodecError, BudgetError, UnknownCodecError, WeightsError

ENHANCED = '-enhanced'      # what follows a codec's name in the row of its enhanced images
REFINED = '-refined'        # of its refined packets
REFINEMENT_STEPS = 10


@dataclass(frozen=True)
class Coded:
    """
    One image through one codec.

    :param codec: name of the row in tables.
    :param max_bytes: the limit that it was coded for.
    :param image: what came out, uint8 of the source's shape; None if nothing fits the limit.
    :param packet_bytes: of the whole packet, header and checks included.
    :param encode_ms: from the image to the packet.
    :param decode_ms: from the packet to the image.
    :param detail: how it was coded, for people.
    """

    codec: str
    max_bytes: int
    image: np.ndarray | None = None
    packet_bytes: int = 0
    encode_ms: float = 0.0
    decode_ms: float = 0.0
    detail: str = 'does not fit'


class CodecContender:
    """
    One of our codecs: its packets are made and taken apart as on a vehicle and on the surface.

    :param codec: with both sides.
    :param enhancer: enhances what the codec decodes, in the row NAME-enhanced; None for the row
        NAME of decoded images.
    :param refinement_steps: of each packet; in the row NAME-refined if there are any.
    """

    def __init__(self, codec: Codec, enhancer: Enhancer | None = None, refinement_steps: int = 0):
        self._codec = codec
        self._enhancer = enhancer
        self._refinement_steps = refinement_steps
        self.rows = (codec.name + (ENHANCED if enhancer else REFINED if refinement_steps else ''),)
        self.identity = f'model {codec.model_id:08x}, decoder {codec.decoder_id():08x}' + (
            f', enhancer {enhancer.model_id:08x}' if enhancer else '') + (
            f', {refinement_steps} refinement steps' if refinement_steps else '')
        # the first image costs what is allocated once: nothing that a mean should hold
        width, height = codec.input_size
        list(self.code(np.zeros((height, width, 3), np.uint8), [2**12]))

    def code(self, image: np.ndarray, rates: Sequence[int]) -> Iterator[Coded]:
        """Yield the image [height, width, 3] coded for each rate, in bytes a packet."""
        for max_bytes in rates:
            try:
                start = time.perf_counter()
                packet = encode_packet(self._codec, image, max_bytes=max_bytes,
                                       refinement_steps=self._refinement_steps)
                coded = time.perf_counter()
                decoded = (self._enhancer.enhance_packet(packet) if self._enhancer
                           else decode_packet(self._codec, packet)[1])
                end = time.perf_counter()
            except BudgetError:
                yield Coded(self.rows[0], max_bytes)
                continue
            yield Coded(self.rows[0], max_bytes, decoded, len(packet),
                        1e3 * (coded - start), 1e3 * (end - coded), '')


class ImageFileContender:
    """
    An image file format, as whole files and, for AVIF and HEIC, as a second row without container.

    :param name: of the format.
    :param rows: which of NAME and NAME-payload.
    """

    def __init__(self, name: str, rows: Sequence[str]):
        self._name = name
        self.rows = tuple(rows)
        self.identity = _library_version(name)

    def code(self, image: np.ndarray, rates: Sequence[int]) -> Iterator[Coded]:
        """Yield the image [height, width, 3] coded for each row and rate."""
        search = ImageFileSearch(image, self._name)
        for row in self.rows:
            for max_bytes in rates:
                try:
                    best = search.best(max_bytes, payload_only=row.endswith(CONTAINER))
                except BudgetError:
                    yield Coded(row, max_bytes)
                    continue
                width, height = best.size
                yield Coded(row, max_bytes, best.image, OVERHEAD_BYTES + best.counted_bytes,
                            best.encode_ms, best.decode_ms,
                            f'{width}x{height} quality {best.quality}')


Contender = CodecContender | ImageFileContender


def _library_version(name: str) -> str:
    """Return what codes a format here: other versions may give other files."""
    if name == 'heic':
        import pillow_heif
        info = pillow_heif.libheif_info()
        return f'pillow-heif {pillow_heif.__version__}, libheif {info["libheif"]}, {info["HEIF"]}'
    from PIL import features
    feature = {'jpeg': 'jpg'}.get(name, name)
    return f'Pillow {PIL.__version__}, {name} {features.version(feature)}'


def row_names() -> list[str]:
    """Return everything that can be compared, by name."""
    return [*_codec_rows(), *(row for name in FORMATS for row in _rows(name))]


def _codec_rows() -> list[str]:
    return [name + suffix for name in codec_names() for suffix in ('', ENHANCED, REFINED)
            if suffix != REFINED or codec_class(name).has_refinement]


def _codec_of_row(row: str) -> str:
    """Return the name of the codec in a row of ours."""
    return row.removesuffix(ENHANCED).removesuffix(REFINED)


def _rows(name: str) -> list[str]:
    """Return the rows of a format."""
    return [name, name + CONTAINER] if FORMATS[name].boxed else [name]


def open_contenders(names: Sequence[str] | None, open_codec: Callable[[str], Codec],
                    enhancer_weights: Path | None = None, device: str = 'cpu',
                    ) -> tuple[list[Contender], dict[str, str]]:
    """
    Load what was asked for, or all that is available on this machine.

    :param names: of codecs and formats; 'avif' and 'heic' stand for both of their rows. None for
        all but refined packets, which take seconds each.
    :param open_codec: loads one of our codecs, both sides, by name.
    :param enhancer_weights: directory of an enhancer's weights; None for the shipped ones.
    :param device: that enhancers compute on.
    :returns: the contenders, and for each name that is not available here (only if names is None)
        the reason.
    :raises UnknownCodecError: if a name is not known, or a named format not available here.
    :raises AuvImageCodecError: whatever open_codec raises, for a named codec.
    """
    unavailable: dict[str, str] = {}
    if names is None:
        # nobody asked for enhanced images: where there is no enhancer, nothing is missing
        wanted = [row for row in _codec_rows() if not row.endswith(REFINED) and (
            not row.endswith(ENHANCED) or has_enhancer(_codec_of_row(row), enhancer_weights))
        ] + [*FORMATS]
    else:
        wanted = list(dict.fromkeys(names))
        unknown = [name for name in wanted if name not in row_names()]
        if unknown:
            raise UnknownCodecError(f'codec {unknown[0]!r} is not known; known: '
                                    + ', '.join(row_names()))
    contenders: list[Contender] = []
    formats: dict[str, list[str]] = {}
    for name in wanted:
        if name in _codec_rows():
            try:
                codec = open_codec(_codec_of_row(name))
                contenders.append(CodecContender(
                    codec, Enhancer(codec, enhancer_weights, device)
                    if name.endswith(ENHANCED) else None,
                    REFINEMENT_STEPS if name.endswith(REFINED) else 0))
            except WeightsError as error:
                if names is not None:
                    raise
                unavailable[name] = str(error)
            continue
        base = name.removesuffix(CONTAINER)
        reason = unavailable_reason(base)
        if reason is None:
            formats.setdefault(base, []).extend(
                row for row in (_rows(base) if name == base else [name])
                if row not in formats.get(base, []))
        elif names is None:
            unavailable[name] = reason
        else:
            raise UnknownCodecError(f'{name} cannot be evaluated here: {reason}')
    contenders += [ImageFileContender(name, rows) for name, rows in formats.items()]
    if not contenders:
        raise AuvImageCodecError('nothing to evaluate is available here')
    return contenders, unavailable
