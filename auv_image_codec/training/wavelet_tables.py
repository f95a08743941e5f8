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
"""What the wavelet codec takes from training images by counting: static probabilities, colours."""
import numpy as np
import torch
from tqdm import tqdm

from auv_image_codec.codecs.wavelet_entropy import magnitude_class, MAGNITUDE_CLASSES
from auv_image_codec.networks.bit_planes import PLANES, threshold
from auv_image_codec.networks.colour_bases import (
    decorrelate, detail_covariances, principal_bases,
)
from auv_image_codec.networks.wavelet_context import fineness, HIDDEN_CHANNELS
from auv_image_codec.networks.wavelet_transform import analysis
from auv_image_codec.training.data import as_network_input, ImageArray

KINDS = len(HIDDEN_CHANNELS)
IMAGES = 2000               # that are counted, at most: evenly spaced ones
BATCH = 20


def count_tables(training: list[ImageArray]) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    """
    Return how colours vary together, and probabilities of what no network predicts.

    :returns: detail_covariances() of the images, float64 [N, 3, 3]; the probability that a level
        in which nothing was significant has something in a plane, float [kinds, planes]; and that
        a magnitude lies in the upper half of what was known of it, float [kinds, planes,
        magnitude classes].
    """
    activity = np.ones((KINDS, PLANES, 2))              # [..., 1] counts what happened
    refinement = np.ones((KINDS, PLANES, MAGNITUDE_CLASSES, 2))
    covariances = []
    step = max(1, sum(map(len, training)) // IMAGES)
    chosen = [array.images[index] for array in training for index in range(0, len(array), step)]
    for start in tqdm(range(0, len(chosen), BATCH), desc='counting', leave=False):
        images = torch.from_numpy(np.stack(chosen[start:start + BATCH]))
        levels = analysis(as_network_input(images))
        covariances.append(detail_covariances(levels))
        levels = decorrelate(levels, principal_bases(covariances[-1]).float())
        for index, level in enumerate(levels):
            kind = fineness(index, len(levels))
            magnitudes = level.abs().numpy()
            largest = magnitudes.max((1, 2, 3))
            for plane in range(PLANES):
                quiet = largest < threshold(plane - 1)
                active = quiet & (largest >= threshold(plane))
                activity[kind, plane] += (quiet & ~active).sum(), active.sum()
                known = np.floor(magnitudes / threshold(plane - 1)).astype(np.int64)
                upper = np.floor(magnitudes / threshold(plane)).astype(np.int64) % 2
                pairs = magnitude_class(known) * 2 + upper
                counts = np.bincount(pairs[known > 0], minlength=2 * MAGNITUDE_CLASSES)
                refinement[kind, plane] += counts.reshape(MAGNITUDE_CLASSES, 2)
    return (torch.cat(covariances), activity[..., 1] / activity.sum(-1),
            refinement[..., 1] / refinement.sum(-1))
