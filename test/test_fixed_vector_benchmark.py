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
"""The benchmark of fixed vectors, on a few real frames."""
from pathlib import Path
import subprocess
import sys

import pytest
from training_harness import write_shards

PATH = Path(__file__).resolve().parent.parent / 'benchmarks' / 'fixed_vector.py'
pytestmark = [pytest.mark.slow, pytest.mark.skipif(
    not PATH.is_file(), reason='the benchmarks are not installed: they need the source tree')]


def test_more_numbers_are_better_and_errors_add_up(tmp_path):
    write_shards(tmp_path)
    output = subprocess.run(
        [sys.executable, str(PATH), '--data', str(tmp_path), '--decoded', str(tmp_path / 'decoded'),
         '--train', 'a.tar', '--set', 'b.tar', '--counts', '4', '8', '--numbers', '8'],
        check=True, capture_output=True, text=True).stdout
    rows = {cells[0]: list(map(float, cells[1:])) for cells in (
        [cell.strip() for cell in line.strip('|').split('|')]
        for line in output.splitlines() if line.startswith('| ') and line[2] != '|')
        if cells[0] and cells[0] != 'numbers, as floats'}
    found = rows['principal components']
    largest = rows['largest wavelet coefficients of each image']
    for few, more in (found, largest):
        assert few < more
    left = [values for values in rows.values() if len(values) > 2]
    assert len(left) >= 5                   # of an image, two kinds of numbers, two codecs
    for *bands, whole, psnr in left:
        assert sum(bands) == pytest.approx(whole, rel=0.02, abs=1)
        assert psnr > 0
    assert rows['8 principal components'][-1] == found[1]
    assert rows['wavelet, 500 bytes'][-1] > rows['autoencoder, 500 bytes'][-1] > found[1]
