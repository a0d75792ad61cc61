"""What `dualsr bench` says: of each case as it is scored, and the tables at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from dualsr_cli import jobs
from dualsr_cli.commands.options import DEBUG
from dualsr_cli.console import Console, Progress, duration

if TYPE_CHECKING:
    from dualsr_cli.benchmark import Bench, Benched, Entry, Missing, Table


class BenchTeller:
    """Tells of a run; a sentence that fits many results is said once."""

    def __init__(self, console: Console, bench: Bench, folder: Path) -> None:
        self.console = console
        self.bench = bench
        self.folder = folder
        self._said: set[str] = set()
        self._count = 0

    def tell_plan(self) -> None:
        """What is left out before anything is scored."""
        for sentence in self.bench.skipped:
            self.console.warn(sentence)
        for lack in self.bench.missing:
            self._tell_missing(lack)

    def reporter(self, progress: Progress) -> Callable[[jobs.Result], None]:
        """Takes each item as it ends."""
        progress("bench", 0, len(self.bench.work))

        def report(result: jobs.Result) -> None:
            self._count += 1
            self._tell(result)
            progress("bench", self._count, len(self.bench.work))

        return report

    def tell_end(self, benched: Benched, report: Sequence[Path]) -> int:
        """Tables, counts and the report's files; returns the exit code."""
        tally = benched.tally
        for table in benched.tables:
            self._tell_table(table)
        if tally.problem:
            self._tell_problem(tally.problem)
        code = tally.exit_code()
        if code == 0 and self.bench.missing:
            code = 3 if benched.rows else 1
        elif code == 0 and not benched.rows:
            self.console.error(
                "none of the rows has a model yet: see above"
                if self.bench.ablation
                else f"{self.bench.root} has nothing to score: see above"
            )
            code = 1
        self._tell_summary(tally)
        if report:
            self.console.say(f"the tables as files, and a page to look at: {report[-1]}")
        return code

    def tell_stop(self) -> int:
        """Cases are missing, and nothing is scored for that; returns the exit code."""
        tally = jobs.Tally(remaining=len(self.bench.work))
        self._tell_problem(jobs.Problem("stopped at the first failure, as asked", "stopped"))
        self._tell_summary(tally)
        return 1

    def _tell(self, result: jobs.Result) -> None:
        work = self.bench.work[result.item.name]
        if result.problem:
            if result.problem.sentence not in self._said:
                self._said.add(result.problem.sentence)
                self._tell_problem(result.problem)
            self.console.emit_json(
                {
                    "event": "unscored",
                    "case": work.case.name,
                    "method": work.method.name,
                    "protocol": work.protocol or None,
                    "code": result.problem.code,
                    "error": result.problem.sentence,
                }
            )
            return
        if result.altered:
            self.console.warn(f"{self.folder / result.item.name} was changed after it was made")
        row = self.bench.row(result)
        if row is None:
            return
        code, reason = row.refused or (None, None)
        if reason and reason not in self._said:
            self._said.add(reason)
            self.console.warn(f"{row.case}: {reason}; enlarged without it")
        told = {**asdict(row), "refused": code, "reason": reason}
        self.console.emit_json(
            {"event": "scored", "item": result.item.name, "state": result.state, **told}
        )

    def _tell_missing(self, lack: Missing) -> None:
        self.console.error(lack.sentence)
        self.console.emit_json(
            {
                "event": "unscored",
                "case": lack.case,
                "method": lack.method or None,
                "protocol": lack.protocol or None,
                "code": lack.code,
                "error": lack.sentence,
            }
        )

    def _tell_problem(self, problem: jobs.Problem) -> None:
        if DEBUG.get() and problem.traceback:
            self.console.say(problem.traceback.rstrip())
        self.console.error(problem.sentence)

    def _tell_table(self, table: Table) -> None:
        from dualsr_cli.benchmark import counts_of, notes_of, terminal_table

        place = ", ".join(part for part in (table.dataset, table.part, table.split) if part)
        scale = f", x{table.scale}" if table.scale else ""
        if table.title:
            self.console.result(table.title)
        self.console.result(
            f"{place or 'several data sets'}{scale}, by {table.protocol}: "
            f"means of {counts_of(table)}"
        )
        self.console.styled_table(*terminal_table(table), words=2)
        for note in notes_of(table):
            self.console.result(note)
        name = self.bench.ablation and self.bench.ablation.name
        for entry in table.entries:
            if not entry.absent:
                event = {"event": "mean", "ablation": name, **_event(table, entry)}
                self.console.emit_json(event)

    def _tell_summary(self, tally: jobs.Tally) -> None:
        counts = {
            "done": tally.done,
            "unchanged": tally.unchanged,
            "failed": tally.failed + tally.quarantined,
            "not come to": tally.remaining,
        }
        parts = [f"{count} {what}" for what, count in counts.items() if count or what == "done"]
        text = f"{', '.join(parts)} in {duration(tally.seconds)}; scores lie in {self.folder}"
        if tally.interrupted or tally.remaining:
            text += "; the same command again goes on from here"
        self.console.say(text)
        self.console.emit_json(
            {
                "event": "batch",
                "done": tally.done,
                "unchanged": tally.unchanged,
                "failed": tally.failed,
                "quarantined": tally.quarantined,
                "remaining": tally.remaining,
                "leftovers": len(self.bench.missing),
                "unreadable": 0,
                "interrupted": tally.interrupted,
                "seconds": round(tally.seconds, 3),
                "manifest": self.folder / ".dualsr" / "manifest",
            }
        )


def _event(table: Table, entry: Entry) -> dict[str, object]:
    took = entry.efficiency
    dataset, part, split, scale = entry.place or table.place
    return {
        "dataset": dataset,
        "part": part,
        "split": split,
        "scale": scale,
        "protocol": table.protocol,
        "method": entry.method,
        "paper": entry.paper or None,
        "table": entry.table or None,
        "scores": entry.scores,
        "counts": entry.counts,
        "missing": entry.missing,
        "refused": entry.refused,
        "seconds": took and took.seconds,
        "spread": took and took.spread,
        "memory": took and took.memory,
        "parameters": took and took.parameters,
        "operations": took and took.operations,
    }
