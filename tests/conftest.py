"""What several tests share."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

# Side by side, each process of tests has its share of the cores; said before PyTorch is loaded.
if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):
    threads = max(1, (os.cpu_count() or 1) // int(workers))
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))

ValidEvent = Callable[[str], dict[str, Any]]


class AtOnce:
    """Shows a failure when it happens: a run that is cut off has no summary."""

    def __init__(self, terminal: pytest.TerminalReporter) -> None:
        self._terminal = terminal

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._terminal.write_sep("_", f"{report.nodeid} ({report.when})", red=True)
            self._terminal.write_line(report.longreprtext)


def pytest_sessionstart(session: pytest.Session) -> None:
    plugins = session.config.pluginmanager
    if terminal := plugins.get_plugin("terminalreporter"):  # the processes at tests have none
        plugins.register(AtOnce(terminal))


@pytest.fixture(autouse=True)
def no_own_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The models of whoever runs the tests are not looked at, nor added to."""
    monkeypatch.setenv("DUALSR_HOME", str(tmp_path / "nobody"))


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the repository."""
    return Path(__file__).parent.parent


@pytest.fixture(scope="session")
def sample_pairs(repository: Path) -> Path:
    """The folder of small real pairs."""
    return repository / "sample_pairs"


@pytest.fixture(scope="session")
def event_schema(repository: Path) -> dict[str, Any]:
    """docs/events.schema.json: what users are promised of the lines of --json."""
    text = (repository / "docs" / "events.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    jsonschema.Draft202012Validator.check_schema(schema)
    return schema


@pytest.fixture(scope="session")
def valid_event(event_schema: dict[str, Any]) -> ValidEvent:
    """valid_event(line): the object of a line that --json printed.

    Raises jsonschema.ValidationError where the schema does not allow it. Stricter than the schema
    for users in one thing: a field that the schema does not know is an error, too.
    """
    validator = jsonschema.Draft202012Validator(_closed(event_schema))

    def valid(line: str) -> dict[str, Any]:
        event: dict[str, Any] = json.loads(line, parse_constant=_no_json)
        validator.validate(event)
        return event

    return valid


def _closed(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema whose objects have no other fields than those that it describes."""
    schema = copy.deepcopy(schema)

    def close(part: dict[str, Any]) -> None:
        if "properties" in part:
            part["additionalProperties"] = False
            for field in part["properties"].values():
                close(field)

    for definition in schema["$defs"].values():
        close(definition)
    return schema


def _no_json(word: str) -> None:
    raise ValueError(f"{word} is no JSON")
