"""The compiled modules: the core, which cffi makes a module of, and what is faster without the interpreter."""

import sys
from pathlib import Path

from setuptools import Extension, setup

sys.path.insert(0, str(Path(__file__).resolve().parent / "csrc"))

from cffi_build import FLAGS, LINKS

setup(
    cffi_modules=["csrc/cffi_build.py:ffibuilder"],
    ext_modules=[
        Extension(
            "eventbus._fast",
            sorted(map(str, Path("csrc/python").glob("*.c"))),
            include_dirs=["csrc"],
            depends=["csrc/direct.h", "csrc/lent.h", "csrc/eventbus.h", "csrc/python/fast.h"],
            define_macros=[("Py_LIMITED_API", "0x030A0000")],
            extra_compile_args=FLAGS,
            extra_link_args=LINKS,
            py_limited_api=True,
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
