"""Model-written code against test programs: what is right, and what hostile code can neither reach nor forge."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from alignment_worker import graders
from alignment_worker.failures import InvalidConfigError, PythonGraderError
from alignment_worker.python_grader import client, program, server
from alignment_worker.python_grader.server import grade

ADD = "assert add(2, 3) == 5\nassert add(10, -1) == 9"
HUMANEVAL = """
METADATA = {}

def check(candidate):
    assert candidate([1.0, 2.0, 3.9, 4.0], 0.3) == True
    assert candidate([1.0, 2.0], 0.5) == False

check(has_close_elements)
"""
CLOSE = """
from typing import List

def has_close_elements(numbers: List[float], threshold: float) -> bool:
    ordered = sorted(numbers)
    return any(b - a < threshold for a, b in zip(ordered, ordered[1:]))
"""
STACK = """
from dataclasses import dataclass

@dataclass
class Point:
    x: int
    y: "int"

class Stack:
    def __init__(self):
        self.items = []
    def push(self, item):
        self.items.append(item)
        return self
    def __len__(self):
        return len(self.items)
    def __iter__(self):
        return iter(self.items)
    def __getitem__(self, index):
        return self.items[index]
"""
STACK_TEST = """
stack = Stack()
assert len(stack.push((1, 2)).push({"a": {3}})) == 2
assert list(stack) == [(1, 2), {"a": {3}}] and stack[1]["a"] == {3}
assert Point(1, 2) == Point(1, 2) and Point(1, 2) != Point(1, 3)
point = Point(1, 2)
point.x = 7
assert point.x == 7 and stack.push(point)[2] is point
"""


@pytest.mark.parametrize(
    ("test", "code"),
    [
        (ADD, "def add(a, b): return a + b"),
        (HUMANEVAL, CLOSE),
        (STACK_TEST, STACK),
        ("items = [3, 1]\nsort(items)\nassert items == [1, 3]", "def sort(items): items.sort()"),
        ("assert twice(lambda x: x + 1, 0) == 2", "def twice(f, x): return f(f(x))"),
        (
            "try: root(-1)\nexcept ValueError as error: assert 'negative' in str(error)\nelse: raise AssertionError",
            "def root(x): raise ValueError('negative')",
        ),
        ("from itertools import islice\nassert list(islice(odd(), 3)) == [1, 3, 5]",
         "from itertools import count\ndef odd(): return count(1, 2)"),
        ("assert big() == 10**5000 and text() == '\\ud800' and none() is None",
         "def big(): return 10**5000\ndef text(): return '\\ud800'\ndef none(): pass"),
        ("assert later() == 1",
         "import asyncio, threading\nasync def one(): return 1\ndef later():\n"
         " t = threading.Thread(target=print)\n t.start()\n t.join()\n return asyncio.run(one())"),
        ("assert PI == 3", "PI = 3\nif __name__ == '__main__': raise SystemExit"),
    ],
)  # fmt: skip
def test_code_that_does_what_is_asked_is_right(test: str, code: str) -> None:
    assert grade(test, code)


FORGERIES = {
    "wrong": "def add(a, b): return a - b",
    "no such name": "def plus(a, b): return a + b",
    "no Python": "The sum of a and b.",
    "equal to everything": "class Yes:\n def __eq__(self, other): return True\ndef add(a, b): return Yes()",
    "int of its own": "class Yes(int):\n def __eq__(self, other): return True\ndef add(a, b): return Yes(5)",
    "exits well": "import sys\nsys.exit(0)",
    "exits well when called": "import os\ndef add(a, b): os._exit(0)",
    "raises an exit": "def add(a, b): raise SystemExit(0)",
    "does not assert": "import builtins\nbuiltins.AssertionError = SystemExit\ndef add(a, b): return 0",
    "says that it passed": "import os\nfor fd in range(64):\n try: os.write(fd, b'passed')\n except OSError: pass",
    "answers before it is asked": (
        "import json, os, sys\n"
        "frame = json.dumps({'names': {'add': ['mine', 0], '__builtins__': ['dict', []], 'METADATA': 1}}).encode()\n"
        "for fd in range(3, 64):\n"
        " try: os.write(fd, len(frame).to_bytes(4, 'big') + frame)\n"
        " except OSError: pass\n"
        "os._exit(0)"
    ),
    "no frame": (
        "import os\ndef add(a, b):\n for fd in range(3, 64):\n"
        "  try: os.write(fd, b'\\xff' * 9)\n"
        "  except OSError: pass"
    ),
    "deep value": "def add(a, b):\n x = []\n for _ in range(10**5): x = [x]\n return x",
    "large value": "def add(a, b): return 'a' * (2 << 20)",
    "crashes": "import ctypes\nctypes.string_at(0)",
    "recurs": "def add(a, b): return add(a, b)",
    "memory": "add = bytearray(1 << 30)",
    "memory, threads": "import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(9,)).start()",
    "32-bit calls": (
        "import ctypes, mmap\nm = mmap.mmap(-1, 4096, prot=7)\nm.write(bytes.fromhex('b814000000cd80c3'))\n"
        "f = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)))\n"
        "def add(a, b):\n f()\n return a + b"
    ),
}  # fmt: skip


@pytest.mark.parametrize("code", FORGERIES.values(), ids=FORGERIES.keys())
def test_code_that_is_wrong_stays_wrong(code: str) -> None:
    assert not grade(ADD, code)


@pytest.mark.parametrize(
    ("test", "code"),
    [
        ("assert len(some()) == 3", "def len(x): return 3\ndef some(): return []"),
        ("import math\nassert math.isclose(root(4), 2)",
         "class math:\n isclose = lambda *_: True\ndef root(x): return 9"),
        ("assert abs(root(4) - 2) < 1e-6", "class Any:\n __sub__ = lambda s, o: 0\ndef root(x): return Any()"),
        ("assert __builtins__ and len(some()) == 3",
         "def some(): return []\n__builtins__ = {'len': lambda x: 3}"),
        ("assert 3 in some()", "class Any:\n __contains__ = lambda s, o: True\ndef some(): return Any()"),
        ("assert some() < 3", "class Any:\n __lt__ = lambda s, o: True\ndef some(): return Any()"),
        ("def expected(): return 7\nassert run(expected, 1) == 2",
         "def run(f, x):\n try: return f.__globals__\n except AttributeError: return f.__code__"),
    ],
)  # fmt: skip
def test_the_tests_own_names_and_values_are_out_of_reach(test: str, code: str) -> None:
    assert not grade(test, code)


def test_the_test_program_is_nowhere_in_the_completions_process() -> None:
    code = """
import gc, sys
def seen():
    texts = [str(given) for given in gc.get_objects() if isinstance(given, (str, list, dict, tuple))]
    frame, found = sys._getframe(), []
    while frame:
        found.append(str(frame.f_locals))
        frame = frame.f_back
    return any("-".join(["secret", "4711"]) in text for text in texts + found)
"""
    assert grade("marker = 'secret-4711'\nassert seen() is False", code)


ATTEMPTS = {
    "socket": "import socket; socket.create_connection(('127.0.0.1', PORT))",
    "IPv6": "import socket; socket.socket(socket.AF_INET6)",
    "unix socket": "import socket; socket.socket(socket.AF_UNIX).connect('/run/x')",
    "datagrams": "import socket; socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)",
    "name look-up": "import urllib.request; urllib.request.urlopen('http://127.0.0.1:PORT')",
    "a file of the store": "open('SECRET').read()",
    "by a link of /proc": "open('/proc/self/root/SECRET').read()",
    "by another spelling": "import os; os.open('/usr/lib/../..SECRET', os.O_RDONLY)",
    "who is there": "open('/etc/passwd').read()",
    "a token": "open('/var/run/secrets/kubernetes.io/serviceaccount/token').read()",
    "the first process": "open('/proc/1/environ').read()",
    "the parent's environment": "import os; open(f'/proc/{os.getppid()}/environ').read()",
    "the parent's memory": "import os; open(f'/proc/{os.getppid()}/mem', 'rb').read()",
    "a folder": "import os; os.listdir('FOLDER')",
    "write": "open('FOLDER/written', 'w')",
    "append": "import os; os.open('SECRET', os.O_WRONLY | os.O_APPEND)",
    "unnamed file": "import os; os.open('FOLDER', os.O_TMPFILE | os.O_RDWR)",
    "shared memory": "open('/dev/shm/alignment-grader', 'wb')",
    "memory as a file": "import os; os.memfd_create('x')",
    "delete": "import os; os.unlink('SECRET')",
    "rename": "import os; os.rename('SECRET', 'FOLDER/taken')",
    "link": "import os; os.symlink('SECRET', 'FOLDER/link')",
    "hard link": "import os; os.link('SECRET', 'FOLDER/link')",
    "folder": "import os; os.mkdir('FOLDER/made')",
    "mode": "import os; os.chmod('SECRET', 0o777)",
    "fork": "import os; os.fork()",
    "spawn": "import subprocess; subprocess.run(['true'])",
    "shell": "import os; assert os.system('true') == 0",
    "exec": "import os; os.execv('/bin/true', ['true'])",
    "new process by its number": "import ctypes, os; os.getpid(); call(SYS_FORK)",
    "kill the parent": "import os, signal; os.kill(os.getppid(), signal.SIGKILL)",
    "kill everybody": "import os, signal; os.kill(-1, signal.SIGKILL)",
    "signal by a file": "import fcntl, os; fcntl.fcntl(0, fcntl.F_SETOWN, os.getppid())",
    "limits": "import resource; resource.setrlimit(resource.RLIMIT_CPU, (9999, 9999))",
    "the parent's limits": "import os, resource; resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (1, 1))",
    "trace": "import os; call(101, 16, os.getppid(), 0, 0)",
    "read memory": "import os; call(310, os.getppid(), 0, 0, 0, 0, 0)",
    "io_uring": "call(425, 8, 0)",
    "user namespace": "call(272, 0x10000000)",
    "mount": "call(165, 0, 0, 0, 0, 0)",
    "another ABI": "call(0x40000000 + 39)",
    "bpf": "call(321, 0, 0, 0)",
    "change user": "import os; os.setuid(12345)",
    "raise a limit as root": "import resource; resource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
    "take memory out of service": "call(28, ctypes.addressof(page), 4096, 100)",
}  # fmt: skip
ATTEMPT = """
import ctypes, os
page = (ctypes.c_char * 8192)()
def call(number, *args):
    if ctypes.CDLL(None, use_errno=True).syscall(number, *args) < 0:
        raise OSError(ctypes.get_errno(), "")
def attempt(line):
    try:
        exec(line, {"call": call, "ctypes": ctypes, "page": page})
    except (OSError, AssertionError, ValueError):
        return "refused"
    return "done"
"""


@pytest.fixture(scope="module")
def secret(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "secret"
    path.write_text("token")
    return path


@pytest.fixture(scope="module")
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.settimeout(0)
        yield made


def test_nothing_outside_is_reached(secret: Path, listener: socket.socket) -> None:
    told = {
        "SECRET": str(secret),
        "FOLDER": str(secret.parent),
        "PORT": str(listener.getsockname()[1]),
        "SYS_FORK": "57" if os.uname().machine == "x86_64" else "220, 17",
    }
    lines = dict(ATTEMPTS)
    for name, value in told.items():
        lines = {what: line.replace(name, value) for what, line in lines.items()}
    if not grade(f"for line in {[*lines.values()]!r}:\n assert attempt(line) == 'refused'", ATTEMPT):
        test = "assert attempt({!r}) == 'refused'"
        assert [what for what, line in lines.items() if not grade(test.format(line), ATTEMPT)] == []
    assert [each.name for each in secret.parent.iterdir()] == ["secret"]
    assert secret.read_text() == "token"
    with pytest.raises(BlockingIOError):
        listener.accept()


@pytest.mark.parametrize("line", ["call(39)", "import os; open(os.__file__).read()", "import ssl, sqlite3"])
def test_what_is_allowed_is_not_refused_by_the_way_it_is_tried(line: str) -> None:
    assert grade(f"assert attempt({line!r}) == 'done'", ATTEMPT)


def test_a_program_has_no_environment_and_limits_that_it_cannot_raise() -> None:
    code = """
import os, resource
def environment(): return dict(os.environ)
kinds = resource.RLIMIT_CPU, resource.RLIMIT_FSIZE, resource.RLIMIT_CORE
def limits(): return [resource.getrlimit(kind) for kind in kinds]
"""
    assert grade("assert environment() == {} and limits() == [(5, 5), (0, 0), (0, 0)]", code)


@pytest.mark.parametrize(
    "code",
    [
        "while True: pass",
        "import time\ntime.sleep(1000)",
        "import signal, time\nfor n in (1, 2, 15, 24): signal.signal(n, signal.SIG_IGN)\ntime.sleep(1000)",
        "def add(a, b):\n while True: print('x' * 10**6, flush=True)",
        "import threading, time\nthreading.Thread(target=time.sleep, args=(1000,)).start()\ntime.sleep(1000)",
    ],
)
def test_a_program_that_does_not_end_is_wrong_and_gone(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "WALL_SECONDS", 0.5)
    before = children()
    assert not grade(ADD, code)
    assert children() <= before


def children() -> set[str]:
    """Processes of this one, ended and not waited for among them."""
    lists = Path("/proc/self/task").glob("*/children")
    return {pid for each in lists for pid in each.read_text().split()}


@pytest.mark.skipif(
    os.uname().machine != "x86_64",
    reason="its machine code is x86_64's: on such a machine it runs; another needs clone and pause in its own",
)
def test_threads_that_cost_no_memory_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    code = """
import ctypes, mmap
stack, page = mmap.mmap(-1, 1 << 16), mmap.mmap(-1, 4096, prot=7)
page.write(bytes.fromhex('b8380000000f0585c07509b8220000000f05ebf7c3'))  # clone; in the new thread: pause for ever
begin, top = (ctypes.addressof(ctypes.c_char.from_buffer(each)) for each in (page, stack))
clone = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_ulong, ctypes.c_ulong)(begin)
count = 0
while clone(0x50f00, top + (1 << 16) - 64) > 0:
    count += 1
def add(a, b): return a + b
"""
    seen = []
    count = server._threads

    def counted(process: subprocess.Popen[bytes]) -> int:
        seen.append(count(process))
        return seen[-1]

    monkeypatch.setattr(server, "_threads", counted)
    assert not grade(ADD, code)
    assert max(seen) > server.MOST_THREADS


def test_hashes_are_the_same_each_time() -> None:
    order = ["-c", "print([*{'a', 'b', 'c', 'd', 'e', 'f'}])"]
    first = subprocess.run([*server.PYTHON, *order], env=server.ENVIRONMENT, capture_output=True, check=True)
    assert grade(
        f"assert order() == {first.stdout.decode()}", "def order(): return [*{'a', 'b', 'c', 'd', 'e', 'f'}]"
    )


@pytest.mark.parametrize(
    ("completion", "code"),
    [
        ("def f(): pass", "def f(): pass"),
        ("Here:\n```python\nx = 1\n```\nUse it:\n```python\nprint(x)\n```", "x = 1\n"),
        ("```\npip install x\n```\n```py\r\nx = 1\r\n```", "x = 1\r\n"),
        ("```Python \nx = 1\n", "x = 1\n"),
    ],
)
def test_the_first_python_block_is_the_code(completion: str, code: str) -> None:
    assert program.code_of(completion) == code


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ("assert add(2, 3) ==", r"not a Python program \(its line 1\): invalid syntax"),
        ("add\0", "not a Python program: source code"),
        ("(" * 300, "not a Python program"),
        ("assert True", "uses no name that a completion could define"),
        ("", "uses no name"),
        ("def check(f): assert f(1) == 1", "uses no name"),
        ("assert __builtins__", "uses no name"),
        ("assert sum(2, 3) == 5", "'sum' is Python's own, and stays so whatever the completion defines"),
        ("def check(f): assert f(2, 3) == 8\ncheck(pow)", "'pow' is Python's own"),
        ("assert math.isclose(root(4), 2)", "uses 'math' without importing it; add `import math`"),
        ("return f()", "not a Python program"),
    ],
)
def test_an_answer_that_grades_nothing_is_an_error_of_its_row(answer: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        graders.check("Python", answer)


@pytest.mark.parametrize(
    "answer", [ADD, HUMANEVAL, STACK_TEST, "def go():\n global x\n x = f()\ngo()\nassert x"]
)
def test_an_answer_that_calls_the_completion_is_one(answer: str) -> None:
    graders.check("Python", answer)


def test_all_graders_are_asked_together_and_python_only_where_it_may_run() -> None:
    asked = [
        ("Python", ADD, "```python\ndef add(a, b): return a + b\n```"),
        ("Exact", "Paris", "paris."),
        ("Python", ADD, "def add(a, b): return 5"),
    ]
    assert graders.all_right(asked, python=True) == [True, True, False]
    with pytest.raises(InvalidConfigError, match=r"set spec\.evaluation\.pythonGrader"):
        graders.all_right(asked, python=False)


def test_a_machine_that_cannot_confine_programs_refuses(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    blind = "from alignment_worker.python_grader import sandbox; sandbox.restrict_files = lambda: None; "
    plain = server.command
    monkeypatch.setattr(server, "command", lambda module, *args: _with(plain(module, *args), blind))
    assert server._problem(require_landlock=True).startswith("programs could read this machine's files")
    assert server._problem(require_landlock=False) == ""


def test_the_test_program_cannot_be_read_where_files_can(monkeypatch: pytest.MonkeyPatch) -> None:
    code = """
import os
def siblings():
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            parent = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1]
        except OSError:
            continue
        if parent == str(os.getppid()) and pid != str(os.getpid()):
            try:
                open(f"/proc/{pid}/mem").close()
                found.append("open")
            except OSError:
                found.append("closed")
    return found
"""
    blind = "from alignment_worker.python_grader import sandbox; sandbox.restrict_files = lambda: None; "
    plain = server.command
    monkeypatch.setattr(server, "command", lambda module, *args: _with(plain(module, *args), blind))
    assert grade("assert set(siblings()) == {'closed'}", code)


def _with(command: list[str], first: str) -> list[str]:
    place = command.index("-c") + 1
    head, _, tail = command[place].partition("; from")
    return [*command[:place], f"{head}; {first}from{tail}", *command[place + 1 :]]


@contextmanager
def answering(folder: Path, *answers: bytes) -> Iterator[None]:
    """In the grader's place, something that answers so."""
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(folder / "socket"))
        made.listen()

        def answer() -> None:
            for each in answers:
                link, _ = made.accept()
                with link:
                    link.recv(1 << 16)
                    link.sendall(each)

        thread = threading.Thread(target=answer)
        thread.start()
        yield
        thread.join()


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        (b"", "ended while it was asked"),
        (b"passed\n", "ended while it was asked"),
        (b'{"right": 1}\n', "gave an answer that is none"),
        (b'{"right": "true"}\n', "gave an answer that is none"),
        (b"[true]\n", "gave an answer that is none"),
        (b'{"error": "no process can be started"}\n', "could not try a program: no process"),
        (b'{"right": true' + b" " * 5000, "ended while it was asked"),
    ],
)
def test_a_grader_that_fails_is_no_wrong_answer(
    said: bytes, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory() as folder, answering(Path(folder), said):
        monkeypatch.setenv("ALIGNMENT_GRADER_SOCKET", f"{folder}/socket")
        with pytest.raises(PythonGraderError, match=problem):
            client.right([(ADD, "def add(a, b): return a + b")])


def test_a_grader_that_is_not_there_is_waited_for_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "START_SECONDS", 0.1)
    monkeypatch.setenv("ALIGNMENT_GRADER_SOCKET", str(tmp_path / "socket"))
    with pytest.raises(PythonGraderError, match="log of the pod's container `grader`"):
        client.right([(ADD, "")])


@pytest.mark.parametrize(
    "test",
    [
        "add(1, 2)\nraise SystemExit",
        "import os\nadd(1, 2)\nos._exit(0)",
        "print('passed', add(1, 2))\nassert 0",
    ],
)
def test_a_test_program_that_does_not_run_to_its_end_proves_nothing(test: str) -> None:
    assert not grade(test, "def add(a, b): return a + b")
