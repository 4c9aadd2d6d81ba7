"""Imports point one way, numba and llvmlite stay in their corners, and `import breve` is light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "breve"

# Each part of the package and the parts it may import; what is not named here stands above everything.
ALLOWED = {
    "errors": set(),
    "randomness": set(),
    "blob": {"errors"},
    "proto": {"errors"},
    "kernels": {"errors", "blob"},
    "data": {"errors", "proto", "kernels"},
    "functional": {"errors", "kernels"},
    "layers": {"errors", "blob", "proto", "kernels", "data", "randomness"},
    "graph": {"errors", "blob", "proto", "layers", "randomness"},
    "weights": {"errors", "blob", "proto", "graph"},
    "net": {"errors", "blob", "proto", "layers", "graph", "weights", "randomness"},
    "solvers": {"errors", "blob", "proto", "kernels", "net", "weights", "graph", "layers", "randomness", "data"},
}
MODULES = sorted(SOURCE.rglob("*.py"))


def part_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported(path: Path):
    """Absolute module names that a file imports, lazily or not, but for type checking."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module == "breve":
                yield from (f"breve.{alias.name}" for alias in node.names)
            else:
                yield node.module or ""


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_point_one_way(path):
    part = part_of(path)
    if part not in ALLOWED:
        return
    parts = {name.split(".")[1] for name in imported(path) if name.startswith("breve.")}
    assert parts - {part} <= ALLOWED[part]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_numba_and_llvmlite_stay_in_their_corners(path):
    tops = {name.split(".")[0] for name in imported(path)}
    folders = path.relative_to(SOURCE).parts
    if "numba" in tops:
        assert folders[0] == "kernels"
    if "llvmlite" in tops:
        assert folders[:2] == ("kernels", "microkernel")


def inlined(path):
    """Functions that are compiled for other compiled functions alone: from Python they would crash."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef) and {"inline", "inline_sum", "inline_parallel"} & {
            decorator.id for decorator in node.decorator_list if isinstance(decorator, ast.Name)
        }:
            yield node.name


def test_inlined_functions_stay_within_the_kernels():
    kernels = {path for path in MODULES if "kernels" in path.parts}
    module_of = {path: ".".join(("breve", *path.relative_to(SOURCE).with_suffix("").parts)) for path in kernels}
    forbidden = {(module_of[path], name) for path in kernels for name in inlined(path)}
    assert ("breve.kernels.pooling", "_inside") in forbidden
    for path in set(MODULES) - kernels:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert not {(node.module, alias.name) for alias in node.names} & forbidden, path


def test_import_of_breve_loads_no_compiler():
    code = "import breve, sys; print(sorted({'numba', 'llvmlite', 'h5py', 'click', 'rich'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
