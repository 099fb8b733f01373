from __future__ import annotations

import pytest

from modelhost_exporter.engines.energy import ModelEnergy
from modelhost_exporter.gpu.usage_cache import GpuUse


def measured(*uses: GpuUse, models: dict[str, float | None] | None = None) -> ModelEnergy:
    """Return the energy of a server with process 1 after these readings of one GPU."""
    energy = ModelEnergy()
    for use in uses:
        energy.note({"gpu": use}, {1}, {"m": None} if models is None else models)
    return energy


def test_a_gpu_of_one_model_is_exclusive() -> None:
    """A model alone on the GPU gets all its energy; the first reading is the baseline."""
    energy = measured(GpuUse(1000, {1: 8}), GpuUse(1300, {1: 8}), GpuUse(1350, {1: 8}))
    assert energy.of("m") == {"exclusive": 350}
    assert measured(GpuUse(1000, {1: 8})).of("m") == {}


def test_a_gpu_with_other_processes_is_shared_by_memory() -> None:
    """Next to another program a model gets the share of its memory, marked as shared."""
    assert measured(GpuUse(1000, {1: 6, 2: 2}), GpuUse(1400, {1: 6, 2: 2})).of("m") == {"shared": 300}


def test_a_gpu_that_something_else_had_until_just_now_is_shared() -> None:
    """Energy from while another program, or the previous model, had memory there is shared."""
    assert measured(GpuUse(0, {1: 6, 2: 2}), GpuUse(400, {1: 8}), GpuUse(500, {1: 8})).of("m") == {
        "shared": 400,
        "exclusive": 100,
    }
    energy = ModelEnergy()
    for joules, model in ((0, "a"), (100, "a"), (100, "b"), (400, "b"), (450, "b")):
        energy.note({"gpu": GpuUse(joules, {1: 8})}, {1}, {model: None})
    assert (energy.of("a"), energy.of("b")) == ({"exclusive": 100}, {"shared": 300, "exclusive": 50})


def test_a_model_that_is_loaded_onto_an_empty_gpu_has_it_alone() -> None:
    """Energy of loading a model belongs to that model."""
    assert measured(GpuUse(0, {}), GpuUse(400, {1: 8})).of("m") == {"exclusive": 400}


def test_several_models_of_one_server_share() -> None:
    """Models of one server share by memory if that is known for all, otherwise equally."""
    uses = (GpuUse(0, {1: 8}), GpuUse(400, {1: 8}))
    by_memory = measured(*uses, models={"a": 6.0, "b": 2.0})
    assert (by_memory.of("a"), by_memory.of("b")) == ({"shared": 300}, {"shared": 100})
    alike = measured(*uses, models={"a": 6.0, "b": None})
    assert (alike.of("a"), alike.of("b")) == ({"shared": 200}, {"shared": 200})


@pytest.mark.parametrize(
    ("uses", "models"),
    [
        ((GpuUse(0, {2: 8}), GpuUse(400, {2: 8})), None),
        ((GpuUse(0, {1: 8}), GpuUse(400, {1: 8})), {}),
        ((GpuUse(500, {1: 8}), GpuUse(400, {1: 8})), None),
    ],
)
def test_what_is_not_the_model_s_is_not_counted(
    uses: tuple[GpuUse, ...], models: dict[str, float | None] | None
) -> None:
    """Without GPU memory, a loaded model or an increasing counter there is no energy, and no series of 0."""
    assert measured(*uses, models=models).of("m") == {}


def test_what_was_used_while_nobody_looked_is_nobody_s() -> None:
    """Energy of a time in which the GPU or the server was away is not attributed, because its user is unknown."""
    energy = ModelEnergy()
    energy.note({"gpu": GpuUse(0, {1: 8})}, {1}, {"m": None})
    energy.note({}, {1}, {"m": None})
    energy.note({"gpu": GpuUse(1000, {1: 8})}, {1}, {"m": None})
    assert energy.of("m") == {}
    energy.pause()
    energy.note({"gpu": GpuUse(2000, {1: 8})}, {1}, {"m": None})
    assert energy.of("m") == {}
    energy.note({"gpu": GpuUse(2001, {1: 8})}, {1}, {"m": None})
    assert energy.of("m") == {"exclusive": 1}


def test_a_gpu_without_an_energy_counter_has_no_energy() -> None:
    """Memory is still attributed."""
    assert measured(GpuUse(None, {1: 8}), GpuUse(None, {1: 8})).of("m") == {}
    assert measured(GpuUse(None, {1: 8}), GpuUse(500, {1: 8})).of("m") == {}


def test_energy_without_requests_is_counted_apart() -> None:
    """Idle energy is part of all energy; it is absent where it is not known, and 0 from the first request on."""
    energy = ModelEnergy()
    for joules, was_idle in ((0, None), (100, None), (150, False), (170, True), (175, None)):
        energy.note({"gpu": GpuUse(joules, {1: 8})}, {1}, {"m": None}, was_idle=was_idle)
        if joules <= 100:
            assert energy.idle_of("m") == {}
        if joules == 150:
            assert energy.idle_of("m") == {"exclusive": 0}
    assert (energy.of("m"), energy.idle_of("m")) == ({"exclusive": 175}, {"exclusive": 20})
