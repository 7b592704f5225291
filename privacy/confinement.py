"""What the Linux kernel can forbid a process: network, programs, files, resources; each where it is offered.

A protection that the kernel lacks is left out and not reported. File rules that it offers and then refuses
raise, so that a worker is never less confined than it says. Nothing here needs root.

Sources: prctl(2), seccomp(2), unshare(2), capset(2), landlock(7), struct sock_filter of linux/filter.h.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import resource
import struct
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_libc = ctypes.CDLL(None, use_errno=True)

_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 22, 38
_CLONE_NEWUSER, _CLONE_NEWNET, _CLONE_THREAD = 0x10000000, 0x40000000, 0x00010000
_EPERM, _ENOSYS = 1, 38
_FILE_CAPABILITIES = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH

# System calls by architecture: (x86_64, aarch64); None where the architecture has no such call.
_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_NETWORK_AND_PROGRAMS: Mapping[str, tuple[int, int | None]] = {
    "socket": (41, 198), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201), "accept": (43, 202),
    "accept4": (288, 242), "execve": (59, 221), "execveat": (322, 281), "ptrace": (101, 117),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "pidfd_getfd": (438, 438),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51),
    "setns": (308, 268), "unshare": (272, 97), "bpf": (321, 280), "perf_event_open": (298, 241),
    "userfaultfd": (323, 282), "io_uring_setup": (425, 425), "add_key": (248, 217),
    "request_key": (249, 218), "keyctl": (250, 219), "open_by_handle_at": (304, 265),
    "init_module": (175, 105), "finit_module": (313, 273), "kexec_load": (246, 104),
}  # fmt: skip
_SIGNALS_AND_PROCESSES: Mapping[str, tuple[int, int | None]] = {
    "kill": (62, 129), "tkill": (200, 130), "rt_sigqueueinfo": (129, 138), "pidfd_send_signal": (424, 424),
    "fork": (57, None), "vfork": (58, None),
}  # fmt: skip
_CLONE, _CLONE3 = (56, 220), (435, 435)

_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_FS_BITS_BY_ABI = {1: 13, 2: 14, 3: 15, 4: 15}  # how many access rights exist; 16 from ABI 5 on
_WRITE, _READ, _READ_DIR, _REMOVE_DIR, _REMOVE_FILE, _MAKE_DIR, _MAKE_FILE, _TRUNCATE = (
    1 << 1, 1 << 2, 1 << 3, 1 << 4, 1 << 5, 1 << 7, 1 << 8, 1 << 14,
)  # fmt: skip
_SCRATCH = _WRITE | _READ | _READ_DIR | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_FILE | _TRUNCATE


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when the thread that forked it ends; exit if `parent` is gone."""
    _libc.prctl(_PR_SET_PDEATHSIG, 9, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def require_single_thread() -> None:
    """Raise RuntimeError if the process has more threads: a fork would lose them, Landlock miss them."""
    if len(list(Path("/proc/self/task").iterdir())) != 1:
        raise RuntimeError("This process must have a single thread here.")


def leave_network() -> bool:
    """Move to an empty network namespace, through a user namespace if need be. Call single-threaded."""
    if _libc.unshare(_CLONE_NEWNET) == 0:
        return True
    user, group = os.geteuid(), os.getegid()
    if _libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
        return False
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{user} {user} 1"),
        ("gid_map", f"{group} {group} 1"),
    ):
        with contextlib.suppress(OSError):  # without a map files are still read as the same user
            Path("/proc/self", name).write_text(text)
    return True


def drop_privileges() -> bool:
    """No new privileges; of root's capabilities only access to files stays, which Landlock narrows."""
    if _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return False
    permitted = next(
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapPrm")
    )
    kept = int(permitted.split()[1], 16) & _FILE_CAPABILITIES
    header = struct.pack("Ii", 0x20080522, 0)
    return bool(_libc.capset(header, struct.pack("6I", kept, kept, 0, 0, 0, 0)) == 0)


def forbid_network_and_programs() -> bool:
    """Refuse sockets, exec, ptrace, mounts, namespaces, io_uring and keys with EPERM, for good."""
    return _install(partial(_refuse, _NETWORK_AND_PROGRAMS))


def forbid_processes_and_signals() -> bool:
    """Refuse new processes (threads stay possible) and signals to other processes."""
    return _install(partial(_refuse, _SIGNALS_AND_PROCESSES), _only_threads)


def landlock_abi() -> int:
    """The kernel's Landlock version, 0 where there is none."""
    return max(int(_libc.syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(1))), 0)


def confine_files(readable: Iterable[str], scratch: str) -> bool:
    """Landlock: read exactly these files, write under `scratch`, nothing else; no TCP, no signals to others.

    Applies to the calling thread and the threads it starts later: call it while single-threaded.

    Raises:
        OSError: a file cannot be opened, or the kernel has Landlock and refuses the rules.
    """
    abi = landlock_abi()
    if abi == 0:
        return False
    require_single_thread()
    handled = (1 << _FS_BITS_BY_ABI.get(abi, 16)) - 1
    attributes = struct.pack("QQQ", handled, 0b11 if abi >= 4 else 0, 0b11 if abi >= 6 else 0)
    size = 8 if abi < 4 else 16 if abi < 6 else 24
    rules = _checked(_libc.syscall(_LANDLOCK_CREATE, attributes, ctypes.c_size_t(size), ctypes.c_uint32(0)))
    for path in readable:
        _allow(rules, path, _READ)
    _allow(rules, scratch, _SCRATCH & handled)
    _checked(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _checked(_libc.syscall(_LANDLOCK_RESTRICT, ctypes.c_int(rules), ctypes.c_uint32(0)))
    os.close(rules)
    return True


def limit_resources(*, memory_bytes: int, cpu_s: int, file_bytes: int) -> None:
    """Address space beyond what is mapped now, processor seconds over all threads, bytes in one file."""
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    for what, most in (
        (resource.RLIMIT_AS, mapped + memory_bytes),
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_NOFILE, 1024),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(what)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (most, most))


def _allow(rules: int, path: str, access: int) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = struct.pack("=Qi", access, descriptor)
        call = (_LANDLOCK_ADD, ctypes.c_int(rules), ctypes.c_int(1), rule, ctypes.c_uint32(0))
        _checked(_libc.syscall(*call))
    finally:
        os.close(descriptor)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


# seccomp: a program of (code, jump if true, jump if false, operand) that reads the system call number.
_LOAD, _JUMP_EQUAL, _JUMP_ABOVE, _JUMP_BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000


def _instruction(code: int, operand: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, operand)


def _refuse(calls: Mapping[str, tuple[int, int | None]], column: int) -> bytes:
    refused = [numbers[column] for numbers in calls.values()]
    return b"".join(
        _instruction(_JUMP_EQUAL, number, 0, 1) + _instruction(_RETURN, _ERRNO | _EPERM)
        for number in refused
        if number is not None
    )


def _only_threads(column: int) -> bytes:
    """clone3 hides its flags behind a pointer: it is said not to exist, and the C library then uses clone."""
    return b"".join((
        _instruction(_JUMP_EQUAL, _CLONE3[column], 0, 1),
        _instruction(_RETURN, _ERRNO | _ENOSYS),
        _instruction(_JUMP_EQUAL, _CLONE[column], 0, 3),
        _instruction(_LOAD, 16),  # low half of the first argument: the flags
        _instruction(_JUMP_BITS, _CLONE_THREAD, 1, 0),
        _instruction(_RETURN, _ERRNO | _EPERM),
    ))  # fmt: skip


def _install(*parts: Callable[[int], bytes]) -> bool:
    """Append a filter; False where the architecture is unknown or the kernel has no seccomp."""
    if platform.machine() not in _ARCHITECTURES:
        return False
    column, audit = _ARCHITECTURES[platform.machine()]
    refuse, allow = _instruction(_RETURN, _ERRNO | _EPERM), _instruction(_RETURN, _ALLOW)
    foreign = [
        _instruction(_LOAD, 4) + _instruction(_JUMP_EQUAL, audit, 1, 0) + refuse,
        _instruction(_LOAD, 0) + _instruction(_JUMP_ABOVE, 0x40000000, 0, 1) + refuse,  # the x32 calls
    ]
    program = b"".join([*foreign, *(part(column) for part in parts), allow])
    buffer = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    return bool(_libc.prctl(_PR_SET_SECCOMP, 2, header, 0, 0) == 0)
