"""Logs over a bus that a configuration asks for, as Django has it in its settings."""

from __future__ import annotations

import logging
import logging.config
import os
import subprocess
import sys
from pathlib import Path

import pytest

from eventbus import Bus, InvalidError
from eventbus.observe.logs import BusListener
from harness import DEADLINE
from keeping import Kept

SETTINGS = """
import os
import eventbus

BUS = eventbus.open(os.environ["SHOP_BUS"])
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"no_debug": {"()": "django.utils.log.RequireDebugFalse"}},
    "formatters": {"short": {"format": "%(levelname)s %(message)s"}},
    "handlers": {
        "bus": {
            "()": "eventbus.observe.logs.BusHandler",
            "bus": GIVEN,
            "system": "logs.shop",
            "level": "WARNING",
            "filters": ["no_debug"],
            "formatter": "short",
        },
    },
    "loggers": {
        "django": {"handlers": ["bus"], "propagate": False},
        "shop": {"handlers": ["bus"], "level": "DEBUG"},
    },
}
"""
PROGRAM = """
import logging
import os

os.environ["DJANGO_SETTINGS_MODULE"] = "shop_settings"
import django

django.setup()
logging.getLogger("shop.orders").info("below the level of the handler")
logging.getLogger("shop.orders").warning("order %s", 7, extra={"total": 9})
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("django.request").exception("failed")
"""


@pytest.mark.release
@pytest.mark.parametrize("given", ["BUS", '"ext://shop_settings.BUS"'], ids=["itself", "its place"])
def test_the_settings_of_django(eventbus_bus: Bus, tmp_path: Path, given: str) -> None:
    """``LOGGING`` makes the handler, whose bus stands in the settings; what passes level and filters arrives."""
    pytest.importorskip("django", reason="the extra [channels] is not installed")
    (tmp_path / "shop_settings.py").write_text(SETTINGS.replace("GIVEN", given))
    (tmp_path / "program.py").write_text(PROGRAM)
    kept = Kept()
    with BusListener(eventbus_bus, kept, system="logs.*"):
        done = subprocess.run(
            [sys.executable, "program.py"],
            cwd=tmp_path,
            env={**os.environ, "SHOP_BUS": eventbus_bus.name},
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert [(one.name, one.levelname, one.getMessage()) for one in kept.records] == [
        ("shop.orders", "WARNING", "order 7"),
        ("django.request", "ERROR", "failed"),
    ]
    assert vars(kept.records[0])["total"] == 9
    assert "ZeroDivisionError" in str(kept.records[1].exc_text)


@pytest.mark.parametrize("given", ["shop", {"()": "eventbus.open", "name": "shop"}])
def test_what_is_no_bus(given: object) -> None:
    """The configuration fails, and not each record."""
    handler = {"()": "eventbus.observe.logs.BusHandler", "bus": given}
    with pytest.raises(ValueError, match="handler 'bus'") as failed:
        logging.config.dictConfig({"version": 1, "disable_existing_loggers": False, "handlers": {"bus": handler}})
    assert isinstance(failed.value.__cause__, InvalidError)
    assert "bus must be a Bus, not" in str(failed.value.__cause__)
