"""The plan of the house: which way imports run, what each room offers, who may print."""

from __future__ import annotations

import ast
import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).parent.parent / "dualsr_cli"
REPOSITORY = PACKAGE.parent

# What each room may import from. `errors`, `files` and `console` stand at the door of the house;
# only commands may talk, so only they may import the console.
DIRECTIONS = {
    "errors": set(),
    "files": {"errors"},
    "plain": set(),
    "machine": {"errors"},
    "console": {"plain"},
    "photos": {"errors", "files"},
    "videos": {"photos", "errors", "files"},
    "alignment": {"photos", "errors", "files"},
    "matching": {"errors"},
    "networks": {"matching", "errors", "files"},
    "reconstruction": {
        "networks",
        "alignment",
        "matching",
        "photos",
        "videos",
        "errors",
        "files",
        "plain",
        "machine",
    },
    "training": {
        "benchmark",
        "networks",
        "alignment",
        "matching",
        "photos",
        "jobs",
        "machine",
        "errors",
        "files",
    },
    "benchmark": {
        "reconstruction",
        "networks",
        "alignment",
        "matching",
        "photos",
        "videos",
        "jobs",
        "errors",
        "files",
        "plain",
    },
    "jobs": {"errors", "files", "plain"},
    "commands": {
        "benchmark",
        "training",
        "reconstruction",
        "networks",
        "matching",
        "alignment",
        "photos",
        "videos",
        "jobs",
        "console",
        "machine",
        "errors",
        "files",
    },
}

HEAVY = {
    "av",
    "torch",
    "torchvision",
    "lpips",
    "cv2",
    "pyvips",
    "numpy",
    "PIL",
    "pillow_heif",
    "ray",
}
"""Imported where they are used, so that `dualsr --help` needs none of them."""

LIGHT = ["commands", "console", "plain", "machine", "errors", "files", "__init__", "__main__"]
"""What `dualsr --help` and the start of each command load."""

# The public names of each room. One that vanishes breaks its users: this list only grows.
SURFACE = {
    "dualsr_cli": {"__version__"},
    "dualsr_cli.console": {"Console", "Progress", "duration"},
    "dualsr_cli.commands": {"app", "run"},
    "dualsr_cli.errors": {
        "DualsrError",
        "UsageError",
        "InputError",
        "OutputError",
        "AlignmentError",
    },
    "dualsr_cli.files": {"atomic_writer", "check_writable", "output_error"},
    "dualsr_cli.photos": {
        "Capture",
        "Header",
        "Metadata",
        "Photo",
        "parse_capture",
        "read_header",
        "read_photo",
        "result_metadata",
        "write_photo",
        "zoom_ratio",
        "READ_SUFFIXES",
        "WRITE_SUFFIXES",
        "FoundPair",
        "Leftover",
        "Pairing",
        "check_target",
        "find_pairs",
        "Known",
        "Source",
        "read_source",
        "snapshot",
        "read_pairs_table",
        "write_pairs_table",
    },
    "dualsr_cli.videos": {
        "WRITE_CLIP_SUFFIXES",
        "Clip",
        "ClipWriter",
        "Colour",
        "Frame",
        "FrameReader",
        "Offset",
        "ResumableClip",
        "open_clip",
        "read_frames",
        "sole_writer",
        "synchronise",
    },
    "dualsr_cli.alignment": {
        "AlignReport",
        "AlignTask",
        "AlignedPair",
        "Fit",
        "Grid",
        "Tone",
        "align",
        "align_files",
        "expected_ratio",
        "working_memory",
        "same_scene",
        "Laid",
        "Reference",
        "Rig",
        "begin",
        "find_rig",
        "follow",
        "prepare",
    },
    "dualsr_cli.matching": {
        "Correspondence",
        "Overlap",
        "Values",
        "coarse_boxes",
        "detail_mask",
        "gradient_features",
        "prune_keys",
        "reassemble",
        "search",
        "search_clustered",
        "straight_through",
    },
    "dualsr_cli.networks": {
        "ARCHITECTURES",
        "Architecture",
        "CELL",
        "DualSR",
        "Inputs",
        "Memory",
        "Model",
        "Network",
        "Outputs",
        "VGG",
        "Window",
        "add_exported",
        "add_model",
        "build",
        "check_new_name",
        "count_parameters",
        "export_model",
        "find_model",
        "fitting",
        "list_models",
        "load_into",
        "new_name",
        "pretrained_vgg",
        "published_weights",
        "read_exported",
        "read_weights",
        "scale_of",
        "vgg_layers",
        "windows",
    },
    "dualsr_cli.plain": {"json_types"},
    "dualsr_cli.machine": {"default_memory", "memory_kept", "parse_memory", "resident"},
    "dualsr_cli.jobs": {
        "Engine",
        "InlineEngine",
        "Item",
        "LocalEngine",
        "Manifest",
        "Outcome",
        "Problem",
        "Record",
        "Result",
        "RunOptions",
        "Stop",
        "Tally",
        "Task",
        "Wish",
        "mark_orphans",
        "merge_shards",
        "export_records",
        "find_records",
        "row_of",
        "RayEngine",
        "names",
        "planned",
        "read_records",
        "run",
        "set_pending",
    },
    "dualsr_cli.training": {
        "LOSSES",
        "PRECISIONS",
        "Data",
        "Finished",
        "FlowInputs",
        "Options",
        "Order",
        "Progress",
        "Recipe",
        "Schedule",
        "Source",
        "Stage",
        "SyntheticFlow",
        "Term",
        "Trained",
        "TrainingData",
        "Wanted",
        "build_loss",
        "build_network",
        "changed",
        "find_recipe",
        "held_out_part",
        "is_first_process",
        "list_recipes",
        "measure",
        "open_data",
        "read_recipe",
        "run_session",
        "train",
    },
    "dualsr_cli.benchmark": {
        "LAYOUTS",
        "METRICS",
        "PAPERS",
        "PROTOCOLS",
        "REGIONS",
        "Box",
        "Case",
        "Figure",
        "Found",
        "Layout",
        "Picture",
        "Problem",
        "Protocol",
        "Sample",
        "as_tensor",
        "collect_pictures",
        "dataset_root",
        "find_cases",
        "levels",
        "load",
        "lpips_layers",
        "lpips_map",
        "lpips_value",
        "luma",
        "machine_facts",
        "psnr",
        "published_figures",
        "score",
        "squared_error",
        "ssim_map",
        "take_picture",
        "terminal_table",
        "write_report",
    },
    "dualsr_cli.reconstruction": {
        "AUTO",
        "Agreement",
        "Crop",
        "Progress",
        "Reconstruction",
        "Restorer",
        "UpscaleOptions",
        "UpscaleReport",
        "UpscaleTask",
        "default_scale",
        "load_restorer",
        "measure",
        "plan",
        "reconstruct",
        "restore",
        "restore_windows",
        "restorer_for",
        "upscale",
        "write_preview",
        "ClipOptions",
        "ClipPlan",
        "ClipReport",
        "Footage",
        "Frame",
        "Group",
        "GroupReport",
        "Link",
        "RestoredFrame",
        "plan_clip",
        "plan_groups",
        "references_of",
        "restore_group",
        "upscale_clip",
    },
}


class Import(NamedTuple):
    file: Path
    line: int
    module: str
    names: tuple[str, ...]
    top: bool  # runs when the file is imported

    def __str__(self) -> str:
        return f"{self.file.relative_to(REPOSITORY)}:{self.line} imports {self.module}"


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room_of(file: Path) -> str:
    return file.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(file: Path) -> Iterator[Import]:
    yield from _imports(file, ast.parse(file.read_text(encoding="utf-8")), top=True)


def _imports(file: Path, node: ast.AST, top: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(file, child.lineno, alias.name, (), top)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"{file}:{child.lineno}: a relative import"
            names = tuple(alias.name for alias in child.names)
            yield Import(file, child.lineno, str(child.module), names, top)
        elif not _for_type_checkers(child):
            deferred = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _imports(file, child, top and not deferred)


def _for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def own_imports(file: Path) -> Iterator[tuple[Import, list[str]]]:
    """Each import from the package, with the parts of the module's name below the package."""
    for found in imports(file):
        parts = found.module.split(".")
        if parts == ["dualsr_cli"]:
            for name in found.names:
                yield found, [name]
        elif parts[0] == "dualsr_cli":
            yield found, parts[1:]


def test_imports_run_from_commands_to_photos_and_never_back() -> None:
    wrong = [
        str(found)
        for file in sources()
        if room_of(file) in DIRECTIONS
        for found, parts in own_imports(file)
        if parts[0] != room_of(file)
        and parts[0] not in DIRECTIONS[room_of(file)]
        and parts[0] != "__version__"
    ]
    assert wrong == []


def test_each_room_has_its_rule() -> None:
    rooms = {room_of(file) for file in sources()} - {"__init__", "__main__"}
    assert rooms <= set(DIRECTIONS)


def test_nothing_but_the_start_imports_commands() -> None:
    wrong = [
        str(found)
        for file in sources()
        if room_of(file) not in ("commands", "__main__")
        for found, parts in own_imports(file)
        if parts[0] == "commands"
    ]
    assert wrong == []


def test_rooms_are_entered_by_their_door() -> None:
    """A room is a folder; others import from the folder, not from the files in it."""
    wrong = [
        str(found)
        for file in sources()
        for found, parts in own_imports(file)
        if parts[0] not in (room_of(file), "commands")
        and ((PACKAGE / parts[0]).is_dir() and len(parts) > 1)
    ]
    assert wrong == []


def test_private_names_stay_in_their_room() -> None:
    wrong = [
        str(found)
        for file in sources()
        for found, parts in own_imports(file)
        if parts[0] != room_of(file)
        and any(
            name.startswith("_") and not name.startswith("__") for name in (*parts, *found.names)
        )
    ]
    assert wrong == []


def test_heavy_libraries_are_not_loaded_by_the_light_rooms() -> None:
    wrong = [
        str(found)
        for file in sources()
        if room_of(file) in LIGHT
        for found in imports(file)
        if found.top and found.module.split(".")[0] in HEAVY
    ]
    assert wrong == []


def test_help_loads_no_heavy_library() -> None:
    script = (
        "import json, sys\n"
        "from dualsr_cli.commands import run\n"
        "assert run(['--help']) == 0\n"
        "print(json.dumps(sorted(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    loaded = {name.split(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}
    assert loaded & HEAVY == set()


def test_only_the_console_prints() -> None:
    wrong = []
    for file in sources():
        if room_of(file) == "console":
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in (
                "print",
                "typer.echo",
                "typer.secho",
                "sys.stdout.write",
                "sys.stderr.write",
            ):
                wrong.append(f"{file.relative_to(REPOSITORY)}:{node.lineno}")
    assert wrong == []


def test_every_command_file_is_thin() -> None:
    """Read options, call the engine, print: no command does work of its own."""
    for file in (PACKAGE / "commands").glob("*.py"):
        assert len(file.read_text(encoding="utf-8").splitlines()) <= 250, file.name


@pytest.mark.parametrize("module", SURFACE)
def test_public_names_are_there(module: str) -> None:
    room = importlib.import_module(module)
    assert {name for name in SURFACE[module] if not hasattr(room, name)} == set()


@pytest.mark.parametrize(
    "module",
    [
        "dualsr_cli",
        *(f"dualsr_cli.{path.parent.name}" for path in sorted(PACKAGE.glob("*/__init__.py"))),
    ],
)
def test_a_door_names_what_is_behind_it(module: str) -> None:
    room = importlib.import_module(module)
    names = room.__all__
    assert [name for name in names if not hasattr(room, name)] == []
    assert len(set(names)) == len(names)
    assert SURFACE.get(module, set()) <= set(names)


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        str(file.relative_to(REPOSITORY))
        for file in sources()
        if not ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
    ]
    assert silent == []


def test_files_name_no_machine() -> None:
    """No home folder, temporary folder or package index of whoever wrote a file stands in it."""
    words = [
        "/" + "home/",
        "/" + "root/",
        "/" + "work/",
        "/" + "tmp/",
        "/" + "opt/",
        "/" + "Users/",
    ]
    words += ["index" + "-url", "find" + "-links", "local" + "host:"]
    pattern = re.compile("|".join(map(re.escape, words)))
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    wrong = []
    for name in filter(None, listed.stdout.split("\0")):
        path = REPOSITORY / name
        if not path.is_file():
            continue
        data = path.read_bytes()
        if b"\0" in data:  # a picture
            continue
        for number, line in enumerate(data.decode("utf-8").splitlines(), 1):
            if pattern.search(line):
                wrong.append(f"{name}:{number}: {line.strip()[:100]}")
    assert wrong == []
