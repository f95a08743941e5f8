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
Enhanced images: a decoded image with detail that was never sent, made up to look plausible.

For people who look at a screen. Nothing should be measured or detected in them: what is in the
packet is in the decoded image.
"""
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from auv_image_codec.codecs.base import check_image, Codec, resample
from auv_image_codec.codecs.packet import parse_packet
from auv_image_codec.codecs.weights import (
    has_weights_file, NETWORK_PREFIX, read_weights, Weights, weights_path,
)
from auv_image_codec.errors import LatentError, WeightsError
from auv_image_codec.networks.enhancer import EnhancerGenerator, SCALE
from auv_image_codec.resources import weights_directory

PART = 'enhancer'


def enhancer_directory(codec_name: str) -> Path:
    """Return the directory of the shipped enhancer of a codec, which may not exist."""
    return weights_directory(PART) / codec_name


def has_enhancer(codec_name: str, weights: Path | None = None) -> bool:
    """
    Return whether there are enhancer weights for a codec.

    :param weights: directory of its enhancer's weights; None for the shipped ones.
    """
    return has_weights_file(weights_path(weights or enhancer_directory(codec_name), PART))


def generator_of(weights: Weights) -> EnhancerGenerator:
    """
    Return the network of an enhancer's weights.

    :raises TypeError, ValueError, RuntimeError: if they are malformed.
    """
    network = EnhancerGenerator(**weights.network)
    network.load_state_dict({key.removeprefix(NETWORK_PREFIX): torch.from_numpy(tensor)
                             for key, tensor in weights.tensors.items()})
    return network


class Enhancer:
    """
    The enhancer of one codec with its weights.

    :param codec: whose images it enhances, with its decoder.
    :param weights: directory of enhancer.safetensors; None for the shipped ones.
    :param device: a torch device, for example 'cpu' or 'cuda:0'.
    :ivar model_id: of its own weights file, a uint32.
    :raises WeightsError: if weights are missing, malformed, or belong to another codec or other
        weights of this one.
    """

    def __init__(self, codec: Codec, weights: Path | None = None, device: str = 'cpu'):
        directory = Path(weights) if weights else enhancer_directory(codec.name)
        loaded = read_weights(directory, codec.name, PART)
        if loaded.model_id != codec.model_id:
            raise WeightsError(
                f'{weights_path(directory, PART)}: enhances images of model '
                f'{loaded.model_id:08x}, but codec {codec.name!r} is model {codec.model_id:08x}')
        try:
            self._network = generator_of(loaded).eval().requires_grad_(False).to(device)
        except (TypeError, ValueError, RuntimeError, AssertionError) as error:
            raise WeightsError(f'{directory}: the enhancer does not fit its network or device: '
                               f'{error}') from error
        self.codec = codec
        self.model_id = loaded.file_id
        self._device = torch.device(device)

    def enhance(self, latent: np.ndarray, size: tuple[int, int],
                decoded: np.ndarray | None = None) -> np.ndarray:
        """
        Decode a latent and enhance the image.

        :param latent: uint8 [n], of the codec.
        :param size: width and height in pixels to resample to.
        :param decoded: the image of the latent at the codec's decoded_size(), where it is at hand.
        :returns: uint8 [height, width, 3], RGB.
        :raises LatentError: if the latent is not one of the codec.
        """
        if decoded is None:
            decoded = self.codec.decode(latent, self.codec.decoded_size(latent))
        return resample(self.enhance_decoded(decoded, self.codec.features(latent)), size)

    def enhance_packet(self, packet: bytes, size: tuple[int, int] | None = None) -> np.ndarray:
        """
        Check a packet; return its image, enhanced, uint8 [height, width, 3], RGB.

        :param size: width and height of the image; None for the source's, as the packet names it.
        :raises PacketError: if any of its checks fails.
        """
        header, payload = parse_packet(packet, [self.codec.model_id])
        return self.enhance(self.codec.latent_from_payload(payload),
                            size or (header.width, header.height))

    def enhance_decoded(self, decoded: np.ndarray,
                        features: np.ndarray | None = None) -> np.ndarray:
        """
        Enhance a decoded image.

        :param decoded: uint8 [height, width, 3], RGB, as the codec decodes it, not resampled.
        :param features: what codec.features() returned for its latent.
        :returns: uint8 of the same shape.
        """
        check_image(decoded)
        expected = self._network.feature_channels
        if expected != (0 if features is None else len(features)):
            raise LatentError(f'the enhancer takes {expected} channels of features')
        with torch.inference_mode():
            images = torch.from_numpy(np.array(decoded, order='C')).to(self._device)
            images = images.permute(2, 0, 1)[None].float() / 255
            height, width = images.shape[2:]
            images = functional.pad(images, (0, -width % SCALE, 0, -height % SCALE),
                                    mode='replicate')
            if features is not None:
                features = torch.from_numpy(np.array(features))[None].to(self._device)
            enhanced = self._network(images, features)[0, :, :height, :width].clamp(0, 1)
            pixels = (enhanced * 255).round().to(torch.uint8).permute(1, 2, 0)
        return np.ascontiguousarray(pixels.cpu().numpy())
