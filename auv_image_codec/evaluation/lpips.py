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
LPIPS: how different two images look, by the features of a network trained on photographs.

The network is AlexNet and the weights of its features are version 0.1 of LPIPS (Zhang et al.,
"The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR 2018). Neither
torchvision nor the internet is needed: the weights come with the package, those of the last three
convolutions in 8 bits, the others in 16.
"""
from pathlib import Path

import numpy as np
import safetensors
from safetensors.torch import load
import torch
from torch.nn import functional

from auv_image_codec.codecs.weights import read_weights_file, SCALE_SUFFIX
from auv_image_codec.errors import WeightsError
from auv_image_codec.resources import share_directory

WEIGHTS_FILE = Path('weights') / 'lpips' / 'alexnet.safetensors'
SMALLEST_SIDE = 31          # pixels; below, the pooling layers leave nothing
# Of images in -1..1; torchvision's mean and standard deviation, as LPIPS rounds them.
MEAN = (-.030, -.088, -.188)
STANDARD_DEVIATION = (.458, .448, .450)
# Index in torchvision's AlexNet, stride, padding, and whether a maximum over 3x3 comes first.
LAYERS = ((0, 4, 2, False), (3, 1, 2, True), (6, 1, 1, True), (8, 1, 1, False), (10, 1, 1, False))


class Lpips:
    """
    The LPIPS distance.

    :param weights: file with the features and the weights on them; None for the shipped one.
    :param device: a torch device.
    :raises WeightsError: if the file is missing or malformed.
    """

    def __init__(self, weights: Path | None = None, device: str = 'cpu'):
        path = Path(weights) if weights else share_directory() / WEIGHTS_FILE
        try:
            tensors = load(read_weights_file(path))
            self._convolutions = [
                (_weight(tensors, f'features.{index}.weight').to(device),
                 tensors[f'features.{index}.bias'].float().to(device)) for index, *_ in LAYERS]
            self._heads = [tensors[f'lin{number}.weight'].float().to(device)
                           for number in range(len(LAYERS))]
        except OSError as error:
            raise WeightsError(f'{path}: LPIPS weights cannot be read: {error}') from error
        except (KeyError, safetensors.SafetensorError) as error:
            raise WeightsError(f'{path}: not LPIPS weights: {error}') from error
        self._device = device
        self._mean = torch.tensor(MEAN, device=device)[:, None, None]
        self._deviation = torch.tensor(STANDARD_DEVIATION, device=device)[:, None, None]

    def __call__(self, first: np.ndarray, second: np.ndarray) -> float:
        """
        Return the distance of two images: 0 for equal ones, seldom above 1.

        :param first: uint8 [height, width, 3], RGB, each side at least 31 pixels.
        :param second: likewise, of the same shape.
        :raises ValueError: if the shapes or the dtype are others.
        """
        images = np.stack([np.asarray(first), np.asarray(second)])
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
            raise ValueError(f'images must be uint8 (height, width, 3), not {images.dtype} '
                             f'{images.shape[1:]}')
        if min(images.shape[1:3]) < SMALLEST_SIDE:
            raise ValueError(f'LPIPS needs {SMALLEST_SIDE} pixels a side, not {images.shape[1:3]}')
        values = torch.from_numpy(images).to(self._device).permute(0, 3, 1, 2).float() / 255
        with torch.inference_mode():
            return float(self.distances(values[:1], values[1:]))

    def distances(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """
        Return the distances [N] of float images [N, 3, H, W] in 0..1, differentiable.

        On the device that this was made for.
        """
        total = torch.zeros(len(first), device=first.device)
        # apart, so that no gradient is computed for an image that wants none
        for one, other, head in zip(self._features(first), self._features(second), self._heads):
            total = total + functional.conv2d((one - other).square(), head).mean((1, 2, 3))
        return total

    def _features(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Return the features of float images [N, 3, H, W], unit-normalized over channels."""
        values = (images * 2 - 1 - self._mean) / self._deviation
        features = []
        for layer, (weight, bias) in zip(LAYERS, self._convolutions):
            _, stride, padding, pooled = layer
            if pooled:
                values = functional.max_pool2d(values, 3, 2)
            values = functional.conv2d(values, weight, bias, stride, padding).relu()
            exact = values.float()
            # clamped, as the root's slope is infinite at 0, where no feature is active
            norm = exact.square().sum(1, keepdim=True).clamp(min=1e-20).sqrt()
            features.append(exact / (norm + 1e-10))
        return features

    def to(self, device: torch.device | str) -> 'Lpips':
        """Move the network to a device; return itself."""
        self._device = device
        self._convolutions = [(weight.to(device), bias.to(device))
                              for weight, bias in self._convolutions]
        self._heads = [head.to(device) for head in self._heads]
        self._mean, self._deviation = self._mean.to(device), self._deviation.to(device)
        return self


def _weight(tensors: dict[str, torch.Tensor], key: str) -> torch.Tensor:
    """Return a convolution's weight, which may be stored in 8 bits with a scale for each row."""
    weight = tensors[key].float()
    scale = tensors.get(key + SCALE_SUFFIX)
    return weight if scale is None else weight * scale[:, None, None, None]
