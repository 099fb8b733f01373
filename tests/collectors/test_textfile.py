from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from modelhost_exporter.collector import CollectorContext, Unavailable
from modelhost_exporter.collectors import textfile
from modelhost_exporter.collectors.textfile import TextfileCollector, TextfileOptions
from modelhost_exporter.metrics.exposition import OPENMETRICS, TEXT
from tests.support.machine import write
from tests.support.readings import readings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.support.readings import Readings

BACKUP = "# HELP backup_seconds Time of the last backup.\n# TYPE backup_seconds gauge\nbackup_seconds 5\n"


def measured(folder: Path, files: Mapping[str, str]) -> Readings:
    """Return what is measured of a folder with these files, without their times."""
    read = readings(TextfileCollector(write(folder, files)).collect())
    read.pop("textfile_mtime_seconds", None)
    return read


def problems(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was logged about files."""
    fields = (getattr(record, "fields", {}) for record in caplog.records)
    return [f"{Path(of['file']).name}: {of['problem']}" for of in fields if of.get("problem")]


def test_a_file(tmp_path: Path) -> None:
    """Its metrics, and when it was modified."""
    write(tmp_path, {"backup.prom": BACKUP, "other.txt": "odd", ".hidden.prom~": "odd"})
    os.utime(tmp_path / "backup.prom", (5, 5))
    assert readings(TextfileCollector(tmp_path).collect()) == {
        "backup_seconds": {(): 5},
        "textfile_mtime_seconds": {(str(tmp_path / "backup.prom"),): 5},
        "textfile_scrape_error": {(): 0},
    }


def test_types_and_help_are_those_of_the_file(tmp_path: Path) -> None:
    """A counter without _total in its name has no type, since every counter's name ends so in OpenMetrics."""
    text = "# HELP a_total Of a.\n# TYPE a_total counter\na_total 1\n# TYPE b counter\nb 2\nc 3\n"
    text += '# TYPE d histogram\nd_bucket{le="+Inf"} 1\nd_sum 2\nd_count 1\n'
    families = list(TextfileCollector(write(tmp_path, {"x.prom": text})).collect())
    page = TEXT.render(families).decode()
    assert page.startswith(
        "# HELP a_total Of a.\n# TYPE a_total counter\na_total 1.0\n"
        "# HELP b Metric read from a file.\n# TYPE b untyped\nb 2.0\n"
    )
    assert '# TYPE d histogram\nd_bucket{le="+Inf"} 1.0\nd_sum 2.0\nd_count 1.0\n' in page
    for format_ in (TEXT, OPENMETRICS):
        format_.page([format_.render(families)])


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        ("backup_seconds\n", "line 1: no sample"),
        ("x 1 1700000000000\n", "line 1: a sample with a time"),
        (BACKUP, "another file has the same series"),
        (BACKUP.replace("gauge", "counter").replace("seconds 5", 'seconds{a="b"} 5'), "another type or HELP"),
        (
            "# TYPE backup summary\nbackup_sum 1\n# TYPE backup_seconds_ gauge\nbackup_seconds_ 1\nmodelhost_x 1\n",
            "itself",
        ),
        ("modelhost_up 1\n", "modelhost_up: names of the exporter itself"),
        ("process_x 1\n", "process_x: names of the exporter itself"),
        ("x" * (2**20 + 1), "larger than"),
        ("# TYPE x histogram\nx_sum 1\n# TYPE backup_seconds gauge\nbackup_seconds 6\n", "same series"),
    ],
)
def test_a_file_that_is_not_valid_costs_only_itself(
    bad: str, problem: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is named in the log once, and what the other files have is there."""
    write(tmp_path, {"a.prom": BACKUP, "b.prom": bad, "c.prom": "good 1\n"})
    collector = TextfileCollector(tmp_path)
    for _ in range(2):
        read = readings(collector.collect())
    files = {Path(name).name for (name,) in read.pop("textfile_mtime_seconds")}
    assert (read, files) == (
        {"backup_seconds": {(): 5}, "good": {(): 1}, "textfile_scrape_error": {(): 1}},
        {"a.prom", "c.prom"},
    )
    (said,) = problems(caplog)
    assert said.startswith("b.prom: ")
    assert problem in said


def test_names_that_another_family_needs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A histogram's sums are not another file's metric."""
    files = {"a.prom": '# TYPE x histogram\nx_bucket{le="+Inf"} 1\nx_sum 1\nx_count 1\n', "b.prom": 'x_sum{y="z"} 1\n'}
    assert measured(tmp_path, files)["textfile_scrape_error"] == {(): 1}
    assert problems(caplog) == ["b.prom: x_sum: its name is taken by x of another file"]


def test_files_share_a_family(tmp_path: Path) -> None:
    """Programs of one kind write a file each."""
    files = {f"{name}.prom": BACKUP.replace("seconds 5", f'seconds{{of="{name}"}} 5') for name in "ab"}
    assert measured(tmp_path, files) == {"backup_seconds": {("a",): 5, ("b",): 5}, "textfile_scrape_error": {(): 0}}


def test_a_file_that_is_written_anew_is_read_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What was wrong is no more, which is logged; a file that is gone has no metrics."""
    collector = TextfileCollector(write(tmp_path, {"a.prom": "odd", "b.prom": "b 1\n"}))
    assert readings(collector.collect())["textfile_scrape_error"] == {(): 1}
    (tmp_path / "b.prom").unlink()
    (tmp_path / "new").write_text("a 2\n")
    (tmp_path / "new").rename(tmp_path / "a.prom")
    caplog.set_level("INFO")
    read = readings(collector.collect())
    assert (read["a"], read["textfile_scrape_error"]) == ({(): 2}, {(): 0})
    assert "b" not in read
    assert "a file with metrics is read again" in caplog.text


def test_what_is_no_file_is_not_opened(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A pipe would hold the reader, and a link may lead nowhere."""
    os.mkfifo(tmp_path / "a.prom")
    (tmp_path / "b.prom").symlink_to("missing")
    (tmp_path / "c.prom").mkdir()
    assert measured(tmp_path, {"d.prom": "d 1\n"}) == {"d": {(): 1}, "textfile_scrape_error": {(): 1}}
    assert [said.partition(":")[0] for said in problems(caplog)] == ["a.prom", "b.prom", "c.prom"]


def test_files_and_samples_are_bounded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that writes without end costs its own file."""
    monkeypatch.setattr(textfile, "_MAX_SAMPLES", 3)
    monkeypatch.setattr(textfile, "_MAX_FILES", 3)
    files = {"a.prom": "a 1\n", "b.prom": "b 1\nc 1\nd 1\n", "c.prom": "e 1\n", "d.prom": "f 1\n"}
    assert set(measured(tmp_path, files)) == {"a", "e", "textfile_scrape_error"}
    assert len(problems(caplog)) == 2


def test_a_folder_that_is_missing_is_an_error(tmp_path: Path) -> None:
    """It is configured, so it should be there; an empty one is well."""
    assert readings(TextfileCollector(tmp_path / "missing").collect()) == {"textfile_scrape_error": {(): 1}}
    assert measured(tmp_path, {}) == {"textfile_scrape_error": {(): 0}}


def test_without_a_folder_it_is_unavailable() -> None:
    """By default there is nothing to measure."""
    with pytest.raises(Unavailable):
        list(textfile.create(TextfileOptions(), CollectorContext()).collect())
