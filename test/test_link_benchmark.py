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
"""The benchmark of the link: short runs of it say what long ones do."""
import importlib.util
from pathlib import Path
import sys

import numpy as np
import pytest

from auv_image_codec.codecs import create_codec
from auv_image_codec.codecs.image_file import ImageFileCodec, unavailable_reason

PATH = Path(__file__).resolve().parent.parent / 'benchmarks' / 'link.py'
pytestmark = pytest.mark.skipif(
    not PATH.is_file(), reason='the benchmarks are not installed: they need the source tree')


@pytest.fixture(scope='module')
def benchmark():
    """Return the benchmark as a module."""
    spec = importlib.util.spec_from_file_location('link_benchmark', PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules['link_benchmark'] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules['link_benchmark']


@pytest.fixture(scope='module')
def contenders(benchmark):
    """Return the autoencoder and WebP, with two images."""
    if unavailable_reason('webp'):
        pytest.skip(unavailable_reason('webp'))
    generator = np.random.default_rng(0)
    images = [np.kron(generator.integers(40, 200, (7, 7, 3)), np.ones((32, 32, 1))).astype(
        np.uint8) for _ in range(2)]
    return {name: benchmark.Contender(name, codec, images, 500) for name, codec in (
        ('autoencoder', create_codec('autoencoder')), ('webp', ImageFileCodec('webp')))}


def test_a_good_link_shows_every_image_in_whole(benchmark, contenders):
    for contender in contenders.values():
        result, screen = benchmark.run(contender, 1000, 0.0, 120.0, 0.0, seed=1)
        # The last one or two are still under way.
        assert result.whole_share >= 1 - 2.5 / result.images_sent
        assert result.images_per_minute * 2 >= result.images_sent - 2.5
        # A packet is 1 s under way, after its time on the air; the screen is one behind.
        air = 8 * (result.packet_bytes + 40) / 1000
        assert 1 + air / 2 < result.mean_age_s < 2 + 3 * air
        assert all(time - capture >= 1.0 for time, capture, _ in screen)


def test_a_lost_frame_costs_the_end_of_ours_and_the_whole_of_a_file(benchmark, contenders):
    results = {name: benchmark.run(contender, 1000, 0.3, 300.0, 0.0, seed=1)[0]
               for name, contender in contenders.items()}
    ours, file = results['autoencoder'], results['webp']
    assert ours.images_per_minute > 3 * file.images_per_minute
    assert ours.images_per_minute * 5 > 0.5 * ours.images_sent
    assert file.images_per_minute * 5 == pytest.approx(file.whole_share * file.images_sent)


def test_parity_brings_images_in_whole(benchmark, contenders):
    plain, parity = (benchmark.run(contenders['autoencoder'], 1000, 0.2, 300.0, share, seed=1)[0]
                     for share in (0.0, 0.5))
    assert parity.whole_share > plain.whole_share + 0.3


def test_table_and_figure_are_written(benchmark, contenders, tmp_path, capsys):
    runs = [benchmark.run(contender, rate, loss, 60.0, 0.0, seed=1)
            for contender in contenders.values()
            for rate, loss in ((1000, 0.2), (1000, 0.0), (2500, 0.2))]
    results = [result for result, _ in runs]
    timelines = {result.codec: screen for result, screen in runs if result.loss}
    benchmark.print_table(results)
    assert len(capsys.readouterr().out.splitlines()) == 2 + len(results)
    benchmark.write_figure(tmp_path / 'link.png', results, timelines)
    assert (tmp_path / 'link.png').read_bytes().startswith(b'\x89PNG')
