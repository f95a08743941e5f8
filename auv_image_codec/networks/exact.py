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
Convolutions whose results are the same on every machine.

What the entropy coder reads must be equal to the last bit at both ends, whatever processor,
library or number of threads computes it. Here activations are multiples of 1/32 below 8 and
weights multiples of 1/512; every product is a multiple of 2**-14, and as long as the sums stay
below 2**10, float32 holds each of them exactly: no order of summation can round differently.
Training runs through the same arithmetic, with gradients as if nothing were rounded (Y. Bengio et
al., Estimating or propagating gradients through stochastic neurons, 2013).
"""
import torch
from torch import nn
from torch.nn import functional

ACTIVATION_STEP = 2.0**-5
LARGEST_ACTIVATION = 8 - ACTIVATION_STEP
WEIGHT_STEP = 2.0**-9
BIAS_STEP = ACTIVATION_STEP * WEIGHT_STEP
LARGEST_SUM = 2.0**24 * BIAS_STEP

# where oneDNN is missing, torch gives larger batches to NNPACK, whose fast algorithms (Winograd,
# Fourier) compute with fractions that round
torch.backends.nnpack.set_flags(False)


def rounded(values: torch.Tensor, step: float) -> torch.Tensor:
    """Return values rounded to multiples of a power of two, with the gradient of no rounding."""
    return values + (torch.floor(values.detach() / step + 0.5) * step - values.detach())


def activation(sums: torch.Tensor) -> torch.Tensor:
    """Return sums rounded to multiples of 1/32 and clipped to 0 ... 8 - 1/32."""
    return rounded(sums, ACTIVATION_STEP).clamp(0, LARGEST_ACTIVATION)


class ExactConv2d(nn.Module):
    """
    A convolution in exact arithmetic; inputs are multiples of 1/32 within 8.

    :param inputs: number of input channels.
    :param outputs: number of output channels.
    :param size: of the kernel, odd.
    """

    def __init__(self, inputs: int, outputs: int, size: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, size, size))
        nn.init.normal_(self.weight, std=(2 / (inputs * size * size)) ** 0.5)
        self.padding = size // 2

    def forward(self, values: torch.Tensor, inputs: slice = slice(None)) -> torch.Tensor:
        """
        Return float [N, outputs, H, W], exact multiples of 2**-14.

        :param values: float [N, inputs, H, W].
        :param inputs: which of the input channels values holds; the others count as zero.
        """
        # few channels: libraries are up to twice as fast where those of a pixel lie side by side
        return functional.conv2d(values.contiguous(memory_format=torch.channels_last),
                                 rounded(self.weight[:, inputs], WEIGHT_STEP),
                                 padding=self.padding)

    def largest_sum(self) -> torch.Tensor:
        """Return the largest sum that any input can give, float [outputs]."""
        return rounded(self.weight, WEIGHT_STEP).abs().sum((1, 2, 3)) * LARGEST_ACTIVATION
