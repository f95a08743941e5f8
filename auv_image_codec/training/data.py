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
Training images: WebDataset shards, decoded once into arrays on disk.

A shard is a tar file of ``KEY.webp`` (or .jpg, .png) entries. Decoding and resampling cost far
more than a training step of a small network, so every shard is decoded once, to the network's
input size, into a memory-mapped uint8 array in the cache directory.
"""
from collections.abc import Sequence
import csv
from dataclasses import dataclass
import hashlib
import io
import json
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import numpy as np
from PIL import Image
import torch
from torch.utils.data import IterableDataset, Subset
from tqdm import tqdm
import webdataset
from webdataset.tariterators import group_by_keys, tar_file_expander

from auv_image_codec.atomic_write import replacing, write_atomically
from auv_image_codec.errors import TrainingDataError

IMAGE_EXTENSIONS = ('webp', 'jpg', 'jpeg', 'png')


class ImageArray:
    """
    Images of one shard at one size.

    ``images`` is uint8 [N, size, size, 3] RGB, whole frames resampled with a Lanczos filter;
    ``keys`` names them as the shard does; ``path`` is the file of the decoded images.
    """

    def __init__(self, images: np.ndarray, keys: list[str], path: Path):
        self.images = images
        self.keys = keys
        self.path = path

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.keys)


def evenly_spaced(images: Sequence, limit: int) -> Subset:
    """Return at most so many items of a sequence, from its first to its last."""
    return Subset(images, np.linspace(0, len(images) - 1, min(limit, len(images))).astype(int))


def is_url(name: str | Path) -> bool:
    """Return whether a shard's name is a URL."""
    return '://' in str(name)


def load_shard(shard: Path | str, size: int, cache_directory: Path) -> ImageArray:
    """
    Return the images of a shard as an array, decoding them on the first call only.

    :param shard: a file, or a URL that WebDataset can open (http, https, s3, gs ...). What was
        decoded of a URL is kept for good: other images need another URL.
    :param size: pixels a side.
    :raises TrainingDataError: if the shard is missing, is no tar file, or holds no image.
    """
    if is_url(shard):
        name, identity = PurePosixPath(urlsplit(shard).path).stem, f'{shard} {size}'
    else:
        shard = Path(shard)
        if not shard.is_file():
            raise TrainingDataError(f'{shard}: no such shard')
        status = shard.stat()
        name = shard.stem
        identity = f'{shard.resolve()} {status.st_size} {status.st_mtime_ns} {size}'
    stem = f'{name}-{size}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}'
    array_path = cache_directory / f'{stem}.npy'
    keys_path = cache_directory / f'{stem}.json'
    if not (array_path.is_file() and keys_path.is_file()):
        keys, images = _decode_shard(shard, size)
        with replacing(array_path) as file:
            np.save(file, np.stack(images))
        write_atomically(keys_path, json.dumps(keys).encode())
    return ImageArray(np.load(array_path, mmap_mode='r'), json.loads(keys_path.read_text()),
                      array_path)


def _decode_shard(shard: Path | str, size: int) -> tuple[list[str], list[np.ndarray]]:
    keys, images = [], []
    try:
        # opened here: WebDataset would read patterns into a file's name
        with webdataset.gopen(shard) if is_url(shard) else open(shard, 'rb') as stream:
            files = tar_file_expander([{'url': str(shard), 'stream': stream}],
                                      handler=webdataset.reraise_exception)
            samples = group_by_keys(files, handler=webdataset.reraise_exception)
            for sample in tqdm(samples, desc=f'decoding {shard}', unit='image', leave=False):
                encoded = next((sample[e] for e in IMAGE_EXTENSIONS if e in sample), None)
                if encoded is None:
                    continue
                with Image.open(io.BytesIO(encoded)) as image:
                    resampled = image.convert('RGB').resize((size, size),
                                                            Image.Resampling.LANCZOS)
                keys.append(sample['__key__'])
                images.append(np.asarray(resampled))
    except Exception as error:      # tarfile, Pillow and WebDataset each have errors of their own
        raise TrainingDataError(
            f'{shard}: cannot be read after {len(keys)} images: {error}') from error
    if not keys:
        raise TrainingDataError(f'{shard}: holds no {", ".join(IMAGE_EXTENSIONS)} image')
    return keys, images


def read_manifest(path: Path) -> dict[str, str]:
    """
    Return the dataset that every key belongs to, from a CSV with columns key and dataset.

    :raises TrainingDataError: if the file is missing or lacks these columns.
    """
    try:
        with open(path, newline='') as file:
            return {row['key']: row['dataset'] for row in csv.DictReader(file)}
    except (OSError, KeyError) as error:
        raise TrainingDataError(f'{path}: not a manifest of training images: {error}') from error


@dataclass(frozen=True)
class Place:
    """Where a training image comes from: array, index in it, and a window of the image."""

    array: int
    index: int
    mirrored: bool
    top: int
    left: int
    height: int
    width: int

    def on_grid(self, cell: int) -> 'Place':
        """Return the same window of an array with one value for cell x cell pixels."""
        return Place(self.array, self.index, self.mirrored, self.top // cell, self.left // cell,
                     self.height // cell, self.width // cell)


@dataclass(frozen=True)
class Share:
    """What one of several processes takes of every batch: the index-th of count equal parts."""

    index: int = 0
    count: int = 1

    def of(self, batch):
        """Return this part of what has a length and can be sliced."""
        size = len(batch) // self.count
        return batch[self.index * size:(self.index + 1) * size]


class TrainingBatches(IterableDataset):
    """
    Endless shuffled, augmented batches, each a function of the seed and the step alone.

    So a run that resumes at step n sees exactly what it would have seen without the stop.

    :param arrays: uint8 image arrays [N, H, W, 3].
    :param weights: sampling weight of every image, over all arrays in turn.
    :param batch_size: images a batch.
    :param seed: of shuffling and augmentation.
    :param first_step: returns the step to go on from when iteration starts.
    :param crop_size: pixels a side that are cut out of every image; 0 for whole images.
    :param crop_grid: crops start at multiples of so many pixels.

    ``share`` is what this process takes of every batch: all of it, unless it is set.
    """

    share = Share()

    def __init__(self, arrays, weights, batch_size, seed, first_step, crop_size=0, crop_grid=1):
        self.arrays = arrays
        self.starts = np.cumsum([0, *map(len, arrays)])
        self.probabilities = np.asarray(weights, np.float64) / np.sum(weights)
        self.batch_size = batch_size
        self.seed = seed
        self.first_step = first_step
        self.crop_size = crop_size
        self.crop_grid = crop_grid

    def batch(self, step: int) -> torch.Tensor:
        """Return the uint8 batch [N, H, W, 3] of a step."""
        return torch.from_numpy(np.stack([self.cut(self.arrays, place)
                                          for place in self.places(step)]))

    def places(self, step: int) -> list[Place]:
        """Return what this process's share of the batch of a step consists of."""
        generator = np.random.default_rng((self.seed, step))
        indices = generator.choice(len(self.probabilities), self.batch_size, replace=False,
                                   p=self.probabilities)
        mirrored = generator.random(self.batch_size) < 0.5
        height, width = self.arrays[0].shape[1:3]
        size = self.crop_size or height, self.crop_size or width
        steps = [(side - cut) // self.crop_grid + 1 for side, cut in zip((height, width), size)]
        corners = generator.integers(0, steps, (self.batch_size, 2)) * self.crop_grid
        numbers = np.searchsorted(self.starts, indices, side='right') - 1
        drawn = self.share.of(list(zip(numbers, indices, mirrored, corners)))
        return [Place(int(number), int(index - self.starts[number]), bool(mirror), int(top),
                      int(left), *size)
                for number, index, mirror, (top, left) in drawn]

    @staticmethod
    def cut(arrays: list[np.ndarray], place: Place) -> np.ndarray:
        """Return a view of one place in arrays of images [N, H, W, ...]."""
        image = arrays[place.array][place.index]
        cut = image[place.top:place.top + place.height, place.left:place.left + place.width]
        return cut[:, ::-1] if place.mirrored else cut

    def __iter__(self):
        """Yield the batches from the step that the run has reached."""
        step = self.first_step()
        while True:
            yield self.batch(step)
            step += 1


def as_network_input(images: torch.Tensor) -> torch.Tensor:
    """Return uint8 images [N, H, W, 3] as float32 [N, 3, H, W] in 0..1."""
    return images.permute(0, 3, 1, 2).to(torch.float32) / 255
