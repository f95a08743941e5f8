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
"""What the entropy coder reads is the same to the last bit, however it is computed."""
import numpy as np
import pytest
import torch

from auv_image_codec.codecs.wavelet_layout import LevelLayout
from auv_image_codec.networks.exact import (
    activation, ACTIVATION_STEP, ExactConv2d, LARGEST_ACTIVATION, LARGEST_SUM, WEIGHT_STEP,
)
from auv_image_codec.networks.frozen_context import (
    FrozenContext, FrozenLevel, LOGITS, steps_of_logits,
)
from auv_image_codec.networks.tiles import largest_of_tiles, TILE, Tiles
from auv_image_codec.networks.wavelet_context import (
    features, LevelContext, MARGIN, WaveletContext,
)
from auv_image_codec.networks.wavelet_transform import BANDS


def _values(generator, *shape):
    steps = torch.randint(0, round(LARGEST_ACTIVATION / ACTIVATION_STEP) + 1, shape,
                          generator=generator)
    return steps * ACTIVATION_STEP


def _integer_convolution(steps: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Convolve [C, H, W] with [O, C, k, k] in integers, with zero padding."""
    size = weights.shape[-1]
    padded = np.pad(steps, ((0, 0), (size // 2,) * 2, (size // 2,) * 2))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), (1, 2))
    return np.einsum('chwkl,ockl->ohw', windows, weights)


def _logits(context: LevelContext, own: torch.Tensor, coded: torch.Tensor,
            above: torch.Tensor) -> torch.Tensor:
    planes = torch.full((len(own),), 5, device=own.device)
    return context(own, context.coded_sums(coded), context.above_sums(above, planes), planes)


@pytest.mark.parametrize('size', [1, 3])
def test_a_convolution_is_one_of_integers(size):
    generator = torch.Generator().manual_seed(size)
    convolution = ExactConv2d(45, 24, size).requires_grad_(False)
    values = _values(generator, 1, 45, 11, 13)
    weights = np.floor(convolution.weight.double().numpy() / WEIGHT_STEP + 0.5).astype(np.int64)
    expected = _integer_convolution((values[0] / ACTIVATION_STEP).numpy().astype(np.int64), weights)
    found = convolution(values)[0].double().numpy() / (ACTIVATION_STEP * WEIGHT_STEP)
    assert np.array_equal(found, expected)


def test_logits_do_not_depend_on_threads_library_order_or_precision():
    generator = torch.Generator().manual_seed(0)
    context = LevelContext(32).requires_grad_(False)
    torch.nn.init.normal_(context.last.weight, std=0.2, generator=generator)
    own, above = (_values(generator, 20, 18, 28, 28) for _ in range(2))
    inputs = own, torch.ones(1, 9, 28, 28), above
    reference = _logits(context, *inputs)
    assert len(reference.unique()) > 1000

    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            assert torch.equal(_logits(context, *inputs), reference)
    finally:
        torch.set_num_threads(threads)
    with torch.backends.mkldnn.flags(enabled=False):
        assert torch.equal(_logits(context, *inputs), reference)
    in_channels_last = [part.contiguous(memory_format=torch.channels_last) for part in inputs]
    assert torch.equal(_logits(context, *in_channels_last), reference)
    double = LevelContext(32).double().requires_grad_(False)
    double.load_state_dict(context.state_dict())
    assert torch.equal(_logits(double, *(part.double() for part in inputs)).float(), reference)


def _trained(hidden: int, seed: int) -> LevelContext:
    """Return a network whose logits are as different as those of a trained one."""
    generator = torch.Generator().manual_seed(seed)
    context = LevelContext(hidden).requires_grad_(False)
    for parameter in context.parameters():
        torch.nn.init.normal_(parameter, std=0.2, generator=generator)
    return context


def _channels_last(values: torch.Tensor) -> torch.Tensor:
    return values.permute(0, 2, 3, 1).contiguous()


def test_both_ends_run_what_was_trained():
    generator = torch.Generator().manual_seed(0)
    context, planes, groups = _trained(24, 2), [8, 9], 3
    frozen = FrozenLevel(context)
    own = _values(generator, len(planes) * groups, 18, 28, 20).floor()
    above = _values(generator, len(planes), 18, 28, 20).floor()
    coded = (torch.rand(groups, 9, 28, 20, generator=generator) < 0.5).float()
    expected = steps_of_logits(context(
        own, context.coded_sums(coded), context.above_sums(above, torch.tensor(planes)),
        torch.tensor(planes)))
    own, above, coded = map(_channels_last, (own, above, coded))
    found = frozen.steps(own, frozen.coded_sums(coded), frozen.above_sums(above, planes), planes)
    assert torch.equal(found, expected)
    assert len(found.unique()) > 400 and int(found.max()) == LOGITS - 1 and int(found.min()) == 0


@pytest.mark.parametrize('size', [(56, 56), (96, 128), (44, 44), (120, 16)], ids=str)
@pytest.mark.parametrize('share', [0.0003, 0.003])
def test_tiles_that_are_not_all_zeros_suffice(size, share):
    generator = torch.Generator().manual_seed(1)
    layout = LevelLayout(FrozenLevel(_trained(24, 1)), 1, torch.ones(BANDS, *size).bool())

    def sparse(*size):
        magnitudes = torch.randint(1, 9, (1, *size, BANDS), generator=generator).float()
        magnitudes *= torch.rand(1, *size, 1, generator=generator) < share
        return magnitudes, torch.sign(torch.randn(magnitudes.shape, generator=generator))
    (after, signs), (parent, parent_signs) = sparse(*size), sparse(size[0] // 2, size[1] // 2)
    before = 2 * torch.floor(after / 2)
    tiles = torch.maximum(largest_of_tiles(after[0].amax(-1), MARGIN),
                          largest_of_tiles(parent[0].amax(-1), MARGIN // 2, TILE // 2))
    tiles = tiles.nonzero()[:, 0]
    expected = layout.steps(before, after, signs, layout.above_sums(
        features(parent, parent_signs, -1), [5]), [5], range(2))
    in_tiles = [Tiles(part, MARGIN).read(tiles) for part in (before, after, signs)]
    parent = features(*(Tiles(part, MARGIN // 2, TILE // 2).read(tiles)
                        for part in (parent, parent_signs)), -1)
    found = layout.steps_of_tiles(tiles, *in_tiles, layout.above_sums_of_tiles(parent, 5), 5,
                                  range(2))
    for group, found_steps, expected_steps in zip(layout.groups, found, expected):
        assert np.array_equal(found_steps[group.steps_at], expected_steps[group.steps_at])


def test_features_are_the_same_wherever_the_bands_lie():
    generator = torch.Generator().manual_seed(3)
    magnitudes = torch.randint(0, 20, (2, 9, 5, 6), generator=generator).float()
    signs = torch.randint(-1, 2, (2, 9, 5, 6), generator=generator).float()
    assert torch.equal(features(_channels_last(magnitudes), _channels_last(signs), -1),
                       _channels_last(features(magnitudes, signs)))


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU here')
def test_logits_are_the_same_on_a_gpu():
    generator = torch.Generator().manual_seed(0)
    context = LevelContext(32).requires_grad_(False).double()
    torch.nn.init.normal_(context.last.weight, std=0.2, generator=generator)
    own, above = (_values(generator, 1, 18, 28, 28).double() for _ in range(2))
    inputs = own, torch.ones(1, 9, 28, 28).double(), above
    reference = _logits(context, *inputs)
    found = _logits(context.cuda(), *(part.cuda() for part in inputs))
    assert torch.equal(found.cpu(), reference)


def test_activations_are_multiples_of_a_step():
    found = activation(torch.linspace(-2, 12, 1001))
    assert torch.equal(found / ACTIVATION_STEP, (found / ACTIVATION_STEP).round())
    assert 0 <= float(found.min()) and float(found.max()) == LARGEST_ACTIVATION


def test_a_machine_whose_convolutions_round_is_known():
    network = WaveletContext().requires_grad_(False)
    for level in network.levels:
        torch.nn.init.normal_(level.last.weight, std=0.2)
    frozen = FrozenContext(network)
    assert frozen.is_exact_here()
    try:
        torch.backends.nnpack.set_flags(True)
        with torch.backends.mkldnn.flags(enabled=False):
            if torch.backends.nnpack.is_available():
                assert not frozen.is_exact_here()
    finally:
        torch.backends.nnpack.set_flags(False)


def test_a_network_whose_sums_can_leave_the_exact_range_is_known():
    network = WaveletContext()
    assert network.is_exact()
    with torch.no_grad():
        network.levels[3].second.weight.fill_(LARGEST_SUM / LARGEST_ACTIVATION / 100)
    assert not network.is_exact()
