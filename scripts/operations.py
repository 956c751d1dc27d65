"""Writes which tests prove each REST operation: the last table of docs/rest.md.

usage: python scripts/operations.py          (writes the table)
       python scripts/operations.py --check  (says whether it is as the code has it; status 1 when not)

Operations are the http rules of gen/descriptors.pb. Tests say what they prove themselves:

    @pytest.mark.proves("GET /2/tweets/{id}", "DELETE /2/tweets/{id}")
    async def test_a_deleted_tweet_is_gone(...)

and tests/conftest.py fails a marked test that did not get a good answer from every operation it names.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cli.edge import Operation, operations

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "rest.md"
DESCRIPTORS = ROOT / "gen" / "descriptors.pb"
BEGIN = "<!-- made by scripts/operations.py -->"
END = "<!-- end of what scripts/operations.py made -->"
MARK = "proves"


@dataclass(frozen=True, slots=True)
class Proof:
    """One test function that names operations."""

    file: Path
    """Relative to tests/."""
    test: str
    """Name of the function."""
    operations: tuple[str, ...]
    """Such as `GET /2/tweets/{id}`."""

    @property
    def name(self) -> str:
        """As pytest takes it, from tests/."""
        return f"{self.file.as_posix()}::{self.test}"


def name_of(operation: Operation) -> str:
    """An operation's name: method and path template."""
    return f"{operation.method} {operation.path}"


def known_operations() -> list[Operation]:
    """All operations of the contracts, in their order. Raises OSError when gen/ is not there."""
    return operations(DESCRIPTORS.read_bytes())


def proofs(tests: Path = ROOT / "tests") -> list[Proof]:
    """Every marked test below a folder, by file and place.

    Raises:
        ValueError: a mark has something else than literal texts, or is not on a function.
    """
    return [proof for path in sorted(tests.rglob("test_*.py")) for proof in _proofs_of(path, tests)]


def _proofs_of(path: Path, tests: Path) -> Iterator[Proof]:
    text = path.read_text()
    if MARK not in text:
        return
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for decorator in node.decorator_list:
            if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == f"pytest.mark.{MARK}":
                named = [argument.value for argument in decorator.args if isinstance(argument, ast.Constant)]
                if decorator.keywords or len(named) != len(decorator.args) or not named:
                    raise ValueError(f"{path}:{decorator.lineno}: a mark takes texts, and nothing else")
                yield Proof(path.relative_to(tests), node.name, tuple(map(str, named)))


def table() -> str:
    """The table, with its heads. An operation without a test has an empty cell."""
    marked = proofs()
    lines = ["| Operation | RPC | Proved by |", "|---|---|---|"]
    for operation in sorted(known_operations(), key=lambda one: (one.rpc, one.path)):
        name = name_of(operation)
        service, _, method = operation.rpc.rpartition("/")
        tests = ", ".join(f"`{proof.name}`" for proof in marked if name in proof.operations)
        lines.append(f"| `{name}` | `{service.rpartition('.')[2]}.{method}` | {tests} |")
    return "\n".join(lines)


def page(text: str) -> str:
    """A page with the table as it is now between the two comments.

    Raises:
        ValueError: the comments are not there.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has not both of {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"


def main(argv: list[str]) -> int:
    """Writes or checks; gives the exit status."""
    text = PAGE.read_text()
    fresh = page(text)
    if argv == ["--check"]:
        return int(fresh != text)
    PAGE.write_text(fresh)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
