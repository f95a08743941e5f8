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
"""Counters and the log that does not flood."""
import pytest

pytest.importorskip('diagnostic_msgs', reason='diagnostic_msgs is not installed')

from auv_image_codec.nodes.diagnostics import (  # noqa: E402
    status, StreamStatistics, ThrottledLog, WINDOW)


def test_mean_and_maximum_are_of_the_last_frames_and_bytes_of_all():
    statistics = StreamStatistics('coded')
    statistics.done(400, 9.0)
    for _ in range(WINDOW):
        statistics.done(200, 0.010)
    statistics.done(200, 0.020)
    values = dict(statistics.key_values())
    assert values['frames_coded'] == str(WINDOW + 2)
    assert values['bytes_total'] == str(400 + 200 * (WINDOW + 1))
    assert values['encode_ms_max'] == '20.00'
    assert values['encode_ms_mean'] == '10.10'


def test_nothing_is_divided_by_zero_frames():
    values = dict(StreamStatistics('decoded').key_values())
    assert values['mean_packet_bytes'] == values['ratio_of_raw_224x224x3'] == '0.0'
    assert values['decode_ms_mean'] == values['decode_ms_max'] == '0.00'


def test_each_rise_is_told_once():
    statistics = StreamStatistics('coded')
    assert statistics.rising() == ''
    statistics.errors['short_data'] += 2
    statistics.frames_dropped += 3
    assert statistics.rising() == 'errors: 2, frames dropped: 3'
    assert statistics.rising() == ''
    statistics.frames_skipped += 1
    assert statistics.rising() == '', 'skipped frames are what somebody asked for'


def test_status_has_its_values_in_order():
    result = status(b'\x01', 'name', 'text', 'codec/id', [('b', '1'), ('a', '2')])
    assert (result.level, result.name, result.message) == (b'\x01', 'name', 'text')
    assert result.hardware_id == 'codec/id'
    assert [(item.key, item.value) for item in result.values] == [('b', '1'), ('a', '2')]


def test_a_defect_is_logged_once_a_period_with_the_number_left_out():
    now, lines = [0.0], []
    log = ThrottledLog(lines.append, period=30.0, clock=lambda: now[0])
    for _ in range(5):
        log('camera front', 'short_data', 'data has 3 bytes')
    assert lines == ['camera front: data has 3 bytes [short_data]']
    log('camera front', 'zero_size', 'no pixels')
    log('camera down', 'short_data', 'data has 4 bytes')
    assert len(lines) == 3
    now[0] = 31.0
    log('camera front', 'short_data', 'data has 5 bytes')
    assert lines[-1] == 'camera front: data has 5 bytes [short_data] (4 more like it before)'
    now[0] = 62.0
    log('camera front', 'short_data', 'data has 6 bytes')
    assert lines[-1] == 'camera front: data has 6 bytes [short_data]'
