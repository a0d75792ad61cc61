"""AlignedPair -> Photo: the wide photo at the tele's resolution, tile by tile."""

from dualsr_cli.reconstruction.canvas import Reconstruction
from dualsr_cli.reconstruction.choice import (
    AUTO,
    DETAIL_TRANSFER,
    networks_of,
    restorer_for,
)
from dualsr_cli.reconstruction.clip_groups import Group, Link, plan_groups
from dualsr_cli.reconstruction.detail_transfer import Agreement
from dualsr_cli.reconstruction.match import MatchStatistics, MatchTask
from dualsr_cli.reconstruction.preview import Crop, write_preview
from dualsr_cli.reconstruction.reconstruct import (
    Progress,
    default_scale,
    measure,
    reconstruct,
)
from dualsr_cli.reconstruction.restore import (
    Restorer,
    load_restorer,
    network_inputs,
    references_of,
    restore,
    restoring_memory,
    run_network,
)
from dualsr_cli.reconstruction.restore_clip import (
    ClipPlan,
    Footage,
    Frame,
    RestoredFrame,
    plan_clip,
    restore_group,
)
from dualsr_cli.reconstruction.tiler import plan, restore_windows
from dualsr_cli.reconstruction.upscale import (
    UpscaleOptions,
    UpscaleReport,
    UpscaleTask,
    described,
    resolve_device,
    upscale,
)
from dualsr_cli.reconstruction.upscale_clip import (
    ClipOptions,
    ClipReport,
    GroupReport,
    upscale_clip,
)

__all__ = [
    "AUTO",
    "DETAIL_TRANSFER",
    "Agreement",
    "ClipOptions",
    "ClipPlan",
    "ClipReport",
    "Crop",
    "Footage",
    "Frame",
    "Group",
    "GroupReport",
    "Link",
    "MatchStatistics",
    "MatchTask",
    "Progress",
    "Reconstruction",
    "RestoredFrame",
    "Restorer",
    "UpscaleOptions",
    "UpscaleReport",
    "UpscaleTask",
    "default_scale",
    "described",
    "load_restorer",
    "measure",
    "network_inputs",
    "networks_of",
    "plan",
    "plan_clip",
    "plan_groups",
    "reconstruct",
    "references_of",
    "resolve_device",
    "restore",
    "restore_group",
    "restore_windows",
    "restorer_for",
    "restoring_memory",
    "run_network",
    "upscale",
    "upscale_clip",
    "write_preview",
]
