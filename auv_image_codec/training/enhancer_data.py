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
"""Images beside what a codec makes of them, coded once and kept."""
import hashlib
from pathlib import Path
import shutil
import tempfile
from typing import BinaryIO

import numpy as np
import torch
from torch.utils.data import Dataset
from tqdm import tqdm

from auv_image_codec.codecs.base import Codec
from auv_image_codec.codecs.packet import DEFAULT_MAX_BYTES
from auv_image_codec.networks.enhancer import SCALE
from auv_image_codec.training.data import evenly_spaced, ImageArray, TrainingBatches


class DecodedArray(ImageArray):
    """
    Images of one shard, and their reconstructions at the default packet limit.

    ``decoded`` is uint8 [N, size, size, 3]; ``features`` float16 [N, size / 32, size / 32, C], or
    None for a codec that has none.
    """

    def __init__(self, source: ImageArray, decoded: np.ndarray, features: np.ndarray | None):
        super().__init__(source.images, source.keys, source.path)
        self.decoded = decoded
        self.features = features


def decode_array(source: ImageArray, codec: Codec) -> DecodedArray:
    """
    Return images with their reconstructions, sent through a codec on the first call only.

    They are kept beside the decoded shard, by the codec's model id.

    :param codec: with both sides, of the images' size.
    """
    identity = hashlib.sha256(f'{codec.name} {codec.model_id} {DEFAULT_MAX_BYTES}'.encode())
    stem = f'{source.path.stem}-{codec.name}-{identity.hexdigest()[:12]}'
    directory = source.path.parent / stem
    if not directory.is_dir():
        _write(source, codec, directory)
    features = directory / 'features.npy'
    return DecodedArray(source, np.load(directory / 'decoded.npy', mmap_mode='r'),
                        np.load(features, mmap_mode='r') if features.is_file() else None)


def _write(source: ImageArray, codec: Codec, directory: Path) -> None:
    """Write the directory of a shard's reconstructions, whole or not at all."""
    partial = Path(tempfile.mkdtemp(prefix=f'.{directory.name}.', dir=directory.parent))
    try:
        with open(partial / 'decoded.npy', 'wb') as images, \
                open(partial / 'features.npy', 'wb') as features:
            _write_header(images, np.uint8, source.images.shape)
            for image in tqdm(source.images, unit='image', leave=False,
                              desc=f'coding {source.path.stem}'):
                latent = codec.encode(np.ascontiguousarray(image), DEFAULT_MAX_BYTES)
                images.write(codec.decode(latent, image.shape[1::-1]).tobytes())
                found = codec.features(latent)
                if found is not None:
                    found = found.astype(np.float16).transpose(1, 2, 0)
                    if not features.tell():
                        _write_header(features, np.float16, (len(source), *found.shape))
                    features.write(found.tobytes())
            without_features = not features.tell()
        if without_features:
            (partial / 'features.npy').unlink()
        partial.chmod(0o755)
        partial.rename(directory)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _write_header(file: BinaryIO, dtype: type, shape: tuple[int, ...]) -> None:
    """Write what comes before the values of an array in a .npy file."""
    np.lib.format.write_array_header_1_0(file, {
        'descr': np.lib.format.dtype_to_descr(np.dtype(dtype)), 'fortran_order': False,
        'shape': shape})


class DecodedBatches(TrainingBatches):
    """
    Batches of clear images, reconstructions and features, the same window of each.

    :param arrays: with the images.
    :param options: for TrainingBatches.
    """

    def __init__(self, arrays: list[DecodedArray], *options, crop_size: int = 0):
        super().__init__([array.images for array in arrays], *options, crop_size=crop_size,
                         crop_grid=SCALE)
        self._decoded = [array.decoded for array in arrays]
        self._features = [array.features for array in arrays]

    def batch(self, step: int) -> tuple[torch.Tensor, ...]:
        """Return uint8 [N, H, W, 3] twice and float16 [N, H / 32, W / 32, C] of a step."""
        places = self.places(step)
        columns = [np.stack([self.cut(arrays, place) for place in places])
                   for arrays in (self.arrays, self._decoded)]
        if self._features[0] is not None:
            columns.append(np.stack([self.cut(self._features, place.on_grid(SCALE))
                                     for place in places]))
        return tuple(map(torch.from_numpy, columns))


class DecodedImages(Dataset):
    """
    Single images for validation, as DecodedBatches gives them.

    :param array: the images.
    :param limit: so many of them, evenly spaced; 0 for all.
    """

    def __init__(self, array: DecodedArray, limit: int):
        self._array = array
        self._indices = evenly_spaced(range(len(array)), limit or len(array))

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._indices)

    def __getitem__(self, number: int) -> tuple[np.ndarray, ...]:
        """Return image, reconstruction and features, if there are any."""
        index = self._indices[number]
        item = (self._array.images[index], self._array.decoded[index])
        features = self._array.features
        return item if features is None else (*item, features[index])
