# The short front door; CMake does the work. `make` alone lists what there is.
#
# Commands that need Debian packages install them first (tools/install_packages).

.POSIX:
.SUFFIXES:

# From the environment or the command line; DESTDIR too.
JOBS         ?= $$(nproc 2>/dev/null || echo 2)
PREFIX       ?= /usr/local
FUZZ_SECONDS ?= 60
CLANG_FORMAT ?= clang-format-14

FORMATTED = $$(git ls-files -co --exclude-standard '*.c' '*.h')

# `cmake --build` has its own idea of jobs, and is no part of this make.
CMAKE_BUILD = MAKEFLAGS= MAKELEVEL= cmake --build

help:
	@echo "make demo      index the example data, save it, map it and answer 200 queries"
	@echo "make test      build with asserts and run all tests"
	@echo "make check     everything that CI checks: compilers, sanitizers, other processors"
	@echo "make check-long  the tests that try everything, of which the others try samples (an hour)"
	@echo "make python-test  build the Python package and run its tests"
	@echo "make interop   our package and the reference open and change each other's files"
	@echo "make bench     run the benchmarks"
	@echo "make bench-reference  our package and the reference in one run; writes docs/benchmarks.md"
	@echo "make crash     kill it, cut its power, fill its disk; LONG=1 as before a release"
	@echo "make fuzz      fuzz each target for FUZZ_SECONDS ($(FUZZ_SECONDS)) seconds"
	@echo "make coverage  which lines the tests run"
	@echo "make abi       take the present binary interface as the one that tests compare with"
	@echo "make format    format the C files"
	@echo "make lint      look for mistakes without running anything"
	@echo "make release   build the library and the program alone, without tests"
	@echo "make install   install under PREFIX ($(PREFIX)), below DESTDIR if that is set"
	@echo "make clean     remove what was built"

demo: release
	@build/release/examples/demo examples/linux-docs-codes.csv examples/linux-docs-queries.csv

test:
	@tools/install_packages test
	@cmake --preset dev
	@$(CMAKE_BUILD) --preset dev -j $(JOBS)
	@ctest --preset dev -j $(JOBS)

check:
	@.ci/run

# Every bit and every cut of the files of each kind of directory, and what else has a large scale.
LONG_TESTS = hostile_bit_flips

check-long:
	@tools/install_packages test
	@tools/install_packages fuzz
	@cmake --preset dev
	@$(CMAKE_BUILD) --preset dev -j $(JOBS)
	@for test in $(LONG_TESTS); do \
	    echo "== $$test"; NPHD_TEST_SCALE=large build/dev/tests/$$test || exit 1; \
	done
	@echo "== readers and snapshots beside a writer that is killed 10,000 times"
	@tools/run_crash --tool build/dev/tests/crash_tool --long --only L9
	@cmake --preset fuzz
	@$(CMAKE_BUILD) --preset fuzz -j $(JOBS)
	@tools/run_fuzz build/fuzz/fuzz 1200 mutations

python-test:
	@tools/python_test

interop:
	@tools/interop

bench-reference:
	@tools/bench_reference

bench: release
	@for bench in build/release/bench/bench_*; do \
	    echo "== $${bench##*/}"; "$$bench" || exit 1; \
	done

# Power cuts and full disks are made on file systems of their own, which needs root.
crash:
	@tools/install_packages crash
	@cmake --preset dev
	@$(CMAKE_BUILD) --preset dev -j $(JOBS)
	@tools/run_crash --tool build/dev/tests/crash_tool $${LONG:+--long}

# Are seeded bugs found by the tests that should find them?
crash-bite:
	@tools/install_packages crash
	@cmake --preset dev
	@$(CMAKE_BUILD) --preset dev -j $(JOBS)
	@tools/run_crash --tool build/dev/tests/crash_tool --only L11

fuzz:
	@tools/install_packages fuzz
	@cmake --preset fuzz
	@$(CMAKE_BUILD) --preset fuzz -j $(JOBS)
	@tools/run_fuzz build/fuzz/fuzz $(FUZZ_SECONDS)

coverage:
	@tools/install_packages ci
	@cmake --preset coverage
	@$(CMAKE_BUILD) --preset coverage -j $(JOBS)
	@ctest --preset coverage -j $(JOBS)
	@gcovr --root . --filter src/ --exclude-throw-branches --sort-uncovered build/coverage
	@tools/list_branches build/coverage

# After a change of the public interface: what changed is then seen in the dump's history.
abi:
	@tools/install_packages ci
	@cmake --preset dev
	@$(CMAKE_BUILD) --preset dev -j $(JOBS) --target nphd_shared
	@tools/check_abi --renew build/dev/lib/libnphd.so

format:
	@$(CLANG_FORMAT) -i $(FORMATTED)

format-check:
	@$(CLANG_FORMAT) --dry-run --Werror $(FORMATTED)

lint:
	@tools/install_packages ci
	@cmake --preset clang
	@tools/run_lint build/clang

# Without packages or tests: for `make install` on a system whose packages are someone's care.
release:
	@tools/install_packages build
	@cmake --preset release
	@$(CMAKE_BUILD) --preset release -j $(JOBS)

install:
	@cmake --preset release -DCMAKE_INSTALL_PREFIX="$(PREFIX)"
	@$(CMAKE_BUILD) --preset release -j $(JOBS)
	@DESTDIR="$(DESTDIR)" cmake --install build/release

clean:
	@rm -rf build

.PHONY: help demo test check check-long python-test interop bench-reference bench crash crash-bite fuzz \
        coverage abi format format-check lint release install clean
