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
"""The wavelet transform: nothing is lost, and errors in coefficients are errors in pixels."""
import pytest
import torch

from auv_image_codec.networks.wavelet_transform import (
    analysis, band_masks, level_sizes, principal_analysis, synthesis,
)

SIZES = [(224, 224), (192, 256), (176, 304), (16, 16), (16, 240), (48, 32), (37, 50), (1, 1)]


@pytest.mark.parametrize('size', SIZES, ids=str)
def test_images_of_any_size_come_back(size):
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    levels, bases = principal_analysis(images)
    assert [tuple(level.shape) for level in levels] == [(2, 9, *s) for s in level_sizes(*size)]
    assert torch.allclose(synthesis(levels, bases, *size), images, atol=1e-5)


@pytest.mark.parametrize('size', SIZES, ids=str)
def test_there_are_as_many_coefficients_as_values(size):
    masks = band_masks(*size)
    assert sum(int(mask.sum()) for mask in masks) == 3 * size[0] * size[1]
    images = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(1))
    for level, mask in zip(analysis(images), masks):
        assert not level[0][~mask].any()


def test_a_squared_error_of_coefficients_is_about_one_of_pixels():
    levels, bases = principal_analysis(torch.full((1, 3, 224, 224), 0.5))
    generator = torch.Generator().manual_seed(2)
    noise = [torch.randn(level.shape, generator=generator) * 0.01 * mask
             for level, mask in zip(levels, band_masks(224, 224))]
    changed = synthesis([level + n for level, n in zip(levels, noise)], bases, 224, 224)
    energy = sum(float(n.square().sum()) for n in noise)
    assert float((changed - 0.5).square().sum()) == pytest.approx(energy, rel=0.1)


def test_a_flat_image_has_low_pass_samples_only():
    low, *details = analysis(torch.full((1, 3, 224, 224), 0.8))
    assert float(low.abs().max()) > 1
    assert max(float(level.abs().max()) for level in details) < 1e-4
