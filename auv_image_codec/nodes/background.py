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
"""Work that must not keep a node waiting."""
import threading
from typing import Any, Callable, Dict, Optional


class NewestWorker:
    """
    A thread that works on the newest job of each key; an older one that still waits is dropped.

    :param work: called with key and job, in the thread; must not raise.
    """

    def __init__(self, work: Callable[[str, Any], None]):
        """Prepare; start() starts the thread."""
        self._work = work
        self._jobs: Dict[str, Any] = {}
        self._condition = threading.Condition()
        self._thread: Optional[threading.Thread] = None
        self._stopping = False

    @property
    def stopping(self) -> bool:
        """Whether stop() waits for the job in work, which may end early."""
        return self._stopping

    def start(self) -> None:
        """Start the thread."""
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name='newest_worker', daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Finish the job in work, drop those that wait, end the thread. May be called twice."""
        with self._condition:
            self._stopping = True
            self._jobs.clear()
            self._condition.notify()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def submit(self, key: str, job: Any) -> bool:
        """Add a job; return whether it replaced one that waited."""
        with self._condition:
            replaced = key in self._jobs
            self._jobs[key] = job
            self._condition.notify()
        return replaced

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._jobs or self._stopping)
                if self._stopping:
                    return
                key = next(iter(self._jobs))
                job = self._jobs.pop(key)
            self._work(key, job)
