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
JPEG, WebP, AVIF and HEIC under the same byte limit: what users have today, to compare with.

A picture is coded at the internal size and quality that bring it closest to the source, in mean
squared error, among all that fit the limit. The limit is one of a whole packet: the header and the
checks of our packets are added to the file's bytes, since a file that arrives alone says neither
when nor by which camera it was taken.
"""
from dataclasses import dataclass, field
import io
import time

import numpy as np
from PIL import features, Image

from auv_image_codec.codecs.base import check_image, Codec
from auv_image_codec.codecs.packet import (
    DEFAULT_MAX_BYTES, LARGEST_PACKET_BYTES, OVERHEAD_BYTES)
from auv_image_codec.errors import (
    BudgetError, LatentError, PacketCorruptError, UnknownCodecError)

# Internal sizes, in parts of 224: neighbours are a fifth to a third of the pixels apart, and on a
# 224x224 image all are whole blocks of eight.
SCALES = tuple(side / 224 for side in (224, 192, 160, 128, 112, 96, 80, 64, 48, 40, 32, 24, 16))
FIRST_SCALE = 5             # where the search begins
WORSE_SCALES = 2            # so many in a row that are worse, and the search goes no further
CONTAINER = '-payload'      # ends the name of a format that is counted without its container


@dataclass(frozen=True)
class ImageFileFormat:
    """
    One kind of image file.

    :param pillow_name: as Pillow knows it.
    :param qualities: the lowest and the highest quality setting.
    :param options: of Pillow's encoder.
    :param slow_options: what to add once the size is found, where that gains something.
    :param boxed: whether it is an ISO base media file, whose 'mdat' boxes hold the coded picture.
    """

    pillow_name: str
    qualities: tuple[int, int]
    options: dict = field(default_factory=dict)
    slow_options: dict = field(default_factory=dict)
    boxed: bool = False


# The slowest settings that gain much: Huffman tables made for the picture (JPEG), all modes tried
# (WebP), and decisions by squared error (AVIF), which is what the search is after.
FORMATS = {
    'jpeg': ImageFileFormat('JPEG', (1, 95), {'optimize': True, 'subsampling': '4:2:0'}),
    'webp': ImageFileFormat('WEBP', (0, 100), {'method': 6}),
    'avif': ImageFileFormat('AVIF', (0, 100), {
        'codec': 'aom', 'speed': 6, 'subsampling': '4:2:0', 'max_threads': 1,
        'advanced': {'tune': 'psnr'}}, slow_options={'speed': 4}, boxed=True),
    'heic': ImageFileFormat('HEIF', (0, 100), boxed=True),
}


def unavailable_reason(name: str) -> str | None:
    """
    Return why a format cannot be used on this machine, or None if it can.

    :raises UnknownCodecError: if there is no such format.
    """
    if name not in FORMATS:
        raise UnknownCodecError(f'format {name!r} is not known; known: {", ".join(FORMATS)}')
    if name == 'heic':
        try:
            import pillow_heif
        except ImportError:
            return 'pillow-heif is not installed'
        if not pillow_heif.libheif_info().get('HEIF'):
            return 'pillow-heif has no HEVC encoder here'
        pillow_heif.register_heif_opener()
    elif name != 'jpeg':
        try:
            supported = features.check_module(name)
        except ValueError:                  # a Pillow that is older than the format
            supported = False
        if not supported:
            return f'this Pillow cannot write {name.upper()}'
    return None


def payload_bytes(content: bytes) -> int:
    """
    Return how many bytes of an ISO base media file (AVIF, HEIC) are the coded picture.

    That is what its 'mdat' boxes hold. What is left out is needed too: sizes, colour, and for HEIC
    the parameter sets of the video codec.

    :raises ValueError: if the boxes do not add up.
    """
    position = coded = 0
    while position < len(content):
        size = int.from_bytes(content[position:position + 4], 'big')
        header = 8
        if size == 1:
            size, header = int.from_bytes(content[position + 8:position + 16], 'big'), 16
        elif size == 0:
            size = len(content) - position
        if size < header or position + size > len(content):
            raise ValueError(f'box of {size} bytes at byte {position} of {len(content)}')
        if content[position + 4:position + 8] == b'mdat':
            coded += size - header
        position += size
    return coded


@dataclass(frozen=True)
class CodedPicture:
    """
    The best that a format does under a limit.

    :param content: of the file.
    :param counted_bytes: of the file, or of its payload, whichever is counted; no packet header.
    :param size: width and height in the file.
    :param quality: setting of the encoder.
    :param image: decoded, at the source's size, uint8 [height, width, 3].
    :param encode_ms: of resampling and coding at this size and quality, without the search.
    :param decode_ms: of decoding and resampling.
    """

    content: bytes
    counted_bytes: int
    size: tuple[int, int]
    quality: int
    image: np.ndarray
    encode_ms: float
    decode_ms: float


class ImageFileSearch:
    """
    Find the best size and quality of one image in one format, for any number of limits.

    Everything that was coded once is kept, so that a second limit costs little.

    :param image: uint8 [height, width, 3], RGB.
    :param name: of the format, a key of FORMATS.
    :raises InvalidImageError: if the image is not such an array.
    :raises UnknownCodecError: if the format is not known or cannot be used here.
    """

    def __init__(self, image: np.ndarray, name: str):
        check_image(image)
        reason = unavailable_reason(name)
        if reason:
            raise UnknownCodecError(f'{name} cannot be used: {reason}')
        self.name = name
        self._format = FORMATS[name]
        self._source = np.asarray(image, np.float32)
        self._picture = Image.fromarray(image)
        self._smaller: dict[int, tuple[Image.Image, float]] = {}
        self._files: dict[tuple[int, int, bool], tuple[bytes, float]] = {}
        self._decoded: dict[tuple[int, int, bool], tuple[float, np.ndarray, float]] = {}
        self._start = FIRST_SCALE

    def best(self, max_bytes: int, payload_only: bool = False) -> CodedPicture:
        """
        Return the coded picture of least squared error.

        The search over sizes begins where the last one ended, and goes on both ways while there
        is something to gain; at each size the quality is found by bisection.

        :param max_bytes: limit of the whole packet, header and checks included.
        :param payload_only: do not count the container of AVIF and HEIC.
        :raises BudgetError: if nothing fits.
        """
        budget = max_bytes - OVERHEAD_BYTES
        errors: dict[int, tuple[float, int]] = {}

        def error_at(scale: int) -> float:
            if scale not in errors:
                quality = self._best_quality(scale, budget, payload_only)
                errors[scale] = ((np.inf, -1) if quality is None
                                 else (self._decode(scale, quality)[0], quality))
            return errors[scale][0]

        for step in (1, -1):                    # to smaller sizes first: they are cheap
            scale, worse = self._start, 0
            while 0 <= scale < len(SCALES) and worse < WORSE_SCALES:
                best_before = min((error for error, _ in errors.values()), default=np.inf)
                error = error_at(scale)
                # where not even the lowest quality fits, something smaller may
                worse = 0 if error <= best_before or (step == 1 and error == np.inf) else worse + 1
                scale += step
        error, scale = min((error, scale) for scale, (error, _) in errors.items())
        if error == np.inf:
            raise BudgetError(
                f'max_bytes is {max_bytes}: no {self.name} picture of this image is so small')
        self._start = scale
        trial = scale, errors[scale][1], False
        if self._format.slow_options:
            slow_quality = self._best_quality(scale, budget, payload_only, slow=True)
            if slow_quality is not None:
                trial = min(trial, (scale, slow_quality, True), key=lambda t: self._decode(*t)[0])
        content, encode_ms = self._encode(*trial)
        _, image, decode_ms = self._decode(*trial)
        return CodedPicture(content, self._count(content, payload_only),
                            self._resized(scale)[0].size, trial[1], image, encode_ms, decode_ms)

    def _best_quality(self, scale: int, budget: int, payload_only: bool,
                      slow: bool = False) -> int | None:
        """Return the highest quality that fits the budget, or None."""
        lowest, highest = self._format.qualities
        fits, fails = lowest - 1, highest + 1
        while fails - fits > 1:
            quality = (fits + fails) // 2
            if self._count(self._encode(scale, quality, slow)[0], payload_only) <= budget:
                fits = quality
            else:
                fails = quality
        return fits if fits >= lowest else None

    def _count(self, content: bytes, payload_only: bool) -> int:
        return payload_bytes(content) if payload_only and self._format.boxed else len(content)

    def _resized(self, scale: int) -> tuple[Image.Image, float]:
        """Return the picture at a scale, and the milliseconds that took."""
        if scale not in self._smaller:
            size = tuple(max(1, round(side * SCALES[scale])) for side in self._picture.size)
            start = time.perf_counter()
            smaller = self._picture.resize(size, Image.LANCZOS)
            self._smaller[scale] = smaller, 1e3 * (time.perf_counter() - start)
        return self._smaller[scale]

    def _encode(self, scale: int, quality: int, slow: bool = False) -> tuple[bytes, float]:
        """Return the file of a scale and quality, and the milliseconds to make it."""
        key = scale, quality, slow
        if key not in self._files:
            picture, resize_ms = self._resized(scale)
            options = self._format.options | (self._format.slow_options if slow else {})
            file = io.BytesIO()
            start = time.perf_counter()
            picture.save(file, self._format.pillow_name, quality=quality, **options)
            elapsed_ms = 1e3 * (time.perf_counter() - start)
            self._files[key] = file.getvalue(), resize_ms + elapsed_ms
        return self._files[key]

    def _decode(self, scale: int, quality: int,
                slow: bool = False) -> tuple[float, np.ndarray, float]:
        """Return a file's squared error, its image at the source's size, and milliseconds."""
        key = scale, quality, slow
        if key not in self._decoded:
            start = time.perf_counter()
            image = decode_image_file(self._encode(*key)[0], self._picture.size)
            decode_ms = 1e3 * (time.perf_counter() - start)
            error = float(np.mean(np.square(self._source - image)))
            self._decoded[key] = error, image, decode_ms
        return self._decoded[key]


def decode_image_file(content: bytes, size: tuple[int, int]) -> np.ndarray:
    """
    Return the picture of an image file, resampled to size (width, height), uint8 RGB.

    :raises LatentError: if the bytes are not a picture.
    """
    try:
        with Image.open(io.BytesIO(content)) as file:
            picture = file.convert('RGB')
    # decoders raise nearly anything for damaged files
    except Exception as error:
        raise LatentError(f'not a picture: {error}') from error
    return np.asarray(picture.resize(size, Image.BICUBIC))


class ImageFileCodec(Codec):
    """
    An image file format as a codec; the latent is the file.

    It has no weights, hence no model id, and no number in packets: it is there to compare with.

    :param name: of the format: 'jpeg', 'webp', 'avif' or 'heic'.
    :param input_size: width and height that images are resampled to before the search.
    :raises UnknownCodecError: if the format is not known or cannot be used here.
    """

    model_id = 0
    latent_dim = LARGEST_PACKET_BYTES - OVERHEAD_BYTES

    def __init__(self, name: str, input_size: tuple[int, int] = (224, 224)):
        reason = unavailable_reason(name)
        if reason:
            raise UnknownCodecError(f'{name} cannot be used: {reason}')
        self.name = name
        self.input_size = input_size

    def encode(self, image: np.ndarray, max_bytes: int = DEFAULT_MAX_BYTES) -> np.ndarray:
        """Encode an image; see the base class. The latent is the file's bytes, uint8 [n]."""
        check_image(image)
        picture = Image.fromarray(np.ascontiguousarray(image))
        resized = np.asarray(picture.resize(self.input_size, Image.LANCZOS))
        content = ImageFileSearch(resized, self.name).best(max_bytes).content
        return np.frombuffer(content, np.uint8).copy()

    def decode(self, latent: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Decode a latent; see the base class."""
        return decode_image_file(self.payload_from_latent(latent), size)

    def payload_from_latent(self, latent: np.ndarray) -> bytes:
        """Return the file; see the base class."""
        if not isinstance(latent, np.ndarray) or latent.dtype != np.uint8 or latent.ndim != 1:
            raise LatentError('latent must be a uint8 vector')
        return latent.tobytes()

    def latent_from_payload(self, payload: bytes) -> np.ndarray:
        """Return the file's bytes, uint8 [n]; see the base class."""
        return np.frombuffer(payload, np.uint8).copy()

    def latent_from_payload_prefix(self, prefix: bytes) -> tuple[np.ndarray, float]:
        """
        Refuse: a file that is cut has no picture that a user would want.

        :raises PacketCorruptError: always.
        """
        raise PacketCorruptError(f'the first {len(prefix)} bytes of a {self.name} file: no image')
