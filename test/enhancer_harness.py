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
"""Weights of an enhancer that is too small to be good, for tests."""
from pathlib import Path

import numpy as np
import torch

from auv_image_codec.codecs.weights import NETWORK_PREFIX, write_enhancer_weights
from auv_image_codec.networks.enhancer import EnhancerGenerator

SHAPE = {'channels': 2, 'largest_channels': 4}


def write_tiny_enhancer(directory: Path, codec, **changes) -> Path:
    """
    Write weights for a codec that changes every image; return their directory.

    :param changes: instead of the codec's ``name`` or ``model_id``, or of SHAPE's entries.
    """
    name = changes.pop('name', codec.name)
    model_id = changes.pop('model_id', codec.model_id)
    width, height = codec.input_size
    features = codec.features(codec.encode(np.zeros((height, width, 3), np.uint8)))
    shape = {**SHAPE, 'feature_channels': 0 if features is None else len(features)} | changes
    torch.manual_seed(0)
    network = EnhancerGenerator(**shape)
    torch.nn.init.normal_(network.head.weight, std=0.3)
    write_enhancer_weights(directory, name, model_id, shape, {
        NETWORK_PREFIX + key: tensor.numpy() for key, tensor in network.state_dict().items()})
    return directory
