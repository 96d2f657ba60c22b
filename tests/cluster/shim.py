# Loading pathlib would double the time that this takes to start.
# ruff: noqa: PTH101, PTH102, PTH103, PTH112, PTH114, PTH115, PTH116, PTH120, PTH123, PTH208, PTH211
"""Runs one container: namespaces, root file system, mounts, identity, then the program.

Started by containers.py as `python -I -S shim.py SPEC_FILE PIPE PARENT`, with nothing but the standard
library, because every pod waits for it. PIPE is a file descriptor: it closes when the program runs, and carries
a message first if it could not be started. The shim's exit code is the program's, or 128 + the number of the
signal that ended it. SIGTERM is passed on; SIGUSR1 kills. Whoever kills the shim kills the container.

Every folder of the host's root appears as an overlay whose changes are forgotten with the container, so a pod
finds the host's programs, writes where it likes, and leaves nothing behind but what it wrote into volumes.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import stat
import sys
from typing import Any

_CLONE_NEWNS, _CLONE_NEWUTS, _CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
_CLONE_NEWUSER, _CLONE_NEWPID = 0x10000000, 0x20000000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REMOUNT = 1, 2, 4, 8, 32
_MS_BIND, _MS_REC, _MS_PRIVATE = 4096, 16384, 1 << 18
_MNT_DETACH = 2
_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 24, 38
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_LAST_CAPABILITY = 40

_OWN_MOUNTS = ("/proc", "/sys", "/dev")
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    arguments = (os.fsencode(source), os.fsencode(target), kind.encode() or None, ctypes.c_ulong(flags))
    _checked(_libc.mount(*arguments, data.encode() or None), f"mount {source} on {target}")


def _prctl(option: int, value: int) -> None:
    _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0)


def _map_root(uid: int, gid: int) -> None:
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def _host_folders() -> list[str]:
    """Folders of the root, and what is mounted deeper, outermost first."""
    folders = [entry.path for entry in os.scandir("/") if entry.is_dir(follow_symlinks=False)]
    with open("/proc/self/mountinfo") as file:
        deeper = [line.split()[4].encode().decode("unicode_escape") for line in file]
    known = set(folders) | {"/"}
    folders += [path for path in deeper if path not in known and os.path.isdir(path)]
    return [path for path in folders if not path.startswith(_OWN_MOUNTS)]


def _build_root(scratch: str) -> str:
    """Mount the container's root under `scratch`; its path."""
    host_folders = _host_folders()
    _mount("tmpfs", scratch, "tmpfs", _MS_NOSUID, "mode=755")
    root = f"{scratch}/root"
    os.mkdir(root)
    for entry in os.scandir("/"):
        if entry.is_symlink():
            os.symlink(os.readlink(entry.path), root + entry.path)
        elif entry.is_dir():
            os.mkdir(root + entry.path)
    for number, path in enumerate(host_folders):
        upper, work = f"{scratch}/upper-{number}", f"{scratch}/work-{number}"
        os.mkdir(upper)
        os.mkdir(work)
        os.chmod(upper, stat.S_IMODE(os.stat(path).st_mode))
        try:
            _mount("overlay", root + path, "overlay", 0, f"lowerdir={path},upperdir={upper},workdir={work}")
        except OSError:
            # Not every file system can be a lower layer, nor, for a common user, a folder with mounts below.
            with contextlib.suppress(OSError):
                _mount(path, root + path, flags=_MS_BIND | _MS_REC)
                _mount("", root + path, flags=_MS_REMOUNT | _MS_BIND | _MS_RDONLY)
    _mount("/sys", f"{root}/sys", flags=_MS_BIND | _MS_REC)
    _mount("proc", f"{root}/proc", "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    _build_devices(f"{root}/dev")
    return root


def _build_devices(folder: str) -> None:
    _mount("tmpfs", folder, "tmpfs", _MS_NOSUID, "mode=755")
    accelerators = [name for name in os.listdir("/dev") if name.startswith("nvidia")]
    for name in (*_DEVICES, *(name for name in accelerators if not os.path.isdir(f"/dev/{name}"))):
        os.close(os.open(f"{folder}/{name}", os.O_CREAT | os.O_WRONLY, 0o666))
        _mount(f"/dev/{name}", f"{folder}/{name}", flags=_MS_BIND)
    for name, target in (
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
    ):
        os.symlink(target, f"{folder}/{name}")
    os.symlink("/proc/self/fd/2", f"{folder}/stderr")
    for name, options in (("shm", "mode=1777"), ("pts", "newinstance,ptmxmode=0666,mode=620")):
        os.mkdir(f"{folder}/{name}")
        kind = "tmpfs" if name == "shm" else "devpts"
        _mount(kind, f"{folder}/{name}", kind, _MS_NOSUID | _MS_NODEV, options)
    os.symlink("pts/ptmx", f"{folder}/ptmx")


def _open_path(path: str) -> None:
    """Let everybody pass through the folders above a path; only the overlay's copy of them changes."""
    while (path := os.path.dirname(path)) != "/":
        mode = stat.S_IMODE(os.stat(path).st_mode)
        if mode & 0o11 != 0o11:
            os.chmod(path, mode | 0o11)


def _publish(path: str) -> None:
    """Let everybody read what is at a path and below, as in an image; only the overlay's copy changes."""
    _open_path(path)
    for folder, _, names in os.walk(path):
        for each in (folder, *(f"{folder}/{name}" for name in names)):
            # An image that is a working copy loses files meanwhile: locks of git, half-written caches.
            with contextlib.suppress(FileNotFoundError):
                _let_read(each)


def _let_read(path: str) -> None:
    mode = stat.S_IMODE(os.lstat(path).st_mode)
    wanted = mode | (0o55 if os.path.isdir(path) else 0o44)
    if mode != wanted and not os.path.islink(path):
        os.chmod(path, wanted)


def _enter_root(root: str, spec: dict[str, Any]) -> None:
    """Make `root` the root, with the spec's mounts in it, and let go of the host's."""
    # A mount point is looked up inside the new root, where links such as /var/run lead; its source outside.
    outside = [mount for mount in spec["mounts"] if not mount.get("from_image")]
    pairs = [(mount, os.open(mount["source"], os.O_PATH)) for mount in outside]
    os.chdir(root)
    _mount(root, root, flags=_MS_BIND | _MS_REC)
    os.chdir(root)
    _checked(_libc.syscall(_SYS_PIVOT_ROOT[os.uname().machine], b".", b"."), "pivot_root")
    for path in spec["open_paths"]:
        _open_path(path)
    for mount in spec["mounts"]:
        if mount.get("from_image"):
            _publish(mount["source"])
            pairs.append((mount, os.open(mount["source"], os.O_PATH)))
    for mount, source in sorted(pairs, key=lambda pair: len(os.path.normpath(pair[0]["target"]).split("/"))):
        _bind(source, mount["target"])
    _seal(spec)
    _checked(_libc.umount2(b".", _MNT_DETACH), "let go of the host's root")
    os.chdir("/")


def _seal(spec: dict[str, Any]) -> None:
    """Make read-only what has to be."""
    if spec["read_only_root"]:
        with open("/proc/self/mountinfo") as file:
            mounted = [line.split()[4] for line in file]
        for path in {path for path in mounted if not path.startswith(_OWN_MOUNTS)}:
            with contextlib.suppress(OSError):
                _mount("", path, flags=_MS_REMOUNT | _MS_BIND | _MS_RDONLY)
        for mount in spec["mounts"]:
            if not mount["read_only"]:
                _mount("", mount["target"], flags=_MS_REMOUNT | _MS_BIND)
    for mount in spec["mounts"]:
        if mount["read_only"]:
            _mount("", mount["target"], flags=_MS_REMOUNT | _MS_BIND | _MS_RDONLY)


def _bind(source: int, target: str) -> None:
    if stat.S_ISDIR(os.fstat(source).st_mode):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
    _mount(f"/proc/self/fd/{source}", target, flags=_MS_BIND | _MS_REC)
    os.close(source)


def _become(spec: dict[str, Any]) -> None:
    """Take on the container's identity. In a user namespace there is none but root."""
    if spec["drop_capabilities"]:
        for capability in range(_LAST_CAPABILITY + 1):
            _prctl(_PR_CAPBSET_DROP, capability)
    if not spec["in_user_namespace"]:
        os.setgroups(spec["groups"])
        os.setgid(spec["gid"])
        os.setuid(spec["uid"])
    if spec["no_new_privileges"]:
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def _container(spec: dict[str, Any], pipe: int) -> None:
    """The child: process 1 of the container. Does not return."""
    try:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        os.setsid()
        _checked(_libc.unshare(_CLONE_NEWNS | _CLONE_NEWUTS | _CLONE_NEWIPC), "unshare")
        _mount("none", "/", flags=_MS_REC | _MS_PRIVATE)
        name = spec["hostname"].encode()
        _checked(_libc.sethostname(name, len(name)), "sethostname")
        output = os.open(spec["log"], os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o644)
        nothing = os.open("/dev/null", os.O_RDONLY)
        for descriptor, number in ((nothing, 0), (output, 1), (output, 2)):
            os.dup2(descriptor, number)
        os.closerange(3, pipe)
        _enter_root(_build_root(spec["scratch"]), spec)
        os.closerange(pipe + 1, pipe + 64)
        os.set_inheritable(pipe, False)
        os.umask(0o022)
        os.makedirs(spec["cwd"], exist_ok=True)
        _become(spec)
        # Becoming somebody else had cleared it.
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        os.chdir(spec["cwd"])
        # Python ignores these, and what is ignored stays so in the program.
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        os.execvpe(spec["argv"][0], spec["argv"], spec["env"])
    except BaseException as error:  # noqa: BLE001 - whatever it is, the node must hear of it
        os.write(pipe, f"{type(error).__name__}: {error}".encode()[:1024])
        os._exit(128)


def main() -> int:
    """Start the container and wait for its end; the exit code."""
    pipe, parent = int(sys.argv[2]), int(sys.argv[3])
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return 128
    with open(sys.argv[1]) as file:
        spec = json.load(file)
    # Signals wait until there is a child to pass them on to.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
    uid, gid = os.getuid(), os.getgid()
    spec["in_user_namespace"] = uid != 0
    if uid != 0:
        _checked(_libc.unshare(_CLONE_NEWUSER), "unshare the user namespace")
        _map_root(uid, gid)
    _checked(_libc.unshare(_CLONE_NEWPID), "unshare the process namespace")
    child = os.fork()
    if child == 0:
        _container(spec, pipe)
    os.close(pipe)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGTERM))
    signal.signal(signal.SIGUSR1, lambda *_: os.kill(child, signal.SIGKILL))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM, signal.SIGUSR1])
    _, status = os.waitpid(child, 0)
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


if __name__ == "__main__":
    sys.exit(main())
