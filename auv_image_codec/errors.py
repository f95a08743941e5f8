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
Exceptions of the library, all below AuvImageCodecError.

Every class has a ``kind``: a short snake_case name of what went wrong. The nodes count errors by
it in their diagnostics, and the command line prints the message and goes on to the next file.
"""


class AuvImageCodecError(Exception):
    """Base class of everything that this package raises on purpose."""

    kind = 'error'


class InvalidImageError(AuvImageCodecError, ValueError):
    """An image that cannot be encoded: wrong shape, dtype, size or encoding."""

    kind = 'invalid_image'

    def __init__(self, message: str, kind: str = 'invalid_image'):
        """Keep the message, and the kind of defect that diagnostics count it under."""
        super().__init__(message)
        self.kind = kind


class LatentError(AuvImageCodecError, ValueError):
    """A latent of the wrong dtype, dimension or value range for its codec."""

    kind = 'invalid_latent'


class BudgetError(AuvImageCodecError, ValueError):
    """A byte budget that the codec cannot meet with any image."""

    kind = 'budget'


class RefinementError(AuvImageCodecError, ValueError):
    """Refinement asked of a codec that has none."""

    kind = 'refinement'


class WeightsError(AuvImageCodecError):
    """Weights that are missing, malformed, or of another codec or network."""

    kind = 'weights'


class UnknownCodecError(AuvImageCodecError, ValueError):
    """A codec name or number that is not in the registry."""

    kind = 'unknown_codec'


class PacketError(AuvImageCodecError, ValueError):
    """Base class of the reasons to refuse a packet."""

    kind = 'packet'


class PacketTruncatedError(PacketError):
    """Fewer bytes than a header and its checks."""

    kind = 'packet_truncated'


class PacketTooLargeError(PacketError):
    """More bytes than a packet may have."""

    kind = 'packet_too_large'


class PacketVersionError(PacketError):
    """A packet format version that this release does not read."""

    kind = 'packet_version'


class PacketCorruptError(PacketError):
    """A check (CRC) of the packet failed, or its payload is not one an encoder makes."""

    kind = 'packet_corrupt'


class UnknownModelError(PacketError):
    """A packet or message made with weights that are not loaded here."""

    kind = 'unknown_model'


class BagError(AuvImageCodecError):
    """A bag that cannot be read, or that lacks the topic asked for."""

    kind = 'bag'


class RecipeError(AuvImageCodecError, ValueError):
    """A training recipe with a missing, unknown or impossible entry."""

    kind = 'recipe'


class TrainingDataError(AuvImageCodecError):
    """A training shard that is missing or cannot be read."""

    kind = 'training_data'


class DivergenceError(AuvImageCodecError):
    """A training run that diverges again and again from its last good weights."""

    kind = 'divergence'


class FrameError(AuvImageCodecError, ValueError):
    """A frame of the acoustic link that is refused; its ``kind`` says why."""

    kind = 'frame_corrupt'

    def __init__(self, message: str, kind: str = 'frame_corrupt'):
        """Keep the message, and the kind that diagnostics count it under."""
        super().__init__(message)
        self.kind = kind


class RequestError(AuvImageCodecError, ValueError):
    """A message of the back channel that is refused, or that cannot be sent."""

    kind = 'request'


class ProfileError(AuvImageCodecError, ValueError):
    """A modem profile that is missing, or has a wrong entry."""

    kind = 'profile'
