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
"""
Decorrelated colours, chosen for each image: its principal colours, or the closest of a few bases.

Water is blue, green or grey, and what is in it has colours of its own: with one basis for all
images, details of lightness come back in the colour differences and are paid for twice. Which of
the bases an image uses is in its packet. A covariance's own basis makes the product of the
variances along its axes least, and with it the bits at a given error (the coding gain of N. S.
Jayant and P. Noll, Digital Coding of Waveforms, 1984); the basis of several images at once is
that of their mean covariance, so alternating as of Y. Linde, A. Buzo and R. M. Gray, An algorithm
for vector quantizer design (1980), finds a codebook.
"""
import torch

# principal components of the colours of training images, lightness first
MEAN_BASIS = ((0.51243761, 0.60787169, 0.60654736),
              (0.82380224, -0.14860779, -0.54705173),
              (0.24239959, -0.78000496, 0.57691828))
COLOURS = 3
BASES = 64                  # that a packet can name, in 6 bits
DETAIL_LEVELS = 5           # from the finest: coarser ones show more of the light than of things
LEAST_VARIANCES = (2e-6, 1e-6, 5e-7)    # in the mean basis, relative to those of details
ITERATIONS = 30


def detail_covariances(levels: list[torch.Tensor]) -> torch.Tensor:
    """
    Return how the colours of details vary together, float64 [N, 3, 3], each with a trace of 1.

    :param levels: coefficients of RGB images, float [N, 9, h, w] each, coarsest first, as
        wavelet_transform.analysis returns them.
    """
    covariances = levels[0].new_zeros(len(levels[0]), COLOURS, COLOURS).double()
    for level in levels[1:][-DETAIL_LEVELS:]:
        colours = level.unflatten(1, (-1, COLOURS)).transpose(1, 2).flatten(2).double()
        covariances = covariances + colours @ colours.mT
    # images without colour, or without anything, get the mean basis
    basis = torch.tensor(MEAN_BASIS, dtype=torch.float64, device=levels[0].device)
    least = basis.mT @ torch.diag(basis.new_tensor(LEAST_VARIANCES)) @ basis
    return _with_trace_of_one(_with_trace_of_one(covariances) + least)


def principal_bases(covariances: torch.Tensor) -> torch.Tensor:
    """
    Return the axes of covariances, the largest variance first, float64 [N, 3, 3].

    :param covariances: float64 [N, 3, 3].
    """
    bases = torch.linalg.eigh(covariances).eigenvectors.flip(2).mT
    mean_basis = torch.tensor(MEAN_BASIS, dtype=bases.dtype, device=bases.device)
    # an axis has two directions: take the one that networks know
    signs = torch.where((bases * mean_basis).sum(2, keepdim=True) < 0, -1.0, 1.0)
    return bases * signs


def closest_bases(covariances: torch.Tensor, bases: torch.Tensor) -> torch.Tensor:
    """
    Return which of some bases code images with the fewest bits, int64 [N].

    :param covariances: detail_covariances() of the images, float64 [N, 3, 3].
    :param bases: float64 [K, 3, 3].
    """
    variances = torch.einsum('kic,ncd,kid->nki', bases, covariances, bases)
    return variances.clamp(min=1e-12).log().sum(2).argmin(1)


def find_bases(covariances: torch.Tensor, count: int = BASES) -> torch.Tensor:
    """
    Return a codebook of bases for images like those given, float64 [count, 3, 3].

    :param covariances: detail_covariances() of many images, float64 [N, 3, 3].
    """
    chosen = torch.linspace(0, len(covariances) - 1, count).long()
    bases = principal_bases(covariances[chosen])
    for _ in range(ITERATIONS):
        closest = closest_bases(covariances, bases)
        for index in closest.unique():
            bases[index] = principal_bases(covariances[closest == index].mean(0)[None])[0]
    return bases


def decorrelate(levels: list[torch.Tensor], bases: torch.Tensor) -> list[torch.Tensor]:
    """
    Return coefficients of RGB images in other colours, float [N, 9, h, w] each.

    :param levels: float [N, 9, h, w] each: band b is orientation b // 3 of colour b % 3.
    :param bases: of each image, float [N, 3, 3], a row for each new colour.
    """
    return [torch.einsum('nkc,nochw->nokhw', bases, level.unflatten(1, (-1, COLOURS))).flatten(1, 2)
            for level in levels]


def correlate(images: torch.Tensor, bases: torch.Tensor) -> torch.Tensor:
    """
    Return images in RGB again, float [N, 3, H, W].

    :param images: in the colours of bases, float [N, 3, H, W].
    :param bases: of each image, float [N, 3, 3].
    """
    return torch.einsum('nkc,nkhw->nchw', bases, images)


def _with_trace_of_one(covariances: torch.Tensor) -> torch.Tensor:
    traces = covariances.diagonal(dim1=1, dim2=2).sum(1)[:, None, None]
    return covariances / traces.clamp(min=1e-12)
