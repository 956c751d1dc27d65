"""Power loss for SQLite: keeps, beside each database, only what was synced; whatever was merely written is not there.

`kill -9` never shows a missing fsync, for the kernel keeps what a process wrote. Here a SQLite VFS of our own stands
between SQLite and the file system, in a service's own process: writes go to the real files as always, and at each
`xSync` those made since the one before are carried over to a copy. After a power loss (`kill -9`, then the copies put
in the files' place) exactly the synced bytes are left: the harshest of the outcomes that a real one may have.

It is the system's own "unix" VFS with five functions replaced (open, delete, write, truncate, sync), registered as
the default one through ctypes in the very SQLite that Python's `sqlite3` is linked with. No compiler, no root, no
change to the services. `python -m tests.faults.unsynced FOLDER MODULE` runs a module, such as `services.tweet`, so.
"""

from __future__ import annotations

import _sqlite3
import ctypes
import os
import runpy
import sys
import threading
from ctypes import CFUNCTYPE, POINTER, Structure, c_char_p, c_int, c_int64, c_void_p
from dataclasses import dataclass, field
from pathlib import Path

_OK = 0
_FILE_METHODS_V3 = 3

_Write = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
_Truncate = CFUNCTYPE(c_int, c_void_p, c_int64)
_Sync = CFUNCTYPE(c_int, c_void_p, c_int)
# Names as addresses: SQLite keeps the pointer, so it must be the one that came, not one to a copy.
_Open = CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_int, c_void_p)
_Delete = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int)


class _Methods(Structure):
    """sqlite3_io_methods, version 3 (sqlite3.h)."""

    _fields_ = (
        ("version", c_int),
        *(
            (name, c_void_p)
            for name in (
                *("close", "read", "write", "truncate", "sync", "file_size", "lock", "unlock", "check_reserved"),
                *("file_control", "sector_size", "characteristics", "shm_map", "shm_lock", "shm_barrier", "shm_unmap"),
                *("fetch", "unfetch"),
            )
        ),
    )


class _File(Structure):
    """sqlite3_file."""

    _fields_ = (("methods", POINTER(_Methods)),)


class _Vfs(Structure):
    """sqlite3_vfs, version 3."""

    _fields_ = (
        ("version", c_int),
        ("file_bytes", c_int),
        ("most_path", c_int),
        ("next", c_void_p),
        ("name", c_char_p),
        ("data", c_void_p),
        ("open", c_void_p),
        ("delete", c_void_p),
        *(
            (name, c_void_p)
            for name in (
                *("access", "full_path", "dl_open", "dl_error", "dl_sym", "dl_close", "randomness", "sleep"),
                *("current_time", "last_error", "current_time_64", "set_call", "get_call", "next_call"),
            )
        ),
    )


@dataclass
class _Durable:
    """One file's synced content, and what was done to the file since."""

    copy: int
    """Descriptor of the copy."""
    waiting: list[tuple[int, bytes] | int] = field(default_factory=list)
    """Writes (offset, bytes) and truncations (size), in order."""

    def sync(self) -> None:
        for step in self.waiting:
            if isinstance(step, int):
                os.ftruncate(self.copy, step)
            else:
                os.pwrite(self.copy, step[1], step[0])
        self.waiting.clear()


class Shim:
    """The VFS. It must live as long as the process.

    Args:
        folder: for the copies; made if it is missing, emptied of copies of earlier lives by whoever starts the process.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._lock = threading.Lock()
        self._files: dict[str, _Durable] = {}
        self._paths: dict[int, str] = {}  # by address of sqlite3_file
        self._methods: dict[int, _Methods] = {}  # ours, by address of the original ones
        self._originals: dict[str, tuple[object, ...]] = {}
        library = ctypes.CDLL(_sqlite3.__file__)
        library.sqlite3_vfs_find.restype = POINTER(_Vfs)
        library.sqlite3_vfs_find.argtypes = [c_char_p]
        library.sqlite3_vfs_register.argtypes = [c_void_p, c_int]
        original = library.sqlite3_vfs_find(None).contents
        self._vfs = _Vfs.from_buffer_copy(original)
        self._vfs.name = b"unsynced"
        self._vfs.next = None
        open_file, delete = _Open(original.open), _Delete(original.delete)
        self._kept: list[object] = [original]
        self._set(
            self._vfs,
            "open",
            _Open(lambda vfs, name, file, flags, out: self._open(open_file, vfs, name, file, flags, out)),
        )
        self._set(self._vfs, "delete", _Delete(lambda vfs, name, sync: self._delete(delete, vfs, name, sync)))
        if library.sqlite3_vfs_register(ctypes.byref(self._vfs), 1) != _OK:
            raise RuntimeError("SQLite does not take the VFS")

    def _set(self, where: _Vfs | _Methods, name: str, function: object) -> None:
        self._kept.append(function)
        setattr(where, name, ctypes.cast(function, c_void_p))  # type: ignore[arg-type]

    def _copy_of(self, path: str) -> Path:
        return self._folder / Path(path).name

    def _open(self, original: object, vfs: int, name: int | None, file: int, flags: int, out: int) -> int:
        path = ctypes.string_at(name).decode() if name else ""
        with self._lock:
            if path and path not in self._files:
                # Before SQLite has it open: to close a descriptor ends all locks that this process has on the file.
                # What is there when a process starts counts as durable.
                copy = os.open(self._copy_of(path), os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
                if Path(path).exists():
                    os.pwrite(copy, Path(path).read_bytes(), 0)
                self._files[path] = _Durable(copy)
        code = int(original(vfs, name, file, flags, out))  # type: ignore[operator]
        if code == _OK and path:
            opened = _File.from_address(file)
            with self._lock:
                self._paths[file] = path
                opened.methods = ctypes.pointer(self._patched(opened.methods.contents))
        return code

    def _patched(self, original: _Methods) -> _Methods:
        address = ctypes.addressof(original)
        if address not in self._methods:
            if original.version > _FILE_METHODS_V3:
                raise RuntimeError("a newer SQLite has more methods than this knows of")
            ours = self._methods[address] = _Methods.from_buffer_copy(original)
            write, truncate, sync = _Write(original.write), _Truncate(original.truncate), _Sync(original.sync)
            self._set(ours, "write", _Write(lambda file, data, count, at: self._write(write, file, data, count, at)))
            self._set(ours, "truncate", _Truncate(lambda file, size: self._truncate(truncate, file, size)))
            self._set(ours, "sync", _Sync(lambda file, flags: self._sync(sync, file, flags)))
        return self._methods[address]

    def _write(self, original: object, file: int, data: int, count: int, at: int) -> int:
        with self._lock:
            self._files[self._paths[file]].waiting.append((at, ctypes.string_at(data, count)))
        return int(original(file, data, count, at))  # type: ignore[operator]

    def _truncate(self, original: object, file: int, size: int) -> int:
        with self._lock:
            self._files[self._paths[file]].waiting.append(size)
        return int(original(file, size))  # type: ignore[operator]

    def _sync(self, original: object, file: int, flags: int) -> int:
        with self._lock:
            self._files[self._paths[file]].sync()
        return int(original(file, flags))  # type: ignore[operator]

    def _delete(self, original: object, vfs: int, name: int, sync: int) -> int:
        path = ctypes.string_at(name).decode()
        code = int(original(vfs, name, sync))  # type: ignore[operator]
        with self._lock:
            gone = self._files.pop(path, None)
            if gone is not None:
                os.close(gone.copy)
                self._copy_of(path).unlink(missing_ok=True)
        return code


def lose_power(database: Path, folder: Path) -> int:
    """Puts what was synced in the place of a database's files, once no process has them open; gives the bytes lost.

    Args:
        database: the main file; `-wal` and `-shm` are beside it.
        folder: that of the process's `Shim`.
    """
    lost = 0
    for name in (database.name, f"{database.name}-wal"):
        real, copy = database.with_name(name), folder / name
        before = real.read_bytes() if real.exists() else b""
        after = copy.read_bytes() if copy.exists() else b""
        lost += sum(a != b for a, b in zip(before, after, strict=False)) + abs(len(before) - len(after))
        if after:
            real.write_bytes(after)
        else:
            real.unlink(missing_ok=True)
    database.with_name(f"{database.name}-shm").unlink(missing_ok=True)
    return lost


if __name__ == "__main__":
    _shim = Shim(Path(sys.argv[1]))
    _module = sys.argv[2]
    sys.argv[:] = [_module, *sys.argv[3:]]
    runpy.run_module(_module, run_name="__main__", alter_sys=True)
