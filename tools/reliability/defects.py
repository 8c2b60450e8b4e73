"""The table of defects, by kind of argument. Data: a line is one way in which a call goes wrong."""

from __future__ import annotations

from case import Defect
from defects_of_commands import COMMAND_DEFECTS
from defects_of_graphs import GRAPH_DEFECTS
from defects_of_models import MODEL_DEFECTS
from defects_of_options import OPTION_DEFECTS
from defects_of_recipes import RECIPE_DEFECTS
from defects_of_scores import SCORE_DEFECTS
from defects_of_sequences import SEQUENCE_DEFECTS
from defects_of_windows import WINDOW_DEFECTS

TABLES = (
    SCORE_DEFECTS,
    SEQUENCE_DEFECTS,
    OPTION_DEFECTS,
    WINDOW_DEFECTS,
    GRAPH_DEFECTS,
    RECIPE_DEFECTS,
    COMMAND_DEFECTS,
    MODEL_DEFECTS,
)
DEFECTS: dict[str, tuple[Defect, ...]] = {kind: defects for table in TABLES for kind, defects in table.items()}
