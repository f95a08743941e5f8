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
"""Images to evaluate with: from folders, single files, tar files and bags."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
import io
from itertools import islice
import os
from pathlib import Path
import tarfile

import numpy as np
from PIL import Image, ImageOps

from auv_image_codec.errors import AuvImageCodecError, InvalidImageError

BAG_SUFFIXES = ('.mcap', '.db3')


class SourceError(AuvImageCodecError):
    """A source that does not exist, cannot be read, or holds no image."""

    kind = 'source'


@dataclass(frozen=True)
class SourceImage:
    """
    One image file of a source.

    :param name: unique among all images of an evaluation.
    :param read: returns the file's bytes; raises OSError, SourceError or BagError if it cannot.
    :param file_bytes: size of the file, None where only reading it would tell.
    """

    name: str
    read: Callable[[], bytes]
    file_bytes: int | None = None


def list_images(paths: Iterable[Path], limit: int | None = None,
                topic: str | None = None) -> list[SourceImage]:
    """
    Return the images of the sources, without decoding them.

    A folder is searched with its subfolders, in the order of names; a tar file and a bag are taken
    in the order that they have. Hidden files are left out.

    :param limit: the largest number of images, the first ones, in all.
    :param topic: of bags; by default every topic of images, compressed or raw, but no raw one
        whose compressed images are there too.
    :raises SourceError: if a source does not exist, cannot be read or holds no file.
    :raises BagError: if a bag cannot be read or has no such topic.
    """
    images: list[SourceImage] = []
    taken: set[str] = set()
    for path in map(Path, paths):
        remaining = None if limit is None else limit - len(images)
        if remaining == 0:
            break
        found = list(islice(_list_source(path, topic), remaining))
        if not found:
            raise SourceError(f'{path}: no image in it')
        for image in found:
            name, number = image.name, 2
            while name in taken:        # two sources of the same name
                name, number = f'{image.name}-{number}', number + 1
            taken.add(name)
            images.append(SourceImage(name, image.read, image.file_bytes))
    return images


def _list_source(path: Path, topic: str | None) -> Iterator[SourceImage]:
    if not path.exists():
        raise SourceError(f'{path}: no such file or folder')
    if path.suffix in BAG_SUFFIXES or (path / 'metadata.yaml').is_file():
        return _list_bag(path, topic)
    if path.is_dir():
        return _list_folder(path)
    if path.suffix == '.tar' or tarfile.is_tarfile(path):
        return _list_tar(path)
    return iter([SourceImage(path.name, path.read_bytes, path.stat().st_size)])


def _list_folder(folder: Path) -> Iterator[SourceImage]:
    for directory, subfolders, names in os.walk(folder):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith('.'))
        for name in sorted(names):
            file = Path(directory, name)
            if not name.startswith('.'):
                yield SourceImage(f'{folder.resolve().name}/{file.relative_to(folder)}',
                                  file.read_bytes, file.stat().st_size)


def _list_tar(path: Path) -> Iterator[SourceImage]:
    try:
        archive = tarfile.open(path)        # it stays open as long as an image refers to it
        members = [member for member in archive if member.isfile()
                   and not Path(member.name).name.startswith('.')]
    except (tarfile.TarError, EOFError, OSError) as error:
        raise SourceError(f'{path}: not a tar file that can be read: {error}') from error

    def read(member: tarfile.TarInfo) -> bytes:
        try:
            return archive.extractfile(member).read()
        except (tarfile.TarError, EOFError) as error:
            raise SourceError(f'{path}: cannot be read: {error}') from error

    for member in members:
        yield SourceImage(f'{path.stem}/{member.name}', partial(read, member), member.size)


class _BagImages:
    """The images of a bag by number, read in one go if asked for in order."""

    def __init__(self, path: Path, topic: str | None):
        self._path, self._topic = path, topic
        self._records: Iterator | None = None
        self._next = 0

    def read(self, number: int) -> bytes:
        from auv_image_codec.evaluation.bags import read_images
        if self._records is None or number < self._next:
            self._records, self._next = read_images(self._path, self._topic), 0
        record = next(islice(self._records, number - self._next, None))
        self._next = number + 1
        return record.read_file()


def _list_bag(path: Path, topic: str | None) -> Iterator[SourceImage]:
    from auv_image_codec.evaluation.bags import read_images
    images = _BagImages(path, topic)
    for number, record in enumerate(read_images(path, topic)):
        yield SourceImage(f'{path.stem}/{record.topic.strip("/")}/{number:06}',
                          partial(images.read, number), record.data_bytes)


def decode_image(content: bytes, size: int | None = None) -> np.ndarray:
    """
    Return the pixels of an image file, upright, uint8 [height, width, 3], RGB.

    :param size: resample the whole image to so many pixels a side (Lanczos); None to leave it.
    :raises InvalidImageError: if it is empty, not an image, or damaged.
    """
    if not content:
        raise InvalidImageError('the file is empty', 'empty_image')
    try:
        with Image.open(io.BytesIO(content)) as file:
            picture = ImageOps.exif_transpose(file)
            if picture.mode == 'F' or picture.mode.startswith('I'):
                raise InvalidImageError('grey images of more than 8 bits are not evaluated',
                                        'image_dtype')
            picture = picture.convert('RGB')
    except InvalidImageError:
        raise
    except Image.UnidentifiedImageError:
        raise InvalidImageError('not an image file', 'not_an_image') from None
    # Pillow's decoders raise nearly anything for damaged files.
    except Exception as error:
        raise InvalidImageError(f'the image file is damaged: {error}', 'damaged_image') from error
    if size is not None:
        picture = picture.resize((size, size), Image.LANCZOS)
    return np.array(picture)
