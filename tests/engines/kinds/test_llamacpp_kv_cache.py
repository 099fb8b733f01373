from __future__ import annotations

import pytest

from modelhost_exporter.engines.kinds.llamacpp.kv_cache import capacity

SERVER = ("llama-server", "--model", "a.gguf")


@pytest.mark.parametrize(
    ("arguments", "slots", "fits"),
    [
        (SERVER, 4, 1000),  # as many as it likes: four that share
        ((*SERVER, "-np", "-1"), 4, 1000),
        ((*SERVER, "--parallel", "4"), 4, 4000),
        ((*SERVER, "-np", "2"), 2, 2000),
        ((*SERVER, "-np", "8", "-kvu"), 8, 1000),
        ((*SERVER, "--parallel", "8", "--no-kv-unified"), 8, 8000),
        ((*SERVER, "--no-kv-unified", "--parallel", "8"), 8, 8000),
        (SERVER, 1, 1000),
        ((), 1, 1000),
        ((), 4, None),  # cannot be seen
        (SERVER, 3, None),  # told by the environment
        ((*SERVER, "--kv-unified-per-slot", "1000"), 4, None),
        ((*SERVER, "--kv-unified-per-slot", "1000"), 1, None),
    ],
)
def test_slots_share_one_cache_or_have_one_each(arguments: tuple[str, ...], slots: float, fits: float | None) -> None:
    """Slots with a shared cache report all of it, others their own part; in unclear cases the capacity is absent."""
    assert capacity(arguments, slots, 1000, 32768) == fits


def test_a_shared_cache_may_be_larger_than_a_slot_shows() -> None:
    """A slot reports at most the model's training context: a larger shared cache has an unknown capacity."""
    assert capacity(SERVER, 4, 1000, 1000) is None
    assert capacity(SERVER, 1, 1000, 1000) == 1000
    assert capacity(SERVER, 4, 1000, None) == 1000


def test_nothing_known_is_nothing_claimed() -> None:
    """Without slots or context there is no capacity."""
    assert capacity(SERVER, None, 1000, None) is None
    assert capacity(SERVER, 4, None, None) is None
