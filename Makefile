# Every target makes what it needs; `make test` and `make demo` work on a fresh clone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CORE := $(wildcard csrc/*.[ch] csrc/*.py csrc/python/*.[ch]) setup.py pyproject.toml
TESTING := build/testing
ASAN := build/asan
TSAN := build/tsan
COVERAGE := build/coverage
MINUTES ?= 1
JOBS ?= 1
JOBS_TO_DO ?= 100000
LANES ?= 4
CORE_C := $(filter-out csrc/_eventbus.c,$(wildcard csrc/*.c))
C_FORMATTED := $(CORE_C) $(wildcard csrc/*.h csrc/python/*.[ch] tests/c/*.[ch] tests/fuzz/*.[ch] tests/soak/*.c)

.PHONY: test demo build lint asan tsan models kill-matrix fuzz valgrind coverage bench peers soak rush drill bridge-matrix bridge-soak docs dist wheels elsewhere clean

# The suite waits more than it computes, so LANES files of tests run beside each other.
test: $(VENV)/.ready
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target lint $(TESTING)/.ready
	$(BIN)/pytest --lanes $(LANES) $(if $(CPUS),--cpus $(CPUS))

demo: $(VENV)/.ready
	$(BIN)/eventbus demo

build: $(VENV)/.ready

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(C_FORMATTED)

# The suite once more over a core built with AddressSanitizer and UBSan, without the models, which have none of it. Python
# itself never frees all, so no leak check.
asan: $(ASAN)/.ready
	EVENTBUS_BUILD=$(ASAN) LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" \
	ASAN_OPTIONS=detect_leaks=0:abort_on_error=1 UBSAN_OPTIONS=print_stacktrace=1 \
	$(BIN)/pytest --lanes $(LANES) -m "not release" --ignore tests/test_models.py

tsan: $(TSAN)/stress $(TSAN)/stress_groups $(TSAN)/stress_hands $(TSAN)/stress_later $(TSAN)/stress_bells $(TSAN)/stress_views \
    $(TSAN)/stress_looks
	TSAN_OPTIONS=halt_on_error=1 $(TSAN)/stress
	TSAN_OPTIONS=halt_on_error=1 $(TSAN)/stress_groups
	TSAN_OPTIONS=halt_on_error=1 $(TSAN)/stress_hands
	TSAN_OPTIONS=halt_on_error=1 $(TSAN)/stress_later
	TSAN_OPTIONS=halt_on_error=1 $(TSAN)/stress_bells
	TSAN_OPTIONS=halt_on_error=1 $(TSAN)/stress_views
	TSAN_OPTIONS=halt_on_error=1 $(TSAN)/stress_looks

# Each fuzz target for so many minutes; what they keep is replayed by `make test`. Needs clang for the targets in C.
fuzz: $(VENV)/.fuzz
	$(BIN)/python tests/fuzz/drive.py --minutes $(MINUTES) --jobs $(JOBS)

# valgrind on the programs in tests/c, which are a single process each but for the children they kill.
valgrind: $(VENV)/.ready
	@command -v valgrind > /dev/null || { echo "skipped: it needs valgrind, which Debian's package valgrind brings"; exit 0; }; \
	$(MAKE) --no-print-directory $(patsubst tests/c/%.c,build/valgrind/%.clean,$(wildcard tests/c/test_*.c))

build/valgrind/%.clean: tests/c/%.c $(CORE_C) $(wildcard csrc/*.h tests/c/*.h)
	mkdir -p build/valgrind
	gcc -std=gnu11 -O1 -g -Wall -Wextra -Werror -DEB_TEST_POINTS=1 -Icsrc -pthread -o build/valgrind/$* $< $(CORE_C)
	EB_NO_ROOM=1 valgrind --quiet --error-exitcode=9 --leak-check=full build/valgrind/$*
	touch $@

# Lines and branches of C and Python that the suite reaches. A child that is killed from outside takes its counts along.
coverage: $(VENV)/.ready
	rm -rf $(COVERAGE)
	EVENTBUS_TEST_POINTS=1 EVENTBUS_COVERAGE=1 \
	$(BIN)/python setup.py --quiet build_ext --build-lib $(COVERAGE) --build-temp $(COVERAGE)/temp
	EVENTBUS_BUILD=$(COVERAGE) EVENTBUS_COVERAGE=1 $(BIN)/coverage run -m pytest
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage json --quiet -o $(COVERAGE)/lines-python.json
	$(BIN)/coverage report
	$(BIN)/gcovr --root . --filter csrc/ --exclude csrc/_eventbus.c --exclude csrc/testing.c \
	    --gcov-suspicious-hits-threshold 0 --merge-mode-functions separate --txt - --json $(COVERAGE)/lines-c.json $(COVERAGE)

# Needs spin, Debian's package of that name; the tests run the same where it is installed.
models:
	$(PYTHON) tests/models/check.py

kill-matrix: $(TESTING)/.ready
	cd tests && ../$(BIN)/python -m matrix ../docs/kill-matrix.md

# Bridges and a nats-server, killed and stopped at every moment; a ledger outside of the buses judges each case.
bridge-matrix: $(TESTING)/.ready
	cd tests && ../$(BIN)/python -m bridged ../docs/bridge-matrix.md

# Three buses, their bridges and a nats-server under random faults for so many minutes; SEED replays a plan.
bridge-soak: $(VENV)/.ready
	PYTHONPATH=tests $(BIN)/python -m bridged.soak --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks all

# Other libraries' own suites, fetched from PyPI, over ours; with PEERS='kombu queue', only of these, and no page.
peers: $(VENV)/.ready
	cd tests && ../$(BIN)/python -m peers ../docs/peers.md $(PEERS)

# Random topologies, deaths, stops, clocks, forks, storms of signals, long jobs for so many minutes; a ledger outside of
# the bus judges each round. SEED replays a plan, ROUND one round of it; with POINTS=1, actors also die at test points.
soak: $(VENV)/.ready $(if $(POINTS),$(TESTING)/.ready)
	$(if $(POINTS),EVENTBUS_BUILD=$(TESTING)) PYTHONPATH=tests $(BIN)/python -m soak --minutes $(MINUTES) \
	    $(if $(SEED),--seed $(SEED)) $(if $(ROUND),--round $(ROUND))

# Six processes that open, close, fork by Python and in C, are interrupted and killed, all on one name, for so many
# minutes. SEED replays a plan, BOUT one bout of it.
rush: $(VENV)/.ready
	PYTHONPATH=tests $(BIN)/python -m soak.rush --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) $(if $(BOUT),--bout $(BOUT))

# So many jobs flow while their pool is restarted twenty times, deployed, killed and without its database; SEED replays a
# plan.
drill: $(VENV)/.ready
	PYTHONPATH=tests $(BIN)/python -m drill --jobs $(JOBS_TO_DO) $(if $(SEED),--seed $(SEED))

# The pages of docs/ as a site, build/site/index.html; a page, a link or a name that is not there ends it.
docs: $(VENV)/.ready
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

dist: $(VENV)/.ready
	$(BIN)/python -m build

# For glibc and musl on x86-64 and aarch64, with zig's compiler; checked by auditwheel and abi3audit.
wheels: $(VENV)/.wheels
	$(BIN)/python csrc/wheels.py

# The C test programs over musl, on this machine and on aarch64.
elsewhere: $(VENV)/.wheels
	$(BIN)/python tests/elsewhere.py

clean:
	rm -rf $(VENV) build dist *.egg-info eventbus/*.so csrc/_eventbus.c .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.ready: $(BIN)/python $(CORE)
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

# Whom the bus is measured against; redis and nats too where Debian's redis-server and nats-server are there.
$(VENV)/.bench: $(VENV)/.ready
	$(BIN)/pip install --quiet --editable '.[bench]'
	touch $@

$(VENV)/.wheels: $(VENV)/.ready
	$(BIN)/pip install --quiet --editable '.[wheels]'
	touch $@

$(VENV)/.fuzz: $(VENV)/.ready
	$(BIN)/pip install --quiet --editable '.[fuzz]'
	touch $@

$(TESTING)/.ready: $(VENV)/.ready
	EVENTBUS_TEST_POINTS=1 $(BIN)/python setup.py --quiet build_ext --build-lib $(TESTING) --build-temp $(TESTING)/temp
	touch $@

$(ASAN)/.ready: $(VENV)/.ready
	EVENTBUS_TEST_POINTS=1 EVENTBUS_SANITIZE=address,undefined \
	$(BIN)/python setup.py --quiet build_ext --build-lib $(ASAN) --build-temp $(ASAN)/temp
	touch $@

$(TSAN)/%: tests/c/%.c $(wildcard csrc/*.c csrc/*.h tests/c/*.h)
	mkdir -p $(TSAN)
	gcc -std=gnu11 -O1 -g -Wall -Wextra -Werror -fsanitize=thread -DEB_TEST_POINTS=1 -Icsrc -pthread \
	    -o $@ $< $(CORE_C)
