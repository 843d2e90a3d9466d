"""Phase diagrams: what stands where on the axes, and borders at the computed places."""

import warnings
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from PIL import Image, ImageChops
from smooth_plane import DENSITIES, EPOCHS, MEASURED, THRESHOLDS, cells, panels_of, tables, ticks, touching, with_id

from three_regime import figures
from three_regime.analysis import figure2, regime_tables, regimes, seed_means
from three_regime.config.knobs import KNOBS
from three_regime.config.thresholds import Thresholds
from three_regime.errors import UserError
from three_regime.figures import style
from three_regime.figures.borders import border_lines, roomiest_point, width_at
from three_regime.figures.panels import FIGURE_2, PANELS
from three_regime.system.files import write_csv


@pytest.fixture(scope="module")
def smooth() -> dict[str, pd.DataFrame]:
    return tables(cells())


@pytest.fixture(scope="module")
def drawn(smooth) -> Figure:
    return figures.phase_diagram(smooth["grid"], smooth["regimes"], EPOCHS, THRESHOLDS, "title")


def said(figure: Figure) -> str:
    return " ".join(figure.legends[0].get_title().get_text().split())


def diagram(of: pd.DataFrame, knob: str = "epochs") -> Figure:
    found = tables(of)
    return figures.phase_diagram(found["grid"], found["regimes"], KNOBS[knob], THRESHOLDS, "title")


@pytest.mark.parametrize(
    ("knob", "temperatures", "hot_first"),
    [
        ("epochs", (160, 10, 80), ["10", "80", "160"]),
        ("batch_size", (512, 16, 64), ["16", "64", "512"]),
        ("sam_rho", (0.1, 0.8, 0.4), ["0.8", "0.4", "0.1"]),
        ("learning_rate", (0.05, 0.2), ["0.2", "0.05"]),
    ],
)
def test_hottest_on_top_and_density_in_percent_to_the_right(knob, temperatures, hot_first):
    figure = diagram(cells(knob, temperatures), knob)
    left, *_ = panels_of(figure)
    assert ticks(left.yaxis) == hot_first
    assert ticks(left.xaxis) == ["5", "6", "8", "12.5", "40", "80"]
    top, bottom = left.get_ylim()[1], left.get_ylim()[0]
    assert (top, bottom) == (0, len(hot_first))  # row 0, the hottest, is drawn at the top
    assert KNOBS[knob].label in left.get_ylabel()


def test_four_panels_each_with_a_labelled_colour_bar(drawn):
    panels = panels_of(drawn)
    bars = [axes for axes in drawn.axes if axes not in panels]
    assert len(panels) == len(bars) == 4
    labels = [bar.get_xlabel() for bar in bars]
    assert [label[:3] for label in labels] == ["(a)", "(b)", "(c)", "(d)"]
    assert "%" in labels[0] and "percentage points" in labels[1] and "fraction" in labels[2] and "CKA" in labels[3]


def test_cells_hold_the_grids_values_in_the_bars_unit(smooth):
    figure = figures.panel_figure(smooth["grid"], smooth["regimes"], EPOCHS, THRESHOLDS, "test_error")
    mesh = next(item for item in panels_of(figure)[0].collections if isinstance(item, QuadMesh))
    wide = smooth["grid"].pivot(index="temperature", columns="density", values="test_error").sort_index()
    np.testing.assert_allclose(np.ma.getdata(mesh.get_array()).reshape(wide.shape), 100 * wide.to_numpy())


@pytest.mark.parametrize("name", ["lmc", "cka"])
def test_borders_are_the_edges_between_unlike_cells(smooth, drawn, name):
    wide = smooth["regimes"].pivot(index="temperature", columns="density", values="regime").sort_index().to_numpy()
    sides = {"lmc": lambda label: label == "I", "cka": lambda label: {"II-A": 0, "II-B": 1}.get(label)}[name]
    expected = set()
    for row, column in np.ndindex(wide.shape):
        for down, right, edge in ((1, 0, (column + 0.5, row + 1.0)), (0, 1, (column + 1.0, row + 0.5))):
            if row + down < wide.shape[0] and column + right < wide.shape[1]:
                pair = {sides(wide[row, column]), sides(wide[row + down, column + right])}
                expected |= {edge} if len(pair) == 2 and None not in pair else set()
    assert len(expected) >= 4
    for axes in panels_of(drawn):
        middles = [
            tuple(point)
            for line in with_id(axes, f"border-{name}")
            for point in (line.get_xydata()[1:] + line.get_xydata()[:-1]) / 2
        ]
        assert len(middles) == len(expected) and set(middles) == expected


def test_cells_at_chance_are_grey_without_dot_or_border():
    plane = cells()
    plane.loc[plane["density"] == 0.05, "test_error"] = 0.9
    found = tables(plane)
    assert set(found["regimes"].query("density == 0.05")["regime"]) == {"chance"}
    figure = figures.phase_diagram(found["grid"], found["regimes"], EPOCHS, THRESHOLDS)
    rows = found["grid"]["temperature"].nunique()
    for axes in panels_of(figure):
        grey = with_id(axes, "chance")
        assert sorted(patch.get_xy() for patch in grey) == [(0, row) for row in range(rows)]
        dots = [x for line in with_id(axes, "decided") for x in line.get_xdata()]
        lines = [x for name in ("lmc", "cka") for line in with_id(axes, f"border-{name}") for x in line.get_xdata()]
        assert lines and min([*lines, *dots]) >= 1
    mesh = next(item for item in panels_of(figure)[0].collections if isinstance(item, QuadMesh))
    assert mesh.get_clim()[1] < 90, "chance does not stretch the colours of the others"
    assert "at chance" in [text.get_text() for text in figure.legends[0].texts]


def test_a_corner_is_marked_where_one_seed_dominates():
    plane = cells()
    at = (plane["density"] == 0.8) & (plane["temperature"] == 40)
    plane.loc[at & (plane["dense_seed"] == 3), "lmc"] += 0.3
    found = tables(plane)
    figure = figures.phase_diagram(found["grid"], found["regimes"], EPOCHS, THRESHOLDS)
    marked = [len(with_id(axes, "one-seed")) for axes in panels_of(figure)]
    assert marked == [0, 0, 1, 0]
    corner = with_id(panels_of(figure)[2], "one-seed")[0].get_xy()
    assert corner.min(axis=0)[1] == 1 and corner.max(axis=0)[0] == len(DENSITIES)
    assert "spread dominated by one seed" in [text.get_text() for text in figure.legends[0].texts]
    bare = figures.panel_figure(found["grid"], found["regimes"], EPOCHS, THRESHOLDS, "cka_softmax")
    assert "spread dominated by one seed" not in [text.get_text() for text in bare.legends[0].texts]


def test_thresholds_of_another_data_set_are_named_in_the_legend(smooth):
    borrowed = replace(THRESHOLDS, inherited="cifar10")
    figure = figures.panel_figure(smooth["grid"], smooth["regimes"], EPOCHS, borrowed, "lmc")
    assert said(figure) == "thresholds set for cifar10, not for this data set"
    own = figures.panel_figure(smooth["grid"], smooth["regimes"], EPOCHS, THRESHOLDS, "lmc")
    assert said(own) == ""


def test_the_two_borders_differ_in_dash_and_have_casings(drawn):
    axes = panels_of(drawn)[0]
    solid, dashed = with_id(axes, "border-lmc")[0], with_id(axes, "border-cka")[0]
    assert solid.get_linestyle() == "-" and dashed.get_linestyle() == "--"
    casing = with_id(axes, "casing")
    assert len(casing) == len(with_id(axes, "border-lmc")) + len(with_id(axes, "border-cka"))
    assert all(line.get_color() == "white" and line.get_zorder() < solid.get_zorder() for line in casing)
    assert min(line.get_linewidth() for line in casing) > solid.get_linewidth()


def test_region_names_stand_inside_their_regions(smooth, drawn):
    wide = smooth["regimes"].pivot(index="temperature", columns="density", values="regime").sort_index().to_numpy()
    texts = [text for text in panels_of(drawn)[2].texts if text.get_text() in regimes.REGIMES]
    assert {text.get_text() for text in texts} == {"I", "II-A", "II-B"}
    for text in texts:
        x, y = text.get_position()
        assert wide[int(y), int(x)] == text.get_text()


@pytest.mark.parametrize("temperatures", [tuple(range(10, 170, 10)), (10, 80, 160)])
def test_region_names_lie_on_no_border_and_on_no_value(temperatures):
    figure = diagram(
        cells(temperatures=temperatures, densities=DENSITIES if len(temperatures) > 3 else (0.05, 0.4, 0.8))
    )
    figure.canvas.draw()
    for axes in panels_of(figure):
        boxes = [text.get_window_extent() for text in with_id(axes, "region")]
        assert boxes
        values = [text.get_window_extent() for text in with_id(axes, "value")]
        lines = [line for name in ("lmc", "cka") for line in with_id(axes, f"border-{name}")]
        paths = [line.get_path().transformed(axes.transData) for line in lines]
        assert not any(path.intersects_bbox(box, filled=False) for path in paths for box in boxes)
        assert not any(box.overlaps(value) for box in boxes for value in values)


def test_small_grids_print_their_values_large_ones_do_not(drawn):
    assert not any(with_id(axes, "value") for axes in panels_of(drawn))
    figure = diagram(cells(temperatures=(10, 80, 160), densities=(0.05, 0.4, 0.8)))
    grid = tables(cells(temperatures=(10, 80, 160), densities=(0.05, 0.4, 0.8)))["grid"].set_index(
        ["temperature", "density"]
    )
    for axes, name, decimals in zip(panels_of(figure), FIGURE_2, (1, 1, 3, 3), strict=True):
        texts = {tuple(np.floor(text.get_position())): text.get_text() for text in with_id(axes, "value")}
        assert len(texts) == 9
        value = grid.loc[(80.0, 0.4), name] * PANELS[name].factor
        assert texts[1, 1] == f"{value:.{decimals}f}".replace("-", "−")


@pytest.mark.parametrize(
    "of",
    [
        {"temperatures": tuple(range(5, 130, 5)), "densities": tuple(np.round(np.linspace(0.025, 0.9, 15), 4))},
        {"knob": "batch_size", "temperatures": (16, 64, 512), "densities": (0.05, 0.8)},
    ],
    ids=["large", "small"],
)
def test_no_two_tick_labels_touch(of):
    plane = cells(**of)
    found = tables(plane)
    knob = KNOBS[of.get("knob", "epochs")]
    shown = [
        diagram(plane, knob.name),
        figures.panel_figure(found["grid"], found["regimes"], knob, THRESHOLDS, "lmc", "t"),
        figures.error_against_load(found["grid"], found["selection"], knob, cells=plane),
        figures.selection_comparison(found["selection"]),
        figures.seed_points(found["grid"], plane, knob),
    ]
    for figure in shown:
        assert not touching(figure)


def test_a_panel_that_is_the_same_everywhere_is_left_out():
    plane = cells(temperatures=(10, 80), densities=(0.05, 0.8)).assign(cka_softmax=1.0)
    figure = diagram(plane)
    assert [axes.get_xlabel()[:3] for axes in figure.axes if axes.get_xlabel()[:1] == "("] == ["(a)", "(b)", "(c)"]
    assert "CKA of softmax outputs: 1 in every cell" in said(figure)
    some = plane.assign(cka_softmax=plane["cka_softmax"].mask(plane["temperature"] == 10))
    assert "CKA of softmax outputs: 1 in every cell that was run" in said(diagram(some))
    one = diagram(cells(temperatures=(80,), densities=(0.8,)))
    assert len(panels_of(one)) == 3 and "nothing to compare with" in said(one)


def test_without_regime_i_the_range_of_lmc_is_fixed():
    plane = cells(temperatures=(10, 80), densities=(0.05, 0.8))
    for scale in (0.01, 0.1):
        calm = plane.assign(lmc=scale * (plane["lmc"] + 0.3).clip(-0.4, 0.4))
        mesh = next(item for item in panels_of(diagram(calm))[2].collections if isinstance(item, QuadMesh))
        assert mesh.get_clim() == (THRESHOLDS.lmc, 0.0)
    mesh = next(item for item in panels_of(diagram(cells()))[2].collections if isinstance(item, QuadMesh))
    assert mesh.get_clim()[0] < THRESHOLDS.lmc


def test_missing_cells_are_hatched_and_named_in_the_legend():
    table = cells()
    table.loc[(table["temperature"] == 60) & (table["density"] < 0.07), MEASURED] = np.nan
    table = table[~((table["temperature"] == 100) & (table["density"] == 0.8))]
    table.loc[(table["temperature"] == 160) & (table["density"] == 0.05), ["lmc", "lmc_nll", "lmc_test"]] = np.nan
    figure = diagram(table)
    counts = [len(with_id(axes, "not-run")) for axes in panels_of(figure)]
    assert counts == [3, 3, 4, 3]
    hatched = {patch.get_xy() for patch in with_id(panels_of(figure)[0], "not-run")}
    assert hatched == {(0, 2), (1, 2), (5, 4)}
    assert all(patch.get_hatch() for patch in with_id(panels_of(figure)[0], "not-run"))
    assert "not run" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_decided_cells_carry_a_dot(smooth):
    labels = smooth["regimes"].assign(decided=False)
    place = (labels["temperature"] == 40) & (labels["density"] == 0.08)
    labels.loc[place, "decided"] = True
    figure = figures.phase_diagram(smooth["grid"], labels, EPOCHS, THRESHOLDS)
    for axes in panels_of(figure):
        (dots,) = with_id(axes, "decided")
        np.testing.assert_array_equal(dots.get_xydata(), [[2.5, 1.5]])
    assert "regime decided" in [text.get_text() for text in figure.legends[0].texts]
    none = figures.phase_diagram(smooth["grid"], labels.assign(decided=False), EPOCHS, THRESHOLDS)
    assert "regime decided" not in [text.get_text() for text in none.legends[0].texts]
    assert "no regime is decided" in said(none)


def test_one_dense_seed_decides_by_distance_and_says_so(smooth):
    labels = smooth["regimes"].assign(decided=True, confidence=np.nan)
    figure = figures.phase_diagram(smooth["grid"], labels, EPOCHS, THRESHOLDS)
    assert "far from thresholds" in [text.get_text() for text in figure.legends[0].texts]
    assert "no standard errors" in said(figure)


@pytest.mark.parametrize(
    "of",
    [
        {"temperatures": (160,)},
        {"densities": (0.05,), "seeds": (1,)},
        {"temperatures": (80,), "densities": (0.8,), "seeds": (1,)},
        {"temperatures": (10, 20), "densities": (0.4, 0.8)},
    ],
    ids=["one temperature", "one density", "one cell", "no boundary"],
)
def test_small_grids_draw_without_a_warning(of):
    found = tables(cells(**of))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for figure in (
            figures.phase_diagram(found["grid"], found["regimes"], EPOCHS, THRESHOLDS, "title"),
            figures.error_against_load(found["grid"], found["selection"], EPOCHS),
            figures.selection_comparison(found["selection"]),
        ):
            figure.canvas.draw()


@pytest.mark.parametrize(
    ("regime", "shown", "absent"),
    [
        ("II-B", [], ["no border of Regime I (LMC = −0.12)", "no border II-A / II-B (CKA = 0.97)"]),
        ("by density", ["border II-A / II-B (CKA = 0.97)"], ["no border of Regime I (LMC = −0.12)"]),
    ],
)
def test_the_legend_names_what_is_seen_a_note_the_rest(smooth, regime, shown, absent):
    labels = smooth["regimes"].copy()
    labels["regime"] = np.where(labels["density"] < 0.1, "II-A", "II-B") if regime == "by density" else regime
    for figure in (
        figures.phase_diagram(smooth["grid"], labels, EPOCHS, THRESHOLDS),
        figures.panel_figure(smooth["grid"], labels, EPOCHS, THRESHOLDS, "lmc"),
    ):
        texts = [text.get_text() for text in figure.legends[0].get_texts()]
        assert [text for text in texts if "border" in text] == shown
        assert all(sentence in said(figure) for sentence in absent)
        figure.canvas.draw()
        box = figure.legends[0].get_window_extent()
        assert box.x0 >= 0 and box.x1 <= figure.bbox.x1, "the legend stays on the page"


@pytest.mark.skipif(not figure2.FIGURE2_FOLDER.is_dir(), reason="reference/figure2 is not here")
def test_the_published_figure_is_drawn_with_computed_borders():
    grid = seed_means.grid(figure2.as_cells(figure2.load()))
    figure = figures.phase_diagram(grid, regimes.label(grid, Thresholds()), EPOCHS, Thresholds(), "published")
    left = panels_of(figure)[0]
    assert ticks(left.yaxis) == [str(epoch) for epoch in range(10, 170, 10)]
    assert ticks(left.xaxis) == ["5", "6", "7", "8", "10", "14", "20", "40", "80"]
    assert with_id(left, "border-lmc") and with_id(left, "border-cka")


def test_letters_are_at_least_seven_points_and_stay_on_the_page(drawn):
    drawn.canvas.draw()
    texts = [text for text in drawn.findobj(mpl.text.Text) if text.get_text().strip() and text.get_visible()]
    assert len(texts) > 50
    assert min(text.get_fontsize() for text in texts) >= 7
    box = drawn.get_tightbbox(drawn.canvas.get_renderer())
    assert box.x0 >= 0 and box.y0 >= 0
    assert box.x1 <= style.SCREEN_WIDTH and box.y1 <= drawn.get_figheight()


def test_one_panel_keeps_its_notes_on_the_page():
    plane = cells(temperatures=(10, 80), densities=(0.05, 0.8))
    figure = diagram(plane.assign(test_error=0.2, cka_softmax=1.0, lmc=-0.01 * plane["dense_seed"] - plane["density"]))
    assert len(panels_of(figure)) == 1 and "no border" in said(figure)
    figure.canvas.draw()
    box = figure.get_tightbbox(figure.canvas.get_renderer())
    assert box.x0 >= 0 and box.x1 <= style.COLUMN_WIDTH == figure.get_figwidth()


@pytest.mark.skipif(not figure2.FIGURE2_FOLDER.is_dir(), reason="reference/figure2 is not here")
def test_the_committed_published_figure_is_the_drawn_one(tmp_path):
    """If not: ``make run PRESET=reference``, then copy published/figures/phase_diagram.png of its results."""
    write_csv(tmp_path / "cells.csv", figure2.as_cells(figure2.load()))
    regime_tables.write(tmp_path, Thresholds())
    _, drawn, _ = figures.draw(tmp_path, ["phase_diagram"], Thresholds())
    fresh, committed = (Image.open(path).convert("L") for path in (drawn, figure2.FIGURE2_FOLDER / "redrawn.png"))
    assert fresh.size == committed.size
    other = np.array(ImageChops.difference(fresh, committed)) > 32
    assert other.mean() < 2e-4, "a changed word is more, another processor's rounding less"


def test_names_keep_off_the_dots_of_decided_cells():
    grid = seed_means.grid(figure2.as_cells(figure2.load()))
    figure = figures.phase_diagram(grid, regimes.label(grid, Thresholds()), EPOCHS, Thresholds())
    figure.canvas.draw()
    for axes in panels_of(figure):
        dots = axes.transData.transform(with_id(axes, "decided")[0].get_xydata())
        for text in with_id(axes, "region"):
            box = text.get_window_extent()
            # Letters are all capitals: three quarters of the height of a line, above its descent.
            low, high = box.y0 + 0.24 * box.height, box.y1
            assert not [1 for x, y in dots if box.x0 < x < box.x1 and low < y < high]


def test_names_keep_off_marked_corners(smooth):
    grid = smooth["grid"].assign(lmc_one_seed=np.where(np.arange(len(smooth["grid"])) % 3 == 0, 2.0, np.nan))
    axes = panels_of(figures.phase_diagram(grid, smooth["regimes"], EPOCHS, THRESHOLDS))[2]
    axes.figure.canvas.draw()
    corners = [patch.get_window_extent() for patch in with_id(axes, "one-seed")]
    names = [text.get_window_extent() for text in with_id(axes, "region")]
    assert len(corners) > 10 and len(names) == 3
    assert not any(name.overlaps(corner) for name in names for corner in corners)


def test_every_part_of_a_regime_with_room_is_named():
    code = np.full((8, 4), "II-A", dtype=object)
    code[3] = "I"
    code[6, 2] = "II-B"
    plane = cells(densities=(0.05, 0.1, 0.4, 0.8))
    found = tables(plane)
    labels = found["regimes"].sort_values(["temperature", "density"]).assign(regime=code.ravel(), decided=False)
    figure = figures.phase_diagram(found["grid"], labels, EPOCHS, THRESHOLDS)
    names = sorted(text.get_text() for text in with_id(panels_of(figure)[0], "region"))
    assert names == ["I", "II-A", "II-A", "II-B"]


def test_a_name_stands_upright_in_a_narrow_region_but_never_i():
    densities = tuple(np.round(np.linspace(0.05, 0.6, 12), 3))
    found = tables(cells(densities=densities))
    labels = found["regimes"].assign(decided=False, regime="II-B")
    labels.loc[labels["density"] == densities[5], "regime"] = "II-A"
    labels.loc[labels["density"] == densities[8], "regime"] = "I"
    figure = figures.phase_diagram(found["grid"], labels, EPOCHS, THRESHOLDS)
    figure.canvas.draw()
    axes = panels_of(figure)[0]
    turned = {text.get_text(): text for text in with_id(axes, "region")}
    assert {name: text.get_rotation() for name, text in turned.items()} == {"I": 0, "II-A": 90, "II-B": 0}
    for name, column in (("II-A", 5), ("I", 8)):
        box = turned[name].get_window_extent().transformed(axes.transData.inverted())
        assert column < box.x0 < box.x1 < column + 1
        assert (box.y0 + box.y1) / 2 == pytest.approx(len(set(labels["temperature"])) / 2, abs=0.6)


@pytest.mark.parametrize(("se", "least"), [(0.002, 0.8), (np.nan, 1.0)])
def test_noise_does_not_span_all_colours(smooth, se, least):
    grid = smooth["grid"].copy()
    grid["test_error"] = 0.436 + 1e-5 * np.arange(len(grid))
    grid["test_error_se"] = se
    figure = figures.panel_figure(grid, smooth["regimes"], EPOCHS, THRESHOLDS, "test_error")
    mesh = next(item for item in panels_of(figure)[0].collections if isinstance(item, QuadMesh))
    assert np.ptp(mesh.get_clim()) == pytest.approx(least)


def test_a_widened_range_stays_among_possible_values():
    assert PANELS["cka_softmax"].widened(0.995, 0.999, 0.02) == pytest.approx((0.98, 1))
    assert PANELS["normalised_test_error"].widened(0, 0.1, 1) == pytest.approx((0, 1))
    assert PANELS["test_error"].widened(0, 1, 200) == (0, 100)
    assert PANELS["lmc"].widened(-0.5, 0, 0.02) == (-0.5, 0)


@pytest.mark.parametrize("low", [-0.02, -0.0208, -0.0999])
def test_labels_of_a_colour_bar_do_not_touch(low):
    plane = cells(temperatures=(10, 80), densities=(0.05, 0.8))
    found = tables(plane.assign(lmc=np.where(plane["density"] < 0.1, low, 0.0)))
    labels = found["regimes"].assign(regime="II-A")
    figure = figures.phase_diagram(found["grid"], labels, EPOCHS, replace(THRESHOLDS, lmc=low))
    assert not touching(figure)
    bar = next(axes for axes in figure.axes if axes.get_xlabel().startswith("(c)"))
    assert len(bar.get_xticks()) >= 2


@pytest.mark.parametrize(
    ("value", "shown"),
    [(-0.11996, ""), (-0.12004, ""), (-0.1196, "−0.1196"), (-0.1207, "−0.121"), (-0.12, "−0.120")],
)
def test_printed_values_stay_on_their_side_of_the_threshold(value, shown):
    plane = cells(temperatures=(10, 80), densities=(0.05, 0.8), seeds=(1,))
    plane.loc[(plane["temperature"] == 10) & (plane["density"] == 0.05), "lmc"] = value
    figure = diagram(plane)
    texts = {tuple(np.floor(text.get_position())): text.get_text() for text in with_id(panels_of(figure)[2], "value")}
    assert texts[0, 0] == shown


def test_lightness_rises_steadily_towards_the_good_end():
    for light_is_low in (True, False):
        rgb = style.sequential(light_is_low=light_is_low)(np.linspace(0, 1, 64))[:, :3]
        grey = rgb @ (0.299, 0.587, 0.114)
        assert (np.diff(grey if not light_is_low else grey[::-1]) > 0).all()
        assert abs(grey[0] - grey[-1]) > 0.7


def test_line_looks_differ_in_colour_marker_and_dash():
    for attribute in ("colour", "marker", "dash"):
        assert len({str(getattr(look, attribute)) for look in style.SERIES}) == len(style.SERIES)


def test_wrong_tables_are_refused_by_name(smooth):
    grid, labels = smooth["grid"], smooth["regimes"]
    for broken, word in (
        ((grid.drop(columns="lmc"), labels), "lmc"),
        ((grid, labels.drop(columns="decided")), "decided"),
        ((grid.iloc[:0], labels), "no rows"),
        ((pd.concat([grid, grid.assign(study="other")]), labels), "more than one study"),
        ((pd.concat([grid, grid]), labels), "more than one row"),
        ((grid, labels.assign(regime="III")), "III"),
    ):
        with pytest.raises(UserError, match=word):
            figures.phase_diagram(*broken, EPOCHS, THRESHOLDS)
    with pytest.raises(UserError, match="sam_rho"):
        figures.phase_diagram(grid, labels, KNOBS["sam_rho"], THRESHOLDS)
    with pytest.raises(UserError, match="unknown metric 'bleu'"):
        figures.panel_figure(grid, labels, EPOCHS, THRESHOLDS, "bleu")


# Geometry of borders


def test_a_border_is_one_line_along_edges_to_the_frame():
    (line,) = border_lines(np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0]], dtype=float))
    np.testing.assert_array_equal(line, [[0, 1], [1, 1], [1, 2], [2, 2], [2, 3]])


def test_a_border_separates_unlike_cells_whatever_the_labels():
    inside = np.random.default_rng(0).integers(0, 2, (6, 5)).astype(float)
    lines = border_lines(inside)
    middles = [tuple(point) for line in lines for point in (line[1:] + line[:-1]) / 2]
    unlike = {(c + 0.5, r + 1.0) for r in range(5) for c in range(5) if inside[r, c] != inside[r + 1, c]}
    unlike |= {(c + 1.0, r + 0.5) for r in range(6) for c in range(4) if inside[r, c] != inside[r, c + 1]}
    assert len(middles) == len(unlike) and set(middles) == unlike


def test_no_border_between_like_or_unknown_cells():
    assert border_lines(np.ones((3, 3))) == []
    assert border_lines(np.array([[1, np.nan, 0]])) == []


def test_the_roomiest_point_is_the_middle_and_avoids_obstacles():
    region = np.zeros((9, 9), dtype=bool)
    region[2:7, 2:7] = True
    assert roomiest_point(region, [], 1, 1) == pytest.approx((4.5, 4.5), abs=0.2)
    x, _ = roomiest_point(region, [np.array([[4.0, 0.0], [4.0, 9.0]])], 1, 1)
    assert x > 5
    assert roomiest_point(np.zeros((2, 2), dtype=bool), [], 1, 1) is None
    assert width_at(region, (4.5, 4.5)) == 5
