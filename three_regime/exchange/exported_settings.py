"""Read the settings in an export: they may be another lab's, and their folders those of another machine."""

from __future__ import annotations

import os
from pathlib import Path

from three_regime.config import Config, plugins, read, resolve
from three_regime.errors import UserError
from three_regime.study.outputs import SETTINGS_FILE


def read_settings(folder: Path) -> Config:
    """Read the settings of an export. Plugins that they name are imported, but for code that came with the export.

    Raises
    ------
    UserError
        When the folder has no valid ``config.yaml``, or a plugin lies inside the export.
    """
    path = folder / SETTINGS_FILE
    found = read([path])
    named = found.values.get("plugins")
    for name in named if isinstance(named, list) else ():
        if isinstance(name, str) and any(_inside(place, folder) for place in plugins.places(name)):
            raise UserError(
                f"{path} names the plugin {name}, which lies inside the export: its code would run; read it, and if you"
                " trust it, move it out of the export, to the folder in which you run this"
            )
    return resolve(found.values, found.origins)


def _inside(path: Path, folder: Path) -> bool:
    """Whether a path leads into a folder, by its name or through links."""
    tops = (os.path.abspath(folder), folder.resolve())
    return any(Path(each).is_relative_to(top) for each in (os.path.abspath(path), path.resolve()) for top in tops)
