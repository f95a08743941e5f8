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
"""Training the wavelet codec: tiny runs on real frames."""
from pathlib import Path
import shutil

import cv2
import numpy as np
import pytest
import torch
from training_harness import StopAt, write_shards
import yaml

from auv_image_codec.cli.main import main
from auv_image_codec.codecs import create_codec, decode_packet, encode_packet
from auv_image_codec.codecs.wavelet import load_restoration
from auv_image_codec.codecs.wavelet_entropy import WaveletEntropyModel
from auv_image_codec.codecs.weights import read_weights
from auv_image_codec.errors import RecipeError
from auv_image_codec.evaluation.bags import read_compressed_images
from auv_image_codec.evaluation.metrics import psnr_db
from auv_image_codec.networks.bit_planes import PLANES, threshold
from auv_image_codec.networks.wavelet_context import WaveletContext
from auv_image_codec.networks.wavelet_transform import principal_analysis
from auv_image_codec.resources import share_directory, weights_directory
from auv_image_codec.training.data import TrainingBatches
from auv_image_codec.training.tasks import load_recipe
from auv_image_codec.training.train import train
from auv_image_codec.training.wavelet_context_task import plane_bits
from auv_image_codec.training.wavelet_restoration_task import planes_of_bytes

SIZE = 64
RECIPE = {
    'name': 'tiny',
    'network': {'validation_limit': 2},
    'data': {'train': ['a.tar'], 'validation': 'b.tar', 'input_size': SIZE},
    'optimization': {'epochs': 2, 'batch_size': 4, 'averaging_decay': 0.5,
                     'validation_interval_steps': 2, 'learning_rate': 0.01},
}
PARTS = {'wavelet_context': 'context', 'wavelet_restoration': 'restoration'}


@pytest.fixture(scope='module')
def data_directory(tmp_path_factory) -> Path:
    """Return a directory with 8 training frames and 4 others, all real."""
    return write_shards(tmp_path_factory.mktemp('data'))


def run(kind: str, data_directory: Path, directory: Path, epochs: int = 2,
        options: tuple[str, ...] = (), context: Path | None = None) -> Path:
    """
    Train a tiny recipe; return the directory of its weights.

    :param options: of the command line.
    :param context: weights whose entropy model is used.
    """
    directory.mkdir(exist_ok=True)
    recipe = directory / f'{kind}.yaml'
    recipe.write_text(yaml.safe_dump({
        **RECIPE, 'network': {**RECIPE['network'], 'type': kind},
        'optimization': {**RECIPE['optimization'], 'epochs': epochs}}))
    weights = directory / 'weights'
    if context:
        weights.mkdir(exist_ok=True)
        shutil.copy(context / 'context.safetensors.xz', weights)
    assert main(['train', str(recipe), '--data', str(data_directory), '--run',
                 str(directory / kind), '--weights', str(weights), '--device', 'cpu',
                 *options]) == 0
    return weights


def levels_of_a_frame() -> list[torch.Tensor]:
    """Return the coefficients of the demo bag's first frame, at the size of the tiny runs."""
    record = next(iter(read_compressed_images(share_directory() / 'demo' / 'robosub_gate')))
    pixels = cv2.imdecode(np.frombuffer(record.data, np.uint8), cv2.IMREAD_COLOR)
    pixels = cv2.resize(pixels[:, :, ::-1], (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    images = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
    return principal_analysis(images)[0]


@pytest.mark.slow
def test_both_parts_train_and_make_a_codec(tmp_path, data_directory):
    weights = run('wavelet_context', data_directory, tmp_path, epochs=8)
    assert 'tiny' in (weights / 'context_card.md').read_text()
    trained = WaveletEntropyModel(read_weights(weights, 'wavelet', 'context').tensors).network
    levels = levels_of_a_frame()
    with torch.no_grad():
        bits = [[float(plane_bits(network, levels, plane)) for plane in (8, 10)]
                for network in (WaveletContext(), trained)]
    assert (np.array(bits[1]) < 0.8 * np.array(bits[0])).all()

    run('wavelet_restoration', data_directory, tmp_path)
    codec = create_codec('wavelet', weights)
    card = (weights / 'model_card.md').read_text()
    assert f'{codec.model_id:08x}' in card
    frame = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8).repeat(12, 0)
    packet = encode_packet(codec, frame.repeat(8, 1), max_bytes=1500)
    assert psnr_db(decode_packet(codec, packet)[1], frame.repeat(8, 1)) > 15


@pytest.mark.slow
def test_bits_of_a_plane_are_what_the_coder_needs(tmp_path, data_directory):
    weights = run('wavelet_context', data_directory, tmp_path, epochs=1)
    model = WaveletEntropyModel(read_weights(weights, 'wavelet', 'context').tensors)
    levels = levels_of_a_frame()
    stream = model.encode(levels, SIZE, SIZE, 1 << 16)
    with torch.no_grad():
        bits = sum(float(plane_bits(model.network, levels, plane)) for plane in range(10))
    # refinements are not in it: about one bit each
    bits += sum(float((level.abs() >= 2 * threshold(plane)).sum())
                for level in levels for plane in range(10))
    _, plane = model.decode(stream[:int(0.95 * bits / 8) - 8], SIZE, SIZE)
    assert plane == 9
    _, plane = model.decode(stream[:int(1.05 * bits / 8) + 8], SIZE, SIZE)
    assert plane == 10


@pytest.mark.slow
@pytest.mark.parametrize('kind', sorted(PARTS))
def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(
        tmp_path, data_directory, monkeypatch, kind):
    for directory in ('whole', 'stopped'):
        if kind != 'wavelet_context':
            run('wavelet_context', data_directory, tmp_path / directory, epochs=0)
    whole = run(kind, data_directory, tmp_path / 'whole')
    with monkeypatch.context() as patch, pytest.raises(
            (KeyboardInterrupt, SystemExit, AssertionError)):
        interrupted = StopAt(3)
        patch.setattr(TrainingBatches, 'batch', lambda self, step: interrupted(self, step))
        run(kind, data_directory, tmp_path / 'stopped')
    last = tmp_path / 'stopped' / kind / 'last.ckpt'
    assert 0 < torch.load(last, weights_only=True)['global_step'] < 4
    resumed = run(kind, data_directory, tmp_path / 'stopped')
    name = f'{PARTS[kind]}.safetensors'
    assert (resumed / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.parametrize('size', [60, 200, 480, 700])
def test_images_are_cut_where_packets_end(size):
    levels = levels_of_a_frame()
    model = create_codec('wavelet', side='encoder').entropy_model
    _, plane = model.decode(model.encode(levels, SIZE, SIZE, size), SIZE, SIZE)
    assert abs(int(planes_of_bytes(levels, torch.tensor([size]))) - plane) <= 1
    both = [level.repeat(2, 1, 1, 1) for level in levels]
    assert planes_of_bytes(both, torch.tensor([0, 1 << 20])).tolist() == [0, PLANES - 1]


@pytest.mark.slow
def test_a_decoder_without_an_entropy_model_cannot_be_measured(tmp_path, data_directory, capsys):
    with pytest.raises(AssertionError):
        run('wavelet_restoration', data_directory, tmp_path, epochs=0)
    assert 'no context.safetensors: train wavelet_context' in capsys.readouterr().err
    assert (tmp_path / 'weights' / 'restoration.safetensors').is_file()


@pytest.mark.slow
def test_a_decoder_goes_on_from_the_weights_that_ship(tmp_path, data_directory):
    shipped = weights_directory('wavelet')
    options = ('--start-from', str(shipped))
    weights = run('wavelet_restoration', data_directory, tmp_path, 2, options, shipped)
    card = (weights / 'model_card.md').read_text()
    assert '| start | restoration weights with SHA-256' in card
    before, after = (load_restoration(directory, 'wavelet').state_dict()
                     for directory in (shipped, weights))
    differences = [float((after[name] - tensor).abs().max()) for name, tensor in before.items()]
    assert 0 < max(differences) < 0.1         # four steps at a rate of 0.01
    # the same command goes on, and still knows where the run began
    run('wavelet_restoration', data_directory, tmp_path, 2, options, shipped)
    assert (weights / 'model_card.md').read_text() == card


def test_what_cannot_start_from_weights_says_so(tmp_path, data_directory):
    recipe = tmp_path / 'context.yaml'
    recipe.write_text(yaml.safe_dump({
        **RECIPE, 'network': {'type': 'wavelet_context'}}))
    with pytest.raises(RecipeError, match='wavelet_context cannot start from weights'):
        train(recipe, data_directory, tmp_path / 'run', tmp_path / 'weights',
              start_from=weights_directory('wavelet'))


def test_images_that_do_not_halve_four_times_are_refused(tmp_path, data_directory):
    recipe = tmp_path / 'odd.yaml'
    recipe.write_text(yaml.safe_dump({
        **RECIPE, 'network': {'type': 'wavelet_restoration'},
        'data': {**RECIPE['data'], 'input_size': 100}}))
    with pytest.raises(RecipeError, match='100 pixels.*multiple of 16'):
        train(recipe, data_directory, tmp_path / 'run', tmp_path / 'weights')


@pytest.mark.parametrize('kind', sorted(PARTS))
def test_the_recipes_that_ship_are_valid(kind):
    recipe = load_recipe(Path(__file__).parents[1] / 'config' / 'train' / f'{kind}.yaml')
    assert recipe.network.type == recipe.name == kind
