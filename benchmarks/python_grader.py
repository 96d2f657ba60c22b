"""How the grader Python judges HumanEval: `python benchmarks/python_grader.py HumanEval.jsonl.gz`.

The file is openai/human-eval's data/HumanEval.jsonl.gz (Chen et al. 2021, arXiv:2107.03374). Its own solutions must all
be right. An answer that solves nothing, but equals whatever it is compared with, is run by the grader, and beside it in
one interpreter with the tests, as benchmarks do.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import sys
import time

from alignment_worker.python_grader import client

EQUAL_TO_EVERYTHING = """
class Yes:
    __eq__ = __lt__ = __le__ = __gt__ = __ge__ = __contains__ = lambda self, other: True
    __bool__ = lambda self: True
    __sub__ = __len__ = lambda self, *other: 0
    __hash__ = lambda self: 1

def {}(*args, **kwargs):
    return Yes()
"""


def main(path: str) -> None:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    tests = [f"{row['test']}\ncheck({row['entry_point']})" for row in rows]
    solved = [f"```python\n{row['prompt']}{row['canonical_solution']}\n```" for row in rows]
    cheated = [EQUAL_TO_EVERYTHING.format(row["entry_point"]) for row in rows]
    _graded("its own solutions", tests, solved)
    _graded("equal to everything", tests, cheated)
    together = sum(_in_one_interpreter(code + test) for code, test in zip(cheated, tests, strict=True))
    print(f"equal to everything, in one interpreter: {together} of {len(rows)} right")


def _graded(what: str, tests: list[str], completions: list[str]) -> None:
    started = time.monotonic()
    right = sum(client.right(list(zip(tests, completions, strict=True))))
    print(f"{what}: {right} of {len(tests)} right, {time.monotonic() - started:.0f} s")


def _in_one_interpreter(program: str) -> bool:
    """Only for the code above, which is harmless."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(Exception):
        exec(program, {})
        return True
    return False


if __name__ == "__main__":
    main(sys.argv[1])
