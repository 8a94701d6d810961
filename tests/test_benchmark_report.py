"""The benchmark's report, from records whose figures are known."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pages import ROOT
from speed_modules import speed_modules


@pytest.fixture(scope="module")
def speed() -> Iterator[Any]:
    with speed_modules() as load:
        yield load


def _record(case: str, algorithm: str, jaxconv: float, lax: float, torch: float) -> dict[str, Any]:
    return {
        "case": case,
        "pass": "forward",
        "dtype": "float32",
        "algorithm": algorithm,
        "time_ms": {"jaxconv": jaxconv, "lax": lax, "torch": torch},
        "temp_bytes": {"jaxconv": 400, "lax": 0},
        "io_bytes": 100,
        "flops": 1000,
        "compile_ms": {"jaxconv": 30.0, "lax": 10.0},
        "error": {"jaxconv": 1e-6, "lax": 2e-6},
        "spread": {"jaxconv": 0.1, "lax": 0.1, "torch": 0.1},
        "repeats": {"jaxconv": 7, "lax": 3, "torch": 7},
        "lax_again_ms": lax * 1.25,
        "chosen": None,
        "failures": {},
    }


RECORDS = [
    _record("one", "auto", 2.0, 8.0, 1.0),
    _record("one", "gemm", 1.0, 8.0, 1.0),
    _record("two", "auto", 1.0, 16.0, 4.0),
    _record("two", "gemm", 3.0, 16.0, 4.0),
]
ROOF = {"dot_gflop_per_s": {"float32": {"1x1x1": 1.0}}, "copy_gbyte_per_s": 1.0}


def test_regret_compares_auto_with_the_best(speed: Any) -> None:
    regrets = speed("report").regrets(RECORDS)
    assert regrets == {("one", "forward", "float32"): 2.0, ("two", "forward", "float32"): 1.0}


def test_summary_counts_what_the_records_say(speed: Any) -> None:
    text = speed("report").summary(RECORDS)
    assert f"lax / jaxconv: geometric mean {math.sqrt(4 * 16):.2f}, worst 4.00 (one forward)" in text
    assert f"torch / jaxconv: geometric mean {math.sqrt(0.5 * 4):.2f}, worst 0.50" in text
    assert "slower than 1.5 times torch: 1 of 2: one forward 2.00" in text
    assert "temporary bytes / io bytes: largest 4.00 (two forward), 2 above 3" in text
    assert "worst 2.00 (one forward float32)" in text
    assert "over 2: median 1.250" in text


def test_steps_are_apart_and_their_memory_is_measured_against_lax(speed: Any) -> None:
    step = _record("net", "auto", 1.0, 3.0, 2.0) | {"pass": "step"}
    step["temp_bytes"] = {"jaxconv": 400, "lax": 100}
    layers, steps = speed("report").summary([*RECORDS, step]).split("float32 training steps")
    assert "(net step)" not in layers
    assert "lax / jaxconv: geometric mean 3.00" in steps
    assert "temporary bytes / lax's: largest 4.00 (net step)\n" in steps
    assert "compile time / lax's: largest 3.00 (net step), 1 above 1.5" in steps


def test_table_marks_medians_of_few_samples_and_the_roof(speed: Any) -> None:
    line = speed("report").table(RECORDS, ROOF).splitlines()[1]
    assert "8.00 (3)" in line and "(7)" not in line
    # 1000 operations at 1 GFLOP/s take 1e-3 ms, of the 2 ms taken.
    assert line.endswith("0%")
    faster = _record("one", "auto", 2e-3, 8.0, 1.0)
    assert speed("report").table([faster], ROOF).endswith("50%")


def test_failures_are_in_the_summary(speed: Any) -> None:
    record = _record("one", "auto", 1.0, 1.0, 1.0) | {"failures": {"torch": "ValueError: why"}}
    assert "FAILED one forward float32 torch: ValueError: why" in speed("report").summary([record])


def test_percentile_is_a_value_of_the_list(speed: Any) -> None:
    percentile = speed("report").percentile
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile([float(i) for i in range(1, 101)], 0.95) == 95.0


def test_the_command_in_the_metadata_names_no_path_of_the_machine(
    speed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")
    command = speed("machine").command(["--json", "/some/where/out.json", "--cases", "a|b"])
    assert command == (
        "GLIBC_TUNABLES=glibc.malloc.hugetlb=1 python experiments/speed/run.py --json out.json --cases 'a|b'"
    )


def test_a_saved_run_is_reported_again(speed: Any, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(RECORDS))
    path.with_name("run.json.meta.json").write_text(json.dumps({"roofline": ROOF}))
    speed("report").main([str(path)])
    assert capsys.readouterr().out == speed("report").full_report(RECORDS, ROOF) + "\n"
    with pytest.raises(SystemExit):
        speed("report").main([str(tmp_path / "other.json")])
    assert "there is no file" in capsys.readouterr().err


def test_targets_count_what_the_records_say(speed: Any) -> None:
    """lax takes 4 and 16 times as long, PyTorch 0.5 and 4 times; temporaries are 4 times the operands."""
    cells = [cell(RECORDS[::2]) for _, cell in speed("targets").TARGETS]
    assert cells == ["8.00", "0 (0.2)", "1.41", "1 (2.0)", "2 (4.0)", "0 (0.5)"]


def test_the_readme_shows_what_committed_results_reach(speed: Any) -> None:
    assert speed("targets").table() in (ROOT / "README.md").read_text()


def test_plot_draws_the_records(speed: Any, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    meta = {"device": "cpu", "cores": 2, "processor": "a chip", "versions": {"jax": "1", "torch": None}}
    path = speed("plot").draw_ratios(RECORDS, meta, tmp_path)
    assert path.read_bytes().startswith(b"\x89PNG")
    no_peer = [_record("one", "auto", 1.0, 0.0, 0.0)]
    assert speed("plot").draw_ratios(no_peer, meta, tmp_path) is None
