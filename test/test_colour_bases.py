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
"""Colours for each image: decorrelated, close to the codebook's, and never a surprise."""
import cv2
import numpy as np
import pytest
import torch

from auv_image_codec.evaluation.bags import read_compressed_images
from auv_image_codec.networks.colour_bases import (
    closest_bases, correlate, decorrelate, detail_covariances, find_bases, MEAN_BASIS,
    principal_bases,
)
from auv_image_codec.networks.wavelet_transform import analysis
from auv_image_codec.resources import share_directory


@pytest.fixture(scope='module')
def frames() -> torch.Tensor:
    """Return six frames of the demo bag, float [6, 3, 96, 128], the last three with other hues."""
    records = list(read_compressed_images(share_directory() / 'demo' / 'robosub_gate'))[::30]
    pixels = [cv2.resize(cv2.imdecode(np.frombuffer(record.data, np.uint8), cv2.IMREAD_COLOR),
                         (128, 96), interpolation=cv2.INTER_AREA) for record in records]
    images = torch.from_numpy(np.stack(pixels)[..., ::-1].copy()).permute(0, 3, 1, 2) / 255
    return torch.cat([images, images[:, [2, 0, 1]] * torch.tensor([1, .5, .3])[:, None, None]])


def test_details_are_decorrelated(frames):
    levels = analysis(frames)
    bases = principal_bases(detail_covariances(levels))
    assert torch.allclose(bases @ bases.mT, torch.eye(3, dtype=bases.dtype).expand_as(bases))
    covariances = detail_covariances(decorrelate(levels, bases.float()))
    variances = covariances.diagonal(dim1=1, dim2=2)
    assert (variances.diff(dim=1) <= 0).all()
    between = covariances - torch.diag_embed(variances)
    assert (between.abs() < 1e-4).all()
    # with the same basis for all of them they are not
    mean = torch.tensor(MEAN_BASIS).expand(len(frames), 3, 3)
    covariances = detail_covariances(decorrelate(levels, mean))
    assert (covariances - torch.diag_embed(covariances.diagonal(dim1=1, dim2=2))).abs().max() > .01


def test_images_come_back_from_their_colours(frames):
    bases = principal_bases(detail_covariances(analysis(frames))).float()
    images = torch.einsum('nkc,nchw->nkhw', bases, frames)
    assert torch.allclose(correlate(images, bases), frames, atol=1e-6)


@pytest.mark.parametrize('image', [
    torch.zeros(1, 3, 32, 32), torch.full((1, 3, 32, 32), 0.7), torch.zeros(1, 3, 1, 1),
    torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0)).repeat(1, 3, 1, 1)],
    ids=['black', 'flat', 'one pixel', 'grey'])
def test_images_without_colours_of_their_own_have_usual_ones(image):
    basis = principal_bases(detail_covariances(analysis(image)))[0]
    assert torch.isfinite(basis).all()
    likeness = (basis * torch.tensor(MEAN_BASIS)).sum(1)
    assert (likeness > 0.9).all()       # 1 for the same direction


def test_a_codebook_serves_images_of_all_its_colours(frames):
    covariances = detail_covariances(analysis(frames))
    bases = find_bases(covariances, 2)
    closest = closest_bases(covariances, bases)
    assert closest[:3].unique().numel() == closest[3:].unique().numel() == 1
    assert closest[0] != closest[3]

    def bits(bases):
        """Return what variances cost with the closest basis, up to a constant."""
        chosen = bases[closest_bases(covariances, bases)]
        return torch.einsum('nic,ncd,nid->ni', chosen, covariances, chosen).log2().sum(1)
    one, own = bits(find_bases(covariances, 1)), bits(principal_bases(covariances))
    assert (bits(bases) - own).mean() < 0.5 * (one - own).mean()
