"""CPython's tests of queues, with the queues of `eventbus.integrations` in the place of multiprocessing's."""

from __future__ import annotations

import importlib.util

import pytest

if importlib.util.find_spec("test._test_multiprocessing") is None:
    raise pytest.UsageError("this Python came without its own tests: install Debian's package libpython3-testsuite")
