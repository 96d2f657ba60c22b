"""What can be said of a test program and of a completion without running them."""

from __future__ import annotations

import builtins
import re
import symtable
import sys
import warnings
from collections.abc import Iterator

# A fence that is never closed, for the answer was cut short, reaches to the end.
_FENCED = re.compile(r"```(?:python|py)[ \t]*\r?\n(.*?)(?:```|\Z)", re.DOTALL | re.IGNORECASE)

# Every module has them; with `__builtins__` of its own a completion would redefine the test program's `len`.
_NOT_OF_THE_COMPLETION = {"__name__", "__file__", "__doc__", "__builtins__"}


def code_of(completion: str) -> str:
    """The first block fenced as Python; the whole completion if there is none.

    As OpenAI's simple-evals reads HumanEval's answers: humaneval_eval.py, `find_code`.
    """
    found = _FENCED.search(completion)
    return found.group(1) if found else completion


def names_needed(test: str) -> frozenset[str]:
    """Names that a test program reads and nobody binds in it: what the completion has to define.

    Raises ValueError if no completion could ever be graded with it: it does not compile, needs nothing, or forgets
    an import.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about style
            table = symtable.symtable(test, "answer", "exec")
            compile(test, "answer", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
        where = f" (its line {error.lineno})" if isinstance(error, SyntaxError) and error.lineno else ""
        said = error.msg if isinstance(error, SyntaxError) else str(error)
        raise ValueError(f"`answer` is not a Python program{where}: {said}") from error
    bound = {symbol.get_name() for symbol in table.get_symbols() if _binds(symbol)}
    bound |= {name for inner in _tables(table) for name in _bound_globally(inner)}
    read = {name for inner in _tables(table) for name in _read_globally(inner)}
    needed = read - bound - set(dir(builtins)) - _NOT_OF_THE_COMPLETION
    if forgotten := sorted(needed & sys.stdlib_module_names):
        raise ValueError(f"`answer` uses {forgotten[0]!r} without importing it; add `import {forgotten[0]}`")
    if not needed:
        own = sorted(name for name in read - bound if callable(getattr(builtins, name, None)))
        if own:
            raise ValueError(
                f"`answer` uses no name that a completion could define: {own[0]!r} is Python's own, and stays so "
                "whatever the completion defines; ask for another name, and test that"
            )
        raise ValueError(
            "`answer` uses no name that a completion could define, so that it would call every completion right or "
            "every one wrong; call the function that the prompt asks for, as in `assert add(2, 3) == 5`"
        )
    return frozenset(needed)


def _tables(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    yield table
    for child in table.get_children():
        yield from _tables(child)


def _binds(symbol: symtable.Symbol) -> bool:
    return symbol.is_assigned() or symbol.is_imported()


def _bound_globally(table: symtable.SymbolTable) -> set[str]:
    return {
        symbol.get_name() for symbol in table.get_symbols() if symbol.is_declared_global() and _binds(symbol)
    }


def _read_globally(table: symtable.SymbolTable) -> set[str]:
    top = table.get_type() == "module"
    return {
        symbol.get_name()
        for symbol in table.get_symbols()
        if symbol.is_referenced() and (symbol.is_global() or (top and not _binds(symbol)))
    }
