"""Conventions of the public surface, and the direction of imports."""

import ast
import doctest
import inspect
import sys
from pathlib import Path

import jax
import pytest
from jax import lax

import jaxconv

PACKAGE = Path(jaxconv.__file__).parent
PUBLIC = {
    "adaptive_avg_pool",
    "adaptive_max_pool",
    "avg_pool",
    "compiler_options",
    "conv",
    "conv_general_dilated",
    "conv_general_dilated_local",
    "conv_general_dilated_patches",
    "conv_input_gradient",
    "conv_kernel_gradient",
    "conv_local",
    "conv_stream",
    "conv_stream_state",
    "conv_transpose",
    "convolve",
    "correlate",
    "deform_conv",
    "depthwise_conv",
    "explain",
    "extract_patches",
    "fold_patches",
    "forget_plans",
    "fractional_max_pool",
    "global_avg_pool",
    "global_max_pool",
    "keep_memory",
    "lp_pool",
    "max_pool",
    "max_pool_with_argmax",
    "max_unpool",
    "median_pool",
    "min_pool",
    "pool",
    "rank_pool",
    "reduce_window",
    "separable_conv",
    "sum_pool",
    "tune",
    "use_plans",
}
FUNCTIONS = sorted(name for name in jaxconv.__all__ if callable(getattr(jaxconv, name, None)))
OPTIONS = inspect.Parameter.KEYWORD_ONLY


def parameters(name: str) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(getattr(jaxconv, name)).parameters)


def test_all_names_exist_and_are_the_designed_ones() -> None:
    assert len(set(jaxconv.__all__)) == len(jaxconv.__all__)
    assert not [name for name in jaxconv.__all__ if not hasattr(jaxconv, name)]
    assert set(jaxconv.__all__) - {"__version__"} >= PUBLIC


def test_nothing_public_is_left_out_of_all() -> None:
    leaked = {
        name
        for name, value in vars(jaxconv).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert leaked <= set(jaxconv.__all__)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_public_functions_are_typed_and_documented_with_an_example(name: str) -> None:
    function = getattr(jaxconv, name)
    signature = inspect.signature(function)
    assert signature.return_annotation is not inspect.Signature.empty
    assert all(p.annotation is not p.empty for p in signature.parameters.values())
    assert ">>> " in (function.__doc__ or "")


@pytest.mark.parametrize(
    ("name", "positional"),
    [
        ("conv", ["x", "kernel", "bias"]),
        ("conv_input_gradient", ["dy", "kernel", "input_shape"]),
        ("conv_kernel_gradient", ["x", "dy", "kernel_shape"]),
        ("convolve", ["x", "kernel", "mode"]),
        ("conv_local", ["x", "kernel", "bias"]),
        ("conv_stream", ["x", "kernel", "state", "bias"]),
        ("correlate", ["x", "kernel", "mode"]),
        ("depthwise_conv", ["x", "kernel", "bias"]),
        ("separable_conv", ["x", "depthwise_kernel", "pointwise_kernel", "bias"]),
    ],
)
def test_options_are_keyword_only(name: str, positional: list[str]) -> None:
    found = parameters(name)
    assert list(found)[: len(positional)] == positional
    assert all(p.kind is OPTIONS for p in list(found.values())[len(positional) :])
    assert all(p.default is not p.empty for p in found.values() if p.kind is OPTIONS)


def test_conv_options_and_defaults() -> None:
    expected = {
        "strides": 1,
        "padding": "SAME",
        "input_dilation": 1,
        "kernel_dilation": 1,
        "groups": 1,
        "precision": None,
        "preferred_element_type": None,
        "algorithm": "auto",
        "autodiff": "custom",
    }
    for name in ("conv", "conv_input_gradient", "conv_kernel_gradient"):
        options = {k: p.default for k, p in parameters(name).items() if p.kind is OPTIONS}
        assert options == expected


def test_conv_general_dilated_starts_with_the_signature_of_lax() -> None:
    ours = list(parameters("conv_general_dilated").values())
    theirs = list(inspect.signature(lax.conv_general_dilated).parameters.values())
    assert [(p.name, p.default, p.kind) for p in ours[: len(theirs)]] == [
        (p.name, p.default, p.kind) for p in theirs
    ]
    assert [p.name for p in ours[len(theirs) :]] == ["algorithm", "autodiff"]
    assert all(p.kind is OPTIONS for p in ours[len(theirs) :])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_examples_in_docstrings_run(name: str) -> None:
    """Under JAX's default configuration, as a reader would type them."""
    function = getattr(jaxconv, name)
    (example,) = doctest.DocTestFinder(recurse=False).find(function, name, globs={})
    with (
        jax.enable_x64(False),
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
    ):
        assert not doctest.DocTestRunner().run(example).failed


def modules() -> dict[str, ast.Module]:
    paths = sorted(PACKAGE.rglob("*.py"))
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): ast.parse(path.read_text())
        for path in paths
    }


def imported_from_package(module: str, tree: ast.Module) -> set[str]:
    """Sibling modules that `module` imports, as dotted names below the package."""
    package = module.split(".")[:-1]
    found = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        base = package[: len(package) - (node.level - 1)]
        if node.module:
            found.add(".".join([*base, *node.module.split(".")]))
        else:
            found |= {".".join([*base, alias.name]) for alias in node.names}
    return found


def imported_from_outside(tree: ast.Module) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found.add(node.module.split(".")[0])
    return found


# The layers of DESIGN.md, lowest first; a module imports from layers below its own alone.
LAYERS = [
    ["_window", "_workload", "_front", "_loops", "_cpu_cache"],
    ["_layout", "_dtypes", "_padding", "_workloads"],
    ["_extend"],
    ["_problem"],
    ["_patches", "_contract", "_ladder"],
    ["algorithms", "_plans"],
    ["_ladder_cpu_transforms"],
    ["_ladder_cpu_direct", "_ladder_cpu_outer", "_ladder_cpu_strides"],
    ["_ladder_cpu", "_ladder_gpu"],
    ["_select"],
    ["_trilinear", "_tune"],
    ["_call"],
    ["_conv", "_gradients"],
    ["_explain", "_local", "_separable", "_signal", "_stream", "_transpose"],
]


def layer(module: str) -> int | None:
    head = module.split(".")[0]
    return next((i for i, names in enumerate(LAYERS) if head in names), None)


def test_the_layers_are_the_ones_on_disk() -> None:
    found = {module.split(".")[0] for module in modules()}
    assert {name for names in LAYERS for name in names} <= found


def test_imports_run_one_way() -> None:
    wrong = []
    for module, tree in modules().items():
        for imported in imported_from_package(module, tree):
            here, there = layer(module), layer(imported)
            if here is None or there is None or module.split(".")[0] == imported.split(".")[0]:
                continue
            if there >= here:
                wrong.append((module, imported))
    assert not wrong


def test_no_import_cycles() -> None:
    graph = {module: imported_from_package(module, tree) for module, tree in modules().items()}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path, module))
        if module in done or module not in graph:
            return
        for imported in graph[module]:
            visit(imported, (*path, module))
        done.add(module)

    for module in graph:
        visit(module, ())


def test_geometry_and_layout_import_no_jax() -> None:
    trees = modules()
    for module in ("_window", "_layout", "_workload", "_workloads"):
        assert not imported_from_outside(trees[module]) & {"jax", "jaxlib", "numpy"}


def test_algorithms_know_neither_each_other_nor_the_selector() -> None:
    for module, tree in modules().items():
        if not module.startswith("algorithms.") or module.endswith("__init__"):
            continue
        others = {
            name
            for name in imported_from_package(module, tree)
            if name.startswith("algorithms.") and not name.split(".")[1].startswith("_")
        }
        assert not others, module
        assert "_select" not in imported_from_package(module, tree)


def test_pooling_sees_only_geometry_layout_and_patches() -> None:
    trees = modules()
    pools = [module for module in trees if module.startswith("_pool")]
    assert pools
    for module in pools:
        imported = imported_from_package(module, trees[module])
        assert {name for name in imported if not name.startswith("_pool")} <= {
            "_window",
            "_padding",
            "_layout",
            "_patches",
            "_extend",
            "_unfold",
            "_front",
        }


def test_the_library_needs_jax_and_numpy_alone() -> None:
    allowed = {"jax", "jaxlib", "numpy", *sys.stdlib_module_names}
    for module, tree in modules().items():
        assert imported_from_outside(tree) <= allowed, module


def test_short_modules_and_functions() -> None:
    """House rule: under 300 lines a module, under 40 a function without its docstring."""
    for module, tree in modules().items():
        path = PACKAGE.joinpath(*module.split(".")).with_suffix(".py")
        assert len(path.read_text().splitlines()) <= 300, module
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                lines = body[-1].end_lineno - body[0].lineno + 1 if body else 0  # type: ignore[operator]
                assert lines <= 40, f"{module}.{node.name}: {lines} lines"
