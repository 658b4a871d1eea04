# neap - targets
#   make            the programs, in build/VARIANT            (same as: make all)
#   make deps       install the Debian packages that the build and the tests need
#   make demo       build, then back up, restore and prove a database under load
#                   (ENGINE=sqlite, the default, or ENGINE=postgresql)
#   make check      every test: unit (under ASan+UBSan, TSan), commands, system
#   make check-fast unit and command tests only; no root needed
#   make lint       clang-format, clang-tidy, cppcheck, headers alone, symbols
#   make bench      neap and its peers on the same data, as ratios
#   make scale      a backup of 10,000 changed blocks of databases up to 10 TB,
#                   whose maps and index are made up (SCALE="TB…")
#   make newcomer   README's commands on a fresh Debian 12 in a chroot
#   make soak       crashes at every call, and the random tests with many rounds
#   make fuzz       the parsers under libFuzzer, FUZZ_SECONDS each
#   make coverage   all tests on instrumented programs; lines and branches that
#                   they reach, per folder
#   make check-valgrind  the command tests under valgrind
#   make install    into DESTDIR/PREFIX; the tree runs from wherever it lies
#   make clean      remove build/
# knobs
#   VARIANT=release|debug|asan|tsan|cov|fuzz   how to build
#   O=DIR           where to build (build)      V=1  show the commands
#   CC=gcc|clang    CFLAGS, LDFLAGS are added to ours
#   PREFIX=/usr/local  DESTDIR=            FUZZ_SECONDS=20
#   TESTS="FILE…"   run only these of the tests
#   mb=             without libipsec-mb, even where it is there

VERSION := 0.1.0
VARIANT ?= release
O ?= build
PREFIX ?= /usr/local
FUZZ_SECONDS ?= 20
ENGINE ?= sqlite
ifeq ($(origin CC),default)
CC := gcc
endif
# One name for a folder: what depends on what is written down by it.
override O := $(abspath $(O))
B := $(O)/$(VARIANT)

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules
ifneq ($(V),1)
Q := @
say = @printf '  %-7s %s\n' '$(1)' '$(2)'
endif

flags_release := -O2 -g
flags_debug := -O0 -g3
# -g1: functions and lines, all that a sanitizer prints, in less time to build.
flags_asan := -O1 -g1 -fsanitize=address,undefined -fno-sanitize-recover=all \
	-fno-omit-frame-pointer
flags_tsan := -O1 -g1 -fsanitize=thread
flags_cov := -O0 -g --coverage -Wl,--wrap=_exit,--wrap=__gcov_execve
# tests/fuzz/run's, with clang
flags_fuzz := -O1 -g1 -fsanitize=fuzzer-no-link,address,undefined \
	-fno-sanitize-recover=all -fno-omit-frame-pointer

# The tests are some hundred programs, and this linker takes a third of the time;
# it has much to say about what clang makes.
ifneq ($(and $(filter asan tsan,$(VARIANT)),$(filter gcc%,$(notdir $(CC)))),)
quick_ld := $(if $(shell command -v ld.gold),-fuse-ld=gold)
endif

# libipsec-mb is for x86-64 only, so it is optional; pkg-config does not know it.
mb_try := \#include <intel-ipsec-mb.h>\nint main(void) \
	{ return imb_get_errno(alloc_mb_mgr(0)) == IMB_AUTH_SHA_256; }\n
mb := $(shell printf '$(mb_try)' | $(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) \
	-x c -o /dev/null - -lIPSec_MB 2>/dev/null && echo -lIPSec_MB)

ours := -std=gnu17 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -I. \
	-DNEAP_VERSION='"$(VERSION)"' -Wall -Wextra -Werror -Wshadow \
	-Wstrict-prototypes -Wmissing-prototypes -Wvla -Wpointer-arith \
	-fstack-protector-strong -pthread $(flags_$(VARIANT)) \
	$(if $(mb),-DNEAP_IPSEC_MB)

# ---- the layers: a folder is a library; uses_X names all that lie below it ----
libs := core store conf hooks io snap track job
dir_core := agent/core
dir_store := agent/store
dir_conf := agent/conf
dir_hooks := agent/hooks
dir_io := kmod-free/io
dir_snap := kmod-free/snap
dir_track := kmod-free/track
dir_job := agent/job
uses_core :=
uses_store := core
uses_conf := core
uses_hooks := core
uses_io := core
uses_snap := io core
uses_track := snap io core
uses_job := store conf hooks track snap io core

# ---- what each takes from outside (pkg-config names, or -lNAME) ----
ext_core := jansson
ext_store := libcrypto libzstd libxxhash jansson $(mb)
ext_conf := yaml-0.1 jansson
ext_hooks := jansson
ext_io := liburing -laio
ext_snap := libbtrfsutil blkid devmapper jansson
ext_track := libxxhash libbtrfsutil
ext_job := jansson libxxhash

hook_programs := postgresql sqlite files
ext_hook_postgresql := libpq jansson
ext_hook_sqlite := sqlite3 jansson
ext_hook_files := jansson

src = $(sort $(wildcard $(1)/*.c))
obj = $(patsubst %.c,$(B)/obj/%.o,$(1))
lib = $(patsubst %,$(B)/lib%.a,$(1))
pkg = $(if $(strip $(1)),$(shell pkg-config --libs \
	$(sort $(filter-out -l%,$(1)))) $(sort $(filter -l%,$(1))))
ext_of = $(foreach l,$(1),$(ext_$(l)))

programs := $(B)/neap $(B)/neap-restore \
	$(patsubst %,$(B)/hooks/%,$(hook_programs))
inspectors := $(B)/neap-inspect

.PHONY: force all deps demo check check-fast check-valgrind coverage lint bench soak fuzz \
	scale newcomer install clean unit-programs test-programs fuzz-programs help
all: $(programs) $(inspectors)

help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' Makefile

# One object; its command is kept for compile_commands.json.
cmd_json = printf '{"directory":"%s","file":"%s","command":"%s"},\n'
$(B)/obj/%.o: %.c $(B)/with
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ours) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<
	@$(cmd_json) '$(CURDIR)' '$<' \
	    '$(CC) $(subst ",\\\",$(subst ',,$(ours))) -c $<' >$(@:.o=.json)

# With which optional library: when one comes or goes, all is built anew.
$(B)/with: force
	@mkdir -p $(@D)
	@echo '$(mb)' | cmp -s - $@ || echo '$(mb)' >$@
force:

define archive
$(B)/lib$(1).a: $(call obj,$(call src,$(dir_$(1))))
	$$(call say,AR,$$@)
	@rm -f $$@
	$(Q)ar rcs $$@ $$^
endef
$(foreach l,$(libs),$(eval $(call archive,$(l))))
ifeq ($(VARIANT),cov)
$(B)/libcore.a: $(B)/obj/tests/coverage_exit.o
endif

link = $(Q)$(CC) $(ours) $(CFLAGS) $(quick_ld) $(LDFLAGS) -o $@

$(B)/neap: $(call obj,$(call src,agent)) $(call lib,job $(uses_job))
	$(call say,LINK,$@)
	$(link) $^ $(call pkg,$(call ext_of,job $(uses_job)))

$(B)/neap-restore: $(call obj,$(call src,tools)) $(call lib,conf store hooks core)
	$(call say,LINK,$@)
	$(link) $^ $(call pkg,$(call ext_of,conf store hooks core) fuse3 blkid)

$(B)/neap-inspect: $(call obj,$(call src,tools/inspect)) \
	$(call lib,track snap io store core)
	$(call say,LINK,$@)
	$(link) $^ $(call pkg,$(call ext_of,track snap io store core))

define hook_rule
$(B)/hooks/$(1): $(call obj,$(call src,agent/hooks/$(1))) $(call lib,hooks core)
	$$(call say,LINK,$$@)
	@mkdir -p $$(@D)
	$$(link) $$^ $$(call pkg,$(ext_hook_$(1)))
endef
$(foreach h,$(hook_programs),$(eval $(call hook_rule,$(h))))

# ---- tests: a unit test links its own library and those below, no more ----
unit_of = $(patsubst tests/unit/%.c,$(B)/unit/%,$(wildcard tests/unit/$(1)/test_*.c))
define unit_rule
$(B)/unit/$(1)/%: $(B)/obj/tests/unit/$(1)/%.o $(call lib,$(1) $(uses_$(1)))
	$$(call say,LINK,$$@)
	@mkdir -p $$(@D)
	$$(link) $$^ $$(call pkg,cmocka $(call ext_of,$(1) $(uses_$(1))))
unit-programs: $(call unit_of,$(1))
endef
$(foreach l,$(libs),$(eval $(call unit_rule,$(l))))
.SECONDARY:

# Programs of the shell tests alone, never installed. neap-faulty is neap with
# a tracker that lies: its array of trackers stands in front of the library's.
test_programs := $(B)/neap-faulty $(B)/random-ops $(B)/neap-scale $(B)/snap-ctl \
	$(B)/thin-live $(B)/thin-compare $(B)/thin-make $(B)/used-of
test-programs: $(test_programs)
$(B)/neap-faulty: $(B)/obj/tests/system/tracker_fault.o \
	$(call obj,$(call src,agent)) $(call lib,job $(uses_job))
	$(call say,LINK,$@)
	$(link) $^ $(call pkg,$(call ext_of,job $(uses_job)))
$(B)/random-ops: $(B)/obj/tests/system/random_ops.o $(call lib,core)
	$(call say,LINK,$@)
	$(link) $^ $(call pkg,$(ext_core))

$(B)/snap-ctl: $(B)/obj/tests/lab/snap_ctl.o $(call lib,snap $(uses_snap))
	$(call say,LINK,$@)
	$(link) $^ $(call pkg,$(call ext_of,snap $(uses_snap)))

$(B)/used-of: $(B)/obj/tests/system/used_of.o $(call lib,snap $(uses_snap))
	$(call say,LINK,$@)
	$(link) $^ $(call pkg,$(call ext_of,snap $(uses_snap)))

$(B)/thin-compare: $(B)/obj/tests/bench/thin_compare.o \
	$(call lib,track $(uses_track))
	$(call say,LINK,$@)
	$(link) $^ $(call pkg,$(call ext_of,track $(uses_track)))

$(B)/thin-make: $(B)/obj/tests/bench/thin_make.o \
	$(call lib,track $(uses_track))
	$(call say,LINK,$@)
	$(link) $^ $(call pkg,$(call ext_of,track $(uses_track)))

$(B)/thin-live: $(B)/obj/tests/lab/thin_live.o \
	$(call lib,track $(uses_track))
	$(call say,LINK,$@)
	$(link) $^ $(call pkg,$(call ext_of,track $(uses_track)))

# For make scale: makes up what a backup of many terabytes leaves.
$(B)/neap-scale: $(call obj,$(call src,tools/scale)) $(call lib,job $(uses_job))
	$(call say,LINK,$@)
	$(link) $^ $(call pkg,$(call ext_of,job $(uses_job)))

# Fuzz targets, with libFuzzer: VARIANT=fuzz CC=clang, as tests/fuzz/run has it.
fuzz_libs := job store conf hooks track snap io core
$(B)/fuzz/%: $(B)/obj/tests/fuzz/fuzz_%.o $(call lib,$(fuzz_libs))
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(link) -fsanitize=fuzzer $(filter %.o,$^) $(filter %.a,$^) \
		$(call pkg,$(call ext_of,$(fuzz_libs)))
# Parsers of the hooks' own, in no library.
$(B)/fuzz/server_log: $(call obj,agent/hooks/postgresql/serverlog.c)
$(B)/fuzz/sqlite_file: $(call obj,agent/hooks/sqlite/dbfile.c)
fuzz-programs: $(patsubst tests/fuzz/fuzz_%.c,$(B)/fuzz/%,\
	$(wildcard tests/fuzz/fuzz_*.c))

deps:
	tests/deps
demo: deps
	@$(MAKE) --no-print-directory all
	tests/demo $(ENGINE)
check: deps
	FUZZ_SECONDS=$(FUZZ_SECONDS) tests/run all
check-fast:
	tests/run fast
check-valgrind: deps
	tests/valgrind
coverage: deps
	tests/coverage
lint:
	tests/lint
bench: deps
	@$(MAKE) --no-print-directory all $(B)/thin-compare $(B)/thin-make
	NEAP_BUILD=$(B) tests/bench/run
scale: deps
	@$(MAKE) --no-print-directory all $(B)/neap-scale
	NEAP_BUILD=$(B) tools/scale/run $(SCALE)
newcomer:
	tests/newcomer
soak_tests := $(addprefix tests/,$(addsuffix .sh,$(addprefix crash/,kill-backup \
	kill-restore power-loss starved) system/tracker-random \
	$(addprefix lab/,thin-live several)) \
	$(addprefix unit/track/,test_tracker_random.c test_thin_random.c))
soak: deps
	CRASH_ROUNDS=100 CRASH_CALLS=all TRACK_ROUNDS=1000 THIN_ROUNDS=1000 \
		LAB_ROUNDS=10 TEST_SECONDS=14400 TESTS="$(soak_tests)" tests/run all
fuzz:
	O=$(O) FUZZ_SECONDS=$(FUZZ_SECONDS) tests/fuzz/run

libexec := $(DESTDIR)$(PREFIX)/libexec/neap
install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(libexec) \
	    $(DESTDIR)$(PREFIX)/share/man/man1 \
	    $(DESTDIR)$(PREFIX)/share/man/man5 \
	    $(DESTDIR)$(PREFIX)/share/man/man7 \
	    $(DESTDIR)$(PREFIX)/share/doc/neap \
	    $(DESTDIR)$(PREFIX)/share/bash-completion/completions
	install $(B)/neap $(B)/neap-restore $(inspectors) $(DESTDIR)$(PREFIX)/bin
	install $(patsubst %,$(B)/hooks/%,$(hook_programs)) $(libexec)
	install -m 644 docs/man/*.1 $(DESTDIR)$(PREFIX)/share/man/man1
	install -m 644 docs/man/*.5 $(DESTDIR)$(PREFIX)/share/man/man5
	install -m 644 docs/man/*.7 $(DESTDIR)$(PREFIX)/share/man/man7
	install -m 644 README.md LICENSE docs/*.md config/neap.yaml \
	    $(DESTDIR)$(PREFIX)/share/doc/neap
	install -m 644 config/completion/neap config/completion/neap-restore \
	    $(DESTDIR)$(PREFIX)/share/bash-completion/completions

compile_commands.json: all unit-programs
	@{ echo '['; find $(B)/obj -name '*.json' -exec cat {} + | sed '$$s/,$$//'; \
	    echo ']'; } >$@
clean:
	rm -rf $(O) compile_commands.json

-include $(shell find $(B)/obj -name '*.d' 2>/dev/null)
