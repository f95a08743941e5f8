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
"""What tests of training share: shards of real frames, and an operator who interrupts."""
import io
from pathlib import Path
import tarfile

from auv_image_codec.evaluation.bags import read_compressed_images
from auv_image_codec.resources import share_directory
from auv_image_codec.training.data import TrainingBatches


def write_shard(path: Path, frames: list[bytes]) -> None:
    """Write a tar file of JPEG files."""
    with tarfile.open(path, 'w') as tar:
        for number, frame in enumerate(frames):
            entry = tarfile.TarInfo(f'{number:04d}.jpg')
            entry.size = len(frame)
            tar.addfile(entry, io.BytesIO(frame))


def write_shards(directory: Path, validation: int = 4) -> Path:
    """Write a.tar with 8 training frames and b.tar with some others; return the directory."""
    bag = share_directory() / 'demo' / 'robosub_gate'
    frames = [record.data for record in read_compressed_images(bag)][::7]
    write_shard(directory / 'a.tar', frames[:8])
    write_shard(directory / 'b.tar', frames[8:8 + validation])
    return directory


class StopAt:
    """Stands for the operator's Ctrl-C: interrupts when a step's batch is asked for."""

    def __init__(self, step: int):
        self.step = step
        self.batch = TrainingBatches.batch

    def __call__(self, batches, step):
        if step >= self.step:
            raise KeyboardInterrupt
        return self.batch(batches, step)
