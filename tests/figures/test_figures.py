"""Figures other than phase diagrams, and the files of all: the same twice, none empty, no torch."""

import subprocess
import sys
import warnings
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import tiny_study
from checkout import ROOT
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from smooth_plane import DENSITIES, EPOCHS, MEASURED, THRESHOLDS, cells, panels_of, run_tables, tables, ticks

from three_regime import figures
from three_regime.analysis import regime_tables
from three_regime.analysis.algorithms import summary
from three_regime.analysis.seed_means import seed_names
from three_regime.config import resolve
from three_regime.config.measures import measured_columns
from three_regime.errors import UserError
from three_regime.figures import against_load, study, style
from three_regime.figures.panels import PANELS, panel_of
from three_regime.figures.wording import reworded
from three_regime.settings import setting_of
from three_regime.study.outputs import GRID_FIGURES, LAYER_FIGURES, LOAD_GRID_FIGURES, MEASURE_TABLES, RUN_FIGURES
from three_regime.system.files import write_csv


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text)]


@pytest.fixture(scope="module")
def smooth() -> dict[str, pd.DataFrame]:
    return tables(cells())


def test_tuning_starts_from_the_default_temperature(smooth):
    table = figures.tuning_table(smooth["grid"], smooth["selection"], EPOCHS)
    tuned = table[table["algorithm"] == "algorithm 1"]
    assert set(tuned["start"]) == {160.0} and len(tuned) == len(DENSITIES)
    assert (table["regret"] >= 0).all() and (table[table["algorithm"] == "oracle"]["regret"] == 0).all()
    assert table["test_error_ci95"].notna().all()
    other = figures.tuning_table(smooth["grid"], smooth["selection"], EPOCHS, start=20)
    assert set(other.query("algorithm == 'algorithm 1'")["start"]) == {20.0}
    with pytest.raises(UserError, match="15"):
        figures.tuning_table(smooth["grid"], smooth["selection"], EPOCHS, start=15)


def test_error_against_density_in_percent_with_hot_on_top(smooth):
    figure = figures.error_against_load(smooth["grid"], smooth["selection"], EPOCHS)
    error, _, chosen = figure.axes
    table = figures.tuning_table(smooth["grid"], smooth["selection"], EPOCHS)
    assert len(error.containers) == 3
    for name, container in zip(against_load.TUNED, error.containers, strict=True):
        rows = table[table["algorithm"] == name]
        line, _, (bars,) = container.lines
        np.testing.assert_allclose(np.asarray(line.get_ydata(), float), 100 * rows["test_error"])
        half = [(segment[1, 1] - segment[0, 1]) / 2 for segment in bars.get_segments()]
        np.testing.assert_allclose(half, 100 * rows["test_error_ci95"])
    assert ticks(chosen.yaxis)[0] == "20" and chosen.yaxis_inverted()
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.findobj(Text) if text.get_text()[:3] in ("(a)", "(b)", "(c)")]
    assert boxes[0].x1 < boxes[1].x0 and boxes[1].x1 < boxes[2].x0 and boxes[2].x1 <= figure.bbox.x1


def test_bars_are_explained_where_there_are_any(smooth):
    figure = figures.error_against_load(smooth["grid"], smooth["selection"], EPOCHS)
    assert "bars: 95 % intervals" in figure.legends[0].get_title().get_text()
    one = tables(cells(seeds=(1,)))
    bare = figures.error_against_load(one["grid"], one["selection"], EPOCHS)
    assert "bars" not in bare.legends[0].get_title().get_text()
    assert not any(container.has_yerr for container in bare.axes[0].containers)


def test_the_band_of_starts_is_explained_where_there_is_one(smooth):
    said = "band: smallest to largest over the starts"
    assert said in words(figures.selection_comparison(smooth["selection"]))
    single = smooth["selection"].query("algorithm in ('algorithm 2', 'algorithm 2.1')").assign(regret=0.01)
    assert said not in words(figures.selection_comparison(single))


def test_dense_seeds_stand_beside_error_and_paired_regret(smooth):
    table = figures.tuning_table(smooth["grid"], smooth["selection"], EPOCHS, cells=cells())
    single = [name for name in table if name.startswith("regret_seed")]
    assert single == ["regret_seed1", "regret_seed2", "regret_seed3"]
    np.testing.assert_allclose(table[single].mean(axis=1), table["regret"], atol=1e-12)
    assert table[[f"test_error_seed{seed}" for seed in (1, 2, 3)]].mean(axis=1).to_numpy() == pytest.approx(
        table["test_error"]
    )
    figure = figures.error_against_load(smooth["grid"], smooth["selection"], EPOCHS, cells=cells())
    without = figures.error_against_load(smooth["grid"], smooth["selection"], EPOCHS, cells=cells(seeds=(1,)))
    for axes, bare in zip(figure.axes[:2], without.axes[:2], strict=True):
        assert len(axes.lines) == len(bare.lines) + 3 * 3
        places = {tuple(line.get_xdata()) for line in axes.lines if len(line.get_xdata()) == len(DENSITIES)}
        assert places == {tuple(range(len(DENSITIES)))}, "every curve and every seed stands at its density"
    assert "dense seeds" in [text.get_text() for text in figure.legends[0].texts]


def test_every_dense_seed_is_a_point_a_dominant_one_ringed():
    plane = cells(temperatures=(10, 80, 160), densities=(0.05, 0.8))
    sparse = (plane["density"] == 0.05) & (plane["temperature"] == 160)
    plane.loc[sparse & (plane["dense_seed"] == 2), "lmc"] -= 0.3
    grid = tables(plane)["grid"]
    table = figures.seed_table(grid, plane, EPOCHS)
    assert len(table) == 3 * len(plane), "lmc_middle was not measured"
    assert set(table.loc[table["one_seed"].notna(), "measure"]) == {"lmc"}
    figure = figures.seed_points(grid, plane, EPOCHS)
    panels = np.array(figure.axes).reshape(3, 2)
    shown = sorted(
        value
        for line in panels[1, 0].lines
        if line.get_marker() in tuple("os^") and line.get_gid() is None
        for value in line.get_ydata()
    )
    np.testing.assert_allclose(shown, sorted(plane.loc[plane["density"] == 0.05, "lmc"]))
    joined = [list(line.get_xdata()) for line in panels[1, 0].lines if line.get_gid() == "joined"]
    assert joined == [[0, 1, 2]] * 3, "each seed's values from hot to cold"
    rings = [
        line for axes in panels.flat for line in axes.lines if line.get_gid() == "one-seed" and len(line.get_xdata())
    ]
    assert len(rings) == 1 and rings[0].axes is panels[1, 0]
    assert rings[0].get_ydata() == pytest.approx(plane.loc[sparse & (plane["dense_seed"] == 2), "lmc"])


@pytest.mark.parametrize(("seeds", "hidden"), [(3, False), (8, True)])
def test_many_seeds_do_not_hide_their_mean(seeds, hidden):
    plane = cells(temperatures=(10, 80), densities=(0.05, 0.8), seeds=tuple(range(1, seeds + 1)))
    lines = figures.seed_points(tables(plane)["grid"], plane, EPOCHS).axes[0].lines
    (mean,) = (line for line in lines if line.get_marker() == "_" and line.get_linestyle() == "-")
    points = [line.get_zorder() for line in lines if line.get_marker() in tuple("os^")]
    assert (mean.get_zorder() > max(points)) == hidden


def test_a_cell_of_one_seed_among_several_has_no_error_bar():
    plane = cells(temperatures=(10, 80, 160), densities=(0.05, 0.8))
    plane = plane[(plane["dense_seed"] == 1) | (plane["temperature"] != 10) | (plane["density"] != 0.05)]
    figure = figures.seed_points(tables(plane)["grid"], plane, EPOCHS)
    bars = [segment for bars in figure.axes[0].collections for segment in bars.get_segments()]
    assert sum(len(segment) > 0 for segment in bars) == 2, "80 and 160 epochs have three seeds"


def test_pairs_have_the_colour_of_their_dense_seed():
    figure = figures.lmc_lines(run_tables()["lines"], EPOCHS)
    *pairs, _, _ = figure.axes[0].lines
    colours = [line.get_color() for line in pairs]
    assert colours[0] == colours[1] != colours[2] == colours[3]
    named = {handle.get_label(): handle.get_color() for handle in figure.legends[0].get_lines()}
    assert (named["pairs of seed 1"], named["pairs of seed 2"]) == (colours[0], colours[2])


@pytest.mark.parametrize(("seeds", "colours"), [(6, 6), (7, 1)])
def test_no_dense_seed_is_black_and_many_are_one_grey(seeds, colours):
    one = run_tables()["lines"].query("dense_seed == 1")
    figure = figures.lmc_lines(pd.concat([one.assign(dense_seed=seed) for seed in range(1, seeds + 1)]), EPOCHS)
    *pairs, mean, _ = figure.axes[0].lines
    drawn = {line.get_color() for line in pairs}
    assert len(drawn) == colours and mean.get_color() == "black" and not drawn & {"black", "#000000"}
    named = {line.get_color() for line in figure.legends[0].get_lines() if "pairs" in str(line.get_label())}
    assert named == drawn


def test_a_single_pair_is_drawn_once_and_named_so():
    lines = run_tables()["lines"].query("dense_seed == 1 and pair == '1-2'")
    figure = figures.lmc_lines(lines, EPOCHS)
    assert all(len(axes.lines) == 2 for axes in figure.axes)
    assert [text.get_text() for text in figure.legends[0].texts] == ["the pair", "mean of the ends"]


def test_rows_that_are_not_shown_are_announced(smooth):
    assert "4 of 6 densities are shown" in " ".join(words(figures.seed_points(smooth["grid"], cells(), EPOCHS)))
    tables_of_run = run_tables()
    many = [tables_of_run["lines"].assign(temperature=value) for value in range(10, 70, 10)]
    assert any("shown: 4 of 6 temperatures" in text for text in words(figures.lmc_lines(pd.concat(many), EPOCHS)))
    retrained = tables_of_run["curves"].query("stage == 'retrain' and temperature == 10")
    more = [retrained.assign(temperature=value) for value in range(10, 70, 10)]
    assert any("3 of 6 temperatures" in text for text in words(figures.training_curves(pd.concat(more), EPOCHS)))
    assert not any(" of 2 " in text for text in words(figures.lmc_lines(tables_of_run["lines"], EPOCHS)))


def test_equal_curves_are_one_with_both_names(smooth):
    selection = smooth["selection"]
    same = selection[selection["algorithm"] == "oracle"].assign(algorithm="default temperature")
    equal = pd.concat([selection[selection["algorithm"] != "default temperature"], same])
    figure = figures.error_against_load(smooth["grid"], equal, EPOCHS, start=20)
    assert len(figure.axes[0].containers) == 2
    assert "default temperature\n= oracle" in words(figure)
    table = pd.DataFrame({"threshold": [-0.3, -0.2], "agreement": np.nan, "balanced_accuracy": np.nan})
    figure = figures.threshold_sensitivity(table.assign(algorithm_2=[1, 2], algorithm_2_1=[1, 2]), -0.12)
    assert "Algorithm 2\n= Algorithm 2.1" in words(figure)


def test_panels_that_say_nothing_are_left_out_in_words(smooth):
    oracle = smooth["selection"].query("algorithm == 'oracle'").assign(temperature=80.0, regret=0.0)
    figure = figures.error_against_load(smooth["grid"], oracle, EPOCHS)
    assert len(figure.axes) == 1
    said = figure.legends[0].get_title().get_text()
    assert (
        "every choice is the best at every density" in said
        and "chosen at every density: 80 (dense training epochs)" in said
    )
    table = pd.DataFrame({"threshold": [-0.3, -0.2], "agreement": np.nan, "balanced_accuracy": np.nan})
    blank = figures.threshold_sensitivity(table.assign(algorithm_2=0.01), -0.12)
    assert not blank.axes and "the same at every threshold" in " ".join(words(blank)).replace("\n", " ")
    plane = cells(temperatures=(10, 80), densities=(0.05, 0.8)).assign(cka_softmax=1.0)
    points = figures.seed_points(tables(plane)["grid"], plane, EPOCHS)
    assert len(points.axes) == 2 * 2 and any("CKA of softmax outputs: 1 everywhere" in text for text in words(points))


def test_a_logarithmic_axis_needs_something_above_zero():
    curves = run_tables()["curves"].assign(test_error=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = figures.training_curves(curves, EPOCHS)
        figure.canvas.draw()
    panels = np.array(figure.axes).reshape(2, 4)
    assert {axes.get_yscale() for axes in panels[0]} == {"log"}
    assert {axes.get_yscale() for axes in panels[1]} == {"linear"}


def test_one_column_without_errors_leaves_the_others_logarithmic():
    curves = run_tables()["curves"]
    coldest = (curves["stage"] == "retrain") & (curves["temperature"] == curves["temperature"].max())
    curves["test_error"] = curves["test_error"].mask(coldest, 0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = figures.training_curves(curves, EPOCHS)
        figure.canvas.draw()
    assert {axes.get_yscale() for axes in figure.axes} == {"log"}


def test_training_curves_average_replicas_before_dense_seeds():
    curves = run_tables()["curves"]
    part = curves[(curves["stage"] == "retrain") & (curves["temperature"] == 10) & (curves["density"] == 0.05)]
    more = part[part["dense_seed"] == 1].assign(replica=2)  # seed 1 has two replicas now, seed 2 one
    lower = curves["test_error"].mask(curves.index.isin(part.index[part["dense_seed"] == 2]), 0.01)
    figure = figures.training_curves(pd.concat([curves.assign(test_error=lower), more]), EPOCHS)
    line = np.array(figure.axes).reshape(2, 4)[1, 1].lines[0]
    np.testing.assert_allclose(line.get_ydata(), 100 * (0.4 / np.array([1, 2, 3, 4]) + 0.01) / 2)


def test_selection_comparison_gives_mean_and_range_over_starts(smooth):
    table = figures.selection_table(smooth["selection"]).set_index(["algorithm", "density"])
    walks = smooth["selection"].query("algorithm == 'algorithm 1' and density == 0.05")["regret"]
    row = table.loc[("algorithm 1", 0.05)]
    assert (row["mean"], row["lowest"], row["highest"]) == pytest.approx((walks.mean(), walks.min(), walks.max()))
    assert row["starts"] == len(walks) > 1
    figure = figures.selection_comparison(smooth["selection"])
    names = ticks(figure.axes[1].yaxis)
    assert names == ["default temperature", "lowest dense error", "Algorithm 1", "Algorithm 2", "Algorithm 2.1"]


def test_only_algorithm_1_is_a_mean_of_starts(smooth):
    """Also where all algorithms choose alike and are one curve."""
    selection = smooth["selection"].query("algorithm in ('algorithm 1', 'algorithm 2')")
    figure = figures.selection_comparison(selection.assign(regret=0.01))
    assert "Algorithm 1 (mean of starts)\n= Algorithm 2" in words(figure)


def test_the_mean_over_densities_is_that_of_the_table(smooth):
    """A density with fewer measured starts counts for less."""
    selection = smooth["selection"]
    first = (selection["algorithm"] == "algorithm 1") & (selection["density"] == 0.05)
    holed = selection[~first | (selection["start"] == 160)].assign(regret=lambda table: 0.1 * table["density"])
    mean = summary(holed).set_index(["algorithm", "start"]).loc[("algorithm 1", "all")]
    axes = figures.selection_comparison(holed).axes[1]
    row = ticks(axes.yaxis).index("Algorithm 1")
    filled = [line for line in axes.lines if line.get_marker() not in ("", "None", None)
              and line.get_markerfacecolor() != "white" and line.get_ydata()[0] == row]  # fmt: skip
    assert [line.get_xdata()[0] for line in filled] == [pytest.approx(100 * mean["mean_regret"])]
    assert f"{mean['mean_probes']:.1f}" in [text.get_text() for text in axes.texts]


def test_a_mean_over_fewer_densities_says_over_how_many(smooth):
    """A choice that was not run everywhere may look better than it is."""
    selection = smooth["selection"].assign(regret=0.01)
    lost = (selection["algorithm"] == "algorithm 2.1") & (selection["density"] == 0.05)
    many = selection["density"].nunique()
    labels = ticks(figures.selection_comparison(selection.assign(regret=selection["regret"].mask(lost))).axes[1].yaxis)
    assert f"Algorithm 2.1\n({many - 1} of {many})" in labels and "Algorithm 2" in labels


def test_sensitivity_shows_agreement_only_with_drawn_regimes(smooth):
    table = pd.DataFrame({"threshold": [-0.3, -0.2, -0.1], "agreement": np.nan, "balanced_accuracy": np.nan})
    table["algorithm_2"] = [0.001, 0.002, 0.003]
    (axes,) = figures.threshold_sensitivity(table, -0.12).axes
    assert axes.lines[0].get_drawstyle() == "steps-mid", "it is known at these thresholds alone"
    drawn = table.assign(agreement=[0.9, 0.9, 0.7], balanced_accuracy=[0.8, 0.8, 0.7])
    figure = figures.threshold_sensitivity(drawn, -0.12)
    assert len(figure.axes) == 2
    assert sorted(100 * value for value in (0.8, 0.9)) == sorted(
        line.get_ydata()[0] for line in figure.axes[0].lines if len(line.get_xdata()) == len(table)
    )


def test_lmc_lines_have_temperatures_down_and_densities_across():
    lines = run_tables()["lines"]
    figure = figures.lmc_lines(lines, EPOCHS)
    panels = np.array(figure.axes).reshape(3, 2)
    assert [axes.get_title() for axes in panels[0]] == ["density 5 %", "density 80 %"]
    assert [row[-1].texts[0].get_text() for row in panels] == ["10", "80", "160"]
    coldest = panels[2, 0]
    *pairs, mean, ends = coldest.lines
    assert len(pairs) == 4
    assert mean.get_ydata()[5] == pytest.approx(0.02 + 0.2 * 0.25), "in the unit of LMC"
    np.testing.assert_allclose(ends.get_ydata(), 0.02)
    few = figures.lmc_lines(lines, EPOCHS, temperatures=[160, 20], densities=[0.8], measure="test_nll")
    assert len(few.axes) == 2
    assert [text.get_text() for text in few.axes[0].texts if "run" in text.get_text()] == ["not run"]
    with pytest.raises(UserError, match="bleu"):
        figures.lmc_lines(lines, EPOCHS, measure="bleu")


def test_training_curves_are_means_by_density():
    curves = run_tables()["curves"]
    figure = figures.training_curves(curves, EPOCHS)
    panels = np.array(figure.axes).reshape(2, 4)
    assert panels[0, 0].get_title() == "dense training"
    assert [axes.get_title().split()[-1] for axes in panels[0, 1:]] == ["10", "80", "160"]
    dense = panels[1, 0].lines[0]
    np.testing.assert_allclose(dense.get_ydata(), 100 * (0.4 / np.array([1, 2, 3, 4]) + 0.015))
    two_densities_and_a_rate = panels[1, 1].lines
    assert len(two_densities_and_a_rate) == 3
    assert set(two_densities_and_a_rate[-1].get_xdata()) == {2.5}


def test_a_rate_that_changes_all_the_time_has_no_verticals():
    curves = run_tables()["curves"]
    steps = figures.training_curves(curves, EPOCHS).axes[1]
    cosine = figures.training_curves(curves.assign(learning_rate=1 / curves["epoch"]), EPOCHS).axes[1]
    assert len(steps.lines) == len(cosine.lines) + 1


def test_sparsity_keeps_the_order_of_layers_and_shows_percent():
    sparsity = run_tables()["sparsity"]
    upper, lower = figures.sparsity_per_layer(sparsity).axes
    assert ticks(lower.xaxis) == ["conv1", "layer1.0.conv1"]
    np.testing.assert_allclose(upper.lines[0].get_ydata(), [100 * 22 / 432, 100 * 115 / 2304])
    assert [bar.get_height() for bar in lower.patches] == [432, 2304]


# Files


def test_a_study_with_nothing_run_still_has_its_figures(tmp_path):
    table = cells(temperatures=(10, 80), densities=(0.05, 0.8))
    table[MEASURED] = np.nan
    write_csv(tmp_path / "cells.csv", table)
    regime_tables.write(tmp_path, THRESHOLDS)
    for name, run in run_tables().items():
        write_csv(tmp_path / f"{name}.csv", run.iloc[:0])
    names = ["lmc", "error_against_density", "model_selection", "threshold_sensitivity", *RUN_FIGURES, *LAYER_FIGURES]
    assert len(figures.draw(tmp_path, names, THRESHOLDS)) == 3 * len(names)


def test_sensitivity_marks_the_threshold_without_a_border(tmp_path):
    write_csv(tmp_path / "cells.csv", cells(temperatures=(10, 20), densities=(0.4, 0.8)))
    regime_tables.write(tmp_path, THRESHOLDS)
    assert "lmc" not in set(pd.read_csv(tmp_path / "boundaries.csv")["boundary"])
    table = pd.read_csv(tmp_path / "sensitivity.csv")
    write_csv(tmp_path / "sensitivity.csv", table.assign(algorithm_2=np.linspace(0, 0.01, len(table))))
    figure, _ = study.drawn(study.Tables(tmp_path, THRESHOLDS), "threshold_sensitivity")
    assert figure.axes[0].get_title() == "vertical line: threshold in use, −0.12"
    borrowed = replace(THRESHOLDS, inherited="cifar10")
    figure, _ = study.drawn(study.Tables(tmp_path, borrowed), "threshold_sensitivity")
    assert figure.axes[0].get_title().endswith("−0.12 (set for cifar10)")


def test_drawn_twice_the_files_are_the_same_and_none_is_empty(tmp_path, smooth):
    written = []
    for place in ("first", "second"):
        figure = figures.panel_figure(smooth["grid"], smooth["regimes"], EPOCHS, THRESHOLDS, "lmc", "t")
        written.append(figures.save(figure, tmp_path / place / "phase.2", smooth["grid"]))
    assert [path.name for path in written[0]] == ["phase.2.pdf", "phase.2.png", "phase.2.csv"]
    for one, two in zip(*written, strict=True):
        assert one.stat().st_size > 0
        assert one.read_bytes() == two.read_bytes()
    read, grid = pd.read_csv(written[0][2]), smooth["grid"]
    sets = [column for column in grid if column.endswith("_of_seeds")]
    pd.testing.assert_frame_equal(read.drop(columns=sets), grid.drop(columns=sets))
    assert sets and all(read[name].map(seed_names).equals(grid[name].map(seed_names)) for name in sets)
    with Image.open(written[0][1]) as picture:
        assert picture.size[0] == round(300 * style.COLUMN_WIDTH)
    assert not list(tmp_path.rglob("*.part"))


def test_drawing_leaves_the_settings_of_matplotlib_alone(smooth):
    with mpl.rc_context({"font.size": 23, "lines.linewidth": 9}):
        before = dict(mpl.rcParams)
        figure = figures.panel_figure(smooth["grid"], smooth["regimes"], EPOCHS, THRESHOLDS, "lmc")
        assert dict(mpl.rcParams) == before
    assert panels_of(figure)[0].xaxis.get_ticklabels()[0].get_fontsize() == 7


def test_a_whole_study_is_drawn_from_its_folder_without_torch(tmp_path):
    write_csv(tmp_path / "cells.csv", cells(temperatures=(10, 80, 160), densities=(0.05, 0.8)))
    regime_tables.write(tmp_path, THRESHOLDS)
    for name, table in run_tables().items():
        write_csv(tmp_path / f"{name}.csv", table)
    code = (
        "import sys\n"
        "from pathlib import Path; from three_regime import figures\n"
        "from three_regime.config.thresholds import Thresholds\n"
        "print(len(figures.draw(Path(sys.argv[1]), sys.argv[2:], Thresholds(-0.12, 0.97))))\n"
        "assert not any(name.split('.')[0] == 'torch' for name in sys.modules)\n"
    )
    panels = {"test_error", "normalised_test_error", "cka"}  # drawn like "lmc", which stands for them
    names = [name for name in GRID_FIGURES + RUN_FIGURES + LAYER_FIGURES if name not in panels]
    command = [sys.executable, "-W", "error::UserWarning", "-c", code, str(tmp_path), *names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == 3 * len(names)
    for name in names:
        for kind in ("pdf", "png", "csv"):
            assert (tmp_path / "figures" / f"{name}.{kind}").stat().st_size > 0


def test_every_figure_that_the_workflow_asks_for_can_be_drawn(tmp_path, monkeypatch):
    every = GRID_FIGURES + RUN_FIGURES + LAYER_FIGURES + MEASURE_TABLES
    assert set(study.DRAWERS) == {*every, *LOAD_GRID_FIGURES}
    asked = []
    monkeypatch.setattr(study, "draw", lambda folder, names, thresholds: asked.extend(names) or [])
    figures.draw_all(tmp_path, THRESHOLDS, (*every, "agreement"))
    assert asked == [*GRID_FIGURES, "agreement"]
    asked.clear()
    (tmp_path / "lines.csv").touch()
    figures.draw_all(tmp_path, THRESHOLDS, every)
    assert asked == list(every)


def test_layers_are_drawn_only_where_they_are_not_pruned_alike(tmp_path):
    for allocation, layers in (("uniform", ()), ("global", LAYER_FIGURES)):
        settings = resolve(tiny_study.mapping(tmp_path, prune={"allocation": allocation}))
        assert tiny_study.study_of(settings).figures == GRID_FIGURES + RUN_FIGURES + layers


def test_the_title_says_data_set_model_and_knob(tmp_path):
    write_csv(tmp_path / "grid.csv", tables(cells("batch_size", (10, 80)))["grid"].assign(model="vgg-19"))
    found = study.Tables(tmp_path, THRESHOLDS)
    assert found.title == "smooth\ndigits, vgg-19, dense batch size (images)"


@pytest.mark.parametrize(("dataset", "unit"), [("toy", "tokens"), ("digits", "images")])
@pytest.mark.parametrize("name", ["phase_diagram", "error_against_density", "seeds", "lmc_lines", "training_curves"])
def test_the_batch_size_is_in_the_unit_of_the_setting(tmp_path, dataset, unit, name):
    plane = cells("batch_size", (10, 80, 160)).assign(dataset=dataset)
    for table, content in {"cells": plane, **tables(plane), **run_tables()}.items():
        write_csv(tmp_path / f"{table}.csv", content)
    figure, _ = study.drawn(study.Tables(tmp_path, THRESHOLDS), name)
    said = [text.get_text() for text in figure.findobj(Text) if "batch size" in text.get_text()]
    assert said and all(f"dense batch size ({unit})" in text for text in said)
    if name == "phase_diagram":
        assert any("100 − BLEU,\nabove the best" in text for text in words(figure)) == (dataset == "toy")


def test_words_of_a_setting_do_not_depend_on_lines():
    """Labels of panels stand on one line in figures of one panel; token errors are never called BLEU."""
    said = setting_of("text").words("phase_diagram")
    for name in (*PANELS, *measured_columns()):
        label = panel_of(name).label
        one_line, two_lines = (reworded(text, said).split() for text in (label.replace("\n", " "), label))
        assert one_line == two_lines, name
        assert ("BLEU" in " ".join(one_line)) == (name.endswith("test_error")), name
    assert reworded("training error (%)", said) == "training token error (%)"


def test_missing_tables_and_unknown_figures_are_named(tmp_path):
    with pytest.raises(UserError, match=r"grid\.csv is missing"):
        figures.draw(tmp_path, ["phase_diagram"], THRESHOLDS)
    (tmp_path / "grid.csv").write_text("")
    with pytest.raises(UserError, match=r"grid\.csv is not a complete table"):
        figures.draw(tmp_path, ["phase_diagram"], THRESHOLDS)
    (tmp_path / "grid.csv").write_text("study,knob\ns,epochs\n")
    with pytest.raises(UserError, match=r"an earlier version made it; make the tables again \(`make run`"):
        figures.draw(tmp_path, ["phase_diagram"], THRESHOLDS)
    with pytest.raises(UserError, match="unknown figure 'pie'"):
        figures.draw(tmp_path, ["pie"], THRESHOLDS)
