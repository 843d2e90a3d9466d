"""The legend of a phase diagram: what occurs in its panels, and sentences on what does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from three_regime.figures import style
from three_regime.figures.phase_panel import DECIDED, ONE_SEED, chance_patch, missing_patch
from three_regime.figures.phase_scene import BORDERS, Border, Scene


@dataclass(frozen=True)
class Legend:
    """What occurs in the panels, and sentences on what does not.

    Attributes
    ----------
    columns
        Entries beside each other.
    note
        Sentences in lines that fit the figure; empty for none.
    """

    handles: list[Line2D | Patch]
    columns: int
    note: str

    @classmethod
    def of(cls, scene: Scene, shown: Sequence[str], said: Sequence[str], columns: int, width: float) -> Legend:
        sentences = [*_absent(scene), *said]
        if inherited := scene.thresholds.inherited:
            sentences.append(f"thresholds set for {inherited}, not for this data set")
        handles = _handles(scene, shown)
        return cls(handles, _fitting(handles, columns, width), style.fitted("; ".join(sentences), width, 7))

    @property
    def height(self) -> float:
        """Inches that the legend takes."""
        lines = self.note.count("\n") + 1 if self.note else 0
        return 0.15 * -(-len(self.handles) // self.columns) + 0.125 * lines + 0.1

    def draw(self, figure: Figure) -> None:
        legend = figure.legend(
            handles=self.handles,
            loc="outside lower center",
            ncols=self.columns,
            columnspacing=_SPACING,
            title=self.note or None,
            title_fontsize=7,
        )
        legend.get_title().set_multialignment("center")


_SPACING = 1.2
"""Between columns, in units of the size of letters."""


def _fitting(handles: Sequence[Line2D | Patch], most: int, width: float) -> int:
    """Number of columns, at most `most`, with which the legend is no wider than `width` inches."""
    letter = 7 / 72
    widths = [style.text_width(str(handle.get_label()), 7) + 3.4 * letter for handle in handles]
    for columns in range(most, 1, -1):
        widest = [max(part) for part in np.array_split(widths, columns) if len(part)]
        if sum(widest) + (_SPACING * (len(widest) - 1) + 1) * letter <= width:
            return columns
    return 1


def _handles(scene: Scene, shown: Sequence[str]) -> list[Line2D | Patch]:
    """Of what can be seen in the panels `shown`."""
    handles: list[Line2D | Patch] = []
    for border in BORDERS:
        if scene.lines[border.name]:
            handles.append(Line2D([], [], color="black", linewidth=1.4, linestyle=border.dash))
            handles[-1].set_label(f"{border.what} ({_threshold(scene, border)})")
    if scene.decided.any():
        handles.append(Line2D([], [], label="regime decided" if scene.confident else "far from thresholds", **DECIDED))
    if any(scene.one_seed(name).any() for name in shown):
        handles.append(Line2D([], [], label="spread dominated by one seed", **ONE_SEED))
    if any(scene.missing(name).any() for name in shown):
        handles.append(missing_patch((0, 0)))
        handles[-1].set_label("not run")
    if (scene.chance & ~np.all([scene.missing(name) for name in shown], axis=0)).any():
        handles.append(chance_patch((0, 0)))
        handles[-1].set_label("at chance")
    return handles


def _threshold(scene: Scene, border: Border) -> str:
    return f"{border.measure} = {style.number(getattr(scene.thresholds, border.name))}"


def _absent(scene: Scene) -> list[str]:
    """A sentence for each border that is not there, and one where no regime is decided."""
    labelled = ~np.isnan(scene.code)
    if not labelled.any():
        return []
    said = [f"no {each.what} ({_threshold(scene, each)})" for each in BORDERS if not scene.lines[each.name]]
    if not scene.confident:
        return [*said, "no standard errors"]
    return said if scene.decided.any() else [*said, "no regime is decided"]
