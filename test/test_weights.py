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
"""Weights files: written and read back, and refused with a reason."""
import lzma
from pathlib import Path
import shutil

import numpy as np
import pytest
from safetensors.numpy import save

from weights_harness import copy_weights

from auv_image_codec.codecs import create_codec
from auv_image_codec.codecs.weights import (
    is_weights_file, read_weights, rounded, weights_path, write_weights)
from auv_image_codec.errors import WeightsError
from auv_image_codec.resources import share_directory


@pytest.fixture
def copied_weights(tmp_path) -> Path:
    """Return a copy of the shipped weights to damage."""
    return copy_weights(tmp_path / 'weights')


def small_weights(directory: Path, value: float = 0.5, codec: str = 'autoencoder') -> int:
    return write_weights(
        directory, codec, {'encoder': {'size': 3}, 'decoder': {'size': 4}},
        {part: {'network.layer': np.full((2, 3), value, np.float32),
                'table': np.arange(3, dtype=np.uint16)} for part in ('encoder', 'decoder')})


def test_weights_come_back(tmp_path):
    model_id = small_weights(tmp_path)
    for part, size in (('encoder', 3), ('decoder', 4)):
        weights = read_weights(tmp_path, 'autoencoder', part)
        assert (weights.model_id, weights.network) == (model_id, {'size': size})
        assert weights.tensors['network.layer'].dtype == np.float32
        assert (weights.tensors['network.layer'] == 0.5).all()
        assert weights.tensors['table'].dtype == np.uint16


def test_the_same_weights_have_the_same_model_id_and_others_another(tmp_path):
    assert small_weights(tmp_path / 'a') == small_weights(tmp_path / 'b')
    assert small_weights(tmp_path / 'a') != small_weights(tmp_path / 'c', 0.25)


def test_rounding_is_what_is_read_back(tmp_path):
    generator = np.random.default_rng(0)
    tensors = {'network.large': generator.normal(size=(1000, 1200)).astype(np.float32),
               'network.small': generator.normal(size=(3, 3)).astype(np.float32)}
    write_weights(tmp_path, 'autoencoder', {'encoder': {}, 'decoder': {}},
                  {'encoder': tensors, 'decoder': tensors})
    read = read_weights(tmp_path, 'autoencoder', 'encoder').tensors
    for key, tensor in rounded(tensors).items():
        assert np.array_equal(read[key], tensor)
        assert abs(tensor - tensors[key]).max() <= abs(tensors[key]).max() / 250
    assert weights_path(tmp_path, 'encoder').stat().st_size < 1.02 * 1000 * 1200


def test_compressed_weights_are_the_same_weights(tmp_path):
    model_id = small_weights(tmp_path)
    for part in ('encoder', 'decoder'):
        path = weights_path(tmp_path, part)
        compressed = path.with_name(path.name + '.xz')
        compressed.write_bytes(lzma.compress(path.read_bytes()))
        path.unlink()
        assert is_weights_file(compressed)
        weights = read_weights(tmp_path, 'autoencoder', part)
        assert weights.model_id == model_id
        assert (weights.tensors['network.layer'] == 0.5).all()
        compressed.write_bytes(compressed.read_bytes()[:-20])
        with pytest.raises(WeightsError, match=f'{part}.safetensors.xz: damaged'):
            read_weights(tmp_path, 'autoencoder', part)
    small_weights(tmp_path, 0.25)      # newer ones beside them are taken
    assert (read_weights(tmp_path, 'autoencoder', 'encoder').tensors['network.layer']
            == 0.25).all()


def test_all_weights_that_ship_are_below_20_megabytes():
    files = [path for path in (share_directory() / 'weights').rglob('*') if path.is_file()]
    assert 5e6 < sum(path.stat().st_size for path in files) < 20e6


def test_missing_weights_are_named(tmp_path):
    with pytest.raises(WeightsError, match=r'encoder.safetensors.*No such file'):
        create_codec('autoencoder', tmp_path)


def test_weights_of_another_codec_are_refused(tmp_path):
    small_weights(tmp_path, codec='other')
    with pytest.raises(WeightsError, match="holds the encoder of codec 'other', not the encoder"):
        create_codec('autoencoder', tmp_path)


def test_exchanged_halves_are_refused(copied_weights):
    shutil.copy(weights_path(copied_weights, 'decoder'), weights_path(copied_weights, 'encoder'))
    with pytest.raises(WeightsError, match='holds the decoder of'):
        create_codec('autoencoder', copied_weights, side='encoder')


def test_halves_that_do_not_belong_together_are_refused(copied_weights):
    decoder = weights_path(copied_weights, 'decoder')
    content = bytearray(decoder.read_bytes())
    content[-1] ^= 1
    decoder.write_bytes(content)
    with pytest.raises(WeightsError, match='the encoder belongs to model'):
        create_codec('autoencoder', copied_weights)


@pytest.mark.parametrize('content', [
    b'', b'no safetensors', bytes(100), save({'x': np.zeros(3)}),
    save({'x': np.zeros(3)}, {'auv_image_codec': '3'}),
    save({'x': np.zeros(3)}, {'auv_image_codec': '{'})])
def test_what_is_no_weights_file_is_refused(tmp_path, content):
    for part in ('encoder', 'decoder'):
        weights_path(tmp_path, part).write_bytes(content)
    with pytest.raises(WeightsError, match='coder.safetensors'):
        create_codec('autoencoder', tmp_path)


def test_weights_that_do_not_fit_their_network_are_refused(tmp_path):
    small_weights(tmp_path)
    with pytest.raises(WeightsError, match='does not fit its network'):
        create_codec('autoencoder', tmp_path)


def test_a_cut_weights_file_is_refused(copied_weights):
    path = weights_path(copied_weights, 'encoder')
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(WeightsError, match='not a safetensors file'):
        create_codec('autoencoder', copied_weights)
