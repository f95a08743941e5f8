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
"""The shipped weights, for tests that damage them."""
from pathlib import Path

from auv_image_codec.codecs.weights import read_weights_file, weights_path
from auv_image_codec.resources import weights_directory


def copy_weights(directory: Path) -> Path:
    """Write the shipped weights of the autoencoder, uncompressed; return the directory."""
    directory.mkdir(exist_ok=True)
    for part in ('encoder', 'decoder'):
        content = read_weights_file(weights_path(weights_directory('autoencoder'), part))
        weights_path(directory, part).write_bytes(content)
    return directory
