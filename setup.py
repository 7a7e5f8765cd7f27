"""Only what pyproject.toml cannot say: the compiled module and its stable-ABI tag."""

from setuptools import setup

setup(
    cffi_modules=["csrc/cffi_build.py:ffibuilder"],
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
