"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

AsJSON = Annotated[bool, Parameter(name="--json", help="Print JSON, for programs.")]
AsJSONLines = Annotated[
    bool, Parameter(name="--json", help="Print one JSON object a line, for programs.")
]
ShowProgress = Annotated[
    bool | None,
    Parameter(
        name="--progress",
        negative="--no-progress",
        help="Show progress on standard error; by default where that is a terminal.",
    ),
]
