# Every target makes what it needs; `make test` and `make demo` work on a fresh clone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CORE := $(wildcard csrc/*.c csrc/*.h csrc/*.py) setup.py pyproject.toml
TESTING := build/testing
ASAN := build/asan
TSAN := build/tsan
C_FORMATTED := $(wildcard csrc/*.c csrc/*.h tests/c/*.c tests/c/*.h)

.PHONY: test demo build lint asan tsan kill-matrix bench soak dist clean

test: lint $(TESTING)/.ready
	$(BIN)/pytest

demo: $(VENV)/.ready
	$(BIN)/eventbus demo

build: $(VENV)/.ready

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(C_FORMATTED)

# The suite once more over a core built with AddressSanitizer and UBSan. Python itself never frees all, so no leak check.
asan: $(ASAN)/.ready
	EVENTBUS_BUILD=$(ASAN) LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" \
	ASAN_OPTIONS=detect_leaks=0:abort_on_error=1 UBSAN_OPTIONS=print_stacktrace=1 \
	$(BIN)/pytest -m "not release"

tsan: $(TSAN)/stress
	TSAN_OPTIONS=halt_on_error=1 $(TSAN)/stress

kill-matrix: $(TESTING)/.ready
	cd tests && ../$(BIN)/python -m matrix ../docs/kill-matrix.md

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks all

# Random topologies, deaths, stops and clocks for so many minutes; a ledger outside of the bus judges each round. SEED
# replays a plan, ROUND one round of it; with POINTS=1, actors also die at test points.
MINUTES ?= 1
soak: $(VENV)/.ready $(if $(POINTS),$(TESTING)/.ready)
	$(if $(POINTS),EVENTBUS_BUILD=$(TESTING)) PYTHONPATH=tests $(BIN)/python -m soak --minutes $(MINUTES) \
	    $(if $(SEED),--seed $(SEED)) $(if $(ROUND),--round $(ROUND))

dist: $(VENV)/.ready
	$(BIN)/python -m build

clean:
	rm -rf $(VENV) build dist *.egg-info eventbus/*.so csrc/_eventbus.c .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.ready: $(BIN)/python $(CORE)
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

# Whom the bus is measured against; redis is also measured if Debian's redis-server is there.
$(VENV)/.bench: $(VENV)/.ready
	$(BIN)/pip install --quiet --editable '.[bench]'
	touch $@

$(TESTING)/.ready: $(VENV)/.ready
	EVENTBUS_TEST_POINTS=1 $(BIN)/python setup.py --quiet build_ext --build-lib $(TESTING) --build-temp $(TESTING)/temp
	touch $@

$(ASAN)/.ready: $(VENV)/.ready
	EVENTBUS_TEST_POINTS=1 EVENTBUS_SANITIZE=address,undefined \
	$(BIN)/python setup.py --quiet build_ext --build-lib $(ASAN) --build-temp $(ASAN)/temp
	touch $@

$(TSAN)/stress: $(wildcard csrc/*.c csrc/*.h tests/c/*)
	mkdir -p $(TSAN)
	gcc -std=gnu11 -O1 -g -Wall -Wextra -Werror -fsanitize=thread -DEB_TEST_POINTS=1 -Icsrc -pthread \
	    -o $@ tests/c/stress.c $(filter-out csrc/_eventbus.c,$(wildcard csrc/*.c))
