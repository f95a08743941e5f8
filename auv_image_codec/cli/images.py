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
"""Read image files of any common kind as 8-bit RGB."""
from __future__ import annotations

from datetime import datetime, timedelta, timezone
import io
from pathlib import Path
import re
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from auv_image_codec.errors import InvalidImageError

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

# Numbers of EXIF tags; Pillow before 9.4 has no names for them.
EXIF_FIELDS = 0x8769
DATE_TIME_ORIGINAL = 0x9003
OFFSET_TIME_ORIGINAL = 0x9011
SUBSECOND_TIME_ORIGINAL = 0x9291


class LoadedImage(NamedTuple):
    """An image file's pixels and time of capture."""

    pixels: np.ndarray
    """RGB, uint8, (height, width, 3), turned upright as its EXIF orientation says."""
    capture_time_ns: int
    """Nanoseconds since the epoch."""
    file_format: str
    """Kind of file as Pillow calls it, like ``JPEG``."""


def _scale_to_8_bits(values: np.ndarray) -> np.ndarray:
    """
    Scale grey values of more than 8 bits to uint8.

    Integers are taken as 16-bit values, floating point as 0 to 1.

    :raises InvalidImageError: if a value is not finite.
    """
    if np.issubdtype(values.dtype, np.floating):
        if not np.isfinite(values).all():
            raise InvalidImageError('the image holds values that are not finite', 'not_finite')
        return np.round(np.clip(values, 0, 1) * 255).astype(np.uint8)
    return np.round(np.clip(values, 0, 65535) / 257).astype(np.uint8)


def _rgb_from_pillow(image: Image.Image) -> np.ndarray:
    if image.mode == 'F' or image.mode.startswith('I'):
        grey = _scale_to_8_bits(np.asarray(image))
        return np.repeat(grey[:, :, np.newaxis], 3, axis=2)
    # Transparency is dropped, as it is for camera images with alpha.
    return np.array(image.convert('RGB'))


def _rgb_from_opencv(data: bytes) -> np.ndarray | None:
    """Decode kinds of files that Pillow does not know, such as TIFF with 16 bits a colour."""
    import cv2
    image = cv2.imdecode(
        np.frombuffer(data, np.uint8), cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR)
    if image is None:
        return None
    if image.dtype != np.uint8:
        image = _scale_to_8_bits(image)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _exif_capture_time_ns(exif: Image.Exif) -> int | None:
    """Return EXIF DateTimeOriginal; without a time zone in the file it is taken as UTC."""
    fields = exif.get_ifd(EXIF_FIELDS)
    try:
        time = datetime.strptime(
            str(fields[DATE_TIME_ORIGINAL]).strip('\0 '), '%Y:%m:%d %H:%M:%S')
    except (KeyError, ValueError):
        return None
    zone = timezone.utc
    offset = re.fullmatch(
        r'([+-])(\d\d):(\d\d)', str(fields.get(OFFSET_TIME_ORIGINAL, '')).strip('\0 '))
    if offset:
        delta = timedelta(hours=int(offset[2]), minutes=int(offset[3]))
        zone = timezone(-delta if offset[1] == '-' else delta)
    fraction = re.match(r'\d+', str(fields.get(SUBSECOND_TIME_ORIGINAL, '')))
    nanoseconds = int(fraction[0][:9].ljust(9, '0')) if fraction else 0
    seconds = (time.replace(tzinfo=zone) - _EPOCH) // timedelta(seconds=1)
    return seconds * 10**9 + nanoseconds if seconds >= 0 else None


def load_image(path: Path, data: bytes | None = None) -> LoadedImage:
    """
    Read an image file: colour, grey, palette, with transparency, 8 or 16 bits.

    The time of capture is EXIF's DateTimeOriginal, or when the file was last modified.

    :param path: the file.
    :param data: its contents, if they were read before.
    :raises InvalidImageError: if it is empty, not an image, damaged, or too large to be one.
    :raises OSError: if the file cannot be read.
    """
    if data is None:
        data = path.read_bytes()
    if not data:
        raise InvalidImageError('the file is empty', 'empty_image')
    capture_time_ns = path.stat().st_mtime_ns
    file_format = ''
    try:
        with Image.open(io.BytesIO(data)) as image:
            file_format = image.format or ''
            capture_time_ns = _exif_capture_time_ns(image.getexif()) or capture_time_ns
            # Later frames of an animation, and pages of a document, are left out.
            pixels = _rgb_from_pillow(ImageOps.exif_transpose(image))
    except InvalidImageError:
        raise
    except (UnidentifiedImageError, NotImplementedError):
        pixels = _rgb_from_opencv(data)
        if pixels is None:
            raise InvalidImageError('not an image file', 'not_an_image') from None
    except Image.DecompressionBombError as error:
        raise InvalidImageError(f'the image is too large: {error}', 'image_too_large') from None
    # Pillow's decoders raise nearly anything for damaged files.
    except Exception as error:
        raise InvalidImageError(f'the image file is damaged: {error}', 'damaged_image') from error
    return LoadedImage(pixels, capture_time_ns, file_format)
