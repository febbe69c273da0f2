"""The file that keeps the ids of jobs, so that a program that was stopped finds them again."""

from __future__ import annotations

import threading

import pytest

from crosstime.errors import RunError
from crosstime.runs.jobs import JobFile


def test_job_ids_outlive_the_program(tmp_path):
    path = tmp_path / "run" / "jobs.json"
    jobs = JobFile(path)
    assert not path.exists()
    jobs["a"], jobs["b"] = "1", "2"
    assert dict(JobFile(path)) == {"a": "1", "b": "2"}
    assert jobs.pop("a") == "1"
    assert dict(JobFile(path)) == {"b": "2"}
    assert [entry.name for entry in path.parent.iterdir()] == ["jobs.json"]


def test_threads_may_write_job_ids_at_the_same_time(tmp_path):
    jobs = JobFile(tmp_path / "jobs.json")
    threads = [
        threading.Thread(target=lambda n=n: [jobs.__setitem__(f"{n} {i}", str(i)) for i in range(20)]) for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(JobFile(tmp_path / "jobs.json")) == 80


@pytest.mark.parametrize("content", ["[]", '{"a": 1}', '"a"'])
def test_a_file_that_holds_no_job_ids_is_refused(tmp_path, content):
    path = tmp_path / "jobs.json"
    path.write_text(content)
    with pytest.raises(RunError, match=r"jobs\.json must hold job ids"):
        JobFile(path)
