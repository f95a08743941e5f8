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
"""Test reading and writing of bags, and the bag that ships."""
import hashlib
import io
from pathlib import Path
import shutil

import numpy as np
from PIL import Image
import pytest
from rosbags.interfaces import (
    MessageDefinitionFormat, Qos, QosDurability, QosHistory, QosLiveliness, QosReliability,
    QosTime)
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosbags.typesys import get_typestore, Stores
import yaml

from auv_image_codec.cli.main import main
from auv_image_codec.errors import BagError, InvalidImageError
from auv_image_codec.evaluation.bags import (
    BagReader, COMPRESSED_IMAGE_TYPE, IMAGE_TYPE, read_compressed_images, read_images,
    write_compressed_images)
from auv_image_codec.evaluation.sources import decode_image, list_images
from auv_image_codec.resources import share_directory

DEMO_BAG = share_directory() / 'demo' / 'robosub_gate'
DEMO_TOPIC = '/camera/image_raw/compressed'
# SHA-256 of the 86 JPEG files as published, one after the other.
DEMO_JPEG_SHA256 = '2e2c31f44f2be7994e0eef3b25e25e4fb5354548286560ef57e49c09f59a7597'


def image_file(file_format: str, value: int = 0) -> bytes:
    """Return the bytes of a small image file."""
    buffer = io.BytesIO()
    pixels = np.full((12, 16, 3), value, np.uint8)
    Image.fromarray(pixels).save(buffer, format=file_format)
    return buffer.getvalue()


def write_bag(path: Path, profiles: list, plugin=StoragePlugin.MCAP) -> Path:
    """Write a bag of three strings with a connection for each QoS profile."""
    typestore = get_typestore(Stores.ROS2_HUMBLE)
    string = typestore.types['std_msgs/msg/String']
    with Writer(path, version=8, storage_plugin=plugin) as writer:
        for profile in profiles:
            connection = writer.add_connection(
                '/chatter', 'std_msgs/msg/String', typestore=typestore,
                offered_qos_profiles=[profile] if profile else [])
            for number in range(3):
                writer.write(connection, 10**9 * (1 + number),
                             typestore.serialize_cdr(string(f'{number}'), 'std_msgs/msg/String'))
    return path


def profile(reliability: QosReliability, durability: QosDurability, depth: int = 5,
            history: QosHistory = QosHistory.KEEP_LAST) -> Qos:
    """Return a QoS profile as a recorder notes it."""
    return Qos(history, depth, reliability, durability, QosTime(0, 0), QosTime(0, 0),
               QosLiveliness.AUTOMATIC, QosTime(0, 0), False)


def test_demo_bag_holds_the_published_frames():
    """86 frames of 640x480, byte by byte, a tenth of a second apart."""
    images = list(read_compressed_images(DEMO_BAG))
    assert len(images) == 86
    assert {image.topic for image in images} == {DEMO_TOPIC}
    assert {image.frame_id for image in images} == {'camera_optical_frame'}
    assert {image.image_format for image in images} == {'jpeg'}
    assert hashlib.sha256(b''.join(i.data for i in images)).hexdigest() == DEMO_JPEG_SHA256
    assert {Image.open(io.BytesIO(image.data)).size for image in images} == {(640, 480)}
    assert [image.stamp_ns for image in images] == [image.log_time_ns for image in images]
    assert set(np.diff([image.stamp_ns for image in images])) == {10**8}


def test_demo_bag_suits_rosbag2():
    """What rosbag2 from Humble on needs to list, play and decode the bag without guessing."""
    information = yaml.safe_load(
        (DEMO_BAG / 'metadata.yaml').read_text())['rosbag2_bagfile_information']
    assert information['version'] <= 8  # Humble reads QoS as a string, not as a list.
    assert information['storage_identifier'] == 'mcap'
    assert information['message_count'] == 86
    assert information['duration']['nanoseconds'] == 85 * 10**8
    assert all(isinstance(v, str) for v in information['custom_data'].values())
    assert 'Robosub2019' in information['custom_data']['source']
    assert 'MIT' in information['custom_data']['licence']
    [topic] = information['topics_with_message_count']
    [qos] = yaml.safe_load(topic['topic_metadata']['offered_qos_profiles'])
    assert (qos['reliability'], qos['durability']) == (1, 2)  # reliable, volatile
    for path in information['relative_file_paths']:
        assert (DEMO_BAG / path).is_file()
    with Reader(DEMO_BAG) as reader:
        [connection] = reader.connections
        assert connection.msgdef.format == MessageDefinitionFormat.MSG
        assert 'string format' in connection.msgdef.data
        assert 'MSG: std_msgs/Header' in connection.msgdef.data


def test_demo_bag_is_attributed():
    """The licence of the frames asks for its text and copyright line beside them."""
    text = (DEMO_BAG.parent / 'ATTRIBUTION.md').read_text()
    for part in ('project-radian-robosub/Robosub2019', 'Copyright (c) 2019 project-radian-robosub',
                 'Permission is hereby granted', 'robosub_gate'):
        assert part in text


def test_types_agree_with_ros():
    """The type hash in the bag is the one of the message that ROS has here."""
    sensor_msgs = pytest.importorskip('sensor_msgs', reason='sensor_msgs is not installed')
    share = Path(sensor_msgs.__file__).parents[4] / 'share' / 'sensor_msgs' / 'msg'
    description = share / 'CompressedImage.json'
    if not description.is_file():
        pytest.skip('the sensor_msgs installed here has no type descriptions')
    with BagReader(DEMO_BAG), Reader(DEMO_BAG) as reader:
        assert reader.connections[0].digest in description.read_text()


def test_written_bag_reads_back(tmp_path):
    """Bytes, stamps, formats and names come back as they went in."""
    written = [(5_000_000_000, 'jpeg', image_file('JPEG', 10)),
               (5_050_000_001, 'png', image_file('PNG', 200))]
    count = write_compressed_images(
        tmp_path / 'sub' / 'bag', iter(written), '/front/image_raw/compressed', 'front_optical',
        depth=3, custom_data={'where': 'test tank'})
    assert count == 2
    records = list(read_compressed_images(tmp_path / 'sub' / 'bag'))
    assert [(r.stamp_ns, r.image_format, r.data) for r in records] == written
    assert {r.frame_id for r in records} == {'front_optical'}
    with BagReader(tmp_path / 'sub' / 'bag') as bag:
        [topic] = bag.topics.values()
        assert topic.name == '/front/image_raw/compressed'
        assert topic.type_name == COMPRESSED_IMAGE_TYPE
        assert (topic.message_count, topic.reliable, topic.transient_local, topic.depth) == (
            2, True, False, 3)
        assert (bag.start_time_ns, bag.duration_ns) == (5_000_000_000, 50_000_001)
    assert [p.name for p in (tmp_path / 'sub').iterdir()] == ['bag'], 'nothing else is left'


def test_single_mcap_file(tmp_path):
    """The file alone is enough."""
    shutil.copy(DEMO_BAG / 'robosub_gate.mcap', tmp_path / 'alone.mcap')
    with BagReader(tmp_path / 'alone.mcap') as bag:
        assert bag.topics[DEMO_TOPIC].message_count == 86
        assert bag.duration_ns == 85 * 10**8
        assert sum(1 for _ in bag.messages([DEMO_TOPIC])) == 86


def test_sqlite3_bag(tmp_path):
    """The other storage of rosbag2 reads the same."""
    path = write_bag(tmp_path / 'bag', [None], StoragePlugin.SQLITE3)
    with BagReader(path) as bag:
        messages = list(bag.messages())
    assert [m.log_time_ns for m in messages] == [10**9, 2 * 10**9, 3 * 10**9]
    assert messages[0].data[:4] == b'\0\1\0\0'  # CDR, little endian
    assert messages[0].type_name == 'std_msgs/msg/String'


@pytest.mark.parametrize('profiles, reliable, transient_local, depth', [
    ([None], True, False, 10),
    ([profile(QosReliability.BEST_EFFORT, QosDurability.VOLATILE)], False, False, 5),
    ([profile(QosReliability.RELIABLE, QosDurability.TRANSIENT_LOCAL, 1)], True, True, 1),
    ([profile(QosReliability.BEST_EFFORT, QosDurability.VOLATILE, 2),
      profile(QosReliability.RELIABLE, QosDurability.TRANSIENT_LOCAL, 7)], True, True, 7),
    ([profile(QosReliability.RELIABLE, QosDurability.VOLATILE, 0, QosHistory.KEEP_ALL)],
     True, False, 1000),
])
def test_offered_qos(tmp_path, profiles, reliable, transient_local, depth):
    """A publisher made from the description serves all subscribers of the recorded ones."""
    path = write_bag(tmp_path / 'bag', profiles)
    with BagReader(path) as bag:
        topic = bag.topics['/chatter']
    assert (topic.reliable, topic.transient_local, topic.depth) == (
        reliable, transient_local, depth)
    assert topic.message_count == 3 * len(profiles)


def truncated(tmp_path: Path) -> Path:
    """Return a bag whose file is cut in the middle."""
    bag = tmp_path / 'robosub_gate'
    shutil.copytree(DEMO_BAG, bag)
    file = bag / 'robosub_gate.mcap'
    file.write_bytes(file.read_bytes()[:2_000_000])
    return bag


def garbage(tmp_path: Path) -> Path:
    """Return a file of an mcap's name with something else in it."""
    path = tmp_path / 'garbage.mcap'
    path.write_bytes(bytes(range(256)) * 8)
    return path


def without_file(tmp_path: Path) -> Path:
    """Return a bag with its metadata alone."""
    (tmp_path / 'bag').mkdir()
    shutil.copy(DEMO_BAG / 'metadata.yaml', tmp_path / 'bag')
    return tmp_path / 'bag'


def bad_metadata(tmp_path: Path) -> Path:
    """Return a bag whose metadata is not what it should be."""
    shutil.copytree(DEMO_BAG, tmp_path / 'bag')
    (tmp_path / 'bag' / 'metadata.yaml').write_text('rosbag2_bagfile_information: [1, 2')
    return tmp_path / 'bag'


def other_file(tmp_path: Path) -> Path:
    """Return a file that is no bag by its name."""
    (tmp_path / 'notes.txt').write_text('no bag')
    return tmp_path / 'notes.txt'


@pytest.mark.parametrize('make, message', [
    (truncated, 'cannot read the bag'),
    (garbage, 'cannot read the bag'),
    (without_file, 'missing'),
    (bad_metadata, 'cannot read the bag'),
    (other_file, 'not a bag'),
    (lambda tmp_path: tmp_path, 'no metadata.yaml'),
    (lambda tmp_path: tmp_path / 'nowhere', 'no such bag'),
])
def test_unreadable_bags(tmp_path, make, message):
    """Each says in one line what is wrong, with its path."""
    path = make(tmp_path)
    with pytest.raises(BagError, match=message) as caught:
        list(read_compressed_images(path))
    assert str(path) in str(caught.value)
    assert '\n' not in str(caught.value)


def test_damage_inside(tmp_path):
    """A message that is not what its type says is reported, not returned."""
    typestore = get_typestore(Stores.ROS2_HUMBLE)
    with Writer(tmp_path / 'bag', version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection(DEMO_TOPIC, COMPRESSED_IMAGE_TYPE, typestore=typestore)
        writer.write(connection, 1, b'\0\1\0\0' + b'\xff' * 20)
    with pytest.raises(BagError, match='damaged'):
        list(read_compressed_images(tmp_path / 'bag'))


def test_missing_topic_names_those_present(tmp_path):
    """A mistyped topic is easy to correct."""
    with BagReader(DEMO_BAG) as bag:
        with pytest.raises(BagError, match=f'no topic /camera in .* {DEMO_TOPIC}'):
            list(bag.messages(['/camera']))
    with pytest.raises(BagError, match='no sensor_msgs/msg/CompressedImage on /chatter'):
        list(read_compressed_images(write_bag(tmp_path / 'bag', [None]), '/chatter'))


def test_writing_never_replaces_and_never_leaves_half(tmp_path):
    """An existing path stays, and a bag without an image does not appear."""
    (tmp_path / 'bag').mkdir()
    with pytest.raises(BagError, match='exists'):
        write_compressed_images(tmp_path / 'bag', [(1, 'jpeg', image_file('JPEG'))])
    with pytest.raises(BagError, match='no image'):
        write_compressed_images(tmp_path / 'empty', [])

    def broken():
        yield 1, 'jpeg', image_file('JPEG')
        raise RuntimeError('the camera fell off')

    with pytest.raises(RuntimeError):
        write_compressed_images(tmp_path / 'half', broken())
    assert [p.name for p in tmp_path.iterdir()] == ['bag']
    assert not list((tmp_path / 'bag').iterdir())


def test_bag_command(tmp_path, capsys):
    """Files go in by name, JPEG and PNG untouched, others as PNG; what is no image is named."""
    folder = tmp_path / 'frames'
    folder.mkdir()
    (folder / '1.png').write_bytes(image_file('PNG', 1))
    (folder / '0.jpg').write_bytes(image_file('JPEG', 2))
    (folder / '2.bmp').write_bytes(image_file('BMP', 3))
    (folder / 'notes.txt').write_text('no image')
    status = main(['bag', str(folder), '-o', str(tmp_path / 'bag'), '--fps', '4', '--start',
                   '2026-05-01T12:00:00.250Z', '--topic', '/a/compressed', '--note', 'source=tank'])
    assert status == 1
    output, errors = capsys.readouterr()
    assert errors.splitlines() == [
        f'auv-image-codec: bag: {folder / "notes.txt"}: not an image file']
    assert output.startswith('3 of 4 images written')
    records = list(read_compressed_images(tmp_path / 'bag', '/a/compressed'))
    assert [r.stamp_ns - 1777636800 * 10**9 for r in records] == [
        250_000_000, 500_000_000, 750_000_000]
    assert [r.image_format for r in records] == ['jpeg', 'png', 'png']
    assert records[0].data == (folder / '0.jpg').read_bytes()
    assert records[1].data == (folder / '1.png').read_bytes()
    assert np.array(Image.open(io.BytesIO(records[2].data))).tolist() == np.full(
        (12, 16, 3), 3).tolist()

    assert main(['bag', str(folder), '-o', str(tmp_path / 'bag')]) == 1
    assert 'exists already' in capsys.readouterr().err


@pytest.mark.parametrize('arguments, message', [
    (['--fps', '0'], '--fps'), (['--fps', 'nan'], '--fps'), (['--topic', 'image'], 'absolute'),
])
def test_bag_command_usage(tmp_path, capsys, arguments, message):
    """Arguments that make no sense end with status 2 before anything is written."""
    (tmp_path / 'a.png').write_bytes(image_file('PNG'))
    assert main(['bag', str(tmp_path), '-o', str(tmp_path / 'bag'), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / 'bag').exists()


# --- Raw images ---------------------------------------------------------------------------------

PICTURE = np.random.default_rng(0).integers(0, 256, (6, 8, 3)).astype(np.uint8)


def raw_message(typestore, data, encoding='rgb8', height=6, width=8, step=24):
    """Return a sensor_msgs/msg/Image."""
    header = typestore.types['std_msgs/msg/Header'](
        typestore.types['builtin_interfaces/msg/Time'](1, 2), 'camera')
    return typestore.types[IMAGE_TYPE](header, height, width, encoding, 0, step,
                                       np.frombuffer(bytes(data), np.uint8))


def write_raw_bag(path: Path, messages: dict) -> Path:
    """Write a bag; messages maps topics to functions that make their message of a typestore."""
    typestore = get_typestore(Stores.ROS2_HUMBLE)
    with Writer(path, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        for number, (topic, make) in enumerate(messages.items()):
            message = make(typestore)
            kind = message.__msgtype__
            connection = writer.add_connection(topic, kind, typestore=typestore)
            writer.write(connection, 10**9 + number, typestore.serialize_cdr(message, kind))
    return path


ENCODED = {
    'rgb8': (PICTURE, 24), 'bgr8': (PICTURE[..., ::-1], 24), '8UC3': (PICTURE[..., ::-1], 24),
    'rgba8': (np.dstack([PICTURE, PICTURE[..., 0]]), 32),
    'bgra8': (np.dstack([PICTURE[..., ::-1], PICTURE[..., 0]]), 32),
    'rgb8 with padding': (np.hstack([PICTURE.reshape(6, 24), np.zeros((6, 5), np.uint8)]), 29),
}


@pytest.mark.parametrize('name', ENCODED)
def test_raw_images_are_read_as_they_were(tmp_path, name):
    pixels, step = ENCODED[name]
    bag = write_raw_bag(tmp_path / 'bag', {'/camera/image_raw': lambda typestore: raw_message(
        typestore, pixels.tobytes(), name.split()[0], step=step)})
    image, = list_images([bag])
    assert image.name == 'bag/camera/image_raw/000000'
    assert np.array_equal(decode_image(image.read()), PICTURE)


@pytest.mark.parametrize(('encoding', 'pixels', 'expected'), [
    ('mono8', [[7, 9]], [[[7] * 3, [9] * 3]]),
    # one colour: red where the pattern has red
    ('bayer_rggb8', [[200, 0] * 4, [0, 0] * 4] * 3, [[[200, 0, 0]] * 8] * 6),
    ('bayer_grbg8', [[0, 200] * 4, [0, 0] * 4] * 3, [[[200, 0, 0]] * 8] * 6),
    ('bayer_bggr8', [[200, 0] * 4, [0, 0] * 4] * 3, [[[0, 0, 200]] * 8] * 6),
    ('bayer_gbrg8', [[0, 200] * 4, [0, 0] * 4] * 3, [[[0, 0, 200]] * 8] * 6),
    ('uyvy', [[128, 235, 128, 16]], [[[255] * 3, [0] * 3]]),
    ('yuv422_yuy2', [[235, 128, 16, 128]], [[[255] * 3, [0] * 3]]),
])
def test_raw_images_of_other_encodings(tmp_path, encoding, pixels, expected):
    expected, data = np.array(expected, np.uint8), np.array(pixels, np.uint8)
    bag = write_raw_bag(tmp_path / 'bag', {'/image': lambda typestore: raw_message(
        typestore, data.tobytes(), encoding, *expected.shape[:2], step=data.shape[1])})
    decoded = decode_image(list_images([bag])[0].read())
    # demosaicing leaves the border to itself
    inner = np.s_[2:-2, 2:-2] if 'bayer' in encoding else np.s_[:]
    assert np.array_equal(decoded[inner], expected[inner])


@pytest.mark.parametrize(('fields', 'kind'), [
    ({'encoding': '16UC1'}, 'unknown_encoding'), ({'encoding': ''}, 'unknown_encoding'),
    ({'width': 0}, 'zero_size'), ({'step': 23}, 'short_step'), ({'height': 7}, 'short_data'),
    ({'encoding': 'yuyv', 'width': 7}, 'undecodable_image'),
])
def test_a_raw_image_that_cannot_be_read_is_refused(tmp_path, fields, kind):
    bag = write_raw_bag(tmp_path / 'bag', {'/image': lambda typestore: raw_message(
        typestore, PICTURE.tobytes(), **fields)})
    with pytest.raises(InvalidImageError) as raised:
        list_images([bag])[0].read()
    assert raised.value.kind == kind


def test_of_raw_and_compressed_images_of_a_camera_the_compressed_ones_are_taken(tmp_path):
    def compressed(typestore):
        return typestore.types[COMPRESSED_IMAGE_TYPE](
            raw_message(typestore, b'').header, 'png',
            np.frombuffer(image_file('PNG'), np.uint8))

    def raw(typestore):
        return raw_message(typestore, PICTURE.tobytes())
    bag = write_raw_bag(tmp_path / 'bag', {
        '/front': raw, '/front/compressed': compressed, '/down': raw})
    assert [image.topic for image in read_images(bag)] == ['/front/compressed', '/down']
    assert [image.topic for image in read_images(bag, '/front')] == ['/front']
    with pytest.raises(BagError, match='no topic /up'):
        list(read_images(bag, '/up'))
    with pytest.raises(BagError, match='no sensor_msgs/msg/CompressedImage'):
        list(read_images(write_bag(tmp_path / 'other', [None]), '/chatter'))
