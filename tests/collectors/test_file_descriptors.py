from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from modelhost_exporter.collector import CollectorContext, CollectorOptions, Unavailable
from modelhost_exporter.collectors.file_descriptors import FileDescriptorsCollector, create
from tests.support.machine import FILES, write
from tests.support.readings import readings

if TYPE_CHECKING:
    from pathlib import Path


def test_allocated_and_maximum(tmp_path: Path) -> None:
    """The first number of file-nr is the number of allocated files, the third the limit."""
    read = readings(FileDescriptorsCollector(write(tmp_path, FILES) / "proc").collect())
    assert read == {"file_descriptors_allocated": {(): 735}, "file_descriptors_maximum": {(): 2466170}}


def test_without_file_nr_it_is_unavailable(tmp_path: Path) -> None:
    """On other systems than Linux the collector is unavailable, which is no failure."""
    with pytest.raises(Unavailable):
        list(FileDescriptorsCollector(tmp_path).collect())


def test_a_file_that_says_something_else_is_a_failure(tmp_path: Path) -> None:
    """A file-nr of an unknown format is an error."""
    with pytest.raises(ValueError, match="unpack"):
        list(FileDescriptorsCollector(write(tmp_path, {"sys/fs/file-nr": "735 0\n"})).collect())


def test_this_machine() -> None:
    """On the real machine some files are open, and fewer than the kernel allows."""
    read = readings(create(CollectorOptions(), CollectorContext()).collect())
    assert 0 < read["file_descriptors_allocated"][()] < read["file_descriptors_maximum"][()]
