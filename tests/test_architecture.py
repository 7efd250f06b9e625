"""The walls of the house: who may import whom, and what the gateway must never load."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

GATEWAY = Path(__file__).parent.parent / "gateway"
MODULES = {
    "gateway." + ".".join(path.relative_to(GATEWAY).with_suffix("").parts): path for path in GATEWAY.rglob("*.py")
}
STAGES = {"gateway.intake", "gateway.fetch", "gateway.decode", "gateway.views", "gateway.scoring", "gateway.tokenizer"}
WEB = ("fastapi", "starlette", "uvicorn", "multipart")
LONGEST_LINES = 350


def imports(path: Path) -> set[str]:
    """Every module that a file imports, also within functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def importers(*packages: str) -> set[str]:
    """The gateway's modules that import one of these packages."""
    return {
        name
        for name, path in MODULES.items()
        if any(found == package or found.startswith(package + ".") for found in imports(path) for package in packages)
    }


def test_only_one_module_knows_triton() -> None:
    assert importers("tritonclient", "grpc") == {"gateway.encoder"}


def test_only_the_store_knows_sql() -> None:
    drivers = ("sqlalchemy", "alembic", "asyncpg", "aiosqlite", "sqlite3")
    assert {name for name in importers(*drivers) if not name.startswith("gateway.store.")} == set()


def test_only_the_web_layer_knows_http() -> None:
    allowed = {"gateway.app", "gateway.__main__"}
    assert {name for name in importers(*WEB) if not name.startswith("gateway.routes.")} <= allowed


def test_settings_are_read_where_the_parts_are_made() -> None:
    assert importers("gateway.settings") == {"gateway.app", "gateway.__main__"}


def test_stages_do_not_import_each_other() -> None:
    for stage in STAGES:
        others = STAGES - {stage}
        assert not {found for found in imports(MODULES[stage]) if found in others}, stage


def test_nothing_below_imports_the_web_layer() -> None:
    above = {"gateway.app", "gateway.__main__"}
    below = {name for name in MODULES if not name.startswith("gateway.routes")} - above
    for name in below:
        assert not any(found.startswith("gateway.routes") for found in imports(MODULES[name])), name


def test_the_gateway_loads_neither_torch_nor_transformers() -> None:
    code = "import sys, gateway.__main__; print(sorted({'torch', 'transformers', 'scripts'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=GATEWAY.parent)
    assert run.stdout.strip() == "[]"


def test_a_gateway_on_sqlite_loads_neither_migrations_nor_postgresqls_driver() -> None:
    code = "import sys, gateway.__main__; print(sorted({'alembic', 'asyncpg'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=GATEWAY.parent)
    assert run.stdout.strip() == "[]"


def test_no_module_holds_state() -> None:
    for name, path in MODULES.items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            assert not isinstance(node, (ast.Global, ast.AugAssign)), name
            value = node.value if isinstance(node, (ast.Assign, ast.AnnAssign)) else None
            assert not isinstance(value, (ast.List, ast.Set, ast.DictComp, ast.ListComp)) or _is_constant(node), name


def _is_constant(node: ast.stmt) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return all(isinstance(target, ast.Name) and target.id.isupper() for target in targets)


@pytest.mark.parametrize("banned", ["utils", "helpers", "common", "manager"])
def test_names_say_what_a_module_does(banned: str) -> None:
    assert not [name for name in MODULES if name.rsplit(".", 1)[-1] == banned]


def test_files_stay_small_enough_to_read_whole() -> None:
    long = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in MODULES.items()}
    assert {name: lines for name, lines in long.items() if lines > LONGEST_LINES} == {}
