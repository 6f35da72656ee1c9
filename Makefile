# Thin: every goal forwards to a program that does it.
#
# SPDX-License-Identifier: GPL-2.0-or-later
#
#: make                 build QEMU; the programs are then in build/
#: make run             boot a Linux guest on a many-queue disk, and report
#:                      QUEUES=N IOTHREADS=N VCPUS=N IMAGE=FILE FORMAT=raw
#:                      ACCEL=kvm|tcg MACHINE=pc RUNTIME=SECONDS
#: make shell           the same guest, interactive
#: make run-xen         the same on a real Xen: a domU on our disk;
#:                      VCPUS=N CPUS=N RUNTIME=SECONDS
#: make check           the tests; TESTS="NAME..." runs only these
#: make check-full      all tests, the long ones too
#: make check-sanitizers  our tests with sanitizers for addresses and undefined
#:                      behaviour, built in BUILD-asan; TESTS as above
#: make check-threads   those with several threads with ThreadSanitizer,
#:                      built in BUILD-tsan
#: make stock           build the untouched base too, in build/stock
#: make bench           compare ours with stock; QUICK=1 in three minutes;
#:                      BENCH="ARGUMENT..." for tests/bench/run --help
#: make export          a git branch of QEMU with our changes, a commit each, in
#:                      build/export; FIXES=1 with the fixes of the base only
#: make install         install to the configured prefix; DESTDIR is heeded
#: make uninstall       remove what 'make install' has put there
#: make deb             Debian packages beside the distribution's, in BUILD/deb
#: make clean           remove what was built, keep the prepared base
#: make distclean       remove the build folder
#:
#: BUILD=DIR works in another build folder than build, QEMU=FILE runs another
#: binary.
#: ./configure takes options, --help lists them.  make runs it where needed.

BUILD ?= build
TARGETS ?=
TESTS ?=
BENCH ?=
setup = @scripts/setup
tool = @scripts/base/run
run = scripts/run BUILD=$(BUILD)
run_xen = scripts/run-xen BUILD=$(BUILD)
bench = tests/bench/run --build $(BUILD) $(if $(QUICK),--quick) $(BENCH)
# Whether arguments make sense is known before the long build.  A machine that
# has no Python yet is told after the set-up.
early = @command -v python3 >/dev/null || exit 0;

# A variable that no program knows would be a wish that nobody hears.
known = BUILD TARGETS TESTS BENCH QUICK FIXES DESTDIR QEMU QUEUES IOTHREADS VCPUS \
        IMAGE FORMAT ACCEL MACHINE RUNTIME CPUS EMULATOR
# What other programs take from the environment.
tools = AR AS CC CFLAGS CXX CXXFLAGS LD LDFLAGS NM OBJCOPY STRIP PKG_CONFIG% \
        CCACHE_% NINJA_STATUS MESON_% XDG_% TMPDIR PATH HOME LC_% LANG% \
        NO_COLOR TERM %SAN_OPTIONS G_% MALLOC_% QTEST_% QEMU_% XEN_% \
        MAKE% SHELL V CI DEB_% SOURCE_DATE_EPOCH http_proxy https_proxy
given := $(foreach name,$(.VARIABLES),\
           $(if $(filter command,$(firstword $(origin $(name)))),$(name)))
unknown := $(firstword $(filter-out $(known) $(tools),$(given)))
like := $(firstword $(filter $(unknown)% $(unknown:%S=%),$(known)))
ifneq ($(unknown),)
$(error $(unknown)= means nothing here$(if $(like),; is it $(like)=?,: the \
variables are $(known)))
endif

.PHONY: all build stock run run-xen shell check check-full check-sanitizers \
        check-threads bench export install uninstall deb clean distclean help
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
	$(early) $(run) --check
	$(setup) build guest
	@$(run) --check
	$(tool) build --build=$(BUILD)
	@$(run) $(if $(filter shell,$@),--shell)

run-xen:
	$(early) $(run_xen) --check
	$(setup) build guest
	@$(run_xen) --check
	$(tool) build --build=$(BUILD)
	@$(run_xen)

check check-full:
	$(setup) build guest check $(if $(filter %-full,$@),man)
	$(tool) $@ --build=$(BUILD) $(TESTS)

check-sanitizers check-threads:
	$(setup) build
	$(tool) $@ --build=$(BUILD) $(TESTS)

bench:
	$(early) $(bench) --check
	$(setup) build bench
	$(tool) build --build=$(BUILD)
	$(tool) stock --build=$(BUILD)
	@$(bench)

export:
	$(setup) build export
	$(tool) export --build=$(BUILD) $(if $(FIXES),fixes)

install:
	$(setup) build
	$(tool) build --build=$(BUILD)
	$(tool) install --build=$(BUILD)

uninstall:
	$(tool) uninstall --build=$(BUILD)

deb:
	$(setup) build man
	$(tool) deb --build=$(BUILD)

clean:
	@rm -rf $(BUILD)/qemu $(BUILD)/stock $(BUILD)-asan $(BUILD)-tsan

distclean:
	@rm -rf $(BUILD) $(BUILD)-asan $(BUILD)-tsan

help:
	@sed -n 's/^#: \{0,1\}//p' Makefile
