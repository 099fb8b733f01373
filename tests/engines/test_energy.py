from __future__ import annotations

import pytest

from modelhost_exporter.engines.energy import ModelEnergy
from modelhost_exporter.gpu.usage_cache import GpuUse


def measured(*uses: GpuUse, models: dict[str, float | None] | None = None) -> ModelEnergy:
    """Return what a server with process 1 has used after readings of one GPU."""
    energy = ModelEnergy()
    for use in uses:
        energy.note({"gpu": use}, {1}, {"m": None} if models is None else models)
    return energy


def test_a_gpu_of_one_model_is_exclusive() -> None:
    """Where nothing else has memory on the GPU all of its energy is the model's; the first reading is a beginning."""
    energy = measured(GpuUse(1000, {1: 8}), GpuUse(1300, {1: 8}), GpuUse(1350, {1: 8}))
    assert energy.of("m") == {"exclusive": 350}
    assert measured(GpuUse(1000, {1: 8})).of("m") == {}


def test_a_gpu_with_other_processes_is_shared_by_memory() -> None:
    """Beside another program a model gets its share of the used memory, and is said to be shared."""
    assert measured(GpuUse(1000, {1: 6, 2: 2}), GpuUse(1400, {1: 6, 2: 2})).of("m") == {"shared": 300}


def test_a_gpu_that_something_else_had_until_just_now_is_shared() -> None:
    """What was used while another program, or the model before, still had memory there is not the model's alone."""
    assert measured(GpuUse(0, {1: 6, 2: 2}), GpuUse(400, {1: 8}), GpuUse(500, {1: 8})).of("m") == {
        "shared": 400,
        "exclusive": 100,
    }
    energy = ModelEnergy()
    for joules, model in ((0, "a"), (100, "a"), (100, "b"), (400, "b"), (450, "b")):
        energy.note({"gpu": GpuUse(joules, {1: 8})}, {1}, {model: None})
    assert (energy.of("a"), energy.of("b")) == ({"exclusive": 100}, {"shared": 300, "exclusive": 50})


def test_a_model_that_is_loaded_onto_an_empty_gpu_has_it_alone() -> None:
    """What loading it takes is its own."""
    assert measured(GpuUse(0, {}), GpuUse(400, {1: 8})).of("m") == {"exclusive": 400}


def test_several_models_of_one_server_share() -> None:
    """Models of one server share by their memory where it is known of all, else alike."""
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
    """No memory on the GPU, no model loaded, or a counter that fell: no energy, and no series of 0."""
    assert measured(*uses, models=models).of("m") == {}


def test_what_was_used_while_nobody_looked_is_nobody_s() -> None:
    """Energy of a time in which the GPU, or the server, was away is not the model's: it may have been anyone's."""
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
    """What holds its memory is known all the same."""
    assert measured(GpuUse(None, {1: 8}), GpuUse(None, {1: 8})).of("m") == {}
    assert measured(GpuUse(None, {1: 8}), GpuUse(500, {1: 8})).of("m") == {}
