"""Which model names are labels, and which give way to others."""

from __future__ import annotations

from modelhost_exporter.metrics.label_values import bounded
from modelhost_exporter.requests.model_names import IDLE_SECONDS, INTERVAL_SECONDS, OTHER, ModelNames


class Names:
    """Model names with a manual clock, a list of an engine's models, and a set of names in use."""

    def __init__(self, max_models: int, known: tuple[str, ...] = (), *, listed: tuple[str, ...] = ()) -> None:
        self.now = 0.0
        self.listed = set(listed)
        self.in_use: set[str] = set()
        self.removed: list[str] = []
        self.names = ModelNames(
            max_models, known, is_listed=self.listed.__contains__, remove=self._remove, now=lambda: self.now
        )

    def _remove(self, name: str) -> bool:
        if name in self.in_use:
            return False
        self.removed.append(name)
        return True

    def use(self, *names: str, succeeded: bool = True, after: float = 1.0) -> list[str]:
        """Request models one after the other; return their labels."""
        labels = []
        for name in names:
            self.now += after
            labels.append(self.names.label(name, succeeded=succeeded))
        return labels


MADE_UP = tuple(f"made-up-{number}" for number in range(64))


def test_a_listed_model_takes_the_place_of_a_name_that_is_made_up() -> None:
    """64 made-up names that succeed leave no place free; the least recently used one gives way at once."""
    names = Names(64, listed=("real", "real too"))
    assert names.use(*MADE_UP, MADE_UP[0]) == [*MADE_UP, MADE_UP[0]]
    assert names.use("real", "real too", "real") == ["real", "real too", "real"]
    assert names.removed == [MADE_UP[1], MADE_UP[2]]


def test_a_listed_model_needs_no_success() -> None:
    """The failures of a model that the engine lists are its own from its first request on."""
    names = Names(1, listed=("real",))
    assert names.use("made up", "real", "made up", succeeded=False) == [OTHER, "real", OTHER]


def test_made_up_names_remove_no_model_that_is_listed_or_in_use() -> None:
    """A flood of names that succeed changes nothing within the hour, nor any listed name ever."""
    names = Names(3, listed=("idle",))
    names.use("idle", "busy", "busy too")
    for number in range(10 * int(IDLE_SECONDS)):
        label = names.use(f"made-up-{number}", after=1.0)[0]
        assert label == OTHER
        if number % 1000 == 0:
            assert names.use("busy", "busy too") == ["busy", "busy too"]
    assert names.removed == []


def test_a_name_without_requests_for_an_hour_gives_way() -> None:
    """The least recently used first, and one in ten minutes: a day of made-up names makes at most 144."""
    names = Names(3)
    names.use("a", "b", "c", "a")
    names.now += IDLE_SECONDS
    assert names.use("d", "e", "f") == ["d", OTHER, OTHER]
    assert names.removed == ["b"]
    names.now += INTERVAL_SECONDS
    assert names.use("g", "h") == ["g", OTHER]
    assert names.removed == ["b", "c"]
    begin, count = names.now, len(names.removed)
    number = 0
    while names.now < begin + 86_400:
        number += 1
        names.use(f"made-up-{number}", after=10.0)
    assert 3 <= len(names.removed) - count <= 144


def test_listed_models_share_too_few_places() -> None:
    """Of more listed models than places, one gives way to another only after an hour without requests."""
    models = tuple(f"model-{number}" for number in range(4))
    names = Names(2, listed=models)
    assert names.use(*models) == ["model-0", "model-1", OTHER, OTHER]
    names.now += IDLE_SECONDS
    assert names.use("model-1", "model-2", "model-3") == ["model-1", "model-2", OTHER]
    assert names.removed == ["model-0"]


def test_an_engine_that_lists_other_names_in_each_poll_makes_no_more_series() -> None:
    """A name that was listed when it got its place keeps it while it is in use, also once the list has changed."""
    names = Names(2)
    for number in range(1000):
        names.listed.clear()
        names.listed.add(f"model-{number}")
        names.use(f"model-{number}")
    assert names.removed == []


def test_a_name_that_was_listed_gives_way_after_names_that_never_were() -> None:
    """While an engine is down nothing is listed, which must not cost its models their places."""
    names = Names(2, listed=("real",))
    names.use("real", "made up")
    names.listed.clear()
    names.now += IDLE_SECONDS
    assert names.use("another") == ["another"]
    assert names.removed == ["made up"]


def test_a_name_in_use_stays() -> None:
    """With a request in progress a name does not give way; another does, and it itself does later."""
    names = Names(2, listed=("real", "real too"))
    names.use("a", "b")
    names.in_use |= {"a", "b"}
    assert names.use("real") == [OTHER]
    names.in_use.discard("b")
    assert names.use("real") == ["real"]
    names.in_use.clear()
    assert names.use("real too") == ["real too"]
    assert names.removed == ["b", "a"]


def test_a_search_without_result_is_not_repeated_for_a_second() -> None:
    """A flood of requests for a name without a place costs one search a second."""
    names = Names(1, listed=("a", "b"))
    names.use("a")
    names.in_use.add("a")
    names.now += IDLE_SECONDS
    assert names.use("b") == [OTHER]
    names.in_use.clear()
    assert names.use("b", after=0.9) == [OTHER]
    assert names.use("b", after=0.1) == ["b"]


def test_configured_names_never_give_way() -> None:
    """They take places as others do, but keep them whatever comes."""
    names = Names(2, ("configured",), listed=("real", "real too"))
    assert names.use("real") == ["real"]
    names.now += 10 * IDLE_SECONDS
    assert names.use("real too", "configured") == ["real too", "configured"]
    names.now += 10 * IDLE_SECONDS
    assert names.use("x", "y") == [OTHER, OTHER]
    assert names.removed == ["real"]


def test_a_reload_keeps_the_names() -> None:
    """Names that are configured no longer give way like others; a lower limit is reached as names give way."""
    names = Names(3, ("configured",))
    names.use("a", "b")
    names.names.configure(2, ("a",))
    assert names.use("a", "b", "configured", "c", succeeded=False) == ["a", "b", "configured", OTHER]
    names.listed.add("real")
    assert names.use("real") == ["real"]
    assert names.removed == ["b", "configured"]
    assert names.use("a", "b", "configured") == ["a", OTHER, OTHER]


def test_a_configured_model_with_another_label_needs_no_success() -> None:
    """Its failures are its own from the start, by either name; names that are made up neither prevent nor end that."""
    names = Names(1, ("configured", "configured too"))
    names.names.canonical = lambda name: name + (":latest" if ":" not in name else "")
    assert names.use("made up", "made up too", "another") == ["made up:latest", "made up too:latest", OTHER]
    label, label_too = "configured:latest", "configured too:latest"
    assert names.use("configured", label, "configured too", succeeded=False) == [label, label, label_too]
    names.now += 2 * IDLE_SECONDS
    names.listed.add("listed:latest")
    assert names.use("another", "listed") == [OTHER, OTHER]
    assert names.use("configured", succeeded=False) == [label]
    assert names.removed == ["made up:latest", "made up too:latest"]


def test_a_long_name_is_cut_once() -> None:
    """Its label is that of polls and has objectives, also where the server's kind adds a tag to the name."""
    given, other = "x" * 300, "y" * 300
    names = Names(2, (given,))
    names.names.canonical = lambda name: name + (":latest" if ":" not in name else "")
    assert names.use(other, f"{other}:latest") == [bounded(f"{other}:latest")] * 2
    assert names.use(given, succeeded=False) == [bounded(f"{given}:latest")]
    assert names.names.configured(bounded(f"{given}:latest"), (given,)) == given


def test_labels_of_configured_models_are_determined_once_a_second() -> None:
    """Not for each of the many requests whose model is "other"; a new list of the engine's names soon counts."""
    names = Names(100, tuple(f"configured-{number}" for number in range(100)))
    tag, calls = ":old", 0

    def canonical(name: str) -> str:
        nonlocal calls
        calls += 1
        return name if ":" in name else name + tag

    names.names.canonical = canonical
    assert names.use(*["another"] * 50, succeeded=False, after=0.01) == [OTHER] * 50
    assert calls <= 150
    tag = ":new"
    assert names.use("configured-7", succeeded=False) == ["configured-7:new"]
