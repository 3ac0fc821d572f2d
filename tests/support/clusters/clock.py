# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Give a running process another wall clock, which jumps without a restart.

Programs read the clock through the vDSO, the small library that the kernel maps into every process. Static Go programs do so too.
This module writes functions of its own into the unused end of that library, and lets clock_gettime and time jump to them. They ask the
kernel, and add a number of seconds to the wall clock. OpenSSL uses time. Leases, watches and time-outs use the monotonic clock, which does not change.
"""

from __future__ import annotations

import contextlib
import ctypes
import datetime
import functools
import os
import platform
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

_ALIGNMENT = 64
#: Where the number of seconds is, from the beginning of the first function.
_SECONDS_AT = 56
_GETTIME = bytes.fromhex(
    "b8e4000000"  # mov eax, 228: clock_gettime
    "0f05"  # syscall
    "85c0"  # test eax, eax
    "7513"  # jnz return
    "85ff"  # test edi, edi: CLOCK_REALTIME
    "7405"  # jz add
    "83ff05"  # cmp edi, 5: CLOCK_REALTIME_COARSE
    "750a"  # jnz return
    # add: mov rcx, [seconds]
    "488b0d"
) + struct.pack("<i", _SECONDS_AT - 27)
_GETTIME += bytes.fromhex("48010ec3")  # add [rsi], rcx; return: ret
_TIME = bytes.fromhex(
    "b8c9000000"  # mov eax, 201: time
    "0f05"  # syscall
    # add rax, [seconds]
    "480305"
) + struct.pack("<i", _SECONDS_AT - _ALIGNMENT - 14)
_TIME += bytes.fromhex(
    "4885ff"  # test rdi, rdi
    "7403"  # jz return
    "488907"  # mov [rdi], rax
    "c3"  # return: ret
)
#: What is replaced -> where its function is from the beginning of the first one, and the function.
_FUNCTIONS = {b"__vdso_clock_gettime\0": (0, _GETTIME), b"__vdso_time\0": (_ALIGNMENT, _TIME)}
_JUMP_SIZE = 5
# Numbers of linux/ptrace.h, linux/prctl.h and linux/wait.h.
_SEIZE, _CONTINUE, _DETACH, _TRACE_EXEC, _AT_EXEC = 0x4206, 7, 17, 0x10, 4 << 8 | signal.SIGTRAP
_MAY_TRACE, _ANY, _ALL = 0x59616D61, -1, 0x40000000
#: A process that begins its program has no vDSO for a moment.
_ATTEMPTS = 40
_PROBE = "import sys, time\nfor line in sys.stdin: print(time.time(), flush=True)"


class ClockError(Exception):
    """The clock of a process cannot be changed."""


def set_ahead(pid: int, ahead: datetime.timedelta) -> None:
    """Set the wall clock of a process to that of this machine plus a time, which may be negative.

    The children that it forks have its clock. Raises ClockError, or OSError if the kernel refuses it.
    """
    start, library = _library(pid)
    place = _free_place(library)
    seconds = struct.pack("<q", round(ahead.total_seconds()))
    with Path(f"/proc/{pid}/mem").open("r+b", buffering=0) as memory:
        _write(memory.fileno(), start + place + _SECONDS_AT, seconds)
        if library.startswith(_GETTIME, place):
            return
        jumps = {}
        for symbol, (offset, function) in _FUNCTIONS.items():
            entry = _address(library, symbol)
            _write(memory.fileno(), start + place + offset, function)
            jumps[start + entry] = b"\xe9" + struct.pack("<i", place + offset - entry - _JUMP_SIZE)
        for _attempt in range(_ATTEMPTS):
            with _stopped(pid):
                if not _is_inside(pid, jumps):
                    for address, jump in jumps.items():
                        _write(memory.fileno(), address, jump)
                    return
    raise ClockError(f"process {pid} reads the clock at each look")


def starting_ahead(ahead: datetime.timedelta, command: Sequence[str]) -> list[str]:
    """Return the command that runs a program with another wall clock from its first instruction on, in the same process.

    An API server makes a certificate in the first tenth of a second. Where no process may be traced, it has the clock of this machine.
    """
    return [sys.executable, "-I", __file__, str(ahead.total_seconds()), *command]


def has_started(pid: int, command: Sequence[str]) -> bool:
    """Return True if a process has this program of `starting_ahead`, and its clock. Raises OSError for one that has ended.

    A process that changes its program has no command for a moment.
    """
    process = Path(f"/proc/{pid}")
    is_traced = "\nTracerPid:\t0\n" not in (process / "status").read_text()
    words = (process / "cmdline").read_bytes().decode().split("\0")[:-1]
    return not is_traced and words == [*command]


def _become(ahead: datetime.timedelta, command: Sequence[str]) -> None:
    """Run a program in this process. A second process sets its clock before the first instruction."""
    pid = os.getpid()
    library = ctypes.CDLL(None)
    library.prctl(_MAY_TRACE, ctypes.c_long(_ANY), 0, 0, 0)
    waiting, is_traced = os.pipe()
    child = os.fork()
    if not child:
        if not os.fork():
            os.close(waiting)
            _set_at_exec(library, pid, ahead, is_traced)
        os._exit(0)
    os.waitpid(child, 0)
    os.close(is_traced)
    os.read(waiting, 1)
    os.execv(command[0], [*command])


def _set_at_exec(library: ctypes.CDLL, pid: int, ahead: datetime.timedelta, is_traced: int) -> None:
    """Set the clock of a process at the moment at which it begins its program."""
    if library.ptrace(_SEIZE, pid, None, ctypes.c_void_p(_TRACE_EXEC)):
        return
    try:
        os.write(is_traced, b".")
        while (stop := os.waitpid(pid, _ALL)[1] >> 8) != _AT_EXEC:  # it stops at each signal, too
            library.ptrace(_CONTINUE, pid, None, ctypes.c_void_p(stop))
        set_ahead(pid, ahead)
    finally:
        library.ptrace(_DETACH, pid, None, None)


@functools.cache
def why_not() -> str:
    """Return the reason why no clock can be changed here, "" if one can. It tries it on a small process, at its start and later."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return "the clock of a process can be changed on Linux on x86-64 only"
    command = starting_ahead(datetime.timedelta(days=1), [sys.executable, "-c", _PROBE])
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as probe:
        assert probe.stdin
        try:
            at_start = _days_ahead(probe)
            set_ahead(probe.pid, datetime.timedelta(days=2))
            days = at_start, _days_ahead(probe)
        except (ClockError, OSError, ValueError) as error:
            return f"the clock of a process cannot be changed here: {error}"
        finally:
            probe.stdin.close()
    return "" if days == (1, 2) else f"the clock of a process is {days} days ahead instead of 1 and 2"


def _days_ahead(probe: subprocess.Popen[str]) -> int:
    assert probe.stdin
    assert probe.stdout
    probe.stdin.write("\n")
    probe.stdin.flush()
    return round((float(probe.stdout.readline()) - time.time()) / 86400)


def _library(pid: int) -> tuple[int, bytes]:
    """Return the address and the content of the vDSO of a process."""
    for _attempt in range(_ATTEMPTS):
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            if line.endswith("[vdso]"):
                start, end = (int(number, 16) for number in line.split()[0].split("-"))
                with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
                    return start, os.pread(memory.fileno(), end - start, start)
        time.sleep(0.05)
    raise ClockError(f"process {pid} has no vDSO")


def _address(library: bytes, symbol: bytes) -> int:
    """Return the offset of a function, from the sections .dynsym and .dynstr."""
    table, size, count = struct.unpack_from("<Q10xHH", library, 0x28)
    headers = [struct.unpack_from("<IIQQQQIIQQ", library, table + size * number) for number in range(count)]
    for header in headers:
        if header[1] != 11:  # SHT_DYNSYM
            continue
        names = headers[header[6]]
        for offset in range(header[4], header[4] + header[5], 24):
            name, _info, _other, _section, value, _size = struct.unpack_from("<IBBHQQ", library, offset)
            if library.startswith(symbol, names[4] + name):
                return int(value)
    raise ClockError("the vDSO has no clock_gettime")


def _free_place(library: bytes) -> int:
    """Return the offset of the function: after the section headers, the last part of an ELF file."""
    table, size, count = struct.unpack_from("<Q10xHH", library, 0x28)
    place = -(-(table + size * count) // _ALIGNMENT) * _ALIGNMENT
    free = library[place : place + 2 * _ALIGNMENT]
    if len(free) < 2 * _ALIGNMENT or (any(free) and not free.startswith(_GETTIME)):
        raise ClockError("the vDSO has no free place")
    return int(place)


@contextlib.contextmanager
def _stopped(pid: int) -> Iterator[None]:
    """Stop a process for a moment. This process goes on, because its only thread is here."""
    if pid == os.getpid():
        yield
        return
    os.kill(pid, signal.SIGSTOP)
    try:
        deadline = time.monotonic() + 5
        while any(_state(task) not in "TtZX" for task in Path(f"/proc/{pid}/task").iterdir()):
            if time.monotonic() > deadline:
                raise ClockError(f"process {pid} does not stop")
            time.sleep(0.001)
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _is_inside(pid: int, entries: Collection[int]) -> bool:
    """Return True if a stopped thread would go on in the middle of a jump that is written there."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, ValueError):
            goes_on = int((task / "syscall").read_text().split()[-1], 16)
            if any(entry < goes_on < entry + _JUMP_SIZE for entry in entries):
                return True
    return False


def _state(task: Path) -> str:
    try:
        return (task / "stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


def _write(memory: int, address: int, content: bytes) -> None:
    if os.pwrite(memory, content, address) != len(content):
        raise ClockError("the kernel refuses to write the vDSO")


if __name__ == "__main__":
    _become(datetime.timedelta(seconds=float(sys.argv[1])), sys.argv[2:])
