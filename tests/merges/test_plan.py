"""Plans: what they count as memory, and what they say beside problems."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from merges import buffers, library
from merges.checkpoints import Checkpoint
from merges.contract import EXAMPLE, signature_of
from merges.errors import CheckpointError
from merges.plan import make_plan
from merges.preflight import described, facts
from tests.merges.written_adapters import model_of


def test_inner_products_of_rows_count_as_memory(tmp_path: Path) -> None:
    """Of many short rows they are more than a block."""
    tensors = {"a.weight": torch.ones(1000, 2)}
    base, one, other = (model_of(tmp_path / name, tensors) for name in ("base", "one", "other"))
    experts = {"one": one, "other": other}

    def need(name: str, **parameters: float) -> int:
        source = library.source(name)
        plan = make_plan(source, {**dict(signature_of(source).parameters), **parameters}, base, experts)
        return plan.need(plan.shards[0].entries[0])

    assert need("model_stock", filter_wise=1) == 1000 * 2 * 2 * 24
    assert need("model_stock", filter_wise=0) == 0
    assert need("nuslerp", flatten=0) == 1000 * 2 * 2 * 24
    assert need("nuslerp", flatten=0, row_wise=1) == 2 * 2 * 2 * 24
    assert need("nuslerp", flatten=1) == 0
    assert need("ties") == 0


def test_a_base_alone_has_rotary_tables_and_other_whole_numbers(tmp_path: Path) -> None:
    table, counts = "layers.0.rotary_emb.inv_freq", "positions"
    weights = {"a.weight": torch.ones(3)}
    base = model_of(tmp_path / "base", {**weights, table: torch.ones(2), counts: torch.tensor([1, 2])})
    expert = model_of(tmp_path / "expert", {**weights, counts: torch.tensor([1, 3])})
    plan = make_plan(EXAMPLE, {"w0": 1.0, "w1": 1.0, "w2": 1.0}, base, {"e": expert})
    assert (plan.problems, list(plan.steps)) == ((), ["a.weight"])
    assert plan.notes == (
        f"1 rotary tables that only some models have are copied from the base, first {table}; models compute them anew",
        f"1 tensors of whole numbers differ between the models and are copied from the base, first {counts}",
    )
    assert [line for line in described(plan, tmp_path / "out") if line.startswith("note: ")] == [
        f"note: {note}" for note in plan.notes
    ]
    assert facts(plan, tmp_path / "out")["notes"] == list(plan.notes)


def test_large_tensors_of_whole_numbers_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.zeros(buffers.COMPARED_BYTES // 8 + 1, dtype=torch.int64)
    models = [model_of(tmp_path / name, {"a.weight": torch.ones(1), "n": values + k}) for k, name in enumerate("ab")]
    monkeypatch.setattr(Checkpoint, "read", lambda *_: pytest.fail("read"))
    assert make_plan(EXAMPLE, {"w0": 1.0, "w1": 1.0, "w2": 1.0}, models[0], {"e": models[1]}).notes == ()


def test_an_input_that_is_gone_is_its_own_fault(tmp_path: Path) -> None:
    base, expert = (model_of(tmp_path / name, {"a.weight": torch.ones(1)}) for name in ("base", "expert"))
    plan = make_plan(EXAMPLE, {"w0": 1.0, "w1": 1.0, "w2": 1.0}, base, {"e": expert})
    (tmp_path / "expert" / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"expert/model.safetensors: expected a readable file, got No such file"):
        plan.digest()
