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
"""Ctrl-C, and other signals that ask a command to end, in place of exceptions anywhere."""
from __future__ import annotations

import signal
import time

# How long a signal may go unnoticed: nothing wakes a sleeping process but an exception.
LONGEST_SLEEP_S = 0.05


class Interruption:
    """
    Signals, noted whenever they come, but acted on only where the code looks for them.

    So they find nothing half made, the command ends in one way only, and none is lost: an
    exception from a signal's handler is, where Python happens to be in a ``__del__``.
    """

    def __init__(self, *numbers: int):
        """
        Take signals for the rest of the process, in its main thread.

        :param numbers: which; also SIGINT, where a shell has started a background job.
        """
        self.number = 0
        for number in numbers:
            signal.signal(number, self._note)

    def _note(self, number: int, frame: object) -> None:
        self.number = number

    def check(self) -> None:
        """Raise KeyboardInterrupt if one of the signals has come: ``number`` says which."""
        if self.number:
            raise KeyboardInterrupt

    def sleep(self, seconds: float) -> None:
        """
        Sleep.

        :raises KeyboardInterrupt: as soon as one of the signals has come.
        """
        end = time.monotonic() + seconds
        while True:
            self.check()
            left = end - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, LONGEST_SLEEP_S))
