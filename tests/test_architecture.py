"""Which package may import which, which library stands behind which package, and that no module holds state."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

GATEWAY = Path(__file__).parent.parent / "gateway"
MODULES = {
    "gateway." + ".".join(path.relative_to(GATEWAY).with_suffix("").parts): path for path in GATEWAY.rglob("*.py")
}

LAYERS = (
    ("cli",),
    ("__main__",),
    ("app", "memory_ceiling"),
    ("access_parts", "job_parts", "parts", "review_parts"),
    ("settings",),
    ("console_settings", "trace_settings", "triton_settings"),
    ("setting_types",),
    ("serving",),
    ("api",),
    ("evaluation",),
    ("readiness",),
    ("jobs",),
    ("moderation",),
    ("review",),
    ("pipeline", "training"),
    ("hash_matching", "fetching", "inference"),
    ("decoding", "limits"),
    ("store", "auth", "observability", "errors"),
)
"""From the top down. A package imports from layers below its own, never from its own or above."""

OWNERS = {
    "fastapi": ("api", "app", "__main__"),
    "starlette": ("api",),
    "multipart": ("api",),
    "uvicorn": ("serving", "__main__"),
    "grpc": ("inference",),
    "tritonclient": ("inference",),
    "sqlalchemy": ("store",),
    "alembic": ("store",),
    "asyncpg": ("store",),
    "sqlite3": ("store",),
    "PIL": ("decoding", "evaluation"),  # evaluation: thumbnails of one's own files, made on the person's own machine
    "httpcore2": ("fetching", "parts", "review"),  # review: webhooks, to the operator's own address
    "standardwebhooks": ("review",),
    "dns": ("fetching",),
    "idna": ("fetching",),
    "click": ("cli",),
    "httpx2": ("cli",),
    "prometheus_client": ("observability",),
    "opentelemetry": ("observability",),
    "authlib": ("api",),
    "joserfc": ("api",),
    "sklearn": ("training", "evaluation"),
    "scipy": ("training", "evaluation"),
    "mapie": ("evaluation",),
    "matplotlib": ("evaluation",),
    "jinja2": ("evaluation",),
    "pyarrow": ("evaluation",),
    "obstore": ("review",),
    "cryptography": ("review",),
}
"""Which packages alone import a library; ``app`` and ``__main__`` name some types where they wire the parts."""

MAX_LINES = 350
MAX_FILES = 22

EMPTY_CONTAINERS = frozenset({"dict", "list", "set", "defaultdict", "deque", "Counter", "OrderedDict", "bytearray"})
CONSTANT_CALLS = frozenset(
    {
        *("frozenset", "tuple", "range", "bytes", "MappingProxyType", "re.compile", "struct.Struct", "attrgetter"),
        *(
            "TypeVar",
            "ParamSpec",
            "Path",
            "datetime",
            "timedelta",
            "IPv6Network",
            "IPv4Network",
            "resource.getpagesize",
        ),
        *("Field", "field", "ConfigDict", "SettingsConfigDict", "PrivateAttr"),
        *("MetaData", "Table", "text", "func.coalesce", "DateTime", "BigInteger().with_variant", "Text().with_variant"),
        *("click.FloatRange", "APIRouter", "Actor", "AuditFilter", "HostPatterns", "Precondition"),
    }
)
"""What a module or class may call to make a constant: it returns something that is not changed afterwards."""


def imports(path: Path) -> set[str]:
    """Every module that a file imports, also within functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def package_of(module: str) -> str:
    """The package below ``gateway`` that a module stands in, or its own name in the root; "" of ``gateway`` itself."""
    return [*module.split("."), ""][1]


def test_every_package_has_its_layer() -> None:
    known = {name for layer in LAYERS for name in layer}
    assert {package_of(name) for name in MODULES} - {"__init__"} == known


def test_packages_import_downward_only() -> None:
    rank = {name: number for number, layer in enumerate(LAYERS) for name in layer}
    upward = set()
    for name, path in MODULES.items():
        mine = package_of(name)
        for found in imports(path):
            theirs = package_of(found) if found.startswith("gateway.") else mine
            if theirs in rank and theirs != mine and rank[theirs] <= rank.get(mine, len(LAYERS)):
                upward.add(f"{name} imports {found}")
    assert upward == set()


@pytest.mark.parametrize("library", OWNERS)
def test_a_library_stands_behind_its_package(library: str) -> None:
    users = {
        package_of(name)
        for name, path in MODULES.items()
        if any(found == library or found.startswith(f"{library}.") for found in imports(path))
    }
    assert users, "nobody uses it: take it out of the table"
    assert users <= set(OWNERS[library])


def test_settings_are_read_where_the_parts_are_made() -> None:
    readers = {name for name, path in MODULES.items() if "gateway.settings" in imports(path)}
    parts = ("access_parts", "job_parts", "parts", "review_parts")
    assert readers == {f"gateway.{name}" for name in ("app", "__main__", "memory_ceiling", *parts)}


def test_headers_are_read_by_python_alone() -> None:
    for name, path in MODULES.items():
        if name.startswith("gateway.decoding.headers."):
            assert not {found.split(".")[0] for found in imports(path)} & {"PIL", "numpy"}, name


@pytest.mark.parametrize(
    ("started", "never"),
    [
        ("gateway.__main__", {"torch", "transformers", "scripts"}),
        ("gateway.__main__", {"alembic", "asyncpg", "obstore", "cryptography", "opentelemetry.sdk"}),
        ("gateway.__main__", {"sklearn", "scipy", "matplotlib", "mapie", "jinja2"}),
        ("gateway.evaluation.job", {"fastapi", "sqlalchemy", "grpc", "numpy", "sklearn"}),  # before its limits
        ("gateway.cli.main", {"fastapi", "numpy", "sqlalchemy", "grpc"}),
    ],
)
def test_what_is_not_needed_is_not_loaded(started: str, never: set[str]) -> None:
    code = f"import sys, {started}; print(sorted({never!r} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=GATEWAY.parent)
    assert run.stdout.strip() == "[]"


def state_in(source: str) -> Iterator[str]:
    """What a module's source keeps between calls, besides constants: a line for each."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            yield f"line {node.lineno}: global"
    yield from _state_of(tree.body, top=True)


def _state_of(body: list[ast.stmt], *, top: bool) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield from _state_of(node.body, top=False)
        elif isinstance(node, (ast.If, ast.Try, ast.With)):
            yield from _state_of(node.body, top=top)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for decorator in node.decorator_list:
                called = decorator.func if isinstance(decorator, ast.Call) else decorator
                if ast.unparse(called).rpartition(".")[2] in {"cache", "lru_cache"}:
                    yield f"line {node.lineno}: {node.name} is cached"
        elif isinstance(node, ast.AugAssign):
            yield f"line {node.lineno}: {ast.unparse(node.target)} changes"
        elif isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
            reason = _mutable(node.value)
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            constant = all(isinstance(target, ast.Name) and target.id.isupper() for target in targets)
            if reason == "display" and (constant or not top):
                continue
            if reason:
                yield f"line {node.lineno}: {ast.unparse(targets[0])} is {ast.unparse(node.value)[:40]}"


def _mutable(value: ast.expr) -> str:
    """Why a value may be changed later: ``display`` of a filled container, ``empty``, ``call``; "" of a constant."""
    if isinstance(value, (ast.Dict, ast.List, ast.Set)):
        return "display" if ast.unparse(value) not in {"{}", "[]"} else "empty"
    if isinstance(value, (ast.DictComp, ast.ListComp, ast.SetComp)):
        return "display"
    if isinstance(value, ast.Call):
        return "" if ast.unparse(value.func) in CONSTANT_CALLS else "call"
    return ""


def test_no_module_holds_state() -> None:
    found = {
        f"{name}: {reason}"
        for name, path in MODULES.items()
        if ".migrations." not in name
        for reason in state_in(path.read_text(encoding="utf-8"))
    }
    assert found == ALLOWED_STATE


ALLOWED_STATE: set[str] = set()


@pytest.mark.parametrize(
    "source",
    [
        "cache = {}",
        "CACHE = {}",
        "_seen = dict()",
        "_SEEN: set[str] = set()",
        "cache = LRUCache(10)",
        "CACHE = LRUCache(10)",
        "pending = [1]",
        "LOCK = asyncio.Lock()",
        "class A:\n    seen = {}",
        "class A:\n    seen: ClassVar[list[int]] = []",
        "@lru_cache\ndef f(): pass",
        "@functools.cache\ndef f(): pass",
        "def f():\n    global x\n    x = 1",
        "count = 0\ncount += 1",
        "if True:\n    cache = {}",
    ],
)
def test_state_is_seen(source: str) -> None:
    assert list(state_in(source))


@pytest.mark.parametrize(
    "source",
    [
        "NAMES = {'a': 1}",
        "ORDER = ['a', 'b']",
        "KINDS = frozenset({1})",
        "WORD = re.compile('a')",
        "class A:\n    limit = 3",
        "class A:\n    tags: list[str] = Field(default_factory=list)",
        "def f():\n    seen = {}\n    return seen",
    ],
)
def test_constants_are_no_state(source: str) -> None:
    assert not list(state_in(source))


@pytest.mark.parametrize("banned", ["utils", "helpers", "common", "manager"])
def test_names_say_what_a_module_does(banned: str) -> None:
    assert not [name for name in MODULES if banned in name.split(".")]


def test_class_names_stand_once() -> None:
    places: dict[str, list[str]] = {}
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(name)
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_files_stay_small_enough_to_read_whole() -> None:
    long = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in MODULES.items()}
    assert {name: lines for name, lines in long.items() if lines > MAX_LINES} == {}


def test_folders_stay_small_enough_to_look_through() -> None:
    folders: dict[Path, int] = {}
    for path in MODULES.values():
        folders[path.parent] = folders.get(path.parent, 0) + (path.name != "__init__.py")
    assert {str(folder): files for folder, files in folders.items() if files > MAX_FILES} == {}


def test_no_request_is_judged_by_an_address_that_its_client_wrote() -> None:
    """Starlette makes ``request.url`` of the Host header, so that a path in it may be another than the route's."""
    made_of_host = re.compile(r"\b(?:request|websocket)\.(?:url|base_url|url_for)\b|\bURL\(scope")
    for path in [*(GATEWAY / "api").rglob("*.py"), *(GATEWAY / "serving").rglob("*.py")]:
        assert not made_of_host.search(path.read_text()), path
