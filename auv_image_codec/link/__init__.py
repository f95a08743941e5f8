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
The acoustic link between the two sides, without images, without ROS and without torch.

Packets go in on the vehicle and come out on the surface, as frames of a modem in between:
``LinkSender`` and ``LinkReceiver`` are the two ends, ``SimulatedLink`` is the water.
docs/link.md describes the bytes.
"""
