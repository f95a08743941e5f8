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
"""Raw image messages of bags as image files, without ROS."""
import io

import cv2
import numpy as np
from PIL import Image

from auv_image_codec.errors import InvalidImageError

# Channels, and how OpenCV makes RGB of them. ROS names the first two pixels of both rows of a
# Bayer pattern, OpenCV the second row's second and third.
ENCODINGS = {
    'mono8': (1, cv2.COLOR_GRAY2RGB), '8UC1': (1, cv2.COLOR_GRAY2RGB),
    'rgb8': (3, None), 'bgr8': (3, cv2.COLOR_BGR2RGB), '8UC3': (3, cv2.COLOR_BGR2RGB),
    'rgba8': (4, cv2.COLOR_RGBA2RGB), 'bgra8': (4, cv2.COLOR_BGRA2RGB),
    '8UC4': (4, cv2.COLOR_BGRA2RGB),
    'bayer_rggb8': (1, cv2.COLOR_BayerBG2RGB), 'bayer_bggr8': (1, cv2.COLOR_BayerRG2RGB),
    'bayer_gbrg8': (1, cv2.COLOR_BayerGR2RGB), 'bayer_grbg8': (1, cv2.COLOR_BayerGB2RGB),
    'uyvy': (2, cv2.COLOR_YUV2RGB_UYVY), 'yuv422': (2, cv2.COLOR_YUV2RGB_UYVY),
    'yuyv': (2, cv2.COLOR_YUV2RGB_YUY2), 'yuv422_yuy2': (2, cv2.COLOR_YUV2RGB_YUY2),
}


def raw_image_to_rgb(message) -> np.ndarray:
    """
    Return the picture of a sensor_msgs/msg/Image, uint8 [height, width, 3], RGB.

    :param message: with the message's fields, ``data`` as bytes or a uint8 array.
    :raises InvalidImageError: if it has no pixels, fewer bytes than it says, or an encoding that
        is not 8 bits a value.
    """
    height, width, step = message.height, message.width, message.step
    if not height or not width:
        raise InvalidImageError(f'the image is {width}x{height}', 'zero_size')
    if message.encoding not in ENCODINGS:
        raise InvalidImageError(
            f'raw images of encoding {message.encoding!r} are not evaluated; these are: '
            f'{", ".join(ENCODINGS)}', 'unknown_encoding')
    channels, conversion = ENCODINGS[message.encoding]
    if step < width * channels:
        raise InvalidImageError(f'rows have {step} bytes, at least {width * channels} are pixels',
                                'short_step')
    data = np.frombuffer(message.data, np.uint8)
    if len(data) < step * height:
        raise InvalidImageError(f'{len(data)} bytes of {step * height}', 'short_data')
    rows = data[:step * height].reshape(height, step)[:, :width * channels]
    pixels = np.ascontiguousarray(rows).reshape(height, width, channels)
    if conversion is None:
        return pixels
    try:
        return cv2.cvtColor(pixels, conversion)
    except cv2.error as error:
        raise InvalidImageError(f'{width}x{height} in {message.encoding}: {error}',
                                'undecodable_image') from error


def raw_image_file(message) -> bytes:
    """
    Return a sensor_msgs/msg/Image as a lossless image file.

    :raises InvalidImageError: as raw_image_to_rgb.
    """
    buffer = io.BytesIO()
    # uncompressed: it is read again at once
    Image.fromarray(raw_image_to_rgb(message)).save(buffer, 'BMP')
    return buffer.getvalue()
