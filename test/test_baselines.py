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
import io

import numpy as np
from PIL import Image
import pytest

from auv_image_codec.codecs.image_file import (
    FORMATS, ImageFileCodec, ImageFileSearch, payload_bytes, SCALES, unavailable_reason)
from auv_image_codec.codecs.packet import OVERHEAD_BYTES
from auv_image_codec.errors import (
    BudgetError, InvalidImageError, LatentError, PacketCorruptError, UnknownCodecError)
from auv_image_codec.evaluation.bags import read_compressed_images
from auv_image_codec.evaluation.metrics import mse
from auv_image_codec.evaluation.sources import decode_image
from auv_image_codec.resources import share_directory

FORMAT_NAMES = [
    pytest.param(name, marks=pytest.mark.skipif(
        unavailable_reason(name) is not None, reason=f'{name}: {unavailable_reason(name)}'))
    for name in FORMATS]
# Of the file itself, by the format's specification.
SIGNATURES = {'jpeg': (0, b'\xff\xd8\xff'), 'webp': (8, b'WEBP'), 'avif': (4, b'ftypavif'),
              'heic': (4, b'ftypheic')}


@pytest.fixture(scope='module')
def frame() -> np.ndarray:
    """Return a frame of the demo bag, 224x224."""
    record = next(read_compressed_images(share_directory() / 'demo' / 'robosub_gate'))
    return decode_image(record.data, 224)


@pytest.mark.parametrize('name', FORMAT_NAMES)
def test_the_best_file_under_the_limit(name, frame):
    """A real file that fits with header and checks, decodes anywhere, and shows the scene."""
    search = ImageFileSearch(frame, name)
    best = search.best(500)
    assert best.counted_bytes == len(best.content) <= 500 - OVERHEAD_BYTES
    offset, signature = SIGNATURES[name]
    assert best.content[offset:offset + len(signature)] == signature
    with Image.open(io.BytesIO(best.content)) as file:
        assert file.size == best.size
        decoded = np.asarray(file.convert('RGB').resize((224, 224), Image.BICUBIC))
    np.testing.assert_array_equal(best.image, decoded)
    grey = np.broadcast_to(frame.mean((0, 1)).astype(np.uint8), frame.shape)
    assert mse(frame, best.image) < mse(frame, grey) / 3
    assert best.encode_ms > 0 and best.decode_ms > 0


@pytest.mark.parametrize('name', FORMAT_NAMES)
def test_more_bytes_are_no_worse(name, frame):
    """The error falls from limit to limit, whichever is asked for first."""
    search = ImageFileSearch(frame, name)
    errors = {limit: mse(frame, search.best(limit).image) for limit in (2000, 500, 900)}
    assert errors[2000] < errors[900] < errors[500]
    assert mse(frame, ImageFileSearch(frame, name).best(900).image) == pytest.approx(
        errors[900], rel=0.05)


@pytest.mark.parametrize('name', ['jpeg', 'webp'])
def test_the_search_misses_little(name, frame):
    """Against every size and quality, tried one by one."""
    picture = Image.fromarray(frame)
    lowest, highest = FORMATS[name].qualities
    least = np.inf
    for scale in SCALES:
        side = round(224 * scale)
        smaller = picture.resize((side, side), Image.LANCZOS)
        for quality in range(lowest, highest + 1):
            file = io.BytesIO()
            smaller.save(file, FORMATS[name].pillow_name, quality=quality,
                         **FORMATS[name].options)
            if len(file.getvalue()) > 500 - OVERHEAD_BYTES:
                break
            decoded = Image.open(file).convert('RGB').resize((224, 224), Image.BICUBIC)
            least = min(least, mse(frame, np.asarray(decoded)))
    assert mse(frame, ImageFileSearch(frame, name).best(500).image) <= 1.01 * least


@pytest.mark.parametrize('name', [p for p in FORMAT_NAMES if FORMATS[p.values[0]].boxed])
def test_payload_only(name, frame):
    """Without its container a file may be larger, and its picture is better."""
    search = ImageFileSearch(frame, name)
    file, payload = search.best(500), search.best(500, payload_only=True)
    assert payload.counted_bytes == payload_bytes(payload.content) <= 500 - OVERHEAD_BYTES
    assert len(payload.content) > 500
    assert mse(frame, payload.image) < mse(frame, file.image)
    # the container is some hundred bytes whatever is in it
    overheads = [len(c.content) - payload_bytes(c.content) for c in (file, payload)]
    assert 100 < min(overheads) and max(overheads) - min(overheads) < 30


def test_payload_of_boxes():
    """Boxes of 32-bit and 64-bit sizes, and one to the end of the file, are told apart."""
    def box(kind: bytes, content: bytes) -> bytes:
        return (8 + len(content)).to_bytes(4, 'big') + kind + content

    head = box(b'ftyp', b'abcd') + box(b'meta', bytes(100))
    assert payload_bytes(head + box(b'mdat', bytes(37))) == 37
    assert payload_bytes(head + box(b'mdat', bytes(3)) + box(b'mdat', bytes(4))) == 7
    assert payload_bytes(head + bytes(4) + b'mdat' + bytes(11)) == 11
    large = (1).to_bytes(4, 'big') + b'mdat' + (16 + 9).to_bytes(8, 'big') + bytes(9)
    assert payload_bytes(large + head) == 9
    for damaged in (head + box(b'mdat', bytes(37))[:-1], head + b'\0\0\0\4mdat'):
        with pytest.raises(ValueError, match='box of'):
            payload_bytes(damaged)


@pytest.mark.parametrize('name', FORMAT_NAMES)
def test_a_limit_that_nothing_fits(name, frame):
    """The smallest file is still too large."""
    with pytest.raises(BudgetError, match='max_bytes is 40'):
        ImageFileSearch(frame, name).best(40)


@pytest.mark.parametrize('shape', [(1, 1), (7, 300), (64, 48)])
@pytest.mark.parametrize('name', FORMAT_NAMES)
def test_odd_shapes(name, shape):
    """Images that are narrow, tiny or not square are coded as well."""
    image = np.random.default_rng(0).integers(0, 255, (*shape, 3), np.uint8)
    best = ImageFileSearch(image, name).best(1000)
    assert best.image.shape == image.shape
    assert best.counted_bytes <= 1000 - OVERHEAD_BYTES


def test_as_a_codec(frame):
    """Encoding, the latent as a payload, and decoding at another size."""
    codec = ImageFileCodec('webp')
    latent = codec.encode(frame, 400)
    assert latent.dtype == np.uint8 and latent.ndim == 1
    assert len(latent) <= 400 - OVERHEAD_BYTES
    payload = codec.payload_from_latent(latent)
    np.testing.assert_array_equal(codec.latent_from_payload(payload), latent)
    decoded = codec.decode(latent, (160, 120))
    assert decoded.shape == (120, 160, 3) and decoded.dtype == np.uint8
    smaller = np.asarray(Image.fromarray(frame).resize((160, 120), Image.LANCZOS))
    assert mse(smaller, decoded) < 0.002


def test_bad_input(frame):
    """What is no image, no file or no format is refused."""
    codec = ImageFileCodec('jpeg')
    with pytest.raises(InvalidImageError):
        codec.encode(frame.astype(np.float32))
    with pytest.raises(LatentError, match='not a picture'):
        codec.decode(np.zeros(100, np.uint8), (8, 8))
    with pytest.raises(LatentError, match='uint8 vector'):
        codec.decode(np.zeros(100), (8, 8))
    for make in (ImageFileCodec, lambda name: ImageFileSearch(frame, name)):
        with pytest.raises(UnknownCodecError, match="'gif' is not known"):
            make('gif')


@pytest.mark.parametrize('name', FORMAT_NAMES)
def test_a_cut_file_is_no_picture(name, frame):
    """A lost frame of the link costs the whole picture."""
    codec = ImageFileCodec(name)
    payload = codec.payload_from_latent(codec.encode(frame))
    with pytest.raises(PacketCorruptError, match=name):
        codec.latent_from_payload_prefix(payload[:-50])
