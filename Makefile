# Thin: every goal forwards to a program that does it.
#
# SPDX-License-Identifier: GPL-2.0-or-later
#
#: make                 build QEMU; the programs are then in build/
#: make run             boot a Linux guest on a many-queue disk, and report
#:                      QUEUES=N IOTHREADS=N IMAGE=FILE ACCEL=kvm|tcg
#: make shell           the same guest, interactive
#: make run-xen         the same on a real Xen: a domU on our disk; VCPUS=N
#: make check           the tests; TESTS="NAME..." runs only these
#: make check-full      all tests, the long ones too
#: make check-sanitizers  our tests with sanitizers for addresses and undefined
#:                      behaviour, built in BUILD-asan; TESTS as above
#: make check-threads   those with several threads with ThreadSanitizer,
#:                      built in BUILD-tsan
#: make stock           build the untouched base too, in build/stock
#: make bench           compare ours with stock; QUICK=1 in three minutes;
#:                      BENCH="ARGUMENT..." for tests/bench/run --help
#: make install         install to the configured prefix; DESTDIR is heeded
#: make clean           remove what was built, keep the prepared base
#: make distclean       remove the build folder
#:
#: BUILD=DIR works in another build folder than build.
#: ./configure takes options, --help lists them.  make runs it where needed.

BUILD ?= build
TARGETS ?=
TESTS ?=
BENCH ?=
setup = @scripts/setup
tool = @scripts/base/run
run = @scripts/run QEMU=$(or $(QEMU),$(BUILD)/qemu-system-x86_64)
run_xen = @scripts/run-xen QEMU=$(or $(QEMU),$(BUILD)/qemu-system-x86_64)

.PHONY: all build stock run run-xen shell check check-full check-sanitizers \
        check-threads bench install clean distclean help
# Each goal is one program that uses all cores itself.
.NOTPARALLEL:

all: build

build:
	$(setup) build
	$(tool) build --build=$(BUILD) $(TARGETS)

stock:
	$(setup) build
	$(tool) stock --build=$(BUILD) $(TARGETS)

run shell:
	$(setup) build guest
	$(tool) build --build=$(BUILD)
	$(run) $(if $(filter shell,$@),--shell)

run-xen:
	$(setup) build guest
	$(tool) build --build=$(BUILD)
	$(run_xen)

check check-full:
	$(setup) build guest check
	$(tool) $@ --build=$(BUILD) $(TESTS)

check-sanitizers check-threads:
	$(setup) build
	$(tool) $@ --build=$(BUILD) $(TESTS)

bench:
	$(setup) build bench
	$(tool) build --build=$(BUILD)
	$(tool) stock --build=$(BUILD)
	@tests/bench/run --build $(BUILD) $(if $(QUICK),--quick) $(BENCH)

install:
	$(setup) build
	$(tool) build --build=$(BUILD)
	$(tool) install --build=$(BUILD)

clean:
	@rm -rf $(BUILD)/qemu $(BUILD)/stock $(BUILD)-asan $(BUILD)-tsan

distclean:
	@rm -rf $(BUILD) $(BUILD)-asan $(BUILD)-tsan

help:
	@sed -n 's/^#: \{0,1\}//p' Makefile
