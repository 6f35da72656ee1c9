# Every goal calls a program that does the work.
#
#: make                   build QEMU; the programs are then in build/
#: make run               boot a Linux guest on a disk with several queues, and
#:                        report; QUEUES=N IOTHREADS=N VCPUS=N IMAGE=FILE
#:                        FORMAT=raw ACCEL=kvm|tcg MACHINE=pc RUNTIME=SECONDS
#: make shell             open a shell in the same guest
#: make run-xen           boot a real Xen with a domU on our disk, and report;
#:                        VCPUS=N CPUS=N RUNTIME=SECONDS
#: make check             run the tests; TESTS="NAME..." runs only these,
#:                        BASE=PATH builds and tests with this base instead, in
#:                        BUILD-base
#: make check-full        run all tests, the long ones too
#: make drivers-table     write the tables of docs/guests.rst anew, from what
#:                        drivers of guests do
#: make check-sanitizers  run our tests with sanitizers for addresses and
#:                        undefined behaviour, in BUILD-asan; TESTS as above
#: make check-threads     run our tests with ThreadSanitizer, in BUILD-tsan;
#:                        TESTS as above
#: make fuzz              fuzz our devices with libFuzzer, in BUILD-fuzz, a
#:                        minute for each target; TARGETS="NAME..."
#:                        RUNTIME=SECONDS, REPRO=FILE runs one input
#: make soak              run random administration commands on a guest under
#:                        verified load; HOURS=N (default: 0.1), SEED=N is the
#:                        first seed, GUEST=xen takes a domU
#: make stock             build the untouched base too, in build/stock
#: make bench             compare ours with stock; QUICK=1 takes three minutes,
#:                        BENCH="ARGUMENT..." goes to tests/bench/run
#: make export            make a git branch of QEMU with our changes, one commit
#:                        each, in build/export; FIXES=1 takes only the fixes
#: make check-export      make that branch, build it, run its tests, boot a
#:                        guest; FIXES=1 as above, EACH=1 also builds each
#:                        commit by itself, which takes an hour; EACH=50
#:                        begins with the 50th
#: make install           install to the configured prefix, below DESTDIR
#: make uninstall         remove what 'make install' has installed
#: make deb               make Debian packages, in BUILD/deb, that live beside
#:                        the distribution's
#: make clean             remove what was built, but keep the prepared base
#: make distclean         remove the build folder
#:
#: BUILD=DIR names another build folder than build, QEMU=FILE another binary
#: to run.  make runs ./configure where needed; ./configure --help lists its
#: options.
#
# SPDX-License-Identifier: GPL-2.0-or-later

BUILD ?= build
TARGETS ?=
TESTS ?=
BASE ?=
BENCH ?=
setup = @scripts/setup
tool = @scripts/base/run
run = scripts/run BUILD=$(BUILD)
run_xen = scripts/run-xen BUILD=$(BUILD)
soak = tests/soak/run BUILD=$(BUILD)
bench = tests/bench/run --build $(BUILD) $(if $(QUICK),--quick) $(BENCH)
# Arguments are checked before the long build.  Where there is no Python yet,
# they are checked after the set-up.
early = @command -v python3 >/dev/null || exit 0;

# A variable that no program knows, such as a misspelt one, is refused.
known = BUILD TARGETS TESTS BASE BENCH QUICK FIXES EACH DESTDIR QEMU QUEUES \
        IOTHREADS VCPUS IMAGE FORMAT ACCEL MACHINE RUNTIME CPUS EMULATOR \
        HOURS SEED STEPS GUEST STOCK LOAD REPRO
# Variables of other programs.
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
        check-threads drivers-table fuzz soak bench export check-export \
        install uninstall deb clean distclean help
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
	$(setup) build guest check $(if $(filter %-full,$@),man fuzz)
	$(tool) $@ --build=$(BUILD) $(if $(BASE),--with-base=$(BASE)) $(TESTS)

drivers-table: export DRIVERS_TABLE = 1
drivers-table:
	$(setup) build guest check
	$(tool) check --build=$(BUILD) 'drivers-*'

check-sanitizers check-threads:
	$(setup) build
	$(tool) $@ --build=$(BUILD) $(TESTS)

fuzz:
	$(setup) build fuzz
	$(tool) fuzz --build=$(BUILD) $(if $(RUNTIME),--seconds=$(RUNTIME)) \
		$(if $(REPRO),--repro=$(REPRO)) $(TARGETS)

soak:
	$(early) $(soak) --check
	$(setup) build guest
	@$(soak) --check
	$(tool) build --build=$(BUILD)
	$(tool) build --build=$(BUILD) qemu-mq/tests/soak/soak-load
	$(tool) stock --build=$(BUILD)
	@$(soak)

bench:
	$(early) $(bench) --check
	$(setup) build bench
	$(tool) build --build=$(BUILD)
	$(tool) stock --build=$(BUILD)
	@$(bench)

export:
	$(setup) build export
	$(tool) export --build=$(BUILD) $(if $(FIXES),fixes)

check-export:
	$(setup) build guest export
	$(tool) check-export --build=$(BUILD) $(if $(FIXES),fixes) \
		$(if $(EACH),each=$(EACH))

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
	@rm -rf $(BUILD)/qemu $(BUILD)/stock $(BUILD)-asan $(BUILD)-tsan \
	        $(BUILD)-fuzz/qemu

distclean:
	@rm -rf $(BUILD) $(BUILD)-asan $(BUILD)-tsan $(BUILD)-fuzz

help:
	@sed -n 's/^#: \{0,1\}//p' Makefile
