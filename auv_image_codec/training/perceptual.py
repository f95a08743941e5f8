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
"""Perceptual losses: distances of images by the features of networks that saw photographs."""
from collections.abc import Callable
from pathlib import Path
import pickle

import safetensors
from safetensors.torch import load_file
import torch
from torch.nn import functional

from auv_image_codec.errors import WeightsError
from auv_image_codec.evaluation.lpips import Lpips

PERCEPTUAL = ('vgg19', 'lpips')
VGG_LAYERS = (0, 2, 5, 7, 10, 12, 14, 16)       # torchvision's numbers of conv1_1 to conv3_4
POOLED_AFTER = (2, 7)
# What the weights were trained on: images in 0..1 times the factor, less the mean, by the deviation
VGG_INPUTS = {
    'caffe': (255, (123.68, 116.779, 103.939), (1, 1, 1)),
    'torchvision': (1, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


class Vgg19Distance:
    """
    The distance of VGG-19's features at relu3_4, each unit-normalized over its channels.

    :param weights: safetensors file or torch state dict with torchvision's keys of VGG-19
        (``features.0.weight`` to ``features.16.bias``; more are ignored).
    :param kind: 'caffe' or 'torchvision': what input the weights were trained on.
    :raises WeightsError: if the file is missing or lacks these keys.
    """

    def __init__(self, weights: Path, kind: str):
        path = Path(weights)
        try:
            tensors = (load_file(path) if path.suffix == '.safetensors'
                       else torch.load(path, map_location='cpu', weights_only=True))
            self._layers = [tuple(tensors[f'features.{number}.{name}'].float()
                                  for name in ('weight', 'bias')) for number in VGG_LAYERS]
        except OSError as error:
            raise WeightsError(f'{path}: weights of VGG-19 cannot be read: {error}') from error
        except (KeyError, TypeError, RuntimeError, pickle.UnpicklingError,
                safetensors.SafetensorError) as error:
            raise WeightsError(f'{path}: not weights of VGG-19: {error}') from error
        factor, mean, deviation = VGG_INPUTS[kind]
        self._factor = factor
        self._mean = torch.tensor(mean)[:, None, None]
        self._deviation = torch.tensor(deviation)[:, None, None]

    def to(self, device: torch.device | str) -> 'Vgg19Distance':
        """Move the network to a device; return itself."""
        self._layers = [(weight.to(device), bias.to(device)) for weight, bias in self._layers]
        self._mean, self._deviation = self._mean.to(device), self._deviation.to(device)
        return self

    def distances(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """Return the distances [N] of float images [N, 3, H, W] in 0..1, differentiable."""
        # apart, so that no gradient is computed for an image that wants none
        return (self._features(first) - self._features(second)).square().sum(1).mean((1, 2))

    def _features(self, images: torch.Tensor) -> torch.Tensor:
        """Return the features of float images [N, 3, H, W], unit-normalized over channels."""
        values = (images * self._factor - self._mean) / self._deviation
        for number, (weight, bias) in zip(VGG_LAYERS, self._layers):
            values = functional.conv2d(values, weight, bias, padding=1).relu()
            if number in POOLED_AFTER:
                values = functional.max_pool2d(values, 2)
        # features reach 2e4: their scale must not decide what the loss weighs
        return functional.normalize(values.float(), dim=1, eps=1e-3)


def load_perceptual(name: str, weights: Path | None, kind: str,
                    ) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """
    Return a perceptual distance by name, with ``distances`` and ``to``.

    :param weights: file of its network; None for the shipped one, which only 'lpips' has.
    :raises WeightsError: if the weights are missing or malformed.
    """
    if name == 'lpips':
        return Lpips(weights)
    if weights is None:
        raise WeightsError('weights of VGG-19 do not come with the package: '
                           'network.perceptual_weights must name a file')
    return Vgg19Distance(weights, kind)
