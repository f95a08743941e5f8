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
"""Image messages to RGB: every encoding, padding, byte order, and everything that is refused."""
import array
import struct
import zlib

import numpy as np

import pytest

pytest.importorskip('sensor_msgs', reason='sensor_msgs is not installed: no image messages')
pytest.importorskip('cv_bridge', reason='cv_bridge is not installed')

import cv2  # noqa: I100, E402

from sensor_msgs.msg import CompressedImage, Image  # noqa: E402
from std_msgs.msg import Header  # noqa: E402

from auv_image_codec.errors import InvalidImageError  # noqa: E402
from auv_image_codec.nodes.image_conversion import (  # noqa: E402
    compressed_image_to_rgb, image_to_rgb, rgb_to_image, SUPPORTED_ENCODINGS)

HEIGHT, WIDTH = 6, 10
RGB = np.random.default_rng(5).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
GREY = RGB[:, :, 0]
GREY_RGB = np.repeat(GREY[:, :, None], 3, axis=2)
ALPHA = RGB[:, :, :1]
COLOR = (200, 100, 30)


def mosaic(pattern, dtype=np.uint8, scale=1, height=HEIGHT, width=WIDTH):
    """Return what a sensor with a Bayer pattern sees of a surface of one colour."""
    values = dict(zip('rgb', COLOR))
    image = np.zeros((height, width), dtype)
    for row in range(2):
        for column in range(2):
            image[row::2, column::2] = values[pattern[2 * row + column]] * scale
    return image


def image_message(pixels, encoding, padding=0, big_endian=False):
    """Return an image message whose rows have padding bytes of 0xAA at their end."""
    height, width = pixels.shape[:2]
    if pixels.dtype.itemsize > 1:
        pixels = pixels.astype(pixels.dtype.newbyteorder('>' if big_endian else '<'))
    rows = np.frombuffer(pixels.tobytes(), np.uint8).reshape(height, -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=0xAA)
    message = Image(height=height, width=width, encoding=encoding, step=rows.shape[1],
                    is_bigendian=int(big_endian))
    message.data = array.array('B', rows.tobytes())
    return message


def sixteen(pixels):
    return pixels.astype(np.uint16) * 257


FLAT = np.broadcast_to(np.uint8(COLOR), (HEIGHT, WIDTH, 3))
CASES = {
    'rgb8': (RGB, RGB),
    'bgr8': (RGB[:, :, ::-1], RGB),
    'rgba8': (np.dstack([RGB, ALPHA]), RGB),
    'bgra8': (np.dstack([RGB[:, :, ::-1], ALPHA]), RGB),
    'mono8': (GREY, GREY_RGB),
    '8UC1': (GREY, GREY_RGB),
    '8UC3': (RGB[:, :, ::-1], RGB),
    '8UC4': (np.dstack([RGB[:, :, ::-1], ALPHA]), RGB),
    'mono16': (sixteen(GREY), GREY_RGB),
    '16UC1': (sixteen(GREY), GREY_RGB),
    '16UC3': (sixteen(RGB[:, :, ::-1]), RGB),
    'rgb16': (sixteen(RGB), RGB),
    'bgr16': (sixteen(RGB[:, :, ::-1]), RGB),
    'rgba16': (sixteen(np.dstack([RGB, ALPHA])), RGB),
    'bgra16': (sixteen(np.dstack([RGB[:, :, ::-1], ALPHA])), RGB),
    '32FC1': ((GREY / 255).astype(np.float32), GREY_RGB),
    '32FC3': ((RGB[:, :, ::-1] / 255).astype(np.float32), RGB),
}
for _pattern in ('rggb', 'bggr', 'gbrg', 'grbg'):
    CASES[f'bayer_{_pattern}8'] = (mosaic(_pattern), FLAT)
    CASES[f'bayer_{_pattern}16'] = (mosaic(_pattern, np.uint16, 257), FLAT)
# Grey surfaces: chroma 128, and luminance in video range (16 to 235).
_luminance = np.uint8([[16, 235] * (WIDTH // 2)] * HEIGHT)
_chroma = np.full_like(_luminance, 128)
_steps = np.repeat(np.uint8([[0, 255] * (WIDTH // 2)] * HEIGHT)[:, :, None], 3, axis=2)
for _encoding in ('uyvy', 'yuv422'):
    CASES[_encoding] = (np.dstack([_chroma, _luminance]), _steps)
for _encoding in ('yuyv', 'yuv422_yuy2'):
    CASES[_encoding] = (np.dstack([_luminance, _chroma]), _steps)


def test_every_supported_encoding_has_a_case():
    assert set(CASES) == set(SUPPORTED_ENCODINGS)


@pytest.mark.parametrize('big_endian', [False, True])
@pytest.mark.parametrize('padding', [0, 1, 7, 12])
@pytest.mark.parametrize('encoding', sorted(CASES))
def test_every_encoding_with_any_padding_and_byte_order(encoding, padding, big_endian):
    pixels, expected = CASES[encoding]
    rgb = image_to_rgb(image_message(pixels, encoding, padding, big_endian))
    assert rgb.dtype == np.uint8
    np.testing.assert_array_equal(rgb, expected)


def test_yuv_colour_order():
    # Reddish: Cr above, Cb below the middle. UYVY keeps Cb in its first byte.
    pair = np.uint8([[[90, 100], [200, 100]] * (WIDTH // 2)] * HEIGHT)
    red, _, blue = image_to_rgb(image_message(pair, 'uyvy'))[2, 2].astype(int)
    assert red > blue + 50
    red, _, blue = image_to_rgb(image_message(pair[:, :, ::-1], 'yuyv'))[2, 2].astype(int)
    assert red > blue + 50


def test_sixteen_bits_are_rounded_over_the_full_range():
    values = np.uint16([[0, 128, 129, 257, 32768, 65406, 65407, 65535]])
    rgb = image_to_rgb(image_message(values, 'mono16'))
    np.testing.assert_array_equal(rgb[0, :, 0], np.rint(values[0] / 257.0))
    assert rgb[0, -1, 0] == 255


def test_floats_outside_of_their_range_are_clipped():
    values = np.float32([[-3.0, 0.0, 0.5, 1.0, 40.0]])
    assert image_to_rgb(image_message(values, '32FC1'))[0, :, 0].tolist() == [0, 0, 128, 255, 255]


def test_data_may_be_longer_than_the_image():
    message = image_message(RGB, 'bgr8')
    message.data = message.data + array.array('B', bytes(100))
    np.testing.assert_array_equal(image_to_rgb(message), RGB[:, :, ::-1])


def changed(encoding='rgb8', pixels=RGB, **fields):
    message = image_message(pixels, encoding)
    for name, value in fields.items():
        setattr(message, name, value)
    return message


def not_finite(value):
    pixels = (GREY / 255).astype(np.float32)
    pixels[3, 4] = value
    return image_message(pixels, '32FC1')


BAD_IMAGES = {
    'nothing at all': (Image(), 'zero_size', '0x0'),
    'zero width': (changed(width=0), 'zero_size', '0x6'),
    'zero height': (changed(height=0), 'zero_size', '10x0'),
    'no data': (changed(data=array.array('B')), 'empty_image', '10x6'),
    'unknown encoding': (changed(encoding='rgb9'), 'unknown_encoding', 'rgb9'),
    'no encoding': (changed(encoding=''), 'unknown_encoding', "''"),
    'depth in an unknown encoding': (changed(encoding='64FC1'), 'unknown_encoding', '64FC1'),
    'a very long encoding': (changed(encoding='x' * 10000), 'unknown_encoding', 'xxx'),
    'short data': (changed(data=array.array('B', bytes(179))), 'short_data', '180'),
    'rows that overlap': (changed(step=29), 'short_step', '30'),
    'step of zero': (changed(step=0), 'short_step', '30'),
    'step beyond the data': (changed(step=31), 'short_data', '186'),
    'huge step': (changed(step=2 ** 32 - 1), 'short_data', '180'),
    'more pixels than allowed': (changed(width=65535, height=65535), 'image_too_large', '4294836'),
    'a side beyond 16 bits': (changed(width=65536, height=1), 'image_too_large', '65535'),
    'a side near 32 bits': (changed(width=2 ** 32 - 1, height=2 ** 32 - 1), 'image_too_large',
                            '65535'),
    'odd width of a YUV image': (changed(encoding='uyvy', width=9), 'odd_width', '9'),
    'Bayer image of one row': (changed(encoding='bayer_rggb8', height=1), 'image_too_small',
                               '3x3'),
    'not a number': (not_finite(np.nan), 'not_finite', 'row 3, column 4'),
    'infinite': (not_finite(np.inf), 'not_finite', 'row 3, column 4'),
    'minus infinite': (not_finite(-np.inf), 'not_finite', 'row 3, column 4'),
}


@pytest.mark.parametrize('name', sorted(BAD_IMAGES))
def test_bad_images_are_refused_with_value_and_limit(name):
    message, kind, words = BAD_IMAGES[name]
    with pytest.raises(InvalidImageError) as caught:
        image_to_rgb(message)
    assert caught.value.kind == kind
    assert words in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_limit_of_pixels_is_the_callers():
    message = image_message(RGB, 'rgb8')
    assert image_to_rgb(message, max_pixels=HEIGHT * WIDTH).shape == RGB.shape
    with pytest.raises(InvalidImageError, match='59'):
        image_to_rgb(message, max_pixels=HEIGHT * WIDTH - 1)


# --- Compressed images -------------------------------------------------------------------------

def compressed(picture, extension='.png', image_format='png'):
    """Return a compressed message; picture in OpenCV's channel order."""
    return CompressedImage(
        format=image_format, data=array.array('B', cv2.imencode(extension, picture)[1].tobytes()))


BGR = np.ascontiguousarray(RGB[:, :, ::-1])


@pytest.mark.parametrize('image_format', [
    'png', 'PNG', '', 'rgb8; png compressed bgr8', 'bgr8; png compressed bgr8',
    'bgr8;png compressed bgr8', 'rgb8; png compressed ', 'jpeg'])
def test_png_in_every_way_that_its_format_is_written(image_format):
    np.testing.assert_array_equal(
        compressed_image_to_rgb(compressed(BGR, image_format=image_format)), RGB)


@pytest.mark.parametrize('image_format', [
    'jpeg', 'jpg', 'rgb8; jpeg compressed bgr8', 'bgr8; jpeg compressed bgr8'])
def test_jpeg_in_every_way_that_its_format_is_written(image_format):
    smooth = cv2.resize(BGR, (160, 120), interpolation=cv2.INTER_CUBIC)
    rgb = compressed_image_to_rgb(compressed(smooth, '.jpg', image_format))
    assert rgb.shape == (120, 160, 3)
    difference = np.abs(rgb.astype(int) - smooth[:, :, ::-1])
    assert difference.mean() < 5


def test_publishers_that_compress_rgb_as_bgr_are_believed():
    message = compressed(RGB, image_format='rgb8; png compressed rgb8')
    np.testing.assert_array_equal(compressed_image_to_rgb(message), RGB)


@pytest.mark.parametrize('image_format', ['mono8; png compressed ', 'png', 'mono8;png compressed'])
def test_grey_png(image_format):
    np.testing.assert_array_equal(
        compressed_image_to_rgb(compressed(GREY, image_format=image_format)), GREY_RGB)


def test_sixteen_bit_and_transparent_png():
    message = compressed(sixteen(GREY), image_format='mono16; png compressed')
    np.testing.assert_array_equal(compressed_image_to_rgb(message), GREY_RGB)
    message = compressed(np.dstack([BGR, np.full_like(ALPHA, 255)]))
    np.testing.assert_array_equal(compressed_image_to_rgb(message), RGB)


@pytest.mark.parametrize('pattern', ['rggb', 'bggr', 'gbrg', 'grbg'])
def test_bayer_mosaic_in_a_grey_png(pattern):
    message = compressed(mosaic(pattern), image_format=f'bayer_{pattern}8; png compressed ')
    np.testing.assert_array_equal(compressed_image_to_rgb(message), FLAT)


def test_rotation_tags_are_left_alone():
    jpeg = cv2.imencode('.jpg', np.zeros((20, 40, 3), np.uint8))[1].tobytes()
    tag = struct.pack('<HHI4s', 0x0112, 3, 1, struct.pack('<HH', 6, 0))  # rotate by 90 degrees
    exif = b'Exif\0\0II*\0\x08\0\0\0' + struct.pack('<H', 1) + tag + b'\0\0\0\0'
    jpeg = jpeg[:2] + b'\xff\xe1' + struct.pack('>H', len(exif) + 2) + exif + jpeg[2:]
    message = CompressedImage(format='jpeg', data=array.array('B', jpeg))
    assert compressed_image_to_rgb(message).shape == (20, 40, 3)


def raw(data, image_format='png'):
    return CompressedImage(format=image_format, data=array.array('B', data))


def png_claiming(width, height):
    """Return a valid PNG header for a size, with a few bytes of image data."""
    def chunk(kind, data):
        return (struct.pack('>I', len(data)) + kind + data
                + struct.pack('>I', zlib.crc32(kind + data)))
    return (b'\x89PNG\r\n\x1a\n'
            + chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0))
            + chunk(b'IDAT', zlib.compress(bytes(1000))) + chunk(b'IEND', b''))


def jpeg_claiming(width, height):
    """Return a JPEG whose frame header names another size."""
    jpeg = bytearray(cv2.imencode('.jpg', np.zeros((16, 16, 3), np.uint8))[1].tobytes())
    frame = jpeg.index(b'\xff\xc0')
    jpeg[frame + 5:frame + 9] = struct.pack('>HH', height, width)
    return bytes(jpeg)


PNG = cv2.imencode('.png', BGR)[1].tobytes()
JPEG = cv2.imencode('.jpg', cv2.resize(BGR, (160, 120)))[1].tobytes()
BAD_COMPRESSED = {
    'no data': (raw(b''), 'empty_image', 'no data'),
    'text': (raw(b'hello, this is no image'), 'unknown_format', 'JPEG and PNG'),
    'a bitmap': (raw(cv2.imencode('.bmp', BGR)[1].tobytes()), 'unknown_format', '424d'),
    'compressed depth': (raw(bytes(12) + PNG, '32FC1; compressedDepth png'), 'unknown_format',
                         'compressedDepth'),
    'half a PNG': (raw(PNG[:len(PNG) // 2]), 'undecodable_image', 'damaged'),
    'a PNG signature': (raw(PNG[:8]), 'undecodable_image', 'cut off'),
    'half a JPEG': (raw(JPEG[:len(JPEG) // 2]), 'undecodable_image', 'cut off'),
    'a JPEG without its end': (raw(JPEG[:-2]), 'undecodable_image', 'cut off'),
    'two bytes of a JPEG': (raw(JPEG[:3]), 'undecodable_image', 'cut off'),
    'a JPEG with garbage for a header': (raw(JPEG[:4] + bytes(500)), 'undecodable_image',
                                         'cut off'),
    'a damaged PNG': (raw(PNG[:60] + bytes(20) + PNG[80:]), 'undecodable_image', 'damaged'),
    'a PNG bomb': (raw(png_claiming(50000, 50000)), 'image_too_large', '2500000000'),
    'a wide PNG bomb': (raw(png_claiming(2 ** 31 - 1, 1)), 'image_too_large', '65535'),
    'a JPEG bomb': (raw(jpeg_claiming(65000, 65000)), 'image_too_large', '4225000000'),
    'a PNG of no size': (raw(png_claiming(0, 10)), 'zero_size', '0x10'),
    'a JPEG of no size': (raw(jpeg_claiming(10, 0)), 'zero_size', '10x0'),
}


@pytest.mark.parametrize('name', sorted(BAD_COMPRESSED))
def test_bad_compressed_images_are_refused(name):
    message, kind, words = BAD_COMPRESSED[name]
    with pytest.raises(InvalidImageError) as caught:
        compressed_image_to_rgb(message)
    assert caught.value.kind == kind
    assert words in str(caught.value)


def test_any_prefix_and_any_flipped_bit_gives_an_image_or_a_refusal():
    generator = np.random.default_rng(11)
    for data in (PNG, JPEG):
        for _ in range(150):
            damaged = bytearray(data[:generator.integers(1, len(data) + 1)])
            damaged[generator.integers(len(damaged))] ^= 1 << generator.integers(8)
            try:
                rgb = compressed_image_to_rgb(raw(bytes(damaged)), max_pixels=10 ** 6)
            except InvalidImageError:
                continue
            assert rgb.dtype == np.uint8 and rgb.ndim == 3 and rgb.shape[2] == 3


# --- Back to messages --------------------------------------------------------------------------

def test_array_to_message_and_back():
    header = Header(frame_id='front_camera_optical')
    header.stamp.sec, header.stamp.nanosec = 1700000000, 999999999
    message = rgb_to_image(RGB, header)
    assert (message.width, message.height, message.step) == (WIDTH, HEIGHT, 3 * WIDTH)
    assert (message.encoding, message.is_bigendian) == ('rgb8', 0)
    assert message.header == header
    np.testing.assert_array_equal(image_to_rgb(message), RGB)


def test_arrays_that_are_not_contiguous():
    message = rgb_to_image(RGB[::2, ::-1], Header())
    np.testing.assert_array_equal(image_to_rgb(message), RGB[::2, ::-1])


@pytest.mark.parametrize('pixels', [
    RGB.astype(np.float32), GREY, np.dstack([RGB, ALPHA]), RGB[:0], RGB[None]])
def test_other_arrays_are_refused(pixels):
    with pytest.raises(InvalidImageError):
        rgb_to_image(pixels, Header())
