"""Names of the files of a pretraining, in the folder ``training`` of its output, and its settings among them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from scatacformer._io import read_json, whole_file


class RunFiles:
    """What a pretraining leaves on disk while it runs: its settings, its start, the last checkpoint, the best
    weights."""

    def __init__(self, output: Path) -> None:
        self.output, self.folder = output, output / "training"
        self.settings = self.folder / "run.json"
        self.start = self.folder / "start.safetensors"
        self.best = self.folder / "best.safetensors"
        self.checkpoint = self.folder / "last.ckpt"

    def write_settings(self, run: dict[str, Any]) -> None:
        """Create the folder, with the settings of the run for resuming it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with whole_file(self.settings) as partial:
            partial.write_text(json.dumps(run, indent=1), encoding="utf-8")

    def read_settings(self) -> dict[str, Any]:
        return read_json(self.settings)
