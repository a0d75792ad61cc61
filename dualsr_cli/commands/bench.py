"""`dualsr bench`: methods compared on a data set, by the papers' own rules."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from dualsr_cli import jobs
from dualsr_cli.commands._batch_options import EngineName
from dualsr_cli.commands._bench_choices import tell_choices
from dualsr_cli.commands._bench_dry_run import tell_dry_run
from dualsr_cli.commands._bench_options import (
    Ablation,
    Jobs,
    Methods,
    Metrics,
    Names,
    Output,
    Protocols,
    Recipes,
    Results,
)
from dualsr_cli.commands._bench_recipes import write_recipes as write_recipes_of
from dualsr_cli.commands._bench_teller import BenchTeller
from dualsr_cli.commands.config import Config, SaveConfig, save_options
from dualsr_cli.commands.options import Json, Precision, Quiet, Verbose
from dualsr_cli.console import Console
from dualsr_cli.errors import UsageError
from dualsr_cli.machine import default_memory, parse_memory


def bench(
    context: typer.Context,
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The data set; see --list.  [default: sample; of an ablation its paper's]",
            show_default=False,
        ),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Where it lies.  [default: DUALSR_DATA/NAME; without it, where it is got is told]",
            show_default=False,
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of the data set, like test or train.")
    ] = None,
    part: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of the data set: a camera, a level.")
    ] = None,
    scale: Annotated[
        int | None, typer.Option(metavar="S", help="Where the data set has several.")
    ] = None,
    method: Methods = None,
    results: Results = None,
    name: Names = None,
    protocol: Protocols = None,
    metric: Metrics = None,
    ablation: Ablation = None,
    write_recipes: Recipes = None,
    compact: Annotated[
        bool,
        typer.Option(
            "--compact", help="With --write-recipes: of the networks for two processor cores."
        ),
    ] = False,
    output: Output = None,
    limit: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="The first N cases only.")
    ] = None,
    subset: Annotated[
        list[str] | None,
        typer.Option(metavar="NAMES", help="Cases by name or pattern; commas between them."),
    ] = None,
    save_images: Annotated[
        bool, typer.Option("--save-images", help="Keep results as 8-bit PNG; the page shows them.")
    ] = False,
    device: Annotated[
        str, typer.Option(metavar="NAME", help="auto, cpu, cuda, cuda:N or mps.")
    ] = "auto",
    precision: Annotated[
        Precision, typer.Option(help="Of a network's arithmetic; auto: bf16 on GPUs that have it.")
    ] = Precision.auto,
    max_memory: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="What all that is in work may take, like 4G.  [default: 60 % of what is free]",
            show_default=False,
        ),
    ] = None,
    jobs_: Jobs = None,
    engine: Annotated[EngineName, typer.Option(help="What works: this machine or Ray.")] = (
        EngineName.local
    ),
    ray_address: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="The Ray cluster to use.", show_default=False),
    ] = None,
    list_: Annotated[
        bool,
        typer.Option(
            "--list", help="Tell the names of data sets, protocols, metrics, methods, ablations."
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what would be scored, and do nothing.")
    ] = False,
    keep_going: Annotated[
        bool,
        typer.Option(
            "--keep-going/--stop-at-failure", help="Whether a case that fails ends the run."
        ),
    ] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Score everything anew.")] = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    config: Config = None,
    save_config: SaveConfig = None,
) -> int:
    """Score methods on a data set as its paper does, and print a table of means.

    Data sets: dusr-real, realmcvsr-real, camerafusion-real, camerafusion, drealsr, cufed5,
    vimeo90k, kitti, light-field, city100; pairs or triplets of your own; and sample, which comes
    with the source; --list tells of them, and what else there is to choose. FOLDER gets the scores
    of each case, which a manifest remembers (killed and started again, the same command goes on),
    and the tables: results.csv, cases.csv, results.json, results.md, results.tex and index.html, a
    page to look at. The tables hold the methods of this command: name all that are to be compared.

    \b
    Examples:
      dualsr bench
      dualsr bench --dataset dusr-real --root ~/data --method bicubic,detail-transfer
      dualsr bench --dataset dusr-real --results out --name Real-ESRGAN --method bicubic
      dualsr bench --dataset city100 --root ~/data --part nikon --limit 5 -o nikon
      dualsr bench --ablation dm3net-pruning --method dm3net-mine --root ~/data
      dualsr bench --ablation sddusr-tokens --write-recipes recipes
    """
    save_options(context, save_config)
    console = Console(quiet=quiet, verbose=verbose, json=json)
    if list_:
        return tell_choices(console)
    if write_recipes is not None:
        return _write_recipes(console, ablation, write_recipes, compact)
    folders, titles = results or [], name or []
    if len(folders) != len(titles):
        raise UsageError("--results and --name belong together: give each folder a name")
    if ray_address and engine is EngineName.local:
        raise UsageError("--ray-address is for --engine ray: add that")
    from dualsr_cli.benchmark import (
        METRICS,
        Resources,
        plan_ablation,
        plan_bench,
        report_bench,
        run_bench,
    )

    memory = parse_memory(max_memory) if max_memory else None
    here = engine is EngineName.local
    side_by_side = jobs_ or 1 if here else 1  # in one process
    asked: dict[str, Any] = {
        "split": split,
        "part": part,
        "scale": scale,
        "protocols": _names(protocol),
        "metrics": _names(metric) or METRICS,
        "subset": _names(subset),
        "limit": limit,
        "resources": Resources(device, precision.value, memory, side_by_side == 1),
        "save_images": save_images,
    }
    makers = _names(method)
    if ablation is None:
        made = list(zip(folders, titles, strict=True))
        plan = plan_bench(dataset or "sample", root, methods=makers, results=made, **asked)
    elif folders or len(makers) > 1:
        raise UsageError("an ablation varies one model: name one by --method, and no --results")
    else:
        maker = makers[0] if makers else None
        plan = plan_ablation(ablation, dataset, root, method=maker, **asked)
    folder = output or Path(f"bench-{ablation or dataset or 'sample'}")
    teller = BenchTeller(console, plan, folder)
    teller.tell_plan()
    if dry_run:
        return tell_dry_run(console, plan, folder, overwrite)
    if plan.missing and not keep_going:
        return teller.tell_stop()

    def worker(task: jobs.Task) -> jobs.Engine:
        room = memory or default_memory()
        if here:
            return jobs.LocalEngine(task, side_by_side, room)
        return jobs.RayEngine(task, jobs_, room, ray_address)

    stop = jobs.Stop()
    with console.progress() as progress, stop.signals():
        benched = run_bench(
            plan,
            folder,
            worker,
            options=jobs.RunOptions(
                timeout=0,
                overwrite=overwrite,
                keep_going=keep_going,
                source=os.path.abspath(plan.root),
            ),
            report=teller.reporter(progress),
            stop=stop,
        )
    return teller.tell_end(benched, report_bench(plan, benched, folder))


def _write_recipes(console: Console, ablation: str | None, folder: Path, compact: bool) -> int:
    if ablation is None:
        raise UsageError("--write-recipes is for the rows of an ablation: name it by --ablation")
    for path in write_recipes_of(ablation, folder, compact):
        console.result(str(path))
        console.emit_json({"event": "recipe", "ablation": ablation, "path": path})
    return 0


def _names(words: list[str] | None) -> list[str]:
    """Of an option that may be repeated, or have commas between its names."""
    return [name.strip() for word in words or [] for name in word.split(",") if name.strip()]
