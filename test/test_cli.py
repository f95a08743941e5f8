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
"""Test the command line on real files with the shipped weights, good input and bad."""
from binascii import crc_hqx
import json
import os
from pathlib import Path
import subprocess
import sys

import cv2
import numpy as np
from PIL import Image
import pytest
from safetensors.numpy import save_file

from weights_harness import copy_weights

from auv_image_codec.atomic_write import write_atomically
from auv_image_codec.cli.files import find_files, output_paths, UsageError
from auv_image_codec.cli.images import load_image
from auv_image_codec.cli.main import main
from auv_image_codec.codecs import create_codec
from auv_image_codec.codecs.packet import HEADER_BYTES, LARGEST_PACKET_BYTES, parse_packet
from auv_image_codec.codecs.weights import read_weights, write_weights
from auv_image_codec.errors import InvalidImageError
from auv_image_codec.evaluation.bags import read_compressed_images
from auv_image_codec.evaluation.metrics import psnr_db
from auv_image_codec.resources import share_directory, weights_directory

SHIPPED = weights_directory('autoencoder')
AUTOENCODER = ('--codec', 'autoencoder')
PREFIX = 'auv-image-codec: '
ORIENTATION = 0x0112
EXIF_TAGS = {
    'DateTimeOriginal': 0x9003, 'OffsetTimeOriginal': 0x9011, 'SubsecTimeOriginal': 0x9291}


@pytest.fixture(scope='session')
def frames() -> list[bytes]:
    """Return three JPEG files of the demo bag."""
    images = list(read_compressed_images(share_directory() / 'demo' / 'robosub_gate'))
    return [images[index].data for index in (0, 40, 80)]


@pytest.fixture(scope='module')
def packet(frames, tmp_path_factory) -> bytes:
    """Return a packet as the command writes it."""
    folder = tmp_path_factory.mktemp('packet')
    (folder / 'a.jpg').write_bytes(frames[0])
    assert main(['encode', str(folder / 'a.jpg'), '-o', str(folder)]) == 0
    return (folder / 'a.auv').read_bytes()


@pytest.fixture(scope='module')
def other_model(tmp_path_factory) -> Path:
    """Return weights of the same codec with another model id."""
    return rewrite_weights(tmp_path_factory.mktemp('other_model'), 'autoencoder')


@pytest.fixture(scope='module')
def other_codec(tmp_path_factory) -> Path:
    """Return weights of a codec that is not the one asked for."""
    return rewrite_weights(tmp_path_factory.mktemp('other_codec'), 'mosaic')


def rewrite_weights(folder: Path, codec: str) -> Path:
    """Write the shipped weights, slightly changed, for a codec of some name."""
    halves = {part: read_weights(SHIPPED, 'autoencoder', part) for part in ('encoder', 'decoder')}
    for half in halves.values():
        half.tensors['quantizer.scale'] *= 1.5
    write_weights(folder, codec, {part: half.network for part, half in halves.items()},
                  {part: half.tensors for part, half in halves.items()})
    return folder


def run(capsys, *arguments) -> tuple[int, list[str], list[str]]:
    """Run a command; return its status, and its lines on standard output and error."""
    capsys.readouterr()
    status = main([str(argument) for argument in arguments])
    output, errors = capsys.readouterr()
    return status, output.splitlines(), errors.splitlines()


def names(folder: Path) -> list[str]:
    """Return the files below a folder, hidden ones too."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob('*') if p.is_file())


# --- Coding and decoding -----------------------------------------------------------------------


def test_there_and_back(tmp_path, capsys, frames):
    """A folder of frames becomes packets within the limit, and pictures of the same scene."""
    source = tmp_path / 'frames'
    source.mkdir()
    for number, frame in enumerate(frames):
        (source / f'{number}.jpg').write_bytes(frame)
    status, output, errors = run(capsys, 'encode', source, '-o', tmp_path / 'packets', '--camera',
                                 5)
    assert (status, errors) == (0, [])
    assert names(tmp_path / 'packets') == ['0.auv', '1.auv', '2.auv']
    codec = create_codec(side='decoder')
    total = 0
    for number in range(3):
        file = tmp_path / 'packets' / f'{number}.auv'
        assert file.stat().st_size <= 500
        total += file.stat().st_size
        header, _ = parse_packet(file.read_bytes(), [codec.model_id])
        assert (header.sequence, header.camera) == (number, 5)
        assert (header.width, header.height) == (640, 480)
        modified_ns = (source / f'{number}.jpg').stat().st_mtime_ns
        assert 0 <= modified_ns - header.stamp_ns < 10**9 / 512
    assert output == [
        f'3 of 3 images coded: {total} bytes, {total / 3:.1f} bytes a packet, '
        f'{224 * 224 * 3 * 3 / total:.0f}:1 against 224x224 RGB, '
        f'{640 * 480 * 3 * 3 / total:.0f}:1 against the images']

    status, output, errors = run(
        capsys, 'decode', tmp_path / 'packets', '-o', tmp_path / 'images')
    assert (status, errors) == (0, [])
    assert output[0].startswith(f'3 of 3 packets decoded: {total} bytes')
    assert names(tmp_path / 'images') == ['0.png', '1.png', '2.png']
    for number in range(3):
        image = np.array(Image.open(tmp_path / 'images' / f'{number}.png'))
        original = np.array(Image.open(source / f'{number}.jpg'))
        assert psnr_db(original, image) > 22


@pytest.mark.parametrize('max_bytes', [500, 300, 100])
def test_max_bytes(tmp_path, capsys, frames, max_bytes):
    """No packet is larger than asked for, and each still decodes."""
    (tmp_path / 'a.jpg').write_bytes(frames[1])
    assert run(capsys, 'encode', tmp_path / 'a.jpg', '-o', tmp_path, '--max-bytes',
               max_bytes)[0] == 0
    assert (tmp_path / 'a.auv').stat().st_size <= max_bytes
    assert run(capsys, 'decode', tmp_path / 'a.auv', '-o', tmp_path)[0] == 0
    assert Image.open(tmp_path / 'a.png').size == (640, 480)


def test_refine(tmp_path, capsys, frames):
    """More time gives another packet of as many bytes, and a codec without says so."""
    (tmp_path / 'a.jpg').write_bytes(frames[1])
    packets = []
    for steps in (0, 2):
        assert run(capsys, 'encode', tmp_path / 'a.jpg', '-o', tmp_path, '--max-bytes', 100,
                   '--refine', steps)[0] == 0
        packets.append((tmp_path / 'a.auv').read_bytes())
    assert len(packets[0]) == len(packets[1]) == 100 and packets[0] != packets[1]
    for arguments, reason in ((['--refine', 1, '--codec', 'autoencoder'], 'has no refinement'),
                              (['--refine', -1], 'must not be negative'),
                              (['--refine-seconds', 'nan'], 'must not be negative')):
        status, _, errors = run(capsys, 'encode', tmp_path / 'a.jpg', '-o', tmp_path, *arguments)
        assert status != 0 and reason in errors[-1]
    assert (tmp_path / 'a.auv').read_bytes() == packets[1]


def test_size(tmp_path, capsys, packet):
    """Decoded images have the size that was asked for."""
    (tmp_path / 'a.auv').write_bytes(packet)
    assert run(capsys, 'decode', tmp_path, '-o', tmp_path, '--size', '320x200')[0] == 0
    with Image.open(tmp_path / 'a.png') as image:
        assert (image.size, image.mode) == ((320, 200), 'RGB')


def test_packets_beside_the_images(tmp_path, capsys, frames):
    """Coding a folder into itself works again and again."""
    (tmp_path / 'a.jpg').write_bytes(frames[0])
    for _ in range(2):
        status, output, errors = run(capsys, 'encode', tmp_path, '-o', tmp_path)
        assert (status, errors) == (0, [])
        assert output[0].startswith('1 of 1 images coded')
    assert names(tmp_path) == ['a.auv', 'a.jpg']


def test_other_weights(tmp_path, capsys, frames, other_model):
    """Images coded with other weights decode with these, and not with the shipped ones."""
    (tmp_path / 'a.jpg').write_bytes(frames[0])
    assert run(capsys, 'encode', tmp_path / 'a.jpg', '-o', tmp_path, '--weights',
               other_model, *AUTOENCODER)[0] == 0
    status, output, errors = run(capsys, 'decode', tmp_path / 'a.auv', '-o', tmp_path / 'images')
    assert status == 1
    assert output == ['0 of 1 packets decoded']
    assert len(errors) == 1 and 'made with a model' in errors[0]
    assert not names(tmp_path / 'images')
    assert run(capsys, 'decode', tmp_path / 'a.auv', '-o', tmp_path / 'images', '--weights',
               other_model)[0] == 0
    assert names(tmp_path / 'images') == ['a.png']


# --- Kinds of images ---------------------------------------------------------------------------

GRADIENT = np.linspace(0, 255, 48, dtype=np.uint8).reshape(6, 8)
COLOUR = np.stack([GRADIENT, GRADIENT[::-1], np.full_like(GRADIENT, 90)], axis=2)
GREY = np.repeat(GRADIENT[:, :, np.newaxis], 3, axis=2)


def save(path: Path, image: Image.Image, **options) -> Path:
    """Save an image file, and return its path."""
    image.save(path, **options)
    return path


def save_16_bits(path: Path, pixels: np.ndarray) -> Path:
    """Save an image file with 16 bits a value."""
    wide = pixels.astype(np.uint16) * 257
    assert cv2.imwrite(str(path), wide if wide.ndim == 2 else wide[:, :, ::-1])
    return path


IMAGE_KINDS = {
    'colour': (COLOUR, lambda d: save(d / 'a.png', Image.fromarray(COLOUR))),
    'grey': (GREY, lambda d: save(d / 'a.png', Image.fromarray(GRADIENT))),
    'grey with alpha': (GREY, lambda d: save(
        d / 'a.png', Image.fromarray(np.dstack([GRADIENT, GRADIENT]), 'LA'))),
    'colour with alpha': (COLOUR, lambda d: save(
        d / 'a.png', Image.fromarray(np.dstack([COLOUR, GRADIENT]), 'RGBA'))),
    'palette': (COLOUR, lambda d: save(
        d / 'a.png', Image.fromarray(COLOUR).quantize(48, dither=0))),
    'black and white': (
        np.where(GREY > 127, 255, 0).astype(np.uint8),
        lambda d: save(d / 'a.png', Image.fromarray(GRADIENT > 127))),
    'grey of 16 bits, PNG': (GREY, lambda d: save_16_bits(d / 'a.png', GRADIENT)),
    'grey of 16 bits, TIFF': (GREY, lambda d: save_16_bits(d / 'a.tif', GRADIENT)),
    'colour of 16 bits, PNG': (COLOUR, lambda d: save_16_bits(d / 'a.png', COLOUR)),
    'colour of 16 bits, TIFF': (COLOUR, lambda d: save_16_bits(d / 'a.tif', COLOUR)),
    'floating point': (GREY, lambda d: save(
        d / 'a.tif', Image.fromarray(GRADIENT.astype(np.float32) / 255))),
    'BMP': (COLOUR, lambda d: save(d / 'a.bmp', Image.fromarray(COLOUR))),
    'WebP': (COLOUR, lambda d: save(d / 'a.webp', Image.fromarray(COLOUR), lossless=True)),
    'animation': (GREY, lambda d: save(
        d / 'a.gif', Image.fromarray(GRADIENT), save_all=True,
        append_images=[Image.fromarray(255 - GRADIENT)])),
}


@pytest.mark.parametrize('kind', IMAGE_KINDS)
def test_kinds_of_images(tmp_path, kind):
    """The pixels are the ones that were saved, whatever the kind of file."""
    expected, make = IMAGE_KINDS[kind]
    pixels = load_image(make(tmp_path)).pixels
    assert pixels.dtype == np.uint8
    assert pixels.shape == expected.shape
    assert np.abs(pixels.astype(int) - expected).max() <= 1


def test_cmyk_jpeg(tmp_path):
    """Print colours come out as about the colours that went in."""
    colour = Image.new('RGB', (16, 16), (200, 100, 50))
    pixels = load_image(save(tmp_path / 'a.jpg', colour.convert('CMYK'), quality=95)).pixels
    assert np.abs(pixels.astype(int) - (200, 100, 50)).max() < 6


@pytest.mark.parametrize('orientation, turned', [
    (3, np.rot90(COLOUR, 2)), (6, np.rot90(COLOUR, 3)), (8, np.rot90(COLOUR))])
def test_rotated_images(tmp_path, orientation, turned):
    """Images come out upright."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    loaded = load_image(save(tmp_path / 'a.png', Image.fromarray(COLOUR), exif=exif))
    assert np.array_equal(loaded.pixels, turned)


@pytest.mark.parametrize('tags, nanoseconds', [
    ({'DateTimeOriginal': '2019:08:01 12:00:00'}, 1564660800 * 10**9),
    ({'DateTimeOriginal': '2019:08:01 12:00:00', 'SubsecTimeOriginal': '25',
      'OffsetTimeOriginal': '+02:00'}, 1564653600 * 10**9 + 250_000_000),
    ({'DateTimeOriginal': '2019:08:01 12:00:00', 'OffsetTimeOriginal': '-07:30'},
     1564687800 * 10**9),
    ({'DateTimeOriginal': '0000:00:00 00:00:00'}, None),
    ({'DateTimeOriginal': 'yesterday'}, None),
    ({}, None),
])
def test_capture_time(tmp_path, tags, nanoseconds):
    """The photograph's own time counts, with its time zone, else the file's."""
    exif = Image.Exif()
    exif.get_ifd(0x8769).update({EXIF_TAGS[name]: value for name, value in tags.items()})
    path = save(tmp_path / 'a.jpg', Image.fromarray(COLOUR), exif=exif)
    modified = 1_700_000_000_123_456_789
    os.utime(path, ns=(modified, modified))
    assert load_image(path).capture_time_ns == (modified if nanoseconds is None else nanoseconds)


def not_an_image(path: Path) -> None:
    """Write a text file."""
    path.write_text('depth 12.5 m')


def cut_image(path: Path) -> None:
    """Write half a JPEG file."""
    save(path, Image.fromarray(np.random.default_rng(1).integers(
        0, 255, (64, 64, 3), np.uint8)), format='JPEG')
    path.write_bytes(path.read_bytes()[:1500])


def not_finite(path: Path) -> None:
    """Write an image of floating point values with a NaN."""
    values = GRADIENT.astype(np.float32) / 255
    values[2, 3] = np.nan
    save(path, Image.fromarray(values), format='TIFF')


BAD_IMAGES = {
    'text': (not_an_image, 'not an image file'),
    'empty': (lambda path: path.write_bytes(b''), 'the file is empty'),
    'cut': (cut_image, 'the image file is damaged'),
    'NaN': (not_finite, 'values that are not finite'),
}


def test_bad_images(tmp_path, capsys, frames):
    """Each file that is no image is named, and the others are coded."""
    source = tmp_path / 'frames'
    source.mkdir()
    (source / 'a.jpg').write_bytes(frames[0])
    for kind, (make, message) in BAD_IMAGES.items():
        make(source / f'bad {kind}.jpg')
        with pytest.raises(InvalidImageError, match=message):
            load_image(source / f'bad {kind}.jpg')
    (source / 'c.jpg').write_bytes(frames[1])
    status, output, errors = run(capsys, 'encode', source, '-o', tmp_path / 'packets')
    assert status == 1
    assert output[0].startswith(f'2 of {len(BAD_IMAGES) + 2} images coded')
    for error, kind in zip(errors, sorted(BAD_IMAGES, key='{}.jpg'.format), strict=True):
        assert error.startswith(f'{PREFIX}encode: {source / f"bad {kind}.jpg"}: ')
        assert BAD_IMAGES[kind][1] in error
    assert names(tmp_path / 'packets') == ['a.auv', 'c.auv']


# --- Bad packets -------------------------------------------------------------------------------


def with_header(packet: bytes, change) -> bytes:
    """Change the header's first three bytes, as a number, and make its check right again."""
    word = change(int.from_bytes(packet[:3], 'little'))
    header = word.to_bytes(3, 'little') + packet[3:HEADER_BYTES]
    check = crc_hqx(header, 0xFFFF).to_bytes(2, 'little')
    return header + check + packet[HEADER_BYTES + 2:]


def flip(packet: bytes, bit: int) -> bytes:
    """Flip one bit."""
    changed = bytearray(packet)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


BAD_PACKETS = {
    'empty': (lambda p: b'', 'packet has 0 bytes'),
    'cut in the header': (lambda p: p[:9], 'packet has 9 bytes'),
    'cut in the payload': (lambda p: p[:-20], 'payload check'),
    'with bytes after it': (lambda p: p + b'\0\0', 'payload check'),
    'flipped bit in the header': (lambda p: flip(p, 8 * 5), 'header check'),
    'flipped bit in the header check': (lambda p: flip(p, 8 * 12 + 3), 'header check'),
    'flipped bit in the payload check': (lambda p: flip(p, 8 * 14 + 3), 'payload check'),
    'flipped bit in the payload': (lambda p: flip(p, 8 * len(p) - 9), 'payload check'),
    'a JPEG file': (lambda p: b'\xff\xd8\xff\xe0\0\x10JFIF\0\1\1' + bytes(100), 'version'),
    'text': (lambda p: b'depth 12.5 m, heading 90 degrees', 'version'),
    'another version': (lambda p: with_header(p, lambda w: w & ~7 | 2),
                        'packet format version is 2'),
    'another codec': (lambda p: with_header(p, lambda w: w | 15 << 3), 'codec number 15'),
    'another model': (lambda p: with_header(p, lambda w: w ^ 1 << 15), 'made with a model'),
    'too large': (lambda p: p + bytes(LARGEST_PACKET_BYTES), 'at most'),
}


def test_bad_packets(tmp_path, capsys, packet):
    """Each bad packet gives one clear line and no image, and the others decode."""
    source = tmp_path / 'packets'
    source.mkdir()
    (source / 'a.auv').write_bytes(packet)
    for kind, (make, _) in BAD_PACKETS.items():
        (source / f'bad {kind}.auv').write_bytes(make(packet))
    (source / 'c.auv').write_bytes(packet)
    status, output, errors = run(capsys, 'decode', source, '-o', tmp_path / 'images')
    assert status == 1
    assert output[0].startswith(f'2 of {len(BAD_PACKETS) + 2} packets decoded')
    kinds = sorted(BAD_PACKETS, key='{}.auv'.format)
    for error, kind in zip(errors, kinds, strict=True):
        assert error.startswith(f'{PREFIX}decode: {source / f"bad {kind}.auv"}: ')
        assert BAD_PACKETS[kind][1] in error
    assert names(tmp_path / 'images') == ['a.png', 'c.png']

    # A packet says itself whether it is whole, but not whether these are its weights.
    status, output, errors = run(capsys, 'info', source)
    assert status == 1
    kinds.remove('another model')
    assert [error.split('/bad ')[1].split('.auv')[0] for error in errors] == kinds
    assert sum('payload check        passed' in line for line in output) == 2


# --- Weights -----------------------------------------------------------------------------------


def test_missing_weights(tmp_path, capsys, frames, packet):
    """The message names the file that should be there."""
    (tmp_path / 'a.jpg').write_bytes(frames[0])
    (tmp_path / 'a.auv').write_bytes(packet)
    nowhere = tmp_path / 'nowhere'
    for command, source in (('encode', 'a.jpg'), ('decode', 'a.auv')):
        status, _, errors = run(capsys, command, tmp_path / source, '-o', tmp_path / 'out',
                                '--weights', nowhere)
        assert status == 1
        assert len(errors) == 1
        assert str(nowhere / 'context.safetensors') in errors[0]
        assert 'No such file' in errors[0]
    assert not names(tmp_path / 'out')


def test_weights_of_another_codec(tmp_path, capsys, frames, other_codec):
    """The message names both codecs."""
    (tmp_path / 'a.jpg').write_bytes(frames[0])
    assert main(['encode', str(tmp_path / 'a.jpg'), '-o', str(tmp_path), *AUTOENCODER]) == 0
    for command, source, codec in (('encode', 'a.jpg', AUTOENCODER), ('decode', 'a.auv', ())):
        status, _, errors = run(capsys, command, tmp_path / source, '-o', tmp_path / 'out',
                                '--weights', other_codec, *codec)
        assert status == 1
        assert len(errors) == 1
        assert "'mosaic'" in errors[0] and "'autoencoder'" in errors[0]
    assert not names(tmp_path / 'out')


def test_damaged_weights(tmp_path, capsys, frames):
    """A file that is not what its name says is one line, not a traceback."""
    (tmp_path / 'a.jpg').write_bytes(frames[0])
    (tmp_path / 'context.safetensors').write_bytes(b'not tensors' * 10)
    status, _, errors = run(capsys, 'encode', tmp_path / 'a.jpg', '-o', tmp_path / 'out',
                            '--weights', tmp_path)
    assert status == 1
    assert len(errors) == 1 and 'not a safetensors file' in errors[0]


# --- Files -------------------------------------------------------------------------------------


def touch(folder: Path, *files: str) -> Path:
    """Create empty files below a folder."""
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()
    return folder


def test_output_names(tmp_path):
    """No two inputs share an output, and folders keep their structure."""
    one = touch(tmp_path / 'one', 'a.jpg', 'a.png', 'b.jpg', 'sub/a.jpg', 'C.JPG', 'c.png',
                '.hidden.jpg', '.cache/d.jpg')
    inputs = find_files([one])
    outputs = [str(p) for p in output_paths(inputs, Path('out'), '.auv')]
    assert dict(zip((str(f.relative) for f in inputs), outputs)) == {
        'a.jpg': 'out/a.jpg.auv', 'a.png': 'out/a.png.auv', 'b.jpg': 'out/b.auv',
        'sub/a.jpg': 'out/sub/a.auv', 'C.JPG': 'out/C.JPG.auv', 'c.png': 'out/c.png.auv'}

    two = touch(tmp_path / 'two', 'a.jpg', 'b.jpg')
    inputs = find_files([one, two, two / 'b.jpg'])
    outputs = [str(p).casefold() for p in output_paths(inputs, Path('out'), '.auv')]
    assert len(set(outputs)) == len(outputs) == 9


def test_two_files_of_the_same_stem(tmp_path, capsys):
    """Two images become two packets, and two images again."""
    source = tmp_path / 'frames'
    source.mkdir()
    save(source / 'a.png', Image.new('RGB', (64, 48), (200, 30, 30)))
    save(source / 'a.bmp', Image.new('RGB', (32, 24), (30, 30, 200)))
    assert run(capsys, 'encode', source, '-o', tmp_path / 'packets')[0] == 0
    assert run(capsys, 'decode', tmp_path / 'packets', '-o', tmp_path / 'images')[0] == 0
    assert names(tmp_path / 'images') == ['a.bmp.png', 'a.png.png']
    assert Image.open(tmp_path / 'images' / 'a.bmp.png').size == (32, 24)
    assert Image.open(tmp_path / 'images' / 'a.png.png').size == (64, 48)


def test_a_picture_of_yours_is_not_replaced(tmp_path, capsys, packet):
    """An output is replaced if this command wrote it, or by order."""
    (tmp_path / 'a.auv').write_bytes(packet)
    original = save(tmp_path / 'a.png', Image.fromarray(COLOUR)).read_bytes()
    decode = ('decode', tmp_path / 'a.auv', '-o', tmp_path)
    status, _, errors = run(capsys, *decode)
    assert status == 1
    assert len(errors) == 1 and '--overwrite' in errors[0]
    assert (tmp_path / 'a.png').read_bytes() == original
    assert run(capsys, *decode, '--overwrite')[0] == 0
    assert Image.open(tmp_path / 'a.png').size == (640, 480)
    assert run(capsys, *decode, '--size', '8x8')[0] == 0
    assert Image.open(tmp_path / 'a.png').size == (8, 8)


def test_files_are_written_whole_or_not_at_all(tmp_path):
    """A failure leaves the folder as it was."""
    write_atomically(tmp_path / 'sub' / 'a', b'first')
    write_atomically(tmp_path / 'sub' / 'a', b'second')
    assert (tmp_path / 'sub' / 'a').read_bytes() == b'second'
    mask = os.umask(0)
    os.umask(mask)
    assert (tmp_path / 'sub' / 'a').stat().st_mode & 0o777 == 0o666 & ~mask
    (tmp_path / 'folder').mkdir()
    with pytest.raises(OSError):
        write_atomically(tmp_path / 'folder', b'data')
    assert names(tmp_path) == ['sub/a']


@pytest.mark.parametrize('make, message', [
    (lambda d: d / 'nowhere', 'no such file'), (lambda d: d, 'no file to work on')])
def test_nothing_to_work_on(tmp_path, make, message):
    """A path that leads to no file is a mistake in the arguments."""
    with pytest.raises(UsageError, match=message):
        find_files([make(tmp_path)])


# --- info --------------------------------------------------------------------------------------


def test_info_of_a_packet(tmp_path, capsys, packet, other_model):
    """All fields show, and whether the checks passed."""
    (tmp_path / 'a.auv').write_bytes(packet)
    model_id = create_codec(side='decoder').model_id
    status, output, errors = run(capsys, 'info', tmp_path / 'a.auv', '--json')
    assert (status, errors) == (0, [])
    [description] = json.loads('\n'.join(output))
    assert description['kind'] == 'packet'
    assert description['bytes'] == len(packet) == (
        description['header_bytes'] + description['check_bytes'] + description['payload_bytes'])
    assert description['model_id'] == f'{model_id:08x}'
    assert [description[key] for key in (
        'codec', 'version', 'camera', 'sequence', 'width', 'height', 'header_check',
        'payload_check')] == ['wavelet', 1, 0, 0, 640, 480, 'passed', 'passed']

    status, output, _ = run(capsys, 'info', tmp_path / 'a.auv')
    assert status == 0
    text = '\n'.join(output)
    for word in ('wavelet', f'{model_id:08x}', '640', '480', 'sequence', 'capture time'):
        assert word in text

    status, output, errors = run(capsys, 'info', tmp_path / 'a.auv', '--json', '--weights',
                                 other_model)
    assert (status, errors) == (0, [])
    [description] = json.loads('\n'.join(output))
    assert description['payload_check'] == 'not possible'
    assert description['model_id_bits'] == 13
    assert int(description['model_id'], 16) >> 19 == model_id >> 19


def test_info_of_weights(tmp_path, capsys):
    """Codec, part and model id show, the same for both halves."""
    status, output, errors = run(capsys, 'info', SHIPPED, '--json')
    assert (status, errors) == (0, [])
    described = {d['part']: d for d in json.loads('\n'.join(output))}
    assert set(described) == {'encoder', 'decoder'}
    model_id = f'{create_codec("autoencoder", side="decoder").model_id:08x}'
    for description in described.values():
        assert description['kind'] == 'weights'
        assert description['codec'] == 'autoencoder'
        assert description['model_id'] == model_id
        assert description['bytes'] == Path(description['file']).stat().st_size
        assert description['values'] > 1e6


def test_info_of_weights_with_one_part_that_identifies_them(capsys):
    """The entropy model is what a packet depends on; the surface's network is not."""
    status, output, errors = run(capsys, 'info', weights_directory('wavelet'), '--json')
    assert (status, errors) == (0, [])
    described = {d['part']: d for d in json.loads('\n'.join(output))}
    assert described['context']['model_id'] == f'{create_codec(side="encoder").model_id:08x}'
    assert described['restoration']['model_id'] is None


def test_info_of_halves_that_do_not_belong_together(tmp_path, capsys, other_model):
    """A mix of two models is found before it is used."""
    copy_weights(tmp_path)
    (tmp_path / 'decoder.safetensors').write_bytes(
        (other_model / 'decoder.safetensors').read_bytes())
    status, _, errors = run(capsys, 'info', tmp_path)
    assert status == 1
    assert len(errors) == 1 and 'belongs to model' in errors[0]


def test_info_of_something_else(tmp_path, capsys, packet):
    """What is neither a packet nor weights is named, and the rest is shown."""
    (tmp_path / 'a.auv').write_bytes(packet)
    (tmp_path / 'b.safetensors').write_bytes(b'not tensors' * 10)
    (tmp_path / 'c.auv').write_bytes(b'short')
    save_file({'values': np.zeros(3)}, tmp_path / 'd.safetensors')
    status, output, errors = run(capsys, 'info', tmp_path, '--json')
    assert status == 1
    for name, reason, error in zip(
            ('b.safetensors', 'c.auv', 'd.safetensors'),
            ('not a safetensors file', 'packet has 5 bytes', 'not of this package'), errors,
            strict=True):
        assert error.startswith(f'{PREFIX}info: {tmp_path / name}: ')
        assert reason in error
    described = json.loads('\n'.join(output))
    assert ['error' in d for d in described] == [False, True, True, True]


# --- Usage -------------------------------------------------------------------------------------


@pytest.mark.parametrize('arguments, message', [
    (['encode', 'FRAME'], '-o'),
    (['encode', '-o', 'out'], 'IMAGE_OR_FOLDER'),
    (['encode', 'nowhere.jpg', '-o', 'out'], 'nowhere.jpg: no such file'),
    (['encode', 'FRAME', '-o', 'FRAME'], '-o takes a folder'),
    (['encode', 'FRAME', '-o', 'out', '--codec', 'mosaic'], "codec 'mosaic' is not known"),
    (['encode', 'FRAME', '-o', 'out', '--max-bytes', '17'], 'max_bytes is 17'),
    (['encode', 'FRAME', '-o', 'out', '--max-bytes', 'many'], '--max-bytes'),
    (['encode', 'FRAME', '-o', 'out', '--camera', '8'], '--camera must be 0 to 7'),
    (['encode', 'FRAME', '-o', 'out', '--device', 'abacus'], 'cannot compute on device abacus'),
    (['decode', 'nowhere', '-o', 'out'], 'nowhere: no such file'),
    (['decode', 'FRAME', '-o', 'out', '--size', '640'], 'is not a size'),
    (['decode', 'FRAME', '-o', 'out', '--size', '0x480'], 'is not a size'),
    (['decode', 'FRAME', '-o', 'out', '--size', '99999x9'], 'at most 16384'),
    (['info'], 'FILE'),
    (['info', 'FRAME', '--weights', 'nowhere'], 'nowhere: no such folder'),
    (['transmogrify'], 'invalid choice'),
    ([], 'COMMAND'),
])
def test_wrong_usage(tmp_path, monkeypatch, capsys, frames, arguments, message):
    """A mistake in the arguments ends with status 2, and a message that says which."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'frame.jpg').write_bytes(frames[0])
    arguments = ['frame.jpg' if a == 'FRAME' else a for a in arguments]
    try:
        status = main(arguments)
    except SystemExit as leaving:  # how argparse ends
        status = leaving.code
    assert status == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert 'Traceback' not in errors
    assert names(tmp_path) == ['frame.jpg']


def test_help_imports_nothing_heavy():
    """Help, and mistakes in the arguments, need not wait for torch or ROS."""
    script = (
        'import sys\n'
        'from auv_image_codec.cli.main import build_parser\n'
        'build_parser()[0].format_help()\n'
        'print(*sorted({"torch", "rclpy", "numpy", "cv2", "PIL", "rosbags"} & set(sys.modules)))')
    result = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True,
                            check=True)
    assert result.stdout.strip() == ''


def test_reader_that_goes_away(tmp_path, packet):
    """Output into a closed pipe ends quietly."""
    (tmp_path / 'a.auv').write_bytes(packet)
    reading, writing = os.pipe()
    os.close(reading)
    result = subprocess.run(
        [sys.executable, '-m', 'auv_image_codec.cli.main', 'info', tmp_path / 'a.auv'],
        stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (result.returncode, result.stderr) == (1, '')


def test_as_a_process(tmp_path, frames):
    """The exit status reaches the shell, and standard error has no traceback."""
    (tmp_path / 'a.jpg').write_bytes(frames[0])
    (tmp_path / 'b.txt').write_text('no image')
    command = [sys.executable, '-m', 'auv_image_codec.cli.main']
    result = subprocess.run([*command, 'encode', tmp_path, '-o', tmp_path / 'out'],
                            capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        f'{PREFIX}encode: {tmp_path / "b.txt"}: not an image file']
    assert result.stdout.startswith('1 of 2 images coded')
    result = subprocess.run([*command, '--version'], capture_output=True, text=True)
    assert result.returncode == 0
    assert result.stdout.startswith('auv-image-codec ')
