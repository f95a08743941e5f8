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
"""Train on several devices, each a process: the same weights, stops together, clear errors."""
import os
from pathlib import Path
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from training_harness import write_shards
import yaml

from auv_image_codec.cli.main import main
from auv_image_codec.codecs import create_codec
from auv_image_codec.errors import RecipeError
from auv_image_codec.resources import weights_directory
from auv_image_codec.training.augmentation import augment
from auv_image_codec.training.data import Share, TrainingBatches
from auv_image_codec.training.recipe import AugmentationRecipe
from auv_image_codec.training.train import train

DEVICES = 2
RECIPES = {
    'autoencoder': {
        'network': {'type': 'autoencoder', 'latent_dim': 4, 'encoder_cell_channels': 8,
                    'principal_components_start': True},
        'augmentation': {'smallest_crop': 0.8, 'colour_jitter': 0.1, 'turbidity': 0.2}},
    'enhancer': {
        'network': {'type': 'enhancer', 'channels': 4, 'largest_channels': 8,
                    'discriminator_channels': 2, 'perceptual': 'lpips', 'adversarial_weight': 0.1,
                    'mse_weight': 1.0, 'mse_limit': 1.0},
        'augmentation': {'crop_size': 64}},
    'wavelet_restoration': {
        'network': {'type': 'wavelet_restoration'}, 'augmentation': {'crop_size': 64}},
}
# a value that is not a number, in the second process only
DIVERGE = """
import os, sys
from auv_image_codec.cli.main import main
from auv_image_codec.training.autoencoder_task import AutoencoderTraining
training_step = AutoencoderTraining.training_step
def diverge_once(module, batch, number):
    bad = module.global_step == 3 and os.environ.get('LOCAL_RANK') == '1'
    return training_step(module, batch, number) * (float('nan') if bad else 1)
AutoencoderTraining.training_step = diverge_once
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope='module')
def data_directory(tmp_path_factory) -> Path:
    """Return a directory with 8 training frames and 3 others, which 2 processes share unevenly."""
    return write_shards(tmp_path_factory.mktemp('data'), validation=3)


def write_recipe(directory: Path, kind: str, **optimization) -> Path:
    path = directory / 'tiny.yaml'
    path.write_text(yaml.safe_dump({
        'name': 'tiny', **RECIPES[kind], 'data': {'train': ['a.tar'], 'validation': 'b.tar'},
        'optimization': {'epochs': 3, 'batch_size': 4, 'averaging_decay': 0.5,
                         'validation_interval_steps': 2, **optimization}}))
    return path


def start(recipe: Path, data_directory: Path, directory: Path,
          command=('-m', 'auv_image_codec.cli.main')) -> subprocess.Popen:
    """Train on two processors of this machine, by the command."""
    directory.mkdir(exist_ok=True)
    with open(directory / 'output.txt', 'a') as output:
        return subprocess.Popen(
            [sys.executable, *command, 'train', str(recipe), '--data', str(data_directory),
             '--run', str(directory / 'run'), '--device', 'cpu', '--devices', str(DEVICES)],
            stdout=output, stderr=output, start_new_session=True,
            env={**os.environ, 'OMP_NUM_THREADS': '1'})


def finish(process: subprocess.Popen, directory: Path) -> str:
    """Return what a process wrote, once it has ended well."""
    status = process.wait(timeout=300)
    output = (directory / 'output.txt').read_text()
    assert status == 0, output
    return output


def last_checkpoint(directory: Path) -> dict:
    return torch.load(directory / 'run' / 'last.ckpt', weights_only=True)


def validations(directory: Path) -> list[list[float]]:
    """Return the logged values of all validations."""
    lines = (directory / 'run' / 'log' / 'version_0' / 'metrics.csv').read_text().splitlines()
    return [list(map(float, line.split(','))) for line in lines[1:]]


@pytest.mark.slow
@pytest.mark.parametrize('kind', RECIPES)
def test_two_processes_give_the_weights_of_one(tmp_path, data_directory, kind):
    recipe = write_recipe(tmp_path, kind)
    for name in ('one', 'two'):     # the wavelet codec's decoder is measured with it
        weights = tmp_path / name / 'run' / 'weights'
        weights.mkdir(parents=True)
        shutil.copy(weights_directory('wavelet') / 'context.safetensors.xz', weights)
    process = start(recipe, data_directory, tmp_path / 'two')
    run = tmp_path / 'one' / 'run'
    train(recipe, data_directory, run, run / 'weights', device='cpu')
    output = finish(process, tmp_path / 'two')
    one, two = (last_checkpoint(tmp_path / name) for name in ('one', 'two'))
    assert one['global_step'] == two['global_step'] == 6
    for key, value in one['state_dict'].items():
        # a step moves a weight by up to 1e-3; single ones differ by what Adam makes of rounding
        assert (two['state_dict'][key] - value).abs().mean() < 5e-6, key
    # each process validated its images, and the first one knows of all of them
    assert np.allclose(validations(tmp_path / 'two'), validations(tmp_path / 'one'), rtol=1e-3)
    assert output.count('# tiny') == 1 and '2 x cpu' in output


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_all_processes_after_the_same_step(tmp_path, data_directory, number):
    recipe = write_recipe(tmp_path, 'autoencoder', epochs=100_000)
    process = start(recipe, data_directory, tmp_path)
    pictures = tmp_path / 'run' / 'reconstructions'
    deadline = time.monotonic() + 300
    while not list(pictures.glob('*.png')):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)      # as a terminal does
    else:
        process.send_signal(number)
    assert process.wait(timeout=120) == 1, (tmp_path / 'output.txt').read_text()
    steps = last_checkpoint(tmp_path)['global_step']
    assert steps > 0
    # one process can go on where two have stopped
    train(recipe, data_directory, tmp_path / 'run', tmp_path / 'run' / 'weights', 0.01, 'cpu')
    assert last_checkpoint(tmp_path)['global_step'] > steps
    assert create_codec('autoencoder', tmp_path / 'run' / 'weights').latent_dim == 4


@pytest.mark.slow
def test_all_processes_return_to_good_weights_when_one_diverges(tmp_path, data_directory):
    (tmp_path / 'diverge.py').write_text(DIVERGE)
    recipe = write_recipe(tmp_path, 'autoencoder')
    output = finish(start(recipe, data_directory, tmp_path,
                          command=[str(tmp_path / 'diverge.py')]), tmp_path)
    assert output.count('back to the weights of step 0') == DEVICES
    state = last_checkpoint(tmp_path)['state_dict']
    assert all(value.isfinite().all() for value in state.values())


def test_shares_add_up_to_the_batch():
    frames = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), np.uint8)
    whole = TrainingBatches([frames], np.ones(12), 6, 7, lambda: 0, crop_size=8)
    parts = []
    for index in range(3):
        batches = TrainingBatches([frames], np.ones(12), 6, 7, lambda: 0, crop_size=8)
        batches.share = Share(index, 3)
        parts.append(batches.batch(5))
    assert [len(part) for part in parts] == [2, 2, 2]
    assert torch.equal(torch.cat(parts), whole.batch(5))

    recipe = AugmentationRecipe(smallest_crop=0.7, colour_jitter=0.2, turbidity=0.4)
    images = torch.rand(6, 3, 32, 32, generator=torch.manual_seed(0))
    augmented = [augment(Share(index, 3).of(images), recipe, 0, 5, Share(index, 3))
                 for index in range(3)]
    assert torch.equal(torch.cat(augmented), augment(images, recipe, 0, 5))


@pytest.mark.parametrize(('kind', 'devices', 'message'), [
    ('autoencoder', 3, 'optimization.batch_size: is 4, must be a multiple of the 3 devices'),
    ('autoencoder', 4, 'data.validation: 3 images are fewer than the 4 devices'),
    ('wavelet_context', 2, 'wavelet_context trains on one device, not on 2'),
])
def test_what_cannot_be_shared_is_named(tmp_path, data_directory, monkeypatch, kind, devices,
                                        message):
    monkeypatch.setitem(RECIPES, 'wavelet_context', {'network': {'type': 'wavelet_context'}})
    with pytest.raises(RecipeError, match=message):
        train(write_recipe(tmp_path, kind), data_directory, tmp_path / 'run', tmp_path / 'weights',
              device='cpu', devices=devices)


def test_devices_that_are_not_there_are_named(tmp_path, data_directory):
    count = torch.cuda.device_count() + 1
    with pytest.raises(RecipeError, match=f'{2 * count} devices: there are {count - 1}'):
        train(write_recipe(tmp_path, 'autoencoder', batch_size=4 * count), data_directory,
              tmp_path / 'run', tmp_path / 'weights', device='cuda', devices=2 * count)


@pytest.mark.parametrize('count', ['0', '-1', 'two'])
def test_a_number_of_devices_is_a_number(count, capsys):
    with pytest.raises(SystemExit):
        main(['train', 'tiny.yaml', '--devices', count])
    assert '--devices' in capsys.readouterr().err
