"""Features -> Correspondence: for every query patch the most similar key patch, by cosine."""

from dualsr_cli.matching.clustered import search_clustered
from dualsr_cli.matching.correspondence import Correspondence
from dualsr_cli.matching.counting import counted_searches
from dualsr_cli.matching.differentiable import straight_through
from dualsr_cli.matching.features import gradient_features
from dualsr_cli.matching.reassembly import Overlap, Values, reassemble
from dualsr_cli.matching.reducers import coarse_boxes, detail_mask, prune_keys
from dualsr_cli.matching.search import search

__all__ = [
    "Correspondence",
    "Overlap",
    "Values",
    "coarse_boxes",
    "counted_searches",
    "detail_mask",
    "gradient_features",
    "prune_keys",
    "reassemble",
    "search",
    "search_clustered",
    "straight_through",
]
