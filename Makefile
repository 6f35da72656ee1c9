# Thin: every goal forwards to a program that does it.
#
# SPDX-License-Identifier: GPL-2.0-or-later

BUILD ?= build
TARGETS ?=
TESTS ?=
setup = @scripts/setup
tool = @scripts/base/run

.PHONY: all build stock run shell check check-full bench install clean \
        distclean help
# Each goal is one program that uses all cores itself.
.NOTPARALLEL:

all: build

build:
	$(setup) build
	$(tool) build --build=$(BUILD) $(TARGETS)

stock:
	$(setup) build
	$(tool) stock --build=$(BUILD) $(TARGETS)

# What the user sets reaches the scripts in the environment.
export BUILD QUEUES IOTHREADS IMAGE ACCEL

run shell:
	$(setup) build guest
	$(tool) build --build=$(BUILD)
	@scripts/$@

check check-full:
	$(setup) build guest check
	$(tool) $@ --build=$(BUILD) $(TESTS)

bench: build stock
	$(setup) bench
	@tests/bench/run

install: build
	$(tool) install --build=$(BUILD)

clean:
	@rm -rf $(BUILD)/qemu $(BUILD)/stock

distclean:
	@rm -rf $(BUILD)

help:
	@sed -n 's/^# *make /make /p' scripts/goals
