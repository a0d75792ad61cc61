"""What a command says of its pairs while they are worked on, and at the end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dualsr_cli import jobs
from dualsr_cli.commands._reader import Work
from dualsr_cli.commands.options import DEBUG
from dualsr_cli.console import Console, Progress, duration

if TYPE_CHECKING:
    from dualsr_cli.photos import Leftover


class Teller:
    """Tells of each pair as it ends, counts, and knows the exit code.

    `manifest` is None where one pair goes into a file of its own.
    """

    def __init__(self, console: Console, work: Work, folder: Path, manifest: Path | None) -> None:
        self.console = console
        self.work = work
        self.folder = folder
        self.manifest = manifest
        self.progress: Progress = lambda stage, done, total: None
        self.tally = jobs.Tally()
        self.failures: dict[str, str] = {}  # item -> failed or quarantined
        self._leftovers: dict[Path, str] = {}
        self._unreadable = 0
        self._count = self._total = self._round = 0

    @property
    def _is_batch(self) -> bool:
        return self.manifest is not None

    def warn_of(self, manifest: jobs.Manifest, sharded: bool) -> None:
        """What a person should know of the manifest before the run."""
        if manifest.damaged:
            lines = "1 line" if manifest.damaged == 1 else f"{manifest.damaged} lines"
            self.console.warn(
                f"{lines} of {manifest.path} cannot be read: what they told of is done again"
            )
        if not manifest.locks.work:
            self.console.warn(
                f"{self.folder} lies on a file system without locks: let one run at a time work "
                "in it"
            )
        if not sharded and manifest.shards():
            self.console.warn(
                f"{self.folder} has manifests of shards: 'dualsr jobs {self.folder} --merge' joins "
                "them once all are done"
            )

    def start_round(self, leftovers: Sequence[Leftover], total: int) -> None:
        """A round over so many items begins; tells of photos that are left over, once."""
        self._round += 1
        self._count, self._total = 0, total
        new = [left for left in leftovers if self._leftovers.get(left.path) != left.sentence]
        for leftover in new:
            if leftover.reason == "unreadable":
                self.console.error(leftover.sentence)
            else:
                self.console.say(leftover.sentence)
            self.console.emit_json({"event": "leftover", **vars(leftover)})
        self._leftovers = {leftover.path: leftover.sentence for leftover in leftovers}
        self._unreadable = sum(leftover.reason == "unreadable" for leftover in leftovers)
        if total:
            self.progress(self.work.command, 0, total)

    def add(self, tally: jobs.Tally) -> None:
        """A round has ended."""
        self.tally.seconds += tally.seconds
        self.tally.remaining = tally.remaining
        self.tally.interrupted |= tally.interrupted
        self.tally.problem = tally.problem

    def tell(self, result: jobs.Result) -> None:
        """What became of one item."""
        self._count += 1
        name = result.item.name
        self.failures.pop(name, None)
        if result.problem:
            self.failures[name] = result.state
            self._tell_failure(result, result.problem)
        elif result.state == "done" or self._round <= 1:  # later rounds find all of before again
            setattr(self.tally, result.state, getattr(self.tally, result.state) + 1)
            self._tell_success(result)
        self.progress(self.work.command, self._count, self._total)

    def tell_orphans(self, names: Sequence[str]) -> None:
        """Results whose photos are gone, or no pair any more."""
        for name in names:
            self.console.say(
                f"{self.folder / name} is kept though the pair that it was made of is gone"
            )

    def tell_problem(self, problem: jobs.Problem) -> None:
        """What ended the run."""
        if DEBUG.get() and problem.traceback:
            self.console.say(problem.traceback.rstrip())
        self.console.error(problem.sentence)

    def tell_end(self, source: str) -> int:
        """The last words on a folder; returns the exit code."""
        tally = self.tally
        tally.failed = sum(state == "failed" for state in self.failures.values())
        tally.quarantined = len(self.failures) - tally.failed
        code = tally.exit_code()
        good = tally.done + tally.unchanged
        if code == 0 and self._unreadable:
            code = 3 if good else 1
        if tally.problem:
            self.tell_problem(tally.problem)
        elif not good and not self.failures and not tally.interrupted:
            self.console.error(f"{source} has no pair to work on: 'dualsr pairs' tells why")
            code = 1
        self.console.say(self._summary())
        self.console.emit_json(
            {
                "event": "batch",
                "done": tally.done,
                "unchanged": tally.unchanged,
                "failed": tally.failed,
                "quarantined": tally.quarantined,
                "remaining": tally.remaining,
                "leftovers": len(self._leftovers),
                "unreadable": self._unreadable,
                "interrupted": tally.interrupted,
                "seconds": round(tally.seconds, 3),
                "manifest": self.manifest,
            }
        )
        return code

    def _tell_success(self, result: jobs.Result) -> None:
        output = self.folder / result.item.name
        if result.altered:
            self.console.warn(f"{output} was changed after it was made: it is left as it is")
        if result.state == "done":
            self.work.tell(self.console, result.facts, f"{result.item.name}: " * self._is_batch)
        for path in (output,) if self._is_batch else result.outputs:
            self.console.result(str(path))
        wide, tele = result.item.inputs
        facts = result.facts if result.state == "done" else {"wide": wide, "tele": tele}
        self.console.emit_json(
            {
                "event": self.work.event,
                "item": result.item.name,
                "state": result.state,
                "output": output,
                "files": result.outputs,
                **facts,
                **{name: result.item.settings[name] for name in self.work.named},
            }
        )

    def _tell_failure(self, result: jobs.Result, problem: jobs.Problem) -> None:
        self.tell_problem(problem)
        wide, tele = result.item.inputs
        self.console.emit_json(
            {
                "event": "failed",
                "item": result.item.name,
                "state": result.state,
                "wide": wide,
                "tele": tele,
                "code": problem.code,
                "error": problem.sentence,
                "attempts": result.attempts,
            }
        )

    def _summary(self) -> str:
        tally = self.tally
        counts = {
            "done": tally.done,
            "unchanged": tally.unchanged,
            "failed": tally.failed,
            "quarantined": tally.quarantined,
            "unreadable": self._unreadable,
            "not come to": tally.remaining,
        }
        parts = [f"{count} {what}" for what, count in counts.items() if count or what == "done"]
        text = f"{', '.join(parts)} in {duration(tally.seconds)}"
        if tally.interrupted or tally.remaining:
            text += "; the same command again goes on from here"
        return text
