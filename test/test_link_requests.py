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
"""The back channel's messages."""
import random

from hypothesis import given, strategies
import pytest

from auv_image_codec.errors import RequestError
from auv_image_codec.link.frames import build_frame, Frame, parse_frame
from auv_image_codec.link.requests import (
    BudgetRequest, build_request, LARGEST_REQUEST, MoreRequest, packet_identity, parse_request,
    ResendRequest)

requests = strategies.one_of(
    strategies.builds(
        ResendRequest, strategies.integers(0, 255),
        strategies.sets(strategies.integers(0, 31), min_size=1).map(lambda s: tuple(sorted(s)))),
    strategies.builds(MoreRequest, strategies.integers(0, 2**32 - 1),
                      strategies.integers(0, 65535), strategies.integers(0, 65535)),
    strategies.builds(BudgetRequest, strategies.integers(0, 65535),
                      strategies.integers(0, 65535).map(lambda number: number / 100),
                      strategies.integers(0, 2**32 - 1)))


def test_golden_messages():
    # Written down from docs/link.md.
    assert build_request(ResendRequest(7, (0, 9)), 1).hex() == '7343' '0901' '07' '01020000'
    assert build_request(MoreRequest(0x01020304, 120, 500), 2).hex() == (
        '3be0' '1102' '04030201' '7800' 'f401')
    assert build_request(BudgetRequest(300, 0.5, 2000), 258).hex() == (
        'fd0f' '1902' '2c01' '3200' 'd0070000')


@given(requests, strategies.integers(0, 1000))
def test_every_request_survives_in_at_most_16_bytes(request, counter):
    data = build_request(request, counter)
    assert len(data) <= LARGEST_REQUEST == 16
    assert parse_request(data) == (request, counter % 256)


@given(requests, strategies.data())
def test_every_damaged_request_is_refused(request, data):
    message = bytearray(build_request(request, 3))
    for position in data.draw(strategies.sets(
            strategies.integers(0, 8 * len(message) - 1), min_size=1, max_size=3)):
        message[position // 8] ^= 1 << position % 8
    with pytest.raises(RequestError):
        parse_request(bytes(message))


@given(strategies.binary(max_size=40))
def test_noise_is_refused(noise):
    with pytest.raises(RequestError):
        parse_request(noise)


@given(strategies.binary(min_size=1, max_size=12), strategies.integers(0, 255))
def test_a_frame_is_no_request(body, number):
    with pytest.raises(RequestError):
        parse_request(build_frame(Frame(number, 0, 1, body)))


def test_a_request_is_no_frame():
    refused = 0
    for number in range(256):
        try:
            parse_frame(build_request(ResendRequest(number, (1, 2)), number))
        except ValueError:
            refused += 1
    assert refused >= 255


@pytest.mark.parametrize('request_', [
    ResendRequest(256, (0,)), ResendRequest(0, ()), ResendRequest(0, (32,)),
    MoreRequest(-1, 0), MoreRequest(0, 65536), BudgetRequest(max_bytes=65536),
    BudgetRequest(max_rate=656.0), BudgetRequest(link_rate=-1)])
def test_what_does_not_fit_is_refused(request_):
    with pytest.raises(RequestError):
        build_request(request_, 0)


def test_the_identity_is_of_header_and_checks():
    packet = random.Random(0).randbytes(100)
    assert packet_identity(packet) == packet_identity(packet[:16]) != packet_identity(packet[1:])
    with pytest.raises(RequestError):
        packet_identity(packet[:15])
