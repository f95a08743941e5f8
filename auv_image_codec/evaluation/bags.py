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
Read and write rosbag2 bags (mcap or sqlite3) on machines without ROS.

Messages stay serialized (CDR): a reader hands out the recorded bytes, which a ROS publisher can
send as they are, and :func:`read_compressed_images` unpacks the one type that needs it here.
"""
from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
import os
from pathlib import Path
import shutil
import tempfile
from types import TracebackType
from typing import NamedTuple

import numpy as np
from rosbags.interfaces import (
    Connection, Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime)
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosbags.typesys import get_typestore, Stores

from auv_image_codec.errors import BagError
from auv_image_codec.evaluation.raw_images import raw_image_file

COMPRESSED_IMAGE_TYPE = 'sensor_msgs/msg/CompressedImage'
IMAGE_TYPE = 'sensor_msgs/msg/Image'
DEFAULT_TOPIC = '/camera/image_raw/compressed'
DEFAULT_FRAME_ID = 'camera_optical_frame'

# The newest metadata version with which every rosbag2 from Humble on can work: from version 9 on,
# QoS profiles are a list, where Humble expects a string.
METADATA_VERSION = 8


class BagMessage(NamedTuple):
    """One recorded message."""

    topic: str
    type_name: str
    log_time_ns: int
    """Time of recording, nanoseconds since the epoch."""
    data: bytes
    """Serialized message: CDR with its encapsulation header."""


@dataclass(frozen=True)
class BagTopic:
    """One topic of a bag, and the quality of service that its publishers offered."""

    name: str
    type_name: str
    """As in ``sensor_msgs/msg/Image``."""
    message_count: int
    reliable: bool = True
    transient_local: bool = False
    """Whether late subscribers got the last messages ("latched")."""
    depth: int = 10


class CompressedImageRecord(NamedTuple):
    """One sensor_msgs/msg/CompressedImage of a bag."""

    topic: str
    log_time_ns: int
    stamp_ns: int
    """Time of capture, from the header, nanoseconds since the epoch."""
    frame_id: str
    image_format: str
    data: bytes
    """The image file's bytes."""


def _topic_from_connections(connections: list[Connection]) -> BagTopic:
    """
    Describe a topic so that one publisher serves every subscriber that the recorded ones served.

    Reliable publishers also serve best-effort subscribers, and transient local ones volatile
    subscribers: if one of several recorded publishers offered more, so does the description.
    """
    first = connections[0]
    profiles = [profile for connection in connections
                for profile in connection.ext.offered_qos_profiles]
    if not profiles:
        return BagTopic(first.topic, first.msgtype, sum(c.msgcount for c in connections))
    return BagTopic(
        first.topic, first.msgtype, sum(c.msgcount for c in connections),
        reliable=any(p.reliability != QosReliability.BEST_EFFORT for p in profiles),
        transient_local=any(p.durability == QosDurability.TRANSIENT_LOCAL for p in profiles),
        depth=max(1000 if p.history == QosHistory.KEEP_ALL else max(p.depth, 1)
                  for p in profiles))


class BagReader:
    """
    Read a bag: a rosbag2 folder, or a single .mcap or .db3 file.

    Use it as a context manager.

    :raises BagError: on entering, if there is no such bag or it cannot be read.
    """

    def __init__(self, path: str | Path):
        """Remember the path; nothing is opened yet."""
        self.path = Path(path)
        self._reader: Reader | None = None

    def __enter__(self) -> BagReader:
        """Open the bag."""
        if not self.path.exists():
            raise BagError(f'{self.path}: no such bag')
        if self.path.is_dir() and not (self.path / 'metadata.yaml').is_file():
            raise BagError(f'{self.path}: not a bag: the folder has no metadata.yaml')
        if self.path.is_file() and self.path.suffix not in ('.mcap', '.db3'):
            raise BagError(f'{self.path}: not a bag: neither a rosbag2 folder nor a .mcap or .db3 '
                           'file')
        try:
            reader = Reader(self.path)
            reader.open()
        # A damaged file can make the parsers below fail in any way.
        except Exception as error:
            raise self._unreadable(error) from error
        self._reader = reader
        return self

    def __exit__(self, exc_type: type[BaseException] | None, exc_value: BaseException | None,
                 traceback: TracebackType | None) -> None:
        """Close the bag."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _unreadable(self, error: Exception) -> BagError:
        detail = ' '.join(str(error).split()) or type(error).__name__
        return BagError(f'{self.path}: cannot read the bag: {detail}')

    def _open_reader(self) -> Reader:
        if self._reader is None:
            raise BagError(f'{self.path}: the bag is not open')
        return self._reader

    @property
    def topics(self) -> dict[str, BagTopic]:
        """Topics of the bag by name, sorted."""
        connections: dict[str, list[Connection]] = {}
        for connection in self._open_reader().connections:
            connections.setdefault(connection.topic, []).append(connection)
        return {name: _topic_from_connections(connections[name]) for name in sorted(connections)}

    @property
    def message_count(self) -> int:
        """Number of messages on all topics."""
        return self._open_reader().message_count

    @property
    def start_time_ns(self) -> int:
        """Time of the first message, nanoseconds since the epoch; 0 for a bag without any."""
        return self._open_reader().start_time if self.message_count else 0

    @property
    def duration_ns(self) -> int:
        """Nanoseconds from the first message to the last."""
        # rosbags ends a bag one nanosecond after its last message.
        return max(self._open_reader().duration - 1, 0)

    def select(self, topics: Collection[str] | None) -> dict[str, BagTopic]:
        """
        Return the named topics, or all for None.

        :raises BagError: if the bag lacks one of them.
        """
        present = self.topics
        if topics is None:
            return present
        for name in topics:
            if name not in present:
                raise BagError(f'{self.path}: no topic {name} in the bag, which has '
                               f'{", ".join(present) or "none"}')
        return {name: topic for name, topic in present.items() if name in topics}

    def messages(self, topics: Collection[str] | None = None) -> Iterator[BagMessage]:
        """
        Yield the messages of the named topics, or of all, in the order of recording.

        :raises BagError: if the bag lacks one of the topics, or turns out to be damaged.
        """
        reader = self._open_reader()
        selected = self.select(topics)
        connections = [c for c in reader.connections if c.topic in selected]
        # Without any connection rosbags would not filter at all.
        if not connections:
            return
        messages = reader.messages(connections)
        while True:
            try:
                connection, log_time_ns, data = next(messages)
            except StopIteration:
                return
            except Exception as error:
                raise self._unreadable(error) from error
            yield BagMessage(connection.topic, connection.msgtype, log_time_ns, bytes(data))


def read_compressed_images(
        path: str | Path, topic: str | None = None) -> Iterator[CompressedImageRecord]:
    """
    Yield the compressed images of a bag.

    :param path: bag folder or file.
    :param topic: topic to read; by default every topic of type CompressedImage.
    :raises BagError: if the bag cannot be read, lacks the topic, or it is of another type.
    """
    typestore = get_typestore(Stores.ROS2_HUMBLE)
    with BagReader(path) as bag:
        selected = bag.select(None if topic is None else [topic])
        names = [t.name for t in selected.values() if t.type_name == COMPRESSED_IMAGE_TYPE]
        if not names:
            raise BagError(f'{path}: no {COMPRESSED_IMAGE_TYPE} on '
                           f'{topic or "any topic"} of the bag')
        for message in bag.messages(names):
            try:
                image = typestore.deserialize_cdr(message.data, message.type_name)
            except Exception as error:
                raise BagError(f'{path}: a message on {message.topic} is damaged: '
                               f'{error}') from error
            stamp = image.header.stamp
            yield CompressedImageRecord(
                message.topic, message.log_time_ns, stamp.sec * 10**9 + stamp.nanosec,
                image.header.frame_id, image.format, image.data.tobytes())


class BagImage(NamedTuple):
    """One image of a bag, raw or compressed."""

    topic: str
    data_bytes: int
    """Size of the image in its message."""
    read_file: Callable[[], bytes]
    """Returns it as an image file; raises InvalidImageError for a raw one that has none."""


def read_images(path: str | Path, topic: str | None = None) -> Iterator[BagImage]:
    """
    Yield the images of a bag, compressed ones and raw ones, in the order of recording.

    :param path: bag folder or file.
    :param topic: topic to read; by default every topic of images, but no raw one, X, where the
        bag has its compressed images, X/compressed.
    :raises BagError: if the bag cannot be read, lacks the topic, or it is of another type.
    """
    typestore = get_typestore(Stores.ROS2_HUMBLE)
    with BagReader(path) as bag:
        selected = bag.select(None if topic is None else [topic])
        names = [t.name for t in selected.values()
                 if t.type_name == COMPRESSED_IMAGE_TYPE or t.type_name == IMAGE_TYPE
                 and f'{t.name}/compressed' not in selected]
        if not names:
            raise BagError(f'{path}: no {COMPRESSED_IMAGE_TYPE} and no {IMAGE_TYPE} on '
                           f'{topic or "any topic"} of the bag')
        for message in bag.messages(names):
            try:
                image = typestore.deserialize_cdr(message.data, message.type_name)
            except Exception as error:
                raise BagError(f'{path}: a message on {message.topic} is damaged: '
                               f'{error}') from error
            yield BagImage(message.topic, len(image.data), image.data.tobytes
                           if message.type_name == COMPRESSED_IMAGE_TYPE
                           else partial(raw_image_file, image))


def write_compressed_images(
        path: str | Path, images: Iterable[tuple[int, str, bytes]], topic: str = DEFAULT_TOPIC,
        frame_id: str = DEFAULT_FRAME_ID, depth: int = 10,
        custom_data: dict[str, str] | None = None) -> int:
    """
    Write images as a rosbag2 bag (mcap) of sensor_msgs/msg/CompressedImage.

    The bag appears under its name only when it is complete.

    :param path: folder to create for the bag; the mcap file in it has the same name.
    :param images: triples of stamp (nanoseconds since the epoch: the time of capture, and of
        recording), format (``jpeg`` or ``png``) and the bytes of the image file.
    :param topic: absolute topic name.
    :param frame_id: optical frame of the camera.
    :param depth: history depth that the recorded publisher claims to offer, reliable.
    :param custom_data: entries for the bag's metadata, say where the images come from.
    :return: number of images written.
    :raises BagError: if the path exists, the bag cannot be written, or there is no image.
    """
    path = Path(path)
    if path.exists():
        raise BagError(f'{path} exists already, and is not overwritten')
    typestore = get_typestore(Stores.ROS2_HUMBLE)
    header_type = typestore.types['std_msgs/msg/Header']
    time_type = typestore.types['builtin_interfaces/msg/Time']
    image_type = typestore.types[COMPRESSED_IMAGE_TYPE]
    unlimited = QosTime(0, 0)
    offered = Qos(
        QosHistory.KEEP_LAST, depth, QosReliability.RELIABLE, QosDurability.VOLATILE, unlimited,
        unlimited, QosLiveliness.AUTOMATIC, unlimited, False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f'.{path.name}.', dir=path.parent))
    except OSError as error:
        raise BagError(f'{path}: cannot write the bag: {error}') from error
    try:
        count = 0
        with Writer(temporary / path.name, version=METADATA_VERSION,
                    storage_plugin=StoragePlugin.MCAP) as writer:
            # Never empty: rosbag2 refuses metadata without this map.
            for key, value in {'writer': 'auv_image_codec', **(custom_data or {})}.items():
                writer.set_custom_data(key, value)
            connection = writer.add_connection(
                topic, COMPRESSED_IMAGE_TYPE, typestore=typestore,
                offered_qos_profiles=[offered])
            for stamp_ns, image_format, data in images:
                header = header_type(time_type(*divmod(stamp_ns, 10**9)), frame_id)
                message = image_type(header, image_format, np.frombuffer(data, np.uint8))
                writer.write(connection, stamp_ns,
                             typestore.serialize_cdr(message, COMPRESSED_IMAGE_TYPE))
                count += 1
        if count == 0:
            raise BagError(f'{path}: no image to write')
        os.rename(temporary / path.name, path)
    except OSError as error:
        raise BagError(f'{path}: cannot write the bag: {error}') from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return count
