"""Read the settings in an export: they may be another lab's, and their folders those of another machine."""

from __future__ import annotations

from pathlib import Path

from three_regime.config import Config, plugins, read, resolve
from three_regime.errors import UserError
from three_regime.study.outputs import PLUGINS, SETTINGS_FILE


def read_settings(folder: Path) -> Config:
    """Read the settings of an export.

    A plugin that they name is code of whoever made the export, wherever it lies, and is not imported: the caller must
    have done so (`three_regime.config.plugins.load`), as the option ``--plugin`` does.

    Raises
    ------
    UserError
        When the folder is no unpacked export, its ``config.yaml`` is not valid, or it names a plugin that has not been
        imported.
    """
    path = folder / SETTINGS_FILE
    if not path.is_file():
        exports = sorted(each.parent for each in folder.glob(f"*/{SETTINGS_FILE}"))
        instead = f"; {' and '.join(map(str, exports))} {'are' if exports[1:] else 'is'}" if exports else ""
        raise UserError(f"{folder} is not an unpacked export: it has no {SETTINGS_FILE}{instead}")
    found = read([path])
    named = found.values.get("plugins")
    for name in named if isinstance(named, list) else ():
        if isinstance(name, str) and not plugins.is_loaded(name):
            copy = folder / PLUGINS / Path(name).name
            raise UserError(
                f"{path} names the plugin {name}, which is not run because an export names it: read it, and if you"
                f" trust it, give --plugin {copy if copy.is_file() else name}"
            )
    # Imported already, perhaps from elsewhere.
    return resolve({**found.values, "plugins": []} if named else found.values, found.origins)
