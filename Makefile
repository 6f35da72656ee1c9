# Thin: every goal forwards to a program that does it.
#
# SPDX-License-Identifier: GPL-2.0-or-later

BUILD ?= build
TARGETS ?=
tool = scripts/base/run

.PHONY: all build stock install clean distclean bench

all: build

build:
	@$(tool) build --build=$(BUILD) $(TARGETS)

stock:
	@$(tool) stock --build=$(BUILD) $(TARGETS)

install: build
	@$(tool) install --build=$(BUILD)

clean:
	@if test -f $(BUILD)/qemu/build.ninja; then ninja -C $(BUILD)/qemu clean; fi

distclean:
	@rm -rf $(BUILD)

bench: build stock
	@tests/bench/run --build=$(BUILD) $(if $(QUICK),--quick)
