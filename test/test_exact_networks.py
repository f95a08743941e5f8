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

from auv_image_codec.networks.exact import (
    activation, ACTIVATION_STEP, ExactConv2d, LARGEST_ACTIVATION, LARGEST_SUM, WEIGHT_STEP,
)
from auv_image_codec.networks.tiles import busy_tiles, read_tiles, tile_count, with_tiles
from auv_image_codec.networks.wavelet_context import LevelContext, MARGIN, WaveletContext


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


@pytest.mark.parametrize('size', [(56, 56), (96, 128), (44, 45), (8, 8)], ids=str)
@pytest.mark.parametrize('share', [0.0003, 0.01])
def test_tiles_that_are_not_all_zeros_suffice(size, share):
    generator = torch.Generator().manual_seed(1)
    context = WaveletContext()
    for level in context.levels:
        for parameter in level.parameters():
            torch.nn.init.normal_(parameter, std=0.1, generator=generator)
    context.freeze()
    own, above = (_values(generator, count, 18, *size)
                  * (torch.rand(1, 1, *size, generator=generator) < share) for count in (2, 1))
    planes = torch.tensor([5])
    coded_sums = context.coded_sums(
        1, (torch.rand(2, 9, *size, generator=generator) < 0.5).float())

    def logits(own, above):
        return context(1, own, coded_sums, context.above_sums(1, above, planes), planes)
    tiles = busy_tiles(torch.cat([own, above]), MARGIN)
    assert len(tiles) < tile_count(*size) or size == (8, 8) or share == 0.01
    found = context.of_tiles(1, read_tiles(own, tiles, MARGIN), coded_sums,
                             read_tiles(above, tiles, MARGIN)[:, 0], 5, tiles)
    of_zeros = logits(torch.zeros_like(own), torch.zeros_like(above))
    assert torch.equal(with_tiles(of_zeros, tiles, found), logits(own, above))


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


def test_activations_are_multiples_of_a_step_with_the_same_values_in_training():
    sums = torch.linspace(-2, 12, 1001)
    plain = activation(sums.clone())
    trained = activation(sums.clone().requires_grad_())
    assert torch.equal(plain, trained.detach())
    assert torch.equal(plain / ACTIVATION_STEP, (plain / ACTIVATION_STEP).round())
    assert 0 <= float(plain.min()) and float(plain.max()) == LARGEST_ACTIVATION


def test_a_machine_whose_convolutions_round_is_known():
    network = WaveletContext().requires_grad_(False)
    for level in network.levels:
        torch.nn.init.normal_(level.last.weight, std=0.2)
    assert network.is_exact_here()
    try:
        torch.backends.nnpack.set_flags(True)
        with torch.backends.mkldnn.flags(enabled=False):
            if torch.backends.nnpack.is_available():
                assert not network.is_exact_here()
    finally:
        torch.backends.nnpack.set_flags(False)


def test_a_network_whose_sums_can_leave_the_exact_range_is_known():
    network = WaveletContext()
    assert network.is_exact()
    with torch.no_grad():
        network.levels[3].second.weight.fill_(LARGEST_SUM / LARGEST_ACTIVATION / 100)
    assert not network.is_exact()
