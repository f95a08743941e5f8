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
"""The enhancer: it belongs to one model, trains and goes on, and is off without its weights."""
import io
from pathlib import Path
import resource
import tarfile

from enhancer_harness import write_tiny_enhancer

import numpy as np
from PIL import Image
import pytest
from safetensors.numpy import save_file
import torch
import yaml

from auv_image_codec.cli.main import main
from auv_image_codec.codecs import create_codec, encode_packet
from auv_image_codec.codecs.base import resample
from auv_image_codec.codecs.enhancer import Enhancer, has_enhancer
from auv_image_codec.codecs.weights import read_weights, write_weights
from auv_image_codec.errors import LatentError, RecipeError, WeightsError
from auv_image_codec.evaluation.bags import read_compressed_images
from auv_image_codec.evaluation.contenders import open_contenders
from auv_image_codec.evaluation.lpips import Lpips
from auv_image_codec.evaluation.metrics import mse
from auv_image_codec.networks.enhancer import EnhancerGenerator, PatchDiscriminator
from auv_image_codec.resources import share_directory, weights_directory
from auv_image_codec.training.data import load_shard
from auv_image_codec.training.enhancer_data import decode_array, DecodedBatches
from auv_image_codec.training.perceptual import Vgg19Distance, VGG_LAYERS
from auv_image_codec.training.train import train

RECIPE = {
    'name': 'tiny',
    'network': {'type': 'enhancer', 'channels': 4, 'largest_channels': 8,
                'discriminator_channels': 2, 'perceptual': 'lpips', 'perceptual_weight': 1.0,
                'adversarial_weight': 0.01, 'l1_weight': 0.0, 'mse_weight': 1.0},
    'data': {'train': ['a.tar'], 'validation': 'b.tar'},
    'augmentation': {'crop_size': 64},
    'optimization': {'epochs': 3, 'batch_size': 4, 'learning_rate': 0.003,
                     'averaging_decay': 0.5, 'validation_interval_steps': 2},
}


@pytest.fixture(scope='module')
def codec():
    return create_codec('autoencoder')


@pytest.fixture(scope='module')
def frames() -> list[bytes]:
    """Return JPEG files of the demo bag."""
    bag = share_directory() / 'demo' / 'robosub_gate'
    return [record.data for record in read_compressed_images(bag)][::7]


@pytest.fixture(scope='module')
def frame(frames) -> np.ndarray:
    with Image.open(io.BytesIO(frames[0])) as image:
        return np.array(image.convert('RGB'))


@pytest.fixture(scope='module')
def data_directory(frames, tmp_path_factory) -> Path:
    """Return a directory with 8 training frames and 4 others."""
    directory = tmp_path_factory.mktemp('data')
    for name, part in (('a', frames[:8]), ('b', frames[8:12])):
        with tarfile.open(directory / f'{name}.tar', 'w') as tar:
            for number, content in enumerate(part):
                entry = tarfile.TarInfo(f'{number:04d}.jpg')
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    return directory


@pytest.fixture
def weights(codec, tmp_path) -> Path:
    return write_tiny_enhancer(tmp_path / 'enhancer', codec)


def write_recipe(path: Path, **changes) -> Path:
    recipe = {section: {**entries, **changes.get(section, {})} if isinstance(entries, dict)
              else entries for section, entries in RECIPE.items()}
    path.write_text(yaml.safe_dump(recipe))
    return path


def run(recipe: Path, data_directory: Path, directory: Path, **options) -> Path:
    weights = directory / 'weights'
    train(recipe, data_directory, directory / 'run', weights, device='cpu', **options)
    return weights


# --- Networks -----------------------------------------------------------------------------------

def test_an_untrained_generator_changes_nothing():
    images = torch.rand(2, 3, 64, 96)
    generator = EnhancerGenerator(4, 8, 16)
    assert torch.equal(generator(images, torch.rand(2, 16, 2, 3)), images)
    assert torch.equal(EnhancerGenerator(4, 8)(images), images)


def test_features_reach_the_image():
    generator = EnhancerGenerator(4, 8, 16)
    torch.nn.init.normal_(generator.head.weight)
    images = torch.rand(1, 3, 64, 64)
    assert not torch.equal(generator(images, torch.zeros(1, 16, 2, 2)),
                           generator(images, torch.ones(1, 16, 2, 2)))


def test_the_discriminator_judges_14_times_14_patches():
    images = torch.rand(1, 3, 224, 224)
    assert PatchDiscriminator(2)(images, images).shape == (1, 1, 14, 14)


# --- Weights ------------------------------------------------------------------------------------

def test_enhanced_images_have_the_size_asked_for(codec, weights, frame):
    enhancer = Enhancer(codec, weights)
    latent = codec.encode(frame)
    for size in ((640, 480), (224, 224), (33, 7)):
        enhanced = enhancer.enhance(latent, size)
        assert enhanced.shape == (size[1], size[0], 3) and enhanced.dtype == np.uint8
        assert not np.array_equal(enhanced, codec.decode(latent, size))
    packet = encode_packet(codec, frame)
    assert np.array_equal(enhancer.enhance_packet(packet), enhancer.enhance(
        latent, frame.shape[1::-1]))


def test_the_default_codec_has_one_that_looks_better_in_the_images_own_shape(frame):
    codec = create_codec()
    enhancer = Enhancer(codec)
    lpips = Lpips()
    width = frame.shape[1]
    for image in (frame, np.ascontiguousarray(frame[:, :width // 2])):
        latent = codec.encode(image)
        size = codec.decoded_size(latent)
        assert size != codec.input_size
        small = resample(image, size)
        enhanced = enhancer.enhance(latent, size)
        assert enhanced.shape == small.shape
        assert lpips(small, enhanced) < 0.9 * lpips(small, codec.decode(latent, size))


def test_kernels_are_stored_in_8_bits_and_come_back(codec, tmp_path):
    write_tiny_enhancer(tmp_path, codec, channels=32, largest_channels=64)
    torch.manual_seed(0)
    network = EnhancerGenerator(32, 64, 256)
    values = sum(parameter.numel() for parameter in network.parameters())
    assert (tmp_path / 'enhancer.safetensors').stat().st_size < 1.1 * values
    read = read_weights(tmp_path, 'autoencoder', 'enhancer').tensors
    for key, tensor in network.state_dict().items():
        if not key.startswith('head'):
            tensor = tensor.numpy()
            assert abs(read[f'network.{key}'] - tensor).max() <= abs(tensor).max() / 250


def test_an_enhancer_refuses_another_model_of_its_codec(codec, tmp_path):
    write_tiny_enhancer(tmp_path, codec, model_id=codec.model_id ^ 1)
    with pytest.raises(WeightsError, match=f'{codec.model_id ^ 1:08x}.*{codec.model_id:08x}'):
        Enhancer(codec, tmp_path)


def test_an_enhancer_refuses_another_codec(codec, tmp_path):
    write_tiny_enhancer(tmp_path, codec, name='mosaic')
    with pytest.raises(WeightsError, match="'mosaic'"):
        Enhancer(codec, tmp_path)


@pytest.mark.parametrize('damage', ['missing', 'cut', 'another network'])
def test_damaged_weights_are_named(codec, weights, damage):
    path = weights / 'enhancer.safetensors'
    if damage == 'missing':
        path.unlink()
        assert not has_enhancer(codec.name, weights)
    elif damage == 'cut':
        path.write_bytes(path.read_bytes()[:-100])
    else:
        content = path.read_bytes()
        assert content.count(b'largest_channels\\": 4') == 1
        path.write_bytes(content.replace(b'largest_channels\\": 4', b'largest_channels\\": 6'))
    with pytest.raises(WeightsError, match='enhancer'):
        Enhancer(codec, weights)


def test_features_that_do_not_fit_are_refused(codec, weights):
    with pytest.raises(LatentError, match='256 channels'):
        Enhancer(codec, weights).enhance_decoded(np.zeros((224, 224, 3), np.uint8))


def test_a_codec_without_features_can_be_enhanced(codec, tmp_path, frame, monkeypatch):
    monkeypatch.setattr(type(codec), 'features', lambda self, latent: None)
    write_tiny_enhancer(tmp_path, codec, feature_channels=0)
    enhanced = Enhancer(codec, tmp_path).enhance(codec.encode(frame), (64, 48))
    assert enhanced.shape == (48, 64, 3)


# --- Perceptual distances -----------------------------------------------------------------------

@pytest.fixture
def vgg(tmp_path) -> Path:
    """Return random weights with the keys and the shapes of VGG-19."""
    generator = np.random.default_rng(0)
    tensors, inputs = {}, 3
    for number, outputs in zip(VGG_LAYERS, (64, 64, 128, 128, 256, 256, 256, 256)):
        tensors[f'features.{number}.weight'] = (
            generator.normal(0, (2 / (9 * inputs)) ** 0.5, (outputs, inputs, 3, 3))
            .astype(np.float32))
        tensors[f'features.{number}.bias'] = np.zeros(outputs, np.float32)
        inputs = outputs
    path = tmp_path / 'vgg.safetensors'
    save_file(tensors, path)
    return path


def test_distances_grow_with_the_blur_and_have_gradients(vgg, frame):
    image = torch.from_numpy(frame[:64, :64].copy()).permute(2, 0, 1)[None].float() / 255
    for distance in (Vgg19Distance(vgg, 'caffe'), Vgg19Distance(vgg, 'torchvision'), Lpips()):
        assert distance.distances(image, image) == 0
        blurred = [torch.nn.functional.avg_pool2d(image, size, 1, size // 2)
                   for size in (3, 7, 15)]
        values = [float(distance.distances(other, image)) for other in blurred]
        assert 0 < values[0] < values[1] < values[2]
        moved = blurred[0].clone().requires_grad_()
        distance.distances(moved, image).sum().backward()
        assert torch.isfinite(moved.grad).all() and moved.grad.abs().max() > 0


def test_a_state_dict_of_torchvision_is_read(vgg, tmp_path):
    distance = Vgg19Distance(vgg, 'torchvision')
    state = {f'features.{number}.{name}': tensor for number, layer in zip(
        VGG_LAYERS, distance._layers) for name, tensor in zip(('weight', 'bias'), layer)}
    path = tmp_path / 'vgg19.pth'
    torch.save({**state, 'classifier.0.weight': torch.zeros(2, 2)}, path)
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(Vgg19Distance(path, 'torchvision').distances(images, images.flip(0)),
                       distance.distances(images, images.flip(0)))


@pytest.mark.parametrize('name', ['none.safetensors', 'text.safetensors', 'text.pth', 'few.pth'])
def test_wrong_perceptual_weights_are_named(tmp_path, name):
    path = tmp_path / name
    if name.startswith('text'):
        path.write_text('no weights')
    elif name.startswith('few'):
        torch.save({'features.0.weight': torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match=name):
        Vgg19Distance(path, 'torchvision')


# --- Training -----------------------------------------------------------------------------------

def test_reconstructions_are_made_once_and_fit_their_images(codec, data_directory, tmp_path,
                                                            monkeypatch):
    source = load_shard(data_directory / 'b.tar', 224, tmp_path)
    array = decode_array(source, codec)
    image = np.array(source.images[2])
    latent = codec.encode(image)
    assert np.array_equal(array.decoded[2], codec.decode(latent, (224, 224)))
    assert np.allclose(array.features[2].transpose(2, 0, 1), codec.features(latent), rtol=1e-2,
                       atol=1e-2)
    monkeypatch.setattr(type(codec), 'encode', None)
    again = decode_array(source, codec)
    assert np.array_equal(again.decoded, array.decoded)

    # a window of all three, mirrored or not
    batches = DecodedBatches([array], np.ones(4), 4, 0, lambda: 0, crop_size=64)
    clear, decoded, features = batches.batch(1)
    assert clear.shape == decoded.shape == (4, 64, 64, 3) and features.shape == (4, 2, 2, 256)
    for number, place in enumerate(batches.places(1)):
        assert place.top % 32 == place.left % 32 == 0
        row, column = place.top // 32, place.left // 32
        window = array.features[place.index][row:row + 2, column:column + 2]
        expected = window[:, ::-1] if place.mirrored else window
        assert np.array_equal(features[number].numpy(), expected)
    assert {place.mirrored for step in range(4) for place in batches.places(step)} == {True, False}


def test_a_full_disk_leaves_no_half_reconstructions(codec, data_directory, tmp_path):
    source = load_shard(data_directory / 'b.tar', 224, tmp_path)
    before = set(tmp_path.iterdir())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (250_000, limits[1]))
    try:
        with pytest.raises(OSError):
            decode_array(source, codec)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert set(tmp_path.iterdir()) == before
    assert decode_array(source, codec).decoded.shape == (4, 224, 224, 3)


@pytest.mark.slow
def test_training_lowers_the_perceptual_distance(codec, data_directory, tmp_path):
    recipe = write_recipe(tmp_path / 'tiny.yaml', optimization={'epochs': 40,
                                                                'validation_interval_steps': 20})
    weights = run(recipe, data_directory, tmp_path)
    enhancer, lpips = Enhancer(codec, weights), Lpips()
    array = decode_array(load_shard(data_directory / 'b.tar', 224, tmp_path / 'decoded'), codec)
    for image in array.images:
        latent = codec.encode(np.array(image))
        assert lpips(enhancer.enhance(latent, (224, 224)), image) \
            < lpips(codec.decode(latent, (224, 224)), image)
    card = (weights / 'model_card.md').read_text()
    assert f'{codec.model_id:08x}' in card and 'synthesised' in card
    assert card.count('| decoded |') == card.count('| enhanced |') == 1
    for picture in ('loss_curves.png', 'reconstructions.png'):
        with Image.open(tmp_path / 'run' / picture) as image:
            assert len(image.convert('RGB').getcolors(1 << 20)) > 10


@pytest.mark.slow
def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(data_directory, tmp_path, monkeypatch):
    recipe = write_recipe(tmp_path / 'tiny.yaml', network={'mse_limit': 0.99})
    whole = run(recipe, data_directory, tmp_path / 'whole')
    batch = DecodedBatches.batch

    def interrupt(batches, step):
        if step >= 3:
            raise KeyboardInterrupt
        return batch(batches, step)
    with monkeypatch.context() as patch, pytest.raises((KeyboardInterrupt, SystemExit)):
        patch.setattr(DecodedBatches, 'batch', interrupt)
        run(recipe, data_directory, tmp_path / 'stopped')
    last = tmp_path / 'stopped' / 'run' / 'last.ckpt'
    assert 0 < torch.load(last, weights_only=True)['global_step'] < 6
    resumed = run(recipe, data_directory, tmp_path / 'stopped')
    name = 'enhancer.safetensors'
    assert (resumed / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.slow
def test_a_run_starts_with_the_weights_of_an_enhancer_of_another_model(
        codec, data_directory, tmp_path):
    recipe = write_recipe(tmp_path / 'tiny.yaml', optimization={'epochs': 0})
    shape = {'channels': 4, 'largest_channels': 8}
    start = write_tiny_enhancer(tmp_path / 'start', codec, model_id=codec.model_id ^ 1, **shape)
    weights = run(recipe, data_directory, tmp_path, start_from=start)
    own = Enhancer(codec, write_tiny_enhancer(tmp_path / 'own', codec, **shape))
    image = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
    features = codec.features(codec.encode(image))
    assert np.array_equal(Enhancer(codec, weights).enhance_decoded(image, features),
                          own.enhance_decoded(image, features))
    assert '| start | enhancer weights with SHA-256' in (weights / 'model_card.md').read_text()
    other = write_tiny_enhancer(tmp_path / 'other', codec)
    with pytest.raises(WeightsError, match='other: the enhancer does not fit'):
        run(recipe, data_directory, tmp_path / 'second', start_from=other)


@pytest.mark.slow
def test_both_networks_learn_and_the_limit_weighs(data_directory, tmp_path):
    recipe = write_recipe(tmp_path / 'tiny.yaml', network={'mse_limit': 0.5})
    run(recipe, data_directory, tmp_path)
    state = torch.load(tmp_path / 'run' / 'last.ckpt', weights_only=True)['state_dict']
    assert state['mse_weight'] > 1.1        # as the limit is out of reach
    torch.manual_seed(0)
    assert state['discriminator.layers.0.weight'].abs().sum() > 0
    assert state['network.head.weight'].abs().max() > 0


@pytest.mark.slow
def test_exported_detail_keeps_to_the_limit_on_validation_images(codec, data_directory, tmp_path):
    # training with a weight that the limit cannot raise in so few steps
    recipe = write_recipe(tmp_path / 'tiny.yaml', network={'mse_limit': 1.01},
                          optimization={'epochs': 20, 'validation_interval_steps': 40})
    weights = run(recipe, data_directory, tmp_path)
    enhancer = Enhancer(codec, weights)
    array = decode_array(load_shard(data_directory / 'b.tar', 224, tmp_path / 'decoded'), codec)
    errors = {'decoded': [], 'enhanced': []}
    for image in array.images:
        latent = codec.encode(np.array(image))
        errors['decoded'].append(mse(image, codec.decode(latent, (224, 224))))
        errors['enhanced'].append(mse(image, enhancer.enhance(latent, (224, 224))))
    ratio = np.mean(errors['enhanced']) / np.mean(errors['decoded'])
    assert ratio == pytest.approx(1.01, abs=0.006)     # weights are rounded
    assert 'so that validation images keep to the limit' in (weights / 'model_card.md').read_text()


@pytest.mark.slow
def test_a_run_is_not_continued_with_other_weights_of_the_codec(data_directory, tmp_path):
    halves = {part: read_weights(weights_directory('autoencoder'), 'autoencoder', part)
              for part in ('encoder', 'decoder')}

    def write_codec(factor):
        for half in halves.values():
            half.tensors['quantizer.scale'] *= factor
        write_weights(tmp_path / 'codec', 'autoencoder',
                      {part: half.network for part, half in halves.items()},
                      {part: half.tensors for part, half in halves.items()})
    write_codec(1)
    recipe = write_recipe(tmp_path / 'tiny.yaml', optimization={'epochs': 1},
                          network={'codec_weights': str(tmp_path / 'codec')})
    run(recipe, data_directory, tmp_path)
    write_codec(1.5)
    with pytest.raises(WeightsError, match='give another run directory'):
        run(recipe, data_directory, tmp_path)


@pytest.mark.parametrize(('changes', 'message'), [
    ({'network': {'codec': 'mosaic'}}, "codec 'mosaic' is not known"),
    ({'network': {'perceptual': 'vgg19'}}, 'must name a file'),
    ({'network': {'perceptual': 'ssim'}}, 'must be one of vgg19, lpips'),
    ({'augmentation': {'crop_size': 100}}, 'must be a multiple of 32'),
    ({'augmentation': {'turbidity': 0.5}}, 'augmentation.turbidity'),
    ({'data': {'input_size': 256}, 'augmentation': {}}, 'takes 224x224'),
])
def test_a_wrong_recipe_names_the_entry(data_directory, tmp_path, changes, message):
    with pytest.raises((RecipeError, WeightsError, ValueError), match=message):
        run(write_recipe(tmp_path / 'wrong.yaml', **changes), data_directory, tmp_path)


# --- Commands -----------------------------------------------------------------------------------

@pytest.fixture
def packets(frames, tmp_path) -> Path:
    """Return a folder with two packets, as the command writes them."""
    for number, content in enumerate(frames[:2]):
        (tmp_path / f'{number}.jpg').write_bytes(content)
    folder = tmp_path / 'packets'
    assert main(['encode', *(str(tmp_path / f'{n}.jpg') for n in range(2)),
                 '-o', str(folder), '--codec', 'autoencoder']) == 0
    return folder


def test_decode_writes_enhanced_images_beside_the_others(packets, weights, tmp_path, codec):
    output = tmp_path / 'out'
    command = ['decode', str(packets), '-o', str(output), '--enhance', '--enhancer-weights',
               str(weights)]
    assert main(command) == 0
    assert sorted(path.name for path in output.iterdir()) == [
        '0.enhanced.png', '0.png', '1.enhanced.png', '1.png']
    with Image.open(output / '0.enhanced.png') as image:
        assert 'synthesised' in image.info['Comment']
        expected = Enhancer(codec, weights).enhance_packet((packets / '0.auv').read_bytes())
        assert np.array_equal(np.array(image), expected)
    assert main(command) == 0       # ours, so they are replaced
    (output / '0.enhanced.png').write_bytes(b'somebody else wrote this')
    assert main(command) == 1
    assert (output / '0.enhanced.png').read_bytes() == b'somebody else wrote this'


def test_decode_says_what_an_enhancer_lacks_and_writes_the_other_images(packets, tmp_path,
                                                                        capsys):
    output = tmp_path / 'out'
    assert main(['decode', str(packets), '-o', str(output), '--enhance', '--enhancer-weights',
                 str(tmp_path)]) == 1
    assert 'enhancer.safetensors' in capsys.readouterr().err
    assert sorted(path.name for path in output.iterdir()) == ['0.png', '1.png']


def test_an_image_and_an_enhanced_image_of_one_name_are_refused(packets, weights, tmp_path,
                                                                capsys):
    (packets / '1.auv').rename(packets / '0.enhanced.auv')
    assert main(['decode', str(packets), '-o', str(tmp_path / 'out'), '--enhance',
                 '--enhancer-weights', str(weights)]) == 2
    assert '0.enhanced.png' in capsys.readouterr().err


def test_evaluate_has_a_row_of_enhanced_images(codec, weights, frame):
    contenders, _ = open_contenders(['autoencoder', 'autoencoder-enhanced'],
                                    lambda name: create_codec(name), weights)
    square = np.array(Image.fromarray(frame).resize((224, 224)))
    decoded, enhanced = (next(contender.code(square, [500])) for contender in contenders)
    assert (decoded.codec, enhanced.codec) == ('autoencoder', 'autoencoder-enhanced')
    assert decoded.packet_bytes == enhanced.packet_bytes <= 500
    assert not np.array_equal(decoded.image, enhanced.image)
    assert f'{codec.model_id:08x}' in contenders[1].identity
    assert contenders[0].identity != contenders[1].identity


def test_evaluate_leaves_out_enhanced_images_where_there_is_no_enhancer(weights, tmp_path):
    rows = {}
    for folder in (weights, tmp_path):
        contenders, unavailable = open_contenders(None, lambda name: create_codec(name), folder)
        rows[folder] = {row for contender in contenders for row in contender.rows}
        assert not any('enhanced' in name for name in unavailable if name.startswith('auto'))
    assert rows[weights] - rows[tmp_path] == {'autoencoder-enhanced'}


def test_shapes_of_the_harness_are_those_of_the_codec(codec, frame):
    assert codec.features(codec.encode(frame)).shape == (256, 7, 7)
