# page-db. Everything is built below build/.
#
#   make              build/pagedb.so, the libraries, the tests
#   make demo         install what it needs, and show the main job
#   make check        install what is missing (deps), then all tests: check-quick,
#                     sanitizers, valgrind, model, fuzz, SQLite's suite
#   make check-quick  all tests once, those of the VFS again with our page cache,
#                     the example, format of the sources
#   make check-asan check-ubsan check-tsan check-valgrind
#   make check-model  the frame protocol, checked by Spin
#   make check-fuzz   FUZZ_SECONDS (20) of each fuzz target; FUZZ_SECONDS=3600 by hand
#   make check-process    several processes, kill -9, at length
#   make torture-kill     kill -9 before every call that changes a file or a lock
#   make torture-blockdev power cuts of a recorded block device with ext4 and xfs
#   make torture      power cuts on a simulated disk, TIME=10m, SEED=n (tests/torture)
#   make check-sector4k   the VFS on a loop device with sectors of 4096 bytes (root)
#   make check-real check-clients check-demo   real databases, real programs
#   make coverage     lines and branches of core, pcache, vfs that the tests reach
#   make mutants      mistakes put into them, to see the tests notice: N=300, SEED=n,
#                     AGAIN=1 for the survivors, NAMED=1 for those by hand
#   make check-windows check-aarch64   core's tests under wine, under qemu-user
#   make sqlite-test  SQLite's own test suite on page-db; options: SQLITE=3.53.4
#                     SUITE=veryquick|full|all|PERMUTATION|FILE.test
#                     CONFIG=stamped|plain|parent|stock, and +fetch, +pcache
#                     BUILD=debug|asan (sqlite-tests/README.md)
#   make sqlite-programs   SQLite's mptester, threadtest3, ... on page-db
#   make check-sqlite the part of these that `make check` runs
#   make sqlite-test-all   all of it, hours; sqlite-test-docs writes docs/sqlite-tests.md
#   make bench        page-db beside stock SQLite, mmap and cksumvfs: table, JSON,
#                     SVG; options SIZE=small|full, ROUNDS=n, MINUTES=n, BENCH=PATTERN,
#                     READAHEAD=KiB, BENCH_DIR=DIR, SQLITE=3.53.4 (bench/README.md)
#   make bench-syscalls bench-trace   system calls per transaction; the pool's
#                     replacement beside others, on recorded page streams
#   make bench-core bench-pcache   ns per operation
#   make bench-scan   cold and warm scans, beside stock SQLite
#   make bench-docs   runs all of it at full size and writes docs/benchmarks.md
#   make deps format install uninstall clean help
#
# Variables: WERROR=1, PREFIX, DESTDIR, CC, CFLAGS.

VERSION := $(shell sed -n 's/^\#define PAGEDB_VERSION "\(.*\)"/\1/p' core/pagedb.h)
PREFIX  ?= /usr/local

# A variant is a folder of build/ with its own flags.
VARIANT ?= normal
OUT     := build/$(VARIANT)
FLAGS_normal :=
# PAGEDB_DEBUG: the order of locks is checked (core/lock_order.h).
FLAGS_asan   := -fsanitize=address -fno-omit-frame-pointer -DPAGEDB_DEBUG
FLAGS_ubsan  := -fsanitize=undefined -fno-sanitize-recover=all -DPAGEDB_DEBUG
FLAGS_tsan   := -fsanitize=thread -DPAGEDB_DEBUG
FLAGS_debug  := -O0 -DPAGEDB_DEBUG
FLAGS_cov    := --coverage -fprofile-update=atomic -DPAGEDB_DEBUG

CFLAGS  ?= $(if $(filter cov,$(VARIANT)),-O0,-O2) -g
WARN    := -Wall -Wextra -Wpedantic $(if $(WERROR),-Werror)
ALL     := -std=c11 $(WARN) -fPIC -Icore $(FLAGS_$(VARIANT)) -MMD -MP $(CFLAGS)
LIBS    := -pthread
ifeq ($(VARIANT),cov)
LIBS    += $(OUT)/tests/coverage/exit.o
endif

# y if the compiler finds a header (after the ones that it needs).
found = $(shell $(CC) -E $(1:%=-include %) -x c /dev/null >/dev/null 2>&1 && echo y)
ifeq ($(call found,liburing.h),y)
URING := -DPAGEDB_HAVE_URING
LIBS  += -l:liburing.a
endif

ifeq ($(call found,sqlite3ext.h),y)
HAVE_SQLITE := y
endif
# Another build of SQLite for the tests: LIBSQLITE=/path/sqlite3.o
LIBSQLITE ?= -lsqlite3

CORE   := $(wildcard core/*.c)
OBJ    := $(CORE:%.c=$(OUT)/%.o)
LIB    := $(OUT)/libpagedb.a
# The plugin, twice: for a host that links it, and to be loaded.
VFS    := $(wildcard vfs/*.c pcache/*.c)
LINKED := $(VFS:%.c=$(OUT)/linked/%.o)
LOADED := $(VFS:%.c=$(OUT)/loaded/%.o)
SQLIB  := $(OUT)/libpagedb_sqlite.a
SO     := $(OUT)/pagedb.so
TOOL   := $(OUT)/pagedb
TOOLOBJ := $(patsubst %.c,$(OUT)/%.o,$(wildcard tool/*.c))
# Without SQLite's headers core alone is built and tested.
TESTFILES := $(wildcard tests/test_*.c)
TESTS  := $(patsubst tests/%.c,$(OUT)/%,$(if $(HAVE_SQLITE),$(TESTFILES),\
            $(filter-out tests/test_vfs_% tests/test_pcache%,$(TESTFILES))))
HELPER := $(OUT)/tests/util.o $(OUT)/tests/fault_store.o $(OUT)/tests/locks.o
# Tests of the plugin link SQLite.
SQLTESTS := $(filter-out %/test_vfs_load,\
            $(filter $(OUT)/test_vfs_% $(OUT)/test_pcache%,$(TESTS)))
SQLHELPER := $(OUT)/tests/sqlutil.o $(HELPER)
# Power cuts on a simulated disk: the long run, and what a test runs of it.
TORTUREOBJ := $(patsubst %.c,$(OUT)/%.o,$(filter-out %/main.c,\
            $(wildcard tests/torture/*.c)))
TORTURE := $(OUT)/torture
# The command as a function of theirs.
COMMANDOBJ := $(OUT)/command/tool/main.o $(filter-out %/main.o,$(TOOLOBJ))
EXAMPLE := $(OUT)/substrate
# page-db for SQLite's own test programs.
GLUE    := $(OUT)/libpagedb_suite.so
BENCHC := $(OUT)/bench_core
BENCHP := $(OUT)/bench_pcache
BENCHS := $(OUT)/bench_scan
SOURCES := $(wildcard $(addsuffix /*.[ch],core pcache vfs tool tests tests/* sqlite-tests bench bench/* examples))

# The system calls that a test makes fail, or looks into; in all of them, locks.c.
WRAP_LOCKS := -Wl,--wrap=pthread_mutex_unlock
WRAP_test_pcache := -Wl,--wrap=os_fence_heavy -Wl,--wrap=os_table_alloc \
  -Wl,--wrap=os_aligned_alloc -Wl,--wrap=realloc
WRAP_test_pagefile := -Wl,--wrap=os_datasync -Wl,--wrap=os_size \
  -Wl,--wrap=os_readv -Wl,--wrap=os_writev -Wl,--wrap=os_open
WRAP_test_oom := -Wl,--wrap=malloc -Wl,--wrap=calloc -Wl,--wrap=realloc \
  -Wl,--wrap=os_aligned_alloc -Wl,--wrap=os_reserve -Wl,--wrap=os_map
WRAP_test_vfs_memory := -Wl,--wrap=malloc -Wl,--wrap=calloc
WRAP_test_vfs_life := -Wl,--wrap=os_writev
WRAP_test_pool_private := -Wl,--wrap=pthread_mutex_lock
WRAP_test_vfs_ahead := -Wl,--wrap=calloc,--wrap=os_queue_submit,--wrap=ahead_begin,--wrap=plan_add
WRAP_test_vfs_chain := -Wl,--wrap=os_readv -Wl,--wrap=os_queue_submit
WRAP_test_vfs_edges := -Wl,--wrap=os_readv
WRAP_test_vfs_sector := -Wl,--wrap=os_make_direct -Wl,--wrap=os_undirect \
  -Wl,--wrap=os_readv -Wl,--wrap=os_writev
comma := ,
WRAP_test_os_faults := $(patsubst %,-Wl$(comma)--wrap=%,mmap fstat statx fcntl \
  fstatfs ftruncate open pread posix_memalign lseek fallocate fdatasync fsync \
  pwritev malloc calloc sysconf syscall fopen io_uring_submit __io_uring_get_cqe \
  io_uring_queue_init)
WRAP_test_vfs_parents := -Wl,--wrap=os_borrow -Wl,--wrap=os_size
WRAP_test_vfs_btree := -Wl,--wrap=malloc -Wl,--wrap=calloc -Wl,--wrap=realloc
WRAP_test_vfs_flush := -Wl,--wrap=os_writev -Wl,--wrap=os_write_back
WRAP_test_vfs_behind := -Wl,--wrap=os_writev -Wl,--wrap=os_thread
WRAP_test_vfs_early := $(WRAP_test_vfs_behind) -Wl,--wrap=os_write_back
WRAP_test_vfs_faults := -Wl,--wrap=malloc -Wl,--wrap=calloc \
  -Wl,--wrap=realloc -Wl,--wrap=os_aligned_alloc \
  $(patsubst %,-Wl$(comma)--wrap=%,os_readv os_writev os_size os_borrow \
  os_make_direct os_queue_open os_queue_submit os_thread)

.PHONY: all deps check check-quick check-asan check-ubsan check-tsan \
        check-valgrind check-model check-fuzz check-process check-sector4k check-real check-clients check-demo check-windows check-aarch64 \
        sqlite-test sqlite-programs check-sqlite sqlite-test-all sqlite-test-docs \
        check-format check-header torture torture-kill torture-blockdev coverage mutants bench bench-syscalls bench-trace bench-core bench-pcache bench-scan bench-docs format install uninstall clean help variant \
        no-tests no-sqlite demo FORCE
.SECONDARY:

# Without cmocka the library is made all the same, and the tests are not.
PRODUCTS := build/libpagedb.a \
  $(if $(HAVE_SQLITE),build/libpagedb_sqlite.a build/pagedb.so build/pagedb,no-sqlite)

all: $(PRODUCTS) $(EXAMPLE) \
     $(if $(call found,stdarg.h stddef.h stdint.h setjmp.h cmocka.h),$(TESTS),no-tests)

no-sqlite: build/libpagedb.a
	@echo "the SQLite plugin needs libsqlite3-dev (make deps): not built"

no-tests: build/libpagedb.a $(EXAMPLE)
	@echo "the tests need libcmocka-dev (make deps): not built"

build/libpagedb.a: $(LIB)
build/libpagedb_sqlite.a: $(SQLIB)
build/pagedb.so: $(SO)
build/pagedb: $(TOOL)
build/libpagedb.a build/libpagedb_sqlite.a build/pagedb.so build/pagedb:
	@mkdir -p build
	cp $< $@

variant: $(if $(filter cov,$(VARIANT)),$(OUT)/tests/coverage/exit.o) $(LIB) $(if $(HAVE_SQLITE),$(SO) $(TOOL)) $(TESTS) $(EXAMPLE)

# Other flags, another compiler, liburing come or gone: compile anew.
$(OUT)/flags: FORCE
	@mkdir -p $(OUT)
	@echo '$(CC) $(ALL) $(URING)' | cmp -s - $@ || echo '$(CC) $(ALL) $(URING)' >$@

$(OUT)/%.o: %.c $(OUT)/flags
	@mkdir -p $(dir $@)
	$(CC) $(ALL) $(URING) -c $< -o $@

$(OUT)/linked/%.o: %.c $(OUT)/flags
	@mkdir -p $(dir $@)
	$(CC) $(ALL) -DSQLITE_CORE -c $< -o $@

$(OUT)/command/%.o: %.c $(OUT)/flags
	@mkdir -p $(dir $@)
	$(CC) $(ALL) -Dmain=command_main -c $< -o $@

$(OUT)/loaded/%.o: %.c $(OUT)/flags
	@mkdir -p $(dir $@)
	$(CC) $(ALL) -fvisibility=hidden -c $< -o $@

$(LIB): $(OBJ)
$(SQLIB): $(LINKED)
$(LIB) $(SQLIB):
	rm -f $@
	$(AR) rcs $@ $^

# Nothing but libc at run time, and no symbol but the entry points. Never
# unloaded: SQLite keeps pointers to it.
$(SO): $(LOADED) $(LIB)
	$(CC) $(ALL) -shared $^ -o $@ -Wl,--exclude-libs,ALL -Wl,-z,nodelete $(LIBS)

$(GLUE): $(OUT)/linked/sqlite-tests/glue.o $(LINKED) $(LIB)
	$(CC) $(ALL) -shared -Wl,-soname,$(notdir $@) -Wl,--wrap=handles_open \
	  -Wl,--wrap=handles_close $^ -o $@ $(LIBS)

# Calls that can be made the last: preloaded into the command by tests/tool.sh.
build/killpoint.so: $(OUT)/tests/killpoint.o
	@mkdir -p build
	$(CC) $(ALL) -shared $< -o $@

$(TOOL): $(TOOLOBJ) $(SQLIB) $(LIB)
	$(CC) $(ALL) $^ -o $@ -lsqlite3 $(LIBS) -lm

$(OUT)/test_%: $(OUT)/tests/test_%.o $(HELPER) $(LIB)
	$(CC) $(ALL) $(filter %.o,$^) $(LIB) -o $@ $(WRAP_LOCKS) $(WRAP_test_$*) -lcmocka $(LIBS)

$(SQLTESTS): $(OUT)/%: $(OUT)/tests/%.o $(SQLHELPER) $(SQLIB) $(LIB)
	$(CC) $(ALL) $(filter %.o,$^) $(SQLIB) $(LIB) -o $@ $(WRAP_LOCKS) $(WRAP_$*) -lcmocka $(LIBSQLITE) $(LIBS) -lm

$(OUT)/test_vfs_power $(OUT)/test_vfs_cut $(OUT)/test_vfs_faults: $(TORTUREOBJ) $(COMMANDOBJ)
$(OUT)/test_vfs_kill: $(OUT)/tests/killpoint.o

$(TORTURE): $(OUT)/tests/torture/main.o $(TORTUREOBJ) $(COMMANDOBJ) $(SQLHELPER) $(SQLIB) $(LIB)
	$(CC) $(ALL) $^ -o $@ $(WRAP_LOCKS) -lcmocka $(LIBSQLITE) $(LIBS) -lm

# This one loads the extension, and must not have it in already.
$(OUT)/test_vfs_load: $(OUT)/tests/test_vfs_load.o $(OUT)/tests/util.o $(LIB) | $(SO)
	$(CC) $(ALL) $^ -o $@ -lcmocka -lsqlite3 -ldl $(LIBS)

$(OUT)/test_pool $(OUT)/test_pool_races $(OUT)/test_pool_ahead $(OUT)/test_pool_edges \
$(OUT)/test_pool_forget $(OUT)/test_pool_private $(OUT)/test_lock_order: $(OUT)/tests/pool_rig.o

$(EXAMPLE): $(OUT)/examples/substrate.o $(LIB)
	$(CC) $(ALL) $^ -o $@ $(LIBS)

# The benchmark's programs: one build of SQLite in all of them. Where its sources
# come from: sqlite-tests/build.sh.
SQLITE ?= 3.53.4
SQSRC  := build/sqlite/$(SQLITE)
SQB    := build/bench/$(SQLITE)
SQCC   := $(CC) -O2 -g -D_HAVE_SQLITE_CONFIG_H -DSQLITE_ENABLE_RTREE -I$(SQSRC)/bench
SQPROGRAMS := $(addprefix $(SQB)/,bench_sql speedtest1 kvtest)
SQCOMMON := $(addprefix $(SQB)/,sqlite3.o cksumvfs.o variant.o)

$(SQSRC)/bench/sqlite3.c:
	sqlite-tests/build.sh $(SQLITE) bench sqlite3.c

$(SQB)/flags: FORCE
	@mkdir -p $(SQB)
	@echo '$(SQCC)' | cmp -s - $@ || echo '$(SQCC)' >$@

$(SQB)/sqlite3.o: $(SQSRC)/bench/sqlite3.c $(SQB)/flags
	$(SQCC) -c $< -o $@

$(SQB)/cksumvfs.o: $(SQSRC)/bench/sqlite3.c
	$(SQCC) -DSQLITE_CKSUMVFS_STATIC -c $(SQSRC)/src/ext/misc/cksumvfs.c -o $@

$(SQB)/speedtest1.o $(SQB)/kvtest.o: $(SQB)/%.o: $(SQB)/sqlite3.o
	$(SQCC) -c $(SQSRC)/src/test/$*.c -o $@

$(SQB)/%.o: bench/sql/%.c $(OUT)/flags $(SQSRC)/bench/sqlite3.c
	@mkdir -p $(SQB)
	$(CC) $(ALL) -I$(SQSRC)/bench -c $< -o $@

$(SQB)/bench_sql: $(addprefix $(SQB)/,main.o data.o read.o write.o stream.o trace.o)
$(SQB)/speedtest1: $(SQB)/speedtest1.o
$(SQB)/kvtest: $(SQB)/kvtest.o
$(SQPROGRAMS): $(SQCOMMON) $(SQLIB) $(LIB)
	$(CC) $(ALL) -rdynamic $(filter %.o,$^) $(SQLIB) $(LIB) -o $@ $(LIBS) -lm -ldl

$(BENCHP): $(OUT)/bench/bench_pcache.o $(OUT)/bench/bench.o $(SQLIB) $(LIB)
	$(CC) $(ALL) $^ -o $@ -lsqlite3 $(LIBS) -lm

$(BENCHS): $(OUT)/bench/bench_scan.o $(OUT)/bench/bench.o $(SQLIB) $(LIB)
	$(CC) $(ALL) $^ -o $@ -lsqlite3 $(LIBS) -lm

$(OUT)/poolsim: $(OUT)/bench/poolsim.o $(OUT)/bench/bench.o $(LIB)
	$(CC) $(ALL) $^ -o $@ $(LIBS)

$(BENCHC): $(OUT)/bench/bench_core.o $(OUT)/bench/bench.o $(LIB)
	$(CC) $(ALL) $^ -o $@ $(LIBS) $(if $(wildcard /usr/include/isa-l/crc.h),-lisal)

-include $(shell find $(OUT) build/bench -type f -name '*.d' 2>/dev/null)

# ------------------------------------------------------------------- checks

check-quick: $(PRODUCTS) variant build/killpoint.so check-format check-header
	tests/run_example.sh $(EXAMPLE)
	tests/install.sh build
	tests/bench_options.sh
	$(if $(HAVE_SQLITE),tests/tool.sh build)
	$(if $(HAVE_SQLITE),tests/pcache_routes.sh build)
	PAGEDB_TRANSACTIONS=100 PAGEDB_KILLS=30 tests/run.sh $(OUT) $(TESTS)
	PAGEDB_PCACHE=on PAGEDB_TRANSACTIONS=30 PAGEDB_KILLS=10 PAGEDB_TEST_SCALE=small \
	  tests/run.sh $(OUT) $(filter %/test_vfs_equal %/test_vfs_process %/test_vfs_state \
	  %/test_vfs_threads,$(TESTS))

# On a device with sectors of 4096 bytes, where one can be made.
check-sector4k: $(addprefix $(OUT)/,test_vfs_sector test_vfs_equal test_vfs_life)
	tests/sector4k.sh $(OUT) || test $$? = 77

# 1000 transactions a mode, 200 kills; PAGEDB_TRANSACTIONS, PAGEDB_KILLS by hand.
check-process: $(OUT)/test_vfs_process
	tests/run.sh $(OUT) $<

check-asan check-ubsan check-tsan:
	$(MAKE) VARIANT=$(@:check-%=%) variant
	PAGEDB_TEST_SCALE=small tests/run.sh build/$(@:check-%=%) \
	  $(TESTS:$(OUT)/%=build/$(@:check-%=%)/%)

# Not those that fork: valgrind hangs in children that kill themselves. Nor the
# power cuts, which take too long, nor vfs_parents, which has SQLite's own VFS open
# what has no name. The sanitizers run them.
NO_VALGRIND := $(addprefix $(OUT)/test_,lock_order os_faults vfs_ahead vfs_cut vfs_damage vfs_edges vfs_kill vfs_life vfs_parents vfs_power vfs_process vfs_recover \
               vfs_state vfs_threads pcache pcache_sql)

check-valgrind: variant
	PAGEDB_TEST_SCALE=small \
	RUNNER="valgrind -q --error-exitcode=99 --leak-check=full --fair-sched=yes" \
	  tests/run.sh $(OUT) $(filter-out $(NO_VALGRIND),$(TESTS))

# Until the time is up; a failure prints the line that repeats it.
torture: $(TORTURE)
	$(TORTURE) --time=$(or $(TIME),1m) $(SEED:%=--seed=%)

coverage: build/killpoint.so
	$(MAKE) VARIANT=cov variant
	cp $< build/cov
	tests/coverage/run.sh build/cov

mutants:
	tests/mutants/mutants.py build/mutants $(N:%=--n=%) $(SEED:%=--seed=%) \
	  $(AGAIN:%=--again) $(JOBS:%=--jobs=%) $(DIR:%=--dir=%) $(NAMED:%=--named)

# Every event of every mode; 100 kills while a write is under way.
torture-kill: $(OUT)/test_vfs_kill
	PAGEDB_KILL_ROUNDS=all TEST_TIMEOUT=86400 tests/run.sh $(OUT) $<

# Root, packages, loop devices, FUSE; 3: not here, and why.
torture-blockdev: $(PRODUCTS)
	tests/blockdev.sh build

check-model:
	tests/model/run.sh build/model

# Databases of Debian packages; real clients; the README's demonstration.
check-real: $(PRODUCTS)
	tests/realdb.sh build

check-clients: $(PRODUCTS)
	tests/clients/run.sh build

check-demo: $(PRODUCTS)
	@scripts/demo.sh build >build/demo.log 2>&1; case $$? in \
	  0) echo "ok    demo" ;; \
	  3) echo "skipped demo: proj-data cannot be fetched" ;; \
	  *) cat build/demo.log; exit 1 ;; esac

check-fuzz:
	tests/fuzz/run.sh build/fuzz $(FUZZ_SECONDS)

check-windows check-aarch64:
	tests/cross/run.sh $(@:check-%=%)

sqlite-test:
	sqlite-tests/run.sh

sqlite-programs: $(PRODUCTS)
	sqlite-tests/programs.sh

check-sqlite sqlite-test-all: $(PRODUCTS)
	sqlite-tests/all.sh $(@:check-sqlite=check)

sqlite-test-docs:
	sqlite-tests/report.tcl

check-format:
	@if command -v clang-format >/dev/null; then \
	  clang-format --dry-run -Werror $(SOURCES); \
	else echo "check-format: no clang-format here, skipped"; fi

# The public header stands alone, in C and in C++.
check-header:
	echo '#include "pagedb.h"' | $(CC) -std=c11 -Wall -Wextra -Wpedantic -Werror \
	  -Icore -fsyntax-only -x c -
	@if command -v g++ >/dev/null; then \
	  echo '#include "pagedb.h"' | g++ -std=c++11 -Wall -Wextra -Werror -Icore \
	    -fsyntax-only -x c++ -; fi

check: deps
	tests/check.sh

deps:
	scripts/deps.sh

# The main job, on a database that nobody here made.
demo:
	scripts/deps.sh demo
	$(MAKE) $(if $(HAVE_SQLITE),$(PRODUCTS),build/libpagedb.a build/libpagedb_sqlite.a build/pagedb.so build/pagedb)
	scripts/demo.sh build

# The options are in the environment of bench/sql/run.py.
SIZE ?= small
export SIZE ROUNDS MINUTES BENCH READAHEAD RESUME BENCH_DIR
BENCHED := build/bench/$(SIZE)$(if $(BENCH),-part).json
bench: deps
	@python3 bench/sql/run.py
	@$(MAKE) --no-print-directory $(SQPROGRAMS)
	python3 bench/sql/run.py $(SQB) $(BENCHED)
	python3 bench/sql/report.py plots $(BENCHED) $(BENCHED:.json=)
	python3 bench/sql/report.py table $(BENCHED)

bench-syscalls: $(SQB)/bench_sql
	@bench/sql/syscalls.py $<

bench-trace: $(SQB)/bench_sql $(OUT)/poolsim
	@bench/sql/trace.sh $^ build/bench/trace

bench-core: $(BENCHC)
	$(BENCHC)

bench-pcache: $(BENCHP)
	$(BENCHP)

bench-scan: $(BENCHS)
	$(BENCHS) $(OUT)

# Of the full size, or DOCS_SIZE=small; RESUME=1 takes what `make bench` of that size has
# measured already. DOCS_MORE=full-part adds what `make bench SIZE=full BENCH=...` stored.
DOCS_SIZE ?= full
bench-docs: $(BENCHC) $(BENCHP)
	@mkdir -p build/bench/docs
	$(MAKE) bench SIZE=$(DOCS_SIZE)
	python3 bench/sql/report.py plots build/bench/$(DOCS_SIZE).json docs
	python3 bench/sql/report.py markdown build/bench/$(DOCS_SIZE).json >build/bench/docs/sql.md
	$(if $(DOCS_MORE),python3 bench/sql/report.py more build/bench/$(DOCS_MORE).json >>build/bench/docs/sql.md)
	$(MAKE) -s --no-print-directory bench-syscalls >build/bench/docs/syscalls.md
	$(MAKE) -s --no-print-directory bench-trace >build/bench/docs/trace.md
	$(BENCHC) >build/bench/docs/core.md
	$(BENCHP) >>build/bench/docs/core.md
	cat bench/benchmarks.head.md build/bench/docs/sql.md \
	  bench/benchmarks.syscalls.md build/bench/docs/syscalls.md \
	  bench/benchmarks.trace.md build/bench/docs/trace.md \
	  bench/benchmarks.core.md build/bench/docs/core.md >docs/benchmarks.md
	cp build/bench/$(DOCS_SIZE).json docs/benchmarks.json
	$(if $(DOCS_MORE),cp build/bench/$(DOCS_MORE).json docs/benchmarks-$(DOCS_MORE).json)

# -------------------------------------------------------------- housekeeping

format:
	clang-format -i $(SOURCES)

# The pages, and what they link to, in the folders that the links name.
MANUAL := README.md LICENSE CHANGELOG.md \
  $(wildcard docs/*.md docs/*.svg docs/benchmarks.json examples/*.c) \
  core/pagedb.h vfs/pagedb_sqlite.h \
  $(addsuffix /README.md,core vfs pcache bench sqlite-tests tests/fuzz tests/mutants tests/torture)

install: $(PRODUCTS)
	install -d $(DESTDIR)$(PREFIX)/lib/pkgconfig $(DESTDIR)$(PREFIX)/include
	install -m 644 build/libpagedb.a $(DESTDIR)$(PREFIX)/lib/
	install -m 644 core/pagedb.h $(DESTDIR)$(PREFIX)/include/
	printf 'prefix=%s\nlibdir=$${prefix}/lib\nincludedir=$${prefix}/include\n\nName: pagedb\nDescription: checksummed Direct-I/O pages, buffer pool and page allocator\nVersion: %s\nLibs: -L$${libdir} -lpagedb -pthread %s\nCflags: -I$${includedir}\n' \
	  '$(PREFIX)' '$(VERSION)' '$(filter -l:%,$(LIBS))' \
	  > $(DESTDIR)$(PREFIX)/lib/pkgconfig/libpagedb.pc
	install -d $(addprefix $(DESTDIR)$(PREFIX)/share/doc/pagedb/,$(sort $(dir $(MANUAL))))
	for f in $(MANUAL); do \
	  install -m 644 $$f $(DESTDIR)$(PREFIX)/share/doc/pagedb/$$f || exit 1; done
ifdef HAVE_SQLITE
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/man/man1
	install -m 755 build/pagedb $(DESTDIR)$(PREFIX)/bin/
	install -m 644 build/libpagedb_sqlite.a build/pagedb.so $(DESTDIR)$(PREFIX)/lib/
	install -m 644 vfs/pagedb_sqlite.h $(DESTDIR)$(PREFIX)/include/
	printf 'prefix=%s\nlibdir=$${prefix}/lib\nincludedir=$${prefix}/include\n\nName: pagedb_sqlite\nDescription: the SQLite VFS pagedb\nVersion: %s\nLibs: -L$${libdir} -lpagedb_sqlite -lpagedb -lsqlite3 -pthread %s -lm\nCflags: -I$${includedir}\n' \
	  '$(PREFIX)' '$(VERSION)' '$(filter -l:%,$(LIBS))' \
	  > $(DESTDIR)$(PREFIX)/lib/pkgconfig/libpagedb_sqlite.pc
	install -m 644 docs/pagedb.1 $(DESTDIR)$(PREFIX)/share/man/man1/
endif

uninstall:
	cd $(DESTDIR)$(PREFIX) 2>/dev/null && rm -f lib/libpagedb.a include/pagedb.h \
	  lib/pkgconfig/libpagedb.pc lib/pkgconfig/libpagedb_sqlite.pc bin/pagedb \
	  lib/libpagedb_sqlite.a lib/pagedb.so include/pagedb_sqlite.h \
	  share/man/man1/pagedb.1 && rm -rf share/doc/pagedb || true

clean:
	rm -rf build

help:
	@sed -n '/^\#/!q; s/^\# \{0,1\}//p' Makefile

# For scripts: the value of a variable.
print-%:
	@echo '$($*)'
