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
Image messages to RGB arrays and back, with everything checked before it is used.

8-bit images go through cv_bridge. What the cv_bridge port on PyPI gets wrong is done here:

- it ignores ``step``, so images with padding are first copied without it (cv_bridge of ROS reads
  padding that is no whole number of pixels wrongly, too);
- it takes 16UC1 to 16UC4 for 8-bit images, and cannot turn any 16-bit image into 8 bits;
- it misspells ``bayer_grbg8``, and converts no float image.

Scaling to 8 bits: 16-bit values over their full range, as cv_bridge of ROS does (65535 becomes
255, so a sensor that fills only the low 12 bits comes out dark and is better scaled by its
driver), float values from 0..1, what lies outside clipped. ``8UC3``, ``8UC4``, ``16UC3`` and
``32FC3`` name no colour order and are read as OpenCV writes them: blue first.
"""
import array
from dataclasses import dataclass
import re
import struct
from typing import Optional, Tuple

import cv2
from cv_bridge import CvBridge

import numpy as np

from sensor_msgs.msg import CompressedImage, Image

from auv_image_codec.errors import InvalidImageError

# 8K video (7680 x 4320) and every common camera fit.
DEFAULT_MAX_PIXELS = 2 ** 25
# Width and height travel as 16-bit numbers.
MAX_SIDE = 2 ** 16 - 1


@dataclass(frozen=True)
class _Layout:
    """How pixels of an encoding lie in memory, and how they become RGB."""

    dtype: type
    channels: int
    conversion: Optional[int] = None  # cv2.cvtColor code once the values are 8-bit
    through_bridge: bool = False
    bayer: bool = False


# ROS names the first two rows of the pattern; OpenCV's older names are those of the second row's
# second and third pixel, so bayer_rggb is COLOR_BayerBG.
_BAYER_CONVERSIONS = {
    'bayer_rggb': cv2.COLOR_BayerBG2RGB,
    'bayer_bggr': cv2.COLOR_BayerRG2RGB,
    'bayer_gbrg': cv2.COLOR_BayerGR2RGB,
    'bayer_grbg': cv2.COLOR_BayerGB2RGB,
}
_COLORS = {
    'mono': (1, cv2.COLOR_GRAY2RGB),
    'rgb': (3, None),
    'bgr': (3, cv2.COLOR_BGR2RGB),
    'rgba': (4, cv2.COLOR_RGBA2RGB),
    'bgra': (4, cv2.COLOR_BGRA2RGB),
}

_LAYOUTS = {
    '8UC1': _Layout(np.uint8, *_COLORS['mono']),
    '8UC3': _Layout(np.uint8, *_COLORS['bgr']),
    '8UC4': _Layout(np.uint8, *_COLORS['bgra']),
    '16UC1': _Layout(np.uint16, *_COLORS['mono']),
    '16UC3': _Layout(np.uint16, *_COLORS['bgr']),
    '32FC1': _Layout(np.float32, *_COLORS['mono']),
    '32FC3': _Layout(np.float32, *_COLORS['bgr']),
    'yuv422': _Layout(np.uint8, 2, cv2.COLOR_YUV2RGB_UYVY),
    'uyvy': _Layout(np.uint8, 2, cv2.COLOR_YUV2RGB_UYVY),
    'yuv422_yuy2': _Layout(np.uint8, 2, cv2.COLOR_YUV2RGB_YUY2),
    'yuyv': _Layout(np.uint8, 2, cv2.COLOR_YUV2RGB_YUY2),
}
for _name, (_channels, _conversion) in _COLORS.items():
    _LAYOUTS[f'{_name}8'] = _Layout(np.uint8, _channels, _conversion, through_bridge=True)
    _LAYOUTS[f'{_name}16'] = _Layout(np.uint16, _channels, _conversion)
for _name, _conversion in _BAYER_CONVERSIONS.items():
    _LAYOUTS[f'{_name}8'] = _Layout(
        np.uint8, 1, _conversion, through_bridge=_name != 'bayer_grbg', bayer=True)
    _LAYOUTS[f'{_name}16'] = _Layout(np.uint16, 1, _conversion, bayer=True)

SUPPORTED_ENCODINGS = tuple(sorted(_LAYOUTS))

_bridge = CvBridge()


def image_to_rgb(message: Image, max_pixels: int = DEFAULT_MAX_PIXELS) -> np.ndarray:
    """
    Return the picture of an image message as RGB.

    :param message: any encoding of SUPPORTED_ENCODINGS.
    :param max_pixels: larger images are refused before anything is allocated.
    :return: uint8, shape (height, width, 3). It may share the message's memory.
    :raises InvalidImageError: kind zero_size, image_too_large, unknown_encoding, odd_width,
        image_too_small, empty_image, short_step, short_data or not_finite.
    """
    _check_size(message.width, message.height, max_pixels)
    layout = _layout(message.encoding, message.width, message.height)
    pixels = _pixels(message, layout)
    if layout.through_bridge:
        if not pixels.flags.c_contiguous or message.is_bigendian:
            # is_bigendian says nothing about bytes, but would make the bridge swap them.
            message = Image(
                height=message.height, width=message.width, encoding=message.encoding,
                step=message.width * layout.channels, data=_byte_array(pixels))
        return _bridge.imgmsg_to_cv2(message, desired_encoding='rgb8')
    return _to_rgb(_to_8_bit(pixels), layout.conversion)


def compressed_image_to_rgb(
        message: CompressedImage, max_pixels: int = DEFAULT_MAX_PIXELS) -> np.ndarray:
    """
    Return the picture of a JPEG or PNG image message as RGB.

    What the data is, is read from the data. From ``format`` (``jpeg``, ``png`` or the form of
    image_transport, ``ENCODING; jpeg compressed ORDER``) come the Bayer pattern of a single
    channel, and a blue-red swap of publishers that compress RGB as if it were BGR.

    :param max_pixels: larger images are refused before they are decoded.
    :return: uint8, shape (height, width, 3).
    :raises InvalidImageError: kind empty_image, unknown_format, zero_size, image_too_large,
        image_too_small or undecodable_image.
    """
    data = memoryview(message.data)
    if not data:
        raise InvalidImageError('the compressed image has no data', kind='empty_image')
    width, height = _compressed_size(data, message.format)
    _check_size(width, height, max_pixels)
    try:
        # As image_transport does, leave the picture as the sensor wrote it (no EXIF rotation).
        picture = cv2.imdecode(
            np.frombuffer(data, dtype=np.uint8),
            cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise InvalidImageError(
            f'the compressed image of {len(data)} bytes cannot be decoded: {error.err}',
            kind='undecodable_image') from error
    if picture is None:
        raise InvalidImageError(
            f'the compressed image of {len(data)} bytes ({message.format!r}, {width}x{height}) '
            'is damaged and cannot be decoded', kind='undecodable_image')
    picture = _to_8_bit(picture)
    source, _, compression = message.format.partition(';')
    if picture.ndim == 2:
        pattern = source.strip()
        if pattern in _LAYOUTS and _LAYOUTS[pattern].bayer:
            return _to_rgb(picture, _layout(pattern, width, height).conversion)
        return _to_rgb(picture, cv2.COLOR_GRAY2RGB)
    if re.search(r'compressed rgb', compression):
        return picture
    return _to_rgb(picture, cv2.COLOR_BGR2RGB)


def rgb_to_image(rgb: np.ndarray, header) -> Image:
    """
    Return an rgb8 image message.

    :param rgb: uint8, shape (height, width, 3).
    :param header: std_msgs/Header, taken over as it is.
    :raises InvalidImageError: if the array is anything else.
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.size == 0:
        raise InvalidImageError(
            f'an RGB image is uint8 (height, width, 3), not {rgb.dtype} {rgb.shape}')
    height, width = rgb.shape[:2]
    message = Image(
        header=header, height=height, width=width, encoding='rgb8', is_bigendian=0,
        step=3 * width)
    message.data = _byte_array(rgb)
    return message


def _byte_array(pixels: np.ndarray) -> array.array:
    # The only type that a uint8[] field takes without walking over every element.
    data = array.array('B')
    data.frombytes(memoryview(np.ascontiguousarray(pixels)).cast('B'))
    return data


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width == 0 or height == 0:
        raise InvalidImageError(
            f'the image is {width}x{height} pixels; both sides must be at least 1',
            kind='zero_size')
    if width > MAX_SIDE or height > MAX_SIDE:
        raise InvalidImageError(
            f'the image is {width}x{height} pixels; a side can have at most {MAX_SIDE}',
            kind='image_too_large')
    if width * height > max_pixels:
        raise InvalidImageError(
            f'the image is {width}x{height} = {width * height} pixels; the limit is '
            f'{max_pixels} (max_image_pixels)', kind='image_too_large')


def _layout(encoding: str, width: int, height: int) -> _Layout:
    layout = _LAYOUTS.get(encoding)
    if layout is None:
        raise InvalidImageError(
            f'unknown encoding {encoding[:64]!r}; known are {", ".join(SUPPORTED_ENCODINGS)}',
            kind='unknown_encoding')
    if layout.channels == 2 and width % 2:
        raise InvalidImageError(
            f'{encoding} images have an even width, not {width}', kind='odd_width')
    if layout.bayer and min(width, height) < 3:
        raise InvalidImageError(
            f'a Bayer image needs at least 3x3 pixels, not {width}x{height}',
            kind='image_too_small')
    return layout


def _pixels(message: Image, layout: _Layout) -> np.ndarray:
    """View the message's data as (height, width) or (height, width, channels)."""
    if not message.data:
        raise InvalidImageError(
            f'the image of {message.width}x{message.height} pixels has no data',
            kind='empty_image')
    dtype = np.dtype(layout.dtype)
    pixel_bytes = dtype.itemsize * layout.channels
    least_step = message.width * pixel_bytes
    if message.step < least_step:
        raise InvalidImageError(
            f'step is {message.step} bytes; {message.width} pixels of {message.encoding} take '
            f'{least_step}', kind='short_step')
    expected = message.step * message.height
    if len(message.data) < expected:
        raise InvalidImageError(
            f'data has {len(message.data)} bytes; step * height is {message.step} * '
            f'{message.height} = {expected}', kind='short_data')
    if dtype.itemsize > 1:
        dtype = dtype.newbyteorder('>' if message.is_bigendian else '<')
    shape = (message.height, message.width)
    strides = (message.step, pixel_bytes)
    if layout.channels > 1:
        shape += (layout.channels,)
        strides += (dtype.itemsize,)
    return np.ndarray(shape, dtype, buffer=memoryview(message.data), strides=strides)


def _to_8_bit(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype.kind == 'u':
        # Round(value / 257) in integers: 65535 is 255 * 257.
        return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    finite = np.isfinite(pixels)
    if not finite.all():
        bad = np.argwhere(~finite)
        row, column = bad[0][:2]
        raise InvalidImageError(
            f'{len(bad)} of {pixels.size} values are NaN or infinite, the first in row {row}, '
            f'column {column}; all must be finite', kind='not_finite')
    return np.rint(np.clip(pixels, 0.0, 1.0) * 255.0).astype(np.uint8)


def _to_rgb(pixels: np.ndarray, conversion: Optional[int]) -> np.ndarray:
    if conversion is None:
        return pixels
    return cv2.cvtColor(np.ascontiguousarray(pixels), conversion)


def _compressed_size(data: memoryview, image_format: str) -> Tuple[int, int]:
    """Read width and height from the file header, so that nothing huge is ever decoded."""
    start = bytes(data[:8])
    if start.startswith(b'\xff\xd8\xff'):
        size = _jpeg_size(bytes(data))
    elif start == b'\x89PNG\r\n\x1a\n':
        size = struct.unpack('>II', data[16:24]) if len(data) >= 24 else None
    else:
        raise InvalidImageError(
            f'the compressed image (format {image_format[:64]!r}) starts with {start.hex()}; '
            'only JPEG and PNG can be read', kind='unknown_format')
    if size is None:
        raise InvalidImageError(
            f'the compressed image of {len(data)} bytes is cut off', kind='undecodable_image')
    return size


def _jpeg_size(data: bytes) -> Optional[Tuple[int, int]]:
    """Return (width, height) of the frame header; None if it or the end of the file is missing."""
    position = 2
    while position + 9 <= len(data):
        if data[position] != 0xff:
            return None
        marker = data[position + 1]
        if marker == 0xff:  # fill byte
            position += 1
        elif marker == 0x01 or 0xd0 <= marker <= 0xd8:  # markers without a length
            position += 2
        elif 0xc0 <= marker <= 0xcf and marker not in (0xc4, 0xc8, 0xcc):  # frame headers
            height, width = struct.unpack('>HH', data[position + 5:position + 9])
            # Some decoders fill up what is missing with grey, without an error.
            return (width, height) if data.rfind(b'\xff\xd9') > position else None
        else:
            position += 2 + struct.unpack('>H', data[position + 2:position + 4])[0]
    return None
