"""System calls that are forbidden to this process from now on, as a container's filter forbids them: each fails."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct

NUMBERS = {"x86_64": {"socket": 41}, "aarch64": {"socket": 198}}
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO = 0x7FFF0000, 0x00050000
LOAD, EQUALS, RETURN = 0x20, 0x15, 0x06  # of the classic BPF that the kernel takes


def can_forbid() -> bool:
    """Whether this machine's numbers are known."""
    return platform.machine() in NUMBERS


def forbid(call: str) -> None:
    """From now on the call fails with EPERM, in this process and all that it starts."""
    steps = [
        (LOAD, 0, 0, 0),  # the call's number
        (EQUALS, 0, 1, NUMBERS[platform.machine()][call]),
        (RETURN, 0, 0, SECCOMP_RET_ERRNO | errno.EPERM),
        (RETURN, 0, 0, SECCOMP_RET_ALLOW),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in ((PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0)):
        if libc.prctl(*arguments) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
