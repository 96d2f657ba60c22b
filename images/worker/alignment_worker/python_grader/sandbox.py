"""What a process gives up before it runs a program, by means that need no privilege and no other process:

- capabilities, all of them;
- limits: CPU time, address space, no file may grow, no core dump;
- Landlock, where the kernel has it: only Python's own library and the system's shared ones can be read;
- seccomp: only the system calls of syscalls.py. No network, no other process, no signal to any, nothing written but
  to what is open already. https://docs.kernel.org/userspace-api/seccomp_filter.html

What is given up stays given up, as root too.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import struct
import sys

from alignment_worker.python_grader import syscalls

CPU_SECONDS = 5
MEMORY_BYTES = 384 << 20
_FILES = 64

_PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 4, 22, 38
_SECCOMP_MODE_FILTER = 2
_CAPABILITIES_OF_THIS_PROCESS = struct.pack("=Ii", 0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # of Landlock, on every architecture
_ASK_VERSION, _PATH_BENEATH = 1, 1
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 5: 16}  # how many there are, since that version
_SHARED = (
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/etc/ld.so.cache",
    "/usr/share/zoneinfo",
    "/dev/urandom",
)

_libc = ctypes.CDLL(None, use_errno=True)


class SandboxError(Exception):
    """The system does not let a process restrict itself so."""


def enter() -> None:
    """For good. Raises SandboxError; a kernel without Landlock is no error here."""
    _limit()
    hide()
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _checked(_libc.capset(_CAPABILITIES_OF_THIS_PROCESS, bytes(24)))  # none
    restrict_files()
    os.environ.clear()
    _filter_system_calls()


def hide() -> None:
    """From processes of the same user, to which /proc/PID/mem is open otherwise."""
    _prctl(_PR_SET_DUMPABLE, 0)


def landlock_version() -> int:
    """0 if there is none. https://docs.kernel.org/userspace-api/landlock.html"""
    return max(0, int(_libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _ASK_VERSION)))


def restrict_files() -> None:
    """Also, where Landlock knows of it, no TCP and no signal to other processes. Raises SandboxError."""
    version = landlock_version()
    if not version:
        return
    rights = (1 << max(count for since, count in _FILE_RIGHTS.items() if since <= version)) - 1
    attributes = struct.pack("=Q", rights)
    if version >= 4:
        attributes += struct.pack("=Q", 0b11)  # bind, connect
    if version >= 6:
        attributes += struct.pack("=Q", 0b11)  # abstract sockets, signals
    ruleset = _checked(_libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0))
    for path in readable():
        with contextlib.suppress(OSError):  # not on every system
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
            allowed = _READ_FILE | (_READ_DIR if os.path.isdir(path) else 0)  # noqa: PTH112 - pathlib loads slowly
            rule = struct.pack("=Qi", allowed, descriptor)
            _checked(_libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0))
            os.close(descriptor)
    _checked(_libc.syscall(_RESTRICT_SELF, ruleset, 0))
    os.close(ruleset)


def readable() -> list[str]:
    """Files, and folders with all below them."""
    return [os.path.dirname(os.__file__), f"{sys.base_prefix}/lib", *_SHARED]  # noqa: PTH120


def _limit() -> None:
    limits = {
        resource.RLIMIT_CPU: CPU_SECONDS,
        resource.RLIMIT_AS: MEMORY_BYTES,
        resource.RLIMIT_NOFILE: _FILES,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
    }
    for what, most in limits.items():
        resource.setrlimit(what, (most, most))


def _filter_system_calls() -> None:
    machine = os.uname().machine
    if machine not in syscalls.MACHINES:
        raise SandboxError(
            f"no filter of system calls is known for {machine}, only for {', '.join(syscalls.MACHINES)}"
        )
    program = syscalls.filter_for(machine, os.getpid())
    code = ctypes.create_string_buffer(program, len(program))
    count = len(program) // syscalls.INSTRUCTION_BYTES
    described = struct.pack("@HP", count, ctypes.addressof(code))
    _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, described)


def _prctl(option: int, value: int, pointer: bytes | None = None) -> None:
    _checked(_libc.prctl(option, ctypes.c_ulong(value), pointer, 0, 0))


def _checked(result: int) -> int:
    if result < 0:
        raise SandboxError(os.strerror(ctypes.get_errno()))
    return result
