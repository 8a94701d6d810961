"""The named workloads, and the benchmark that times them: figures must be of the right thing."""

import ast
import dataclasses
import itertools
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxconv import _workload, _workloads
from jaxconv._workload import ConvWorkload, PoolWorkload, StepWorkload
from jaxconv._workloads import select
from speed_modules import SPEED, speed_modules

ROOT = Path(__file__).resolve().parents[1]
LAYERS = [w for w in _workloads.WORKLOADS if not isinstance(w, StepWorkload)]
CONVOLUTIONS = [w for w in LAYERS if isinstance(w, ConvWorkload)]
LAYER = ConvWorkload("layer", 2, (9, 8), 4, 6, (3, 3), (1, 1), (1, 1), 1, ((1, 1), (1, 1)))
TRANSPOSED = dataclasses.replace(
    LAYER, name="transposed", strides=(2, 2), padding=((1, 2), (2, 2)), kind="transposed"
)
MAX_POOL = PoolWorkload("max", "max", 2, (7, 8), 3, (3, 3), (2, 2), ((1, 1), (1, 1)))
SMALL = (
    LAYER,
    dataclasses.replace(LAYER, name="strided", strides=(2, 2)),
    dataclasses.replace(LAYER, name="dilated", dilation=(2, 2), padding=((2, 2), (2, 2))),
    dataclasses.replace(LAYER, name="grouped", groups=2),
    dataclasses.replace(LAYER, name="depthwise", out_channels=4, groups=4),
    TRANSPOSED,
    dataclasses.replace(
        LAYER,
        name="loop",
        out_channels=4,
        kind="loop",
        layout="channels_first",
        passes=("forward",),
    ),
    dataclasses.replace(LAYER, name="per_example", kind="per_example", passes=("kernel_grad",)),
    ConvWorkload("line", 2, (20,), 3, 4, (3,), (1,), (2,), 1, ((2, 2),)),
    ConvWorkload("volume", 1, (4, 5, 6), 2, 3, (3, 3, 3), (1,) * 3, (1,) * 3, 1, ((1, 1),) * 3),
    MAX_POOL,
    PoolWorkload("avg", "avg", 2, (7, 8), 3, (3, 3), (2, 2), ((1, 1), (1, 1))),
)
SMALL_PASSES = [(w, name) for w in SMALL for name in w.passes]


def _ids(values: Any) -> list[str]:
    return ["-".join(getattr(part, "name", part) for part in value) for value in values]


@pytest.fixture(scope="module")
def speed() -> Iterator[Any]:
    with speed_modules() as load:
        yield load


def test_workloads_import_nothing_but_the_standard_library() -> None:
    for module in (_workload, _workloads):
        tree = ast.parse(Path(module.__file__).read_text())
        imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        imported |= {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
        assert imported <= sys.stdlib_module_names | {"collections.abc", "_workload"}


def test_workload_names_are_unique() -> None:
    counts = Counter(w.name for w in _workloads.WORKLOADS)
    assert [name for name, count in counts.items() if count > 1] == []


def test_select_by_tag_and_pattern() -> None:
    assert [w.name for w in select("full", "^resnet_(7|14)$")] == ["resnet_14", "resnet_7"]
    assert "issue_13800" not in {w.name for w in select("full")}
    assert {w.name for w in select("quick")} < {w.name for w in select("full")}
    assert set(select("all")) == set(_workloads.WORKLOADS)
    assert select("quick", "^resnet_56$") == ()


@pytest.mark.parametrize("workload", LAYERS, ids=lambda w: w.name)
def test_output_shapes_are_those_of_lax(workload: Any, speed: Any) -> None:
    jax_peer = speed("jax_peer")
    if isinstance(workload, ConvWorkload):
        workload = dataclasses.replace(workload, layout="channels_last", kind=_once(workload.kind))
        kernel = jax.ShapeDtypeStruct(workload.kernel_shape, jnp.float32)
    else:
        kernel = None
    forward = jax_peer.pass_function(workload, "forward", jax_peer.LAX)
    x = jax.ShapeDtypeStruct(workload.input_shape, jnp.float32)
    assert jax.eval_shape(forward, x, kernel, None).shape == workload.output_shape


def _once(kind: str) -> str:
    return "transposed" if kind == "transposed" else "plain"


def test_flops_of_an_unpadded_convolution_are_those_that_xla_counts(speed: Any) -> None:
    jax_peer = speed("jax_peer")
    workload = dataclasses.replace(LAYER, padding=((0, 0), (0, 0)), groups=2)
    shapes = (workload.input_shape, workload.kernel_shape)
    arguments = [jax.ShapeDtypeStruct(s, jnp.float32) for s in shapes]
    forward = jax_peer.pass_function(workload, "forward", jax_peer.LAX)
    lowered = jax.jit(forward).lower(*arguments, None)
    assert workload.flops == lowered.cost_analysis()["flops"]


def test_pass_functions_follow_the_mathematics(speed: Any) -> None:
    """<conv(x, w), g> is the same number through each of the three passes."""
    records, jax_peer = speed("records"), speed("jax_peer")
    for workload in SMALL[:6]:
        x, w, g = arguments = records.draw_arguments(workload, "float32")
        y, dx, dw = (
            np.asarray(jax_peer.pass_function(workload, name, jax_peer.LAX)(*arguments))
            for name in workload.passes
        )
        products = [np.vdot(y, g), np.vdot(x, dx), np.vdot(w, dw)]
        np.testing.assert_allclose(products, products[0], rtol=1e-4)


@pytest.mark.torch
@pytest.mark.parametrize(("workload", "name"), SMALL_PASSES, ids=_ids(SMALL_PASSES))
def test_every_way_of_pytorch_computes_what_lax_computes(workload: Any, name: str, speed: Any) -> None:
    pytest.importorskip("torch")
    records, jax_peer, torch_peer = speed("records"), speed("jax_peer"), speed("torch_peer")
    arguments = records.draw_arguments(workload, "float64")
    with jax.enable_x64(True):
        expected = jax_peer.pass_function(workload, name, jax_peer.LAX)
        expected = records.from_jax(workload, name, expected(*records.to_jax(workload, arguments)))
    ways = torch_peer.build(workload, name, arguments, 0.01)
    expected_ways = 2 if workload.name in ("line", "per_example") else 1
    assert len(ways) == expected_ways
    for run, back in ways:
        np.testing.assert_allclose(back(run()), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.torch
@pytest.mark.parametrize("workload", CONVOLUTIONS, ids=lambda w: w.name)
def test_output_shapes_are_those_of_pytorch(workload: Any, speed: Any) -> None:
    torch = pytest.importorskip("torch")
    # "meta" tensors have shapes and no values.
    x, w = (torch.empty(s, device="meta") for s in (workload.input_shape, workload.kernel_shape))
    w = w.movedim(-1, 0).movedim(-1, 1)
    if workload.kind == "transposed":
        w = w.transpose(0, 1)
    geometry = speed("torch_peer")._geometry(workload)
    y = torch.ops.aten.convolution(x.movedim(-1, 1), w, None, *geometry)
    assert tuple(y.movedim(1, -1).shape) == workload.output_shape


@pytest.mark.torch
@pytest.mark.parametrize(
    "name",
    [
        "lenet_step",
        *(pytest.param(f"{n}_step", marks=pytest.mark.slow) for n in ("vgg_small", "mobilenet", "convnext")),
    ],
)
def test_networks_take_the_same_step_in_both_libraries(name: str, speed: Any) -> None:
    pytest.importorskip("torch")
    records, jax_peer, torch_peer = speed("records"), speed("jax_peer"), speed("torch_peer")
    (workload,) = select("all", f"^{name}$")
    small = workload.spatial if name in ("lenet_step", "vgg_small_step") else (32, 32)
    workload = dataclasses.replace(workload, batch=2, spatial=small)
    arguments = records.draw_arguments(workload, "float64")
    ((run, back),) = torch_peer.build(workload, "step", arguments, 0.01)
    expected = back(run())
    with jax.enable_x64(True):
        step = jax_peer.step_function(speed("nets").NETS[name], jax_peer.LAX, 0.01)
        result = records.from_jax(workload, "step", jax.jit(step)(*jax.tree.map(jnp.asarray, arguments)))
    assert result.keys() == expected.keys()
    assert records.relative_error(workload, arguments, expected, result) < 1e-8
    assert records.relative_error(workload, arguments, expected, arguments[0]) > 0.9


@pytest.mark.parametrize(
    ("workload", "name"),
    [(LAYER, "forward"), (LAYER, "kernel_grad"), (TRANSPOSED, "input_grad"), (MAX_POOL, "input_grad")],
    ids=lambda v: getattr(v, "name", v),
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_a_record_holds_every_figure(workload: Any, name: str, dtype: str, speed: Any) -> None:
    records = speed("records")
    settings = records.Settings(("lax",), ("auto", "gemm"), repeats=3, budget_s=0.2)
    job = (workload, name, dtype)
    (measured,) = records.measure([job], settings, print)
    assert measured.failures == {}
    first, *_ = found = records.to_records(job, measured, settings.algorithms)
    is_conv = isinstance(workload, ConvWorkload)
    assert [r["algorithm"] for r in found] == (["auto", "gemm"] if is_conv else ["auto"])
    limit = {"float32": 1e-5, "bfloat16": 3e-2, "float64": 1e-13}[dtype]
    for key in ("jaxconv", "lax"):
        assert 0 <= first["error"][key] < limit
        assert first["time_ms"][key] > 0 and first["compile_ms"][key] > 0
        assert first["temp_bytes"][key] >= 0
    assert first["time_ms"]["torch"] is None
    width = {"float32": 4, "bfloat16": 2, "float64": 8}[dtype]
    assert first["io_bytes"] == workload.elements * width
    assert json.loads(json.dumps(found)) == found


def test_compiler_options_reach_both_libraries(speed: Any) -> None:
    records = speed("records")
    settings = records.Settings(("lax",), ("auto",), repeats=3, budget_s=0.1, compiler_options={"no_such": 1})
    (measured,) = records.measure([(LAYER, "forward", "float32")], settings, print)
    assert measured.failures.keys() == {"lax", "auto"}
    assert all("no_such" in reason for reason in measured.failures.values())


def test_a_failing_peer_is_reported_and_the_others_are_timed(speed: Any) -> None:
    records = speed("records")
    settings = records.Settings(("lax",), ("no such algorithm",), repeats=3, budget_s=0.1)
    job = (LAYER, "forward", "float32")
    (measured,) = records.measure([job], settings, print)
    assert "no such algorithm" in measured.failures["no such algorithm"]
    (record,) = records.to_records(job, measured, settings.algorithms)
    assert record["time_ms"]["lax"] > 0 and record["time_ms"]["jaxconv"] is None


def test_auto_shares_the_clock_of_the_algorithm_it_chose(speed: Any) -> None:
    records, task = speed("records"), speed("measure").Task
    programs = {"lax": "B", "auto": "B", "direct": "A", "gemm": "B"}

    def candidate(program: str) -> Any:
        compiled = speed("jax_peer").Compiled(print, program, 1.0, 0)
        return records.Candidate(task("", print, print), compiled, 0.0)

    measured = records.Measured({name: candidate(p) for name, p in programs.items()})
    records._share_the_clock(measured)
    assert measured.chosen == "gemm"
    assert measured.candidates["auto"].task is measured.candidates["gemm"].task
    assert len(measured.race().others) == 3


def test_an_explicit_algorithm_rules_the_pass_that_is_timed(speed: Any) -> None:
    policy_for = speed("records").policy_for
    assert policy_for(LAYER, "input_grad", "gemm") == {"input_grad": "gemm"}
    assert policy_for(LAYER, "input_grad", "auto") == "auto"
    assert policy_for(TRANSPOSED, "forward", "gemm") == {"input_grad": "gemm"}
    assert policy_for(TRANSPOSED, "input_grad", "gemm") == {"forward": "gemm"}
    assert policy_for(TRANSPOSED, "kernel_grad", "gemm") == {"kernel_grad": "gemm"}


def test_rounds_interleave_and_slow_functions_get_fewer(speed: Any) -> None:
    measure = speed("measure")
    calls: list[str] = []

    def task(name: str, call_s: float) -> Any:
        return measure.Task(name, lambda: calls.append(name), lambda _: None, call_s=call_s)

    # Above the threshold of slow calls: no warm call and no calibration, so calls are samples.
    first, a, b = task("torch", 1.0), task("a", 1.0), task("b", 1000.0)
    race = measure.Race(first, [a, b])
    race.calibrate(repeats=5, budget_s=100.0)
    race.run()
    assert " ".join(calls) == "torch a b torch b a torch a b torch a torch a"
    assert (first.rounds, a.rounds, b.rounds) == (5, 5, measure.LEAST_REPEATS)
    assert [len(t.samples_ms) for t in (first, a, b)] == [5, 5, 3]


def test_jobs_are_timed_in_sweeps_each_a_share_of_the_rounds(
    speed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure, records = speed("measure"), speed("records")
    calls: list[str] = []

    def prepared(workload: Any, *_: Any) -> Any:
        # Above the threshold of slow calls, so that calls are samples.
        task = measure.Task("", lambda: calls.append(workload), lambda _: None, call_s=1.0)
        return records.Measured({"lax": records.Candidate(task, None, 0.0)})

    monkeypatch.setattr(records, "prepare", prepared)
    settings = records.Settings((), (), repeats=7, budget_s=100.0)
    ticks: list[Any] = []
    records.measure([("a", "", ""), ("b", "", "")], settings, ticks.append)
    assert " ".join(calls) == "a a a b b b a a b b a a b b"
    assert [name for name, *_ in ticks] == ["a", "b"] * (1 + measure.SWEEPS)


@pytest.mark.parametrize(("warm_s", "warm_calls"), [(0.0, 1), (0.025, 3)])
def test_fast_functions_are_warmed_up_and_called_many_times_a_sample(
    warm_s: float, warm_calls: int, speed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = speed("measure")
    monkeypatch.setattr(measure, "WARM_S", warm_s)
    calls: list[int] = []
    task = measure.Task("fast", lambda: calls.append(1), lambda _: None, call_s=1e-9)
    task.calibrate(repeats=7, budget_s=1.0)
    assert task.calls == measure.MOST_CALLS and task.rounds == 7
    calls.clear()
    monkeypatch.setattr(measure.time, "perf_counter", itertools.count(0.0, 0.01).__next__)
    task.sample()
    assert len(calls) == warm_calls + measure.MOST_CALLS


@pytest.mark.parametrize(("queued", "waits"), [(False, 1 + 4), (True, 1 + 1)])
def test_queued_calls_of_a_sample_wait_for_the_last_alone(
    queued: bool, waits: int, speed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = speed("measure")
    monkeypatch.setattr(measure, "WARM_S", 0.0)
    waited: list[Any] = []
    task = measure.Task("", lambda: 0, waited.append, queued, calls=4)
    task.sample()
    assert len(waited) == waits


def test_median_and_spread(speed: Any) -> None:
    task = speed("measure").Task("", lambda: None, lambda _: None)
    task.samples_ms = [9.0, 2.0, 1.0, 3.0, 4.0]
    assert task.time_ms == 3.0
    assert task.spread == pytest.approx((4.0 - 2.0) / 3.0)


@pytest.mark.slow
def test_the_command_line_writes_records_and_metadata(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    words = "--cases ^lenet_2$ --passes forward --peers lax --algorithms all --repeats 3".split()
    env = os.environ | {"PYTHONPATH": str(ROOT / "src"), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, SPEED / "run.py", *words, "--json", out],
        env=env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    records = json.loads(out.read_text())
    assert [r["algorithm"] for r in records].count("auto") == 1
    assert {(r["case"], r["pass"], r["dtype"]) for r in records} == {("lenet_2", "forward", "float32")}
    assert "regret" in done.stdout and "Noise floor" in done.stdout
    meta = json.loads((tmp_path / "out.json.meta.json").read_text())
    assert meta["roofline"]["dot_gflop_per_s"]["float32"] and str(tmp_path) not in meta["command"]
