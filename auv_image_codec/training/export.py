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
"""From a trained autoencoder to weights files: calibrate, round, write."""
from pathlib import Path

import numpy as np
import torch

from auv_image_codec.codecs.weights import NETWORK_PREFIX, rounded, write_weights
from auv_image_codec.networks.autoencoder import AutoencoderDecoder, AutoencoderEncoder
from auv_image_codec.training import calibration
from auv_image_codec.training.data import ImageArray

CODEC = 'autoencoder'


def export_autoencoder(encoder: AutoencoderEncoder, decoder: AutoencoderDecoder,
                       quantization_step: float, training: list[ImageArray],
                       weights: Path) -> None:
    """
    Write encoder.safetensors and decoder.safetensors.

    :param encoder: trained, on the CPU; the latent of both halves is rotated in place.
    :param decoder: likewise.
    :param quantization_step: in units of the rotated latent.
    :param training: images to calibrate the quantizer and the entropy model on.
    :param weights: the directory to write to.
    """
    halves = {part: half.eval().requires_grad_(False).to(memory_format=torch.contiguous_format)
              for part, half in (('encoder', encoder), ('decoder', decoder))}
    latents = calibration.all_latents(encoder, training)
    latents = calibration.rotate_latent(encoder, decoder, latents)
    # the codec runs on rounded weights: calibrate what it will compute
    states = {part: {NETWORK_PREFIX + key: tensor.numpy()
                     for key, tensor in half.state_dict().items()}
              for part, half in halves.items()}
    for part, half in halves.items():
        half.load_state_dict({key.removeprefix(NETWORK_PREFIX): torch.from_numpy(tensor)
                              for key, tensor in rounded(states[part]).items()})
    latents = calibration.all_latents(encoder, training).numpy()
    scale, zero_point = calibration.find_quantizer(latents, quantization_step)
    symbols = calibration.quantize(latents, scale, zero_point)
    tables = {'quantizer.scale': scale, 'quantizer.zero_point': zero_point,
              'entropy_model.frequencies': calibration.find_tables(symbols).astype(np.uint16)}
    shapes = {'encoder': {'latent_dim': encoder.latent_dim,
                          'cell_channels': encoder.direct.out_channels},
              'decoder': {'latent_dim': decoder.latent_dim}}
    write_weights(weights, CODEC, shapes, {part: {**states[part], **tables} for part in halves})
