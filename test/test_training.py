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
"""Train a tiny recipe on real frames: it learns, stops, goes on, and fails clearly."""
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
import io
from pathlib import Path
import resource
import shutil
import tarfile
import threading

import numpy as np
from PIL import Image
import pytest
import torch
from training_harness import StopAt, write_shard, write_shards
import yaml

from auv_image_codec.codecs import create_codec, decode_packet, encode_packet
from auv_image_codec.errors import DivergenceError, RecipeError, TrainingDataError
from auv_image_codec.evaluation.metrics import mse
from auv_image_codec.resources import share_directory
from auv_image_codec.training.augmentation import augment
from auv_image_codec.training.autoencoder_task import (
    Autoencoder, AutoencoderRecipe, AutoencoderTraining)
from auv_image_codec.training.data import load_shard, TrainingBatches
from auv_image_codec.training.module import learning_rate_factor
from auv_image_codec.training.recipe import AugmentationRecipe, OptimizationRecipe
from auv_image_codec.training.tasks import load_recipe, RunFiles
from auv_image_codec.training.train import train

RECIPE = {
    'name': 'tiny',
    'network': {'type': 'autoencoder', 'latent_dim': 4, 'encoder_cell_channels': 8,
                'principal_components_start': False},
    'data': {'train': ['a.tar'], 'validation': 'b.tar'},
    'optimization': {'epochs': 3, 'batch_size': 4, 'averaging_decay': 0.5,
                     'validation_interval_steps': 2},
    'augmentation': {'smallest_crop': 0.8, 'colour_jitter': 0.1, 'turbidity': 0.2},
}


@pytest.fixture(scope='module')
def data_directory(tmp_path_factory) -> Path:
    """Return a directory with 8 training frames and 4 others, all real."""
    return write_shards(tmp_path_factory.mktemp('data'))


def write_recipe(path: Path, **changes) -> Path:
    recipe = {**RECIPE, **changes}
    path.write_text(yaml.safe_dump(recipe))
    return path


def run(recipe: Path, data_directory: Path, directory: Path, **options) -> Path:
    weights = directory / 'weights'
    train(recipe, data_directory, directory / 'run', weights, device='cpu', **options)
    return weights


@pytest.mark.slow
def test_the_loss_falls_and_the_weights_work(tmp_path, data_directory):
    recipe = write_recipe(
        tmp_path / 'tiny.yaml', optimization={**RECIPE['optimization'], 'epochs': 1},
        network={**RECIPE['network'], 'principal_components_start': True})
    start = run(write_recipe(tmp_path / 'start.yaml', optimization={
        **RECIPE['optimization'], 'epochs': 0}), data_directory, tmp_path / 'untrained')
    trained = run(recipe, data_directory, tmp_path / 'trained')
    assert 'weights of the last one, not validated' in (start / 'model_card.md').read_text()

    frame = np.array(load_shard(data_directory / 'a.tar', 224, tmp_path / 'decoded').images[0])
    errors = {}
    for name, weights in (('untrained', start), ('trained', trained)):
        codec = create_codec('autoencoder', weights)
        packet = encode_packet(codec, frame)
        assert len(packet) <= 500
        errors[name] = mse(decode_packet(codec, packet)[1], frame)
    assert errors['trained'] < 0.5 * errors['untrained']
    card = (trained / 'model_card.md').read_text()
    assert 'kept: the average of the weights at step 2' in card
    assert 'tiny.yaml' in card and f'{create_codec("autoencoder", trained).model_id:08x}' in card


@pytest.mark.slow
def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(tmp_path, data_directory, monkeypatch):
    recipe = write_recipe(tmp_path / 'tiny.yaml')
    whole = run(recipe, data_directory, tmp_path / 'whole')

    with monkeypatch.context() as patch, pytest.raises((KeyboardInterrupt, SystemExit)):
        interrupted = StopAt(3)
        patch.setattr(TrainingBatches, 'batch', lambda self, step: interrupted(self, step))
        run(recipe, data_directory, tmp_path / 'stopped')
    last = tmp_path / 'stopped' / 'run' / 'last.ckpt'
    assert 0 < torch.load(last, weights_only=True)['global_step'] < 6
    resumed = run(recipe, data_directory, tmp_path / 'stopped')
    for part in ('encoder', 'decoder'):
        assert ((resumed / f'{part}.safetensors').read_bytes()
                == (whole / f'{part}.safetensors').read_bytes())


@pytest.mark.slow
def test_a_time_limit_ends_with_usable_weights(tmp_path, data_directory):
    recipe = write_recipe(tmp_path / 'tiny.yaml', optimization={
        **RECIPE['optimization'], 'epochs': 10_000})
    weights = run(recipe, data_directory, tmp_path, max_minutes=0.02)
    assert create_codec('autoencoder', weights).latent_dim == 4
    last = tmp_path / 'run' / 'last.ckpt'
    steps = torch.load(last, weights_only=True)['global_step']
    run(recipe, data_directory, tmp_path, max_minutes=0.02)
    assert torch.load(last, weights_only=True)['global_step'] > steps > 0
    for picture in ('loss_curves.png', 'reconstructions.png'):
        with Image.open(tmp_path / 'run' / picture) as image:
            assert len(image.convert('RGB').getcolors(1 << 20)) > 10
    assert list((tmp_path / 'run' / 'tensorboard').rglob('events.*'))


@pytest.mark.slow
def test_it_stops_when_validation_gets_no_better(tmp_path, data_directory):
    recipe = write_recipe(tmp_path / 'tiny.yaml', optimization={
        **RECIPE['optimization'], 'epochs': 1000, 'learning_rate': 0.0,
        'early_stopping_validations': 2, 'averaging_decay': 0.0})
    weights = run(recipe, data_directory, tmp_path)
    assert 'kept: the weights at step 2' in (weights / 'model_card.md').read_text()
    assert torch.load(tmp_path / 'run' / 'last.ckpt', weights_only=True)['global_step'] == 6


def test_augmentation_varies_images_within_its_limits():
    images = torch.rand(4, 3, 32, 32, generator=torch.manual_seed(0)) * 0.8 + 0.1
    unchanged = augment(images, AugmentationRecipe(), 0, 0)
    assert torch.equal(unchanged, images)
    recipe = AugmentationRecipe(smallest_crop=0.7, colour_jitter=0.2, turbidity=0.4)
    first = augment(images, recipe, 0, 5)
    assert torch.equal(first, augment(images, recipe, 0, 5))
    assert not torch.equal(first, augment(images, recipe, 0, 6))
    assert first.shape == images.shape and first.min() >= 0 and first.max() <= 1
    assert all((first[i] - images[i]).abs().mean() > 0.01 for i in range(4))


def test_a_veil_lowers_contrast_and_a_crop_keeps_colours():
    images = torch.rand(8, 3, 32, 32, generator=torch.manual_seed(0))
    clouded = augment(images, AugmentationRecipe(turbidity=0.5), 0, 0)
    ratio = clouded.std((2, 3)) / images.std((2, 3))
    assert (ratio >= 0.499).all() and (ratio <= 1.001).all() and ratio.min() < 0.8
    flat = torch.full((2, 3, 16, 16), 0.3)
    assert torch.allclose(augment(flat, AugmentationRecipe(smallest_crop=0.5), 0, 0), flat)


@pytest.mark.slow
def test_a_full_disk_leaves_the_last_checkpoint(tmp_path, data_directory):
    run(write_recipe(tmp_path / 'tiny.yaml'), data_directory, tmp_path)
    last = tmp_path / 'run' / 'last.ckpt'
    before = last.read_bytes()
    (tmp_path / 'run' / 'recipe.yaml').unlink()
    longer = write_recipe(tmp_path / 'longer.yaml', optimization={
        **RECIPE['optimization'], 'epochs': 4})

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    try:
        with pytest.raises(TrainingDataError, match='the checkpoint cannot be written'):
            run(longer, data_directory, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert last.read_bytes() == before
    assert not list((tmp_path / 'run').glob('*.partial'))
    run(longer, data_directory, tmp_path)
    assert torch.load(last, weights_only=True)['global_step'] == 8


def test_the_batch_of_a_step_depends_on_the_step_alone():
    frames = np.arange(6 * 2 * 2 * 3, dtype=np.uint8).reshape(6, 2, 2, 3)
    arrays = [frames[:4], frames[4:]]
    batches = TrainingBatches(arrays, np.ones(6), 4, 7, lambda: 5)
    started_at_five = iter(batches)
    assert torch.equal(next(started_at_five), batches.batch(5))
    assert torch.equal(next(started_at_five), batches.batch(6))
    assert not torch.equal(batches.batch(5), batches.batch(6))


def test_crops_are_windows_of_their_images_on_a_grid():
    rows, columns = np.mgrid[:64, :64]
    frame = np.stack([rows, columns, np.zeros_like(rows)], 2).astype(np.uint8)
    batches = TrainingBatches([np.stack([frame] * 8)], np.ones(8), 8, 0, lambda: 0, 32, 16)
    corners = set()
    for step in range(20):
        for crop in batches.batch(step).numpy():
            top, left = int(crop[0, 0, 0]), int(min(crop[0, 0, 1], crop[0, -1, 1]))
            window = frame[top:top + 32, left:left + 32]
            assert np.array_equal(crop, window) or np.array_equal(crop, window[:, ::-1])
            corners.add((top, left))
    assert corners == {(top, left) for top in (0, 16, 32) for left in (0, 16, 32)}
    assert torch.equal(batches.batch(3), batches.batch(3))


def test_the_learning_rate_follows_its_schedule():
    steps = OptimizationRecipe(learning_rate_step_epochs=2, learning_rate_gamma=0.5,
                               warmup_steps=4)
    assert [learning_rate_factor(steps, 10, step) for step in (0, 3, 19, 20, 40)] == [
        0.25, 1, 1, 0.5, 0.25]
    cosine = OptimizationRecipe(epochs=2, learning_rate_schedule='cosine')
    factors = [learning_rate_factor(cosine, 10, step) for step in (0, 10, 20, 30)]
    assert factors == pytest.approx([1, 0.5, 0, 0])


def test_images_of_weight_zero_are_never_drawn():
    frames = np.stack([np.full((2, 2, 3), value, np.uint8) for value in range(6)])
    batches = TrainingBatches([frames], [1, 1, 0, 1, 1, 0], 2, 0, lambda: 0)
    drawn = {int(value) for step in range(60) for value in batches.batch(step)[:, 0, 0, 0]}
    assert drawn == {0, 1, 3, 4}


@pytest.mark.parametrize(('changes', 'message'), [
    ({'optimisation': {}}, "unknown entry 'optimisation'"),
    ({'network': {'type': 'autoencoder', 'depth': 3}}, "unknown entry 'depth'"),
    ({'network': {'type': 'transformer'}}, "network.type: is 'transformer'"),
    ({'data': {'train': ['a.tar']}}, "entry 'validation' is missing"),
    ({'data': {'train': 'a.tar', 'validation': 'b.tar'}}, 'must be a list of file names'),
    ({'optimization': {'learning_rate': 'fast'}}, "must be of type float, not 'fast'"),
    ({'optimization': {'learning_rate': -1}}, 'learning_rate: is -1.0, must be in 0..1'),
    ({'optimization': {'epochs': 2.5}}, 'must be of type int, not 2.5'),
    ({'optimization': []}, 'must be a mapping, not list'),
    ({'optimization': {'learning_rate_schedule': 'wavy'}}, 'must be one of step, cosine'),
    ({'augmentation': {'turbidity': 1}}, 'augmentation.turbidity: is 1.0, must be in 0..0.9'),
    ({'network': {'type': 'autoencoder', 'latent_dim': 0}}, 'network.latent_dim: is 0, must be'),
])
def test_a_wrong_recipe_names_the_entry(tmp_path, changes, message):
    with pytest.raises(RecipeError) as raised:
        load_recipe(write_recipe(tmp_path / 'wrong.yaml', **changes))
    assert message in str(raised.value)
    assert 'wrong.yaml' in str(raised.value)


@pytest.mark.parametrize('content', [None, 'a: [', '- a list'])
def test_a_missing_or_garbled_recipe_is_named(tmp_path, content):
    path = tmp_path / 'garbled.yaml'
    if content is not None:
        path.write_text(content)
    with pytest.raises(RecipeError, match='garbled.yaml'):
        load_recipe(path)


def test_the_shipped_recipes_are_valid():
    recipes = sorted((share_directory() / 'config' / 'train').glob('*.yaml'))
    assert [load_recipe(path).name for path in recipes] == [path.stem for path in recipes]


def test_the_learning_rates_suit_the_start():
    for name, direct_rate in (('autoencoder', 1e-3), ('autoencoder_best', 1e-5)):
        recipe = load_recipe(share_directory() / 'config' / 'train' / f'{name}.yaml')
        module = AutoencoderTraining(recipe, 336, Autoencoder(recipe.network))
        optimizer = module.configure_optimizers()['optimizer']
        rates = {id(parameter): group['initial_lr'] for group in optimizer.param_groups
                 for parameter in group['params']}
        direct = {id(parameter) for parameter in module.network.direct_parameters()}
        assert set(rates) == {id(parameter) for parameter in module.network.parameters()}
        # what starts as principal components moves slowly, what starts at random does not
        for key, rate in rates.items():
            assert rate == pytest.approx(direct_rate if key in direct else 1e-3)


def test_a_quantization_aware_decoder_gets_whole_steps():
    torch.manual_seed(0)
    network = Autoencoder(AutoencoderRecipe('autoencoder', 4, 8, quantization_step=0.2,
                                            quantization_aware=True))
    images = torch.rand(2, 3, 224, 224)
    latents = network.encoder(images)
    whole = ((latents / 0.2).round() * 0.2).detach().requires_grad_()
    assert (whole - latents).abs().max() > 0.02
    reconstructed, expected = network(images), network.decoder(whole)
    assert torch.allclose(reconstructed, expected, atol=1e-6)
    # the encoder learns as if what it sent had arrived unchanged
    reconstructed.square().sum().backward()
    expected.square().sum().backward()
    assert torch.allclose(network.encoder.to_latent.bias.grad, whole.grad.sum(0), rtol=1e-4)


@pytest.mark.parametrize(('changes', 'message'), [
    ({'network': {**RECIPE['network'], 'quantization_aware': True}},
     'network.quantization_aware: needs network.principal_components_start'),
    ({'augmentation': {'crop_size': 256}}, 'augmentation.crop_size: is 256, more than the 224'),
    ({'data': {**RECIPE['data'], 'input_size': 128}}, 'leave out data.input_size'),
])
def test_entries_that_do_not_fit_one_another_are_named(tmp_path, data_directory, changes,
                                                       message):
    with pytest.raises(RecipeError, match=message):
        run(write_recipe(tmp_path / 'wrong.yaml', **changes), data_directory, tmp_path)


@pytest.mark.slow
def test_a_run_that_diverges_returns_to_its_last_good_weights(tmp_path, data_directory,
                                                              monkeypatch, caplog):
    training_step = AutoencoderTraining.training_step
    losses = []

    def diverge_once(module, batch, number):
        loss = training_step(module, batch, number)
        losses.append(float(loss.detach()))
        return loss * float('nan') if module.global_step == 4 else loss

    monkeypatch.setattr(AutoencoderTraining, 'training_step', diverge_once)
    weights = run(write_recipe(tmp_path / 'tiny.yaml', optimization={
        **RECIPE['optimization'], 'epochs': 5}), data_directory, tmp_path)
    assert 'step 5: the loss is nan' in caplog.text
    assert 'back to the weights of step 0' in caplog.text
    assert len(losses) == 10 and np.isfinite(losses).all()
    codec = create_codec('autoencoder', weights)
    assert codec.encode(np.zeros((8, 8, 3), np.uint8)).shape == (4,)


@pytest.mark.slow
def test_a_run_that_only_diverges_ends_with_an_error(tmp_path, data_directory, monkeypatch):
    training_step = AutoencoderTraining.training_step
    monkeypatch.setattr(AutoencoderTraining, 'training_step', lambda module, *rest: (
        training_step(module, *rest) * float('inf')))
    with pytest.raises(DivergenceError, match='lower the learning rate'):
        run(write_recipe(tmp_path / 'tiny.yaml', optimization={
            **RECIPE['optimization'], 'epochs': 50}), data_directory, tmp_path)


def test_another_recipe_in_the_same_run_directory_is_refused(tmp_path, data_directory):
    (tmp_path / 'run').mkdir()
    write_recipe(tmp_path / 'run' / 'recipe.yaml')
    other = write_recipe(tmp_path / 'other.yaml', name='other')
    with pytest.raises(RecipeError, match='differs from'):
        run(other, data_directory, tmp_path)


@pytest.mark.parametrize('damage', ['missing', 'cut', 'not a tar', 'no images', 'no image data'])
def test_a_bad_shard_is_named_and_leaves_nothing(tmp_path, data_directory, damage):
    shard = tmp_path / 'bad.tar'
    good = (data_directory / 'b.tar').read_bytes()
    if damage == 'cut':
        shard.write_bytes(good[:len(good) // 2])
    elif damage == 'not a tar':
        shard.write_bytes(b'no tar file' * 100)
    elif damage == 'no images':
        with tarfile.open(shard, 'w') as tar:
            tar.addfile(tarfile.TarInfo('0000.txt'), io.BytesIO(b''))
    elif damage == 'no image data':
        write_shard(shard, [b'not a JPEG file'])
    with pytest.raises(TrainingDataError, match='bad.tar'):
        load_shard(shard, 224, tmp_path / 'decoded')
    assert not list(tmp_path.glob('decoded/*.npy'))


@pytest.fixture
def served(tmp_path):
    """Serve a folder over HTTP; yield the folder, its URL and the paths asked for."""
    folder = tmp_path / 'served'
    folder.mkdir()
    asked = []

    class Handler(SimpleHTTPRequestHandler):

        def __init__(self, *arguments):
            super().__init__(*arguments, directory=folder)

        def log_request(self, *_):
            asked.append(self.path)

        def log_error(self, *_):
            pass

        def copyfile(self, source, outputfile):
            if 'breaks' in self.path:       # the connection ends before the file does
                outputfile.write(source.read(20_000))
            else:
                super().copyfile(source, outputfile)

    server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield folder, f'http://127.0.0.1:{server.server_port}', asked
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.skipif(not shutil.which('curl'), reason='curl is not installed: no shards by URL')
def test_a_shard_by_url_is_fetched_once(served, tmp_path, data_directory):
    folder, url, asked = served
    shutil.copy(data_directory / 'b.tar', folder / 'shard-0000.tar')
    local = load_shard(data_directory / 'b.tar', 64, tmp_path / 'decoded')
    for _ in range(2):
        fetched = load_shard(f'{url}/shard-0000.tar', 64, tmp_path / 'decoded')
        assert fetched.keys == local.keys
        assert np.array_equal(fetched.images, local.images)
    assert asked == ['/shard-0000.tar']
    files = RunFiles(data_directory, tmp_path / 'run')
    assert files.resolve(f'{url}/shard-0000.tar') == f'{url}/shard-0000.tar'
    assert files.resolve('b.tar') == data_directory / 'b.tar'


@pytest.mark.skipif(not shutil.which('curl'), reason='curl is not installed: no shards by URL')
@pytest.mark.parametrize('name', ['missing.tar', 'breaks.tar', 'text.tar'])
def test_a_bad_shard_by_url_is_named_and_leaves_nothing(served, tmp_path, data_directory, name):
    folder, url, _ = served
    shutil.copy(data_directory / 'b.tar', folder / 'breaks.tar')
    (folder / 'text.tar').write_text('no tar file' * 100)
    with pytest.raises(TrainingDataError, match=f'{url}/{name}'):
        load_shard(f'{url}/{name}', 64, tmp_path / 'decoded')
    assert not list(tmp_path.glob('decoded/*'))


def test_a_shard_may_have_any_name(tmp_path, data_directory):
    odd = tmp_path / 'frames {0..3} a:b.tar'
    shutil.copy(data_directory / 'b.tar', odd)
    assert len(load_shard(odd, 16, tmp_path / 'decoded')) == 4


def test_a_shard_is_decoded_in_order_and_only_once(tmp_path, data_directory):
    first = load_shard(data_directory / 'b.tar', 64, tmp_path)
    assert first.keys == ['0000', '0001', '0002', '0003']
    assert first.images.shape == (4, 64, 64, 3) and first.images.dtype == np.uint8
    written = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again = load_shard(data_directory / 'b.tar', 64, tmp_path)
    assert np.array_equal(first.images, again.images)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == written
