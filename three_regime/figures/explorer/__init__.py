"""The explorer: one HTML file that holds the tables of a run and redraws them for any thresholds, without a network.

``content.py`` gathers what is shown from the tables of each study, ``page.py`` puts it into ``page.html``. In the
browser ``regimes.js`` and ``algorithms.js`` compute what the modules of these names in `three_regime.analysis` do (a
test compares them), ``charts.js`` draws, ``cell.js`` shows what is known about one cell, and ``explorer.js`` reacts.
Nothing is loaded from elsewhere, and nothing here imports torch.

The drawing is our own SVG and not a plotting library's: regimes and algorithms have to be ported to JavaScript whatever
draws, cells that take the focus and are read aloud are plain elements, and 60 kB without a dependency stand against
1.3 MB of Vega-Lite.
"""

from three_regime.figures.explorer.page import render, write

__all__ = ["render", "write"]
