"""The system calls that a program may make, as a filter of seccomp: those that compute, wait, read, and write to what
is open. Any other fails with EPERM.

Numbers: the kernel's arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Sequence

MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # AUDIT_ARCH_*
INSTRUCTION_BYTES = 8

# On x86_64 and on aarch64; 0 is a number too.
_FREE: dict[str, tuple[int | None, int | None]] = {
    "read": (0, 63),
    "write": (1, 64),
    "close": (3, 57),
    "stat": (4, None),
    "fstat": (5, 80),
    "lstat": (6, None),
    "poll": (7, None),
    "lseek": (8, 62),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "brk": (12, 214),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "pread64": (17, 67),
    "readv": (19, 65),
    "writev": (20, 66),
    "access": (21, None),
    "pipe": (22, None),
    "select": (23, None),
    "sched_yield": (24, 124),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "dup": (32, 23),
    "dup2": (33, None),
    "pause": (34, None),
    "nanosleep": (35, 101),
    "getitimer": (36, 102),
    "alarm": (37, None),
    "setitimer": (38, 103),
    "getpid": (39, 172),
    "sendto": (44, 206),
    "recvfrom": (45, 207),
    "shutdown": (48, 210),
    "exit": (60, 93),
    "uname": (63, 160),
    "getcwd": (79, 17),
    "readlink": (89, None),
    "umask": (95, 166),
    "gettimeofday": (96, 169),
    "getrusage": (98, 165),
    "sysinfo": (99, 179),
    "times": (100, 153),
    "getuid": (102, 174),
    "getgid": (104, 176),
    "geteuid": (107, 175),
    "getegid": (108, 177),
    "getppid": (110, 173),
    "getpgrp": (111, None),
    "getgroups": (115, 158),
    "rt_sigpending": (127, 136),
    "rt_sigtimedwait": (128, 137),
    "sigaltstack": (131, 132),
    "statfs": (137, 43),
    "fstatfs": (138, 44),
    "arch_prctl": (158, None),
    "gettid": (186, 178),
    "time": (201, None),
    "futex": (202, 98),
    "sched_getaffinity": (204, 123),
    "getdents64": (217, 61),
    "set_tid_address": (218, 96),
    "restart_syscall": (219, 128),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115),
    "exit_group": (231, 94),
    "epoll_wait": (232, None),
    "epoll_ctl": (233, 21),
    "newfstatat": (262, 79),
    "readlinkat": (267, 78),
    "faccessat": (269, 48),
    "pselect6": (270, 72),
    "ppoll": (271, 73),
    "set_robust_list": (273, 99),
    "epoll_pwait": (281, 22),
    "eventfd2": (290, 19),
    "epoll_create1": (291, 20),
    "dup3": (292, 24),
    "pipe2": (293, 59),
    "getrandom": (318, 278),
    "membarrier": (324, 283),
    "statx": (332, 291),
    "rseq": (334, 293),
    "faccessat2": (439, 439),
}
_OPEN, _FCNTL, _IOCTL = (2, None), (72, 25), (16, 29)
_OPENAT, _CLONE, _CLONE3 = (257, 56), (56, 220), (435, 435)
_PRLIMIT64, _TGKILL, _SOCKETPAIR = (302, 261), (234, 131), (53, 199)

_WRITES = 0o3 | 0o100 | 0o1000 | 0o20000000  # O_ACCMODE, O_CREAT, O_TRUNC, O_TMPFILE
_CLONE_THREAD = 0x10000
# Others would have signals sent to another process: F_SETOWN, FIOSETOWN.
_FCNTL_COMMANDS = (0, 1, 2, 3, 4, 1030)  # F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC
_IOCTL_COMMANDS = (
    0x5401,
    0x5413,
    0x541B,
    0x5421,
    0x5450,
    0x5451,
)  # TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIO(N)CLEX
_AF_UNIX, _SOCK_STREAM, _SOCK_TYPES = 1, 1, 0xF  # a datagram could be sent to any socket, by its path

_LOAD, _EQUAL, _ANY_BIT, _AND, _RETURN = 0x20, 0x15, 0x45, 0x54, 0x06
_ALLOW, _KILL, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, operand


def filter_for(machine: str, pid: int) -> bytes:
    """A `struct sock_filter[]`. `pid`: the process that signals may be sent to, its own."""
    column = list(MACHINES).index(machine)
    refuse = _returned(_ERROR | errno.EPERM)
    rules: list[tuple[tuple[int | None, int | None], list[Instruction]]] = [
        *((numbers, [_returned(_ALLOW)]) for numbers in _FREE.values()),
        (_OPEN, _if_no_bit(1, _WRITES)),
        (_OPENAT, _if_no_bit(2, _WRITES)),
        (_CLONE, [*_argument(0), (_ANY_BIT, 0, 1, _CLONE_THREAD), _returned(_ALLOW), refuse]),
        (_CLONE3, [_returned(_ERROR | errno.ENOSYS)]),  # its flags lie in memory; libc then calls clone
        (_PRLIMIT64, [*_if_zero(2), refuse]),
        (_TGKILL, _if_among(0, [pid])),
        (_FCNTL, _if_among(1, _FCNTL_COMMANDS)),
        (_IOCTL, _if_among(1, _IOCTL_COMMANDS)),
        (_SOCKETPAIR, _if_unix_stream()),
    ]
    program: list[Instruction] = [
        (_LOAD, 0, 0, 4),  # the architecture
        (_EQUAL, 1, 0, MACHINES[machine]),
        _returned(_KILL),
        (_LOAD, 0, 0, 0),  # the call's number
    ]
    for numbers, block in rules:
        number = numbers[column]
        if number is not None:
            program += [(_EQUAL, 0, len(block), number), *block]
    program.append(refuse)
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def _returned(what: int) -> Instruction:
    return (_RETURN, 0, 0, what)


def _argument(index: int) -> list[Instruction]:
    """Its lower half, which is all of an int; both machines are little-endian."""
    return [(_LOAD, 0, 0, 16 + 8 * index)]


def _if_no_bit(index: int, bits: int) -> list[Instruction]:
    refuse = _returned(_ERROR | errno.EPERM)
    return [*_argument(index), (_ANY_BIT, 0, 1, bits), refuse, _returned(_ALLOW)]


def _if_among(index: int, values: Sequence[int]) -> list[Instruction]:
    found: list[Instruction] = [*_argument(index)]
    for value in values:
        found += [(_EQUAL, 0, 1, value), _returned(_ALLOW)]
    return [*found, _returned(_ERROR | errno.EPERM)]


def _if_zero(index: int) -> list[Instruction]:
    """Both halves of a pointer; falls through if it is not."""
    low, high = 16 + 8 * index, 20 + 8 * index
    return [(_LOAD, 0, 0, low), (_EQUAL, 0, 3, 0), (_LOAD, 0, 0, high), (_EQUAL, 0, 1, 0), _returned(_ALLOW)]


def _if_unix_stream() -> list[Instruction]:
    refuse = _returned(_ERROR | errno.EPERM)
    kind = [*_argument(1), (_AND, 0, 0, _SOCK_TYPES), (_EQUAL, 0, 1, _SOCK_STREAM), _returned(_ALLOW)]
    return [*_argument(0), (_EQUAL, 0, len(kind), _AF_UNIX), *kind, refuse]
