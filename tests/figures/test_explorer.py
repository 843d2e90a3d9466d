"""The explorer: the browser computes what the library computes, shows it where it is asked, and asks nobody else."""

from __future__ import annotations

import functools
import json
import re
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import browser as chromium
import numpy as np
import pandas as pd
import pytest
import smooth_plane
from browser import Browser
from checkout import ROOT, Checkout

from three_regime.analysis import algorithms, figure2, regimes, seed_means
from three_regime.config.knobs import KNOBS
from three_regime.config.thresholds import Thresholds
from three_regime.exchange.redraw import read_settings
from three_regime.figures import explorer, style
from three_regime.figures.explorer import content, page
from three_regime.figures.panels import PANELS
from three_regime.study.grid import planned
from three_regime.study.outputs import FIGURE2_STUDY

ARCHIVE = ROOT / "reference" / "obtained" / "cifar10-cpu"
STUDIES = ("tiny", "smooth", "cifar10-cpu", FIGURE2_STUDY, "unfinished", "published")
ELSEWHERE = [(-0.3, 0.9), (-0.005, 0.985)]
"""Thresholds that are none of a study's own."""


def made_up(folder: Path, **names: str) -> Path:
    """The tables of the smooth plane, with seeds, replicas and pairs of some cells, under other names where given."""
    folder.mkdir(parents=True)
    cells = smooth_plane.cells(temperatures=(10, 80, 160)).assign(**names)
    seed_means.grid(cells).to_csv(folder / "grid.csv", index=False)
    tables = smooth_plane.run_tables()
    tables["pairs"] = tables["lines"].drop_duplicates(["dense_seed", "temperature", "density", "pair"]).assign(
        lmc=-0.1, cka_softmax=0.95
    )  # fmt: skip
    tables["replicas"] = tables["pairs"].drop(columns="pair").assign(replica=1, test_error=0.2)
    for name, table in tables.items():
        table.assign(**{key: value for key, value in names.items() if key in table}).to_csv(
            folder / f"{name}.csv", index=False
        )
    return folder


def unfinished(folder: Path) -> Path:
    """A study under way: the hottest cells lack the dense seeds with higher errors, so their means look best."""
    folder.mkdir()
    cells = smooth_plane.cells(temperatures=(10, 80, 160)).assign(study="unfinished")
    cells["test_error"] += 0.1 * (cells["dense_seed"] == 3)
    cells[(cells["temperature"] > 10) | (cells["dense_seed"] < 2)].to_csv(folder / "cells.csv", index=False)
    seed_means.grid(seed_means.read_cells(folder)).to_csv(folder / "grid.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def folders(finished_tiny: Checkout, tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Thresholds]:
    """Studies that differ: run here, made up, archived, with the published figure beside it."""
    root = tmp_path_factory.mktemp("tables")
    tiny = root / "tiny"
    tiny.mkdir()
    for table in (finished_tiny.path / "results/tiny/tiny").glob("*.csv"):
        (tiny / table.name).write_bytes(table.read_bytes())
    seed_means.grid(seed_means.read_cells(tiny)).to_csv(tiny / "grid.csv", index=False)
    figure2_again = made_up(root / FIGURE2_STUDY, study=FIGURE2_STUDY, dataset="cifar10")
    (archived,) = planned(read_settings(ARCHIVE))
    return {
        tiny: Thresholds(),
        made_up(root / "smooth"): smooth_plane.THRESHOLDS,
        ARCHIVE / archived.name: archived.thresholds,
        figure2_again: smooth_plane.THRESHOLDS,
        unfinished(root / "unfinished"): smooth_plane.THRESHOLDS,
    }


@pytest.fixture(scope="module")
def file(folders: dict[Path, Thresholds], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return explorer.write(tmp_path_factory.mktemp("page") / "explorer.html", folders, Thresholds())


@pytest.fixture(scope="module")
def window() -> Iterator[Browser]:
    if why := chromium.missing():
        pytest.skip(why)
    with chromium.browser() as opened:
        yield opened


@pytest.fixture
def opened(window: Browser, file: Path) -> Browser:
    """The explorer as it is after loading."""
    window.open(file)
    return window


@functools.cache
def published_grid() -> pd.DataFrame:
    return seed_means.grid(figure2.as_cells(figure2.load()))


def grid_of(folders: dict[Path, Thresholds], name: str) -> pd.DataFrame:
    if name == "published":
        return published_grid()
    return pd.read_csv(next(folder for folder in folders if folder.name == name) / "grid.csv")


def own_thresholds(folders: dict[Path, Thresholds], name: str) -> Thresholds:
    return next((each for folder, each in folders.items() if folder.name == name), Thresholds())


def by_place(grid: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Rows in the order of the page: hot to cold, densities increasing."""
    hot_first = KNOBS[grid["knob"].iloc[0]].hot_first(sorted(set(grid["temperature"])))
    place = table["temperature"].map({value: at for at, value in enumerate(hot_first)})
    return table.assign(place=place).sort_values(["place", "density"], ignore_index=True)


def choose(window: Browser, study: str) -> None:
    """Choose a study in the menu."""
    window.run(
        "const menu = document.getElementById('study'); menu.selectedIndex = arguments[0];"
        "menu.dispatchEvent(new Event('change'));",
        STUDIES.index(study),
    )


def regime_counts(labels: pd.DataFrame) -> dict[str, int]:
    counts = {f"Regime {name}": int((labels["regime"] == name).sum()) for name in regimes.REGIMES}
    undecided = labels["regime"].isin(regimes.REGIMES) & ~labels["decided"].astype(bool)
    return counts | {"undecided": int(undecided.sum())}


def counts_shown(window: Browser, study: str) -> dict[str, int]:
    text = window.text(f'#counts [data-study="{study}"]')
    return {name: int(number) for name, number in re.findall(r"(Regime [IAB-]+|undecided): (\d+)", text)}


# What the browser computes


@pytest.mark.parametrize("name", STUDIES)
def test_the_browser_labels_cells_as_the_library(opened: Browser, folders: dict[Path, Thresholds], name: str) -> None:
    grid, own = grid_of(folders, name), own_thresholds(folders, name)
    for lmc, cka in [(own.lmc, own.cka), *ELSEWHERE]:
        expected = by_place(grid, regimes.label(grid, Thresholds(lmc=lmc, cka=cka)))
        found = pd.DataFrame(
            opened.run(
                "const { studies, rules } = JSON.parse(document.getElementById('content').textContent);"
                "return Regimes.labels(Regimes.study(studies[arguments[0]]), arguments[1], rules);",
                STUDIES.index(name),
                {"lmc": lmc, "cka": cka},
            )
        )
        assert [value or None for value in found["regime"]] == list(expected["regime"].astype(object).where(
            expected["regime"].notna(), None))  # fmt: skip
        assert list(found["decided"]) == list(expected["decided"])
        for column, other in (("confidence", "confidence"), ("oneSeed", "one_seed")):
            np.testing.assert_allclose(found[column].astype(float), expected[other].astype(float), rtol=1e-9)


@pytest.mark.parametrize("name", STUDIES)
def test_the_browser_chooses_as_the_algorithms(opened: Browser, folders: dict[Path, Thresholds], name: str) -> None:
    grid, own = grid_of(folders, name), own_thresholds(folders, name)
    keys = ["algorithm", "start", "density"]
    for lmc in (own.lmc, *(lmc for lmc, _ in ELSEWHERE)):
        rows, totals = opened.run(
            "const { studies } = JSON.parse(document.getElementById('content').textContent);"
            "const rows = Algorithms.evaluate(Regimes.study(studies[arguments[0]]), arguments[1]);"
            "const totals = Algorithms.summary(rows);"
            "return [rows, totals.map((each) => ({ ...each, start: String(each.start ?? ''), rows: null }))];",
            STUDIES.index(name),
            lmc,
        )
        expected = algorithms.evaluate(grid, Thresholds(lmc=lmc))
        columns = [*keys, *algorithms.OUTCOME]
        found = pd.DataFrame(rows).rename(columns={"at": "density"})[columns].astype({"start": float})
        pd.testing.assert_frame_equal(
            found.sort_values(keys, ignore_index=True),
            expected[columns].sort_values(keys, ignore_index=True),
            check_dtype=False,
            rtol=1e-12,
        )
        keys_of_totals = ["algorithm", "start"]
        of_all = [*keys_of_totals, "mean_regret", "worst_regret", "mean_probes"]
        pd.testing.assert_frame_equal(
            pd.DataFrame(totals)[of_all].sort_values(keys_of_totals, ignore_index=True),
            algorithms.summary(expected)[of_all].sort_values(keys_of_totals, ignore_index=True),
            check_dtype=False,
        )


def test_no_border_between_cells_alike_and_one_between_others(opened: Browser) -> None:
    """Cells I I / II-A II-B / chance II-A: the edges that part them, and none beside a cell without a regime."""
    found = [{"regime": name} for name in ("I", "I", "II-A", "II-B", "chance", "II-A")]
    runs = {
        border: opened.run("return Regimes.borders(arguments[0], 3, 2, arguments[1]);", found, border)
        for border in ("lmc", "cka")
    }
    assert runs["lmc"] == [[0, 1, 2, 1]]
    assert sorted(runs["cka"]) == [[1, 1, 1, 2], [1, 2, 2, 2]]


# What it shows


def test_a_grid_over_another_load_names_it(window: Browser, tmp_path: Path) -> None:
    plane = smooth_plane.cells(temperatures=(10, 160), densities=(0.1, 0.4)).assign(study="noise")
    noisy = seed_means.grid(plane.rename(columns={"density": "load_label_noise"}).assign(density=0.5))
    (tmp_path / "noise").mkdir()
    noisy.to_csv(tmp_path / "noise" / "grid.csv", index=False)
    window.log("browser")
    window.open(explorer.write(tmp_path / "explorer.html", {tmp_path / "noise": smooth_plane.THRESHOLDS}, None))
    window.click('[data-cell="3"]')
    assert window.text("#cell-title") == "Cell: dense training epochs 160, label noise 40 %"
    assert "label noise (%)" in window.text("svg.plane")
    assert "density 50 %" in window.text("#facts") and "dense seeds" not in window.text("#facts")
    assert window.run("return document.getElementById('choices-note').textContent").startswith("At each label noise ")
    assert window.log("browser") == []


def test_it_loads_without_a_request_or_an_error(window: Browser, file: Path) -> None:
    window.log("performance"), window.log("browser")
    window.open(file)
    for name in STUDIES:
        choose(window, name)
    events = [json.loads(entry["message"])["message"] for entry in window.log("performance")]
    asked = [each["params"]["request"]["url"] for each in events if each["method"] == "Network.requestWillBeSent"]
    assert file.as_uri() in asked
    assert [url for url in asked if url != file.as_uri() and not url.startswith("data:")] == []
    assert window.log("browser") == []


def test_a_click_opens_the_numbers_of_the_cell(opened: Browser, folders: dict[Path, Thresholds]) -> None:
    choose(opened, "tiny")
    folder = next(folder for folder in folders if folder.name == "tiny")
    cells = by_place(grid_of(folders, "tiny"), grid_of(folders, "tiny"))
    for place, cell in cells.iterrows():
        opened.click(f'[data-cell="{place}"]')
        assert opened.text("#cell-title") == (
            f"Cell: dense training epochs {cell['temperature']:g}, density {100 * cell['density']:g} %"
        )
        rows = opened.run(
            "return [...document.querySelectorAll('#cell-measures tbody tr')].map((row) => [...row.cells].map((cell) =>"
            " cell.textContent));"
        )
        shown = {row[0]: float(row[1].replace("−", "-")) for row in rows}
        for name in ("test_error", "lmc", "cka_softmax"):
            panel = PANELS[name]
            value = shown[panel.label.replace("\n", " ")]
            assert value == pytest.approx(panel.factor * cell[name], abs=0.000051 * panel.factor)
        at = {"temperature": cell["temperature"], "density": cell["density"]}
        counts = {
            name: len(pd.read_csv(folder / f"{name}.csv").merge(pd.DataFrame([at]))) for name in ("replicas", "pairs")
        }
        drawn = opened.run(
            "return [...document.querySelectorAll('#cell-charts figure')].map((each) => [each.firstChild.textContent,"
            " each.querySelectorAll('.thin').length, each.querySelectorAll('circle').length]);"
        )
        of = {title: (lines, points) for title, lines, points in drawn}
        assert [lines for title, (lines, _) in of.items() if "Line between" in title] == [counts["pairs"]] * 2
        assert [lines for title, (lines, _) in of.items() if "Retraining" in title] == [counts["replicas"]] * 2
        assert [points for title, (_, points) in of.items() if "every replica" in title] == [counts["replicas"]]
        assert [points for title, (_, points) in of.items() if "every pair" in title] == [counts["pairs"]] * 2
        provenance = pd.read_csv(folder / "provenance.csv")
        same_run = (provenance["temperature"] == at["temperature"]) & (provenance["density"].isna())
        same_cell = (provenance["temperature"] == at["temperature"]) & (provenance["density"] == at["density"])
        prints = opened.run(
            "const rows = [...document.querySelectorAll('#cell-provenance tbody tr')];"
            "return rows.map((row) => row.lastChild.textContent);"
        )
        assert sorted(prints) == sorted(provenance.loc[same_run | same_cell, "fingerprint"].str[:12])


def test_the_sliders_move_regimes_and_choices(opened: Browser, folders: dict[Path, Thresholds]) -> None:
    choose(opened, "smooth")
    grid, own = grid_of(folders, "smooth"), own_thresholds(folders, "smooth")
    assert counts_shown(opened, "smooth") == regime_counts(regimes.label(grid, own))
    seen = set()
    for name in ("lmc", "cka"):
        opened.click(f"#{name}-threshold")  # in its middle
        for key in (None, "ArrowLeft", "ArrowRight", "ArrowRight"):
            if key:
                opened.press(key)
            lmc, cka = (float(opened.text(f"#{each}-value").replace("−", "-")) for each in ("lmc", "cka"))
            here = Thresholds(lmc=lmc, cka=cka)
            assert counts_shown(opened, "smooth") == regime_counts(regimes.label(grid, here))
            seen.add((lmc, cka))
            total = algorithms.summary(algorithms.evaluate(grid, here)).set_index(["algorithm", "start"])
            shown = opened.run(
                "return Object.fromEntries([...document.querySelectorAll('#choices-table tbody tr')].map((row) =>"
                " [row.cells[0].textContent, row.cells[1].textContent]));"
            )
            for words, key_of_total in (("Algorithm 2", ("algorithm 2", "")), ("Algorithm 2.1", ("algorithm 2.1", ""))):
                assert shown[words] == f"{100 * total.loc[key_of_total, 'mean_regret']:.1f}"
    assert len(seen) >= 6, "each of them moves"
    opened.click("#reset")
    assert counts_shown(opened, "smooth") == regime_counts(regimes.label(grid, own))


def test_arrow_keys_walk_over_the_plane(opened: Browser) -> None:
    choose(opened, "smooth")
    opened.click('[data-cell="0"]')
    expected = {"ArrowRight": "10, density 6 %", "ArrowDown": "80, density 6 %", "Home": "80, density 5 %"}
    for key, cell in (expected | {"ArrowLeft": "80, density 5 %", "ArrowUp": "10, density 5 %"}).items():
        opened.press(key)
        assert opened.text("#cell-title").endswith(cell)
        assert opened.run("return document.activeElement.getAttribute('aria-selected')") == "true"


def test_the_focus_of_the_chosen_cell_can_be_seen(opened: Browser) -> None:
    choose(opened, "smooth")
    opened.click('[data-cell="0"]')
    opened.press("ArrowRight")
    stroke = "return getComputedStyle(document.querySelector('.chosen.casing')).stroke;"
    assert opened.run(stroke) == "rgb(0, 114, 178)"
    opened.run("document.activeElement.blur();")
    assert opened.run(stroke) == "rgb(255, 255, 255)"


def test_counts_that_stay_the_same_are_not_read_out_again(opened: Browser) -> None:
    choose(opened, "smooth")
    opened.click('[data-cell="0"]')
    opened.run("document.querySelector('#counts span').before = true;")
    opened.press("ArrowRight")
    assert opened.run("return document.querySelector('#counts span').before;")
    opened.click("#lmc-threshold")
    assert not opened.run("return document.querySelector('#counts span').before ?? false;")


def test_sixteen_dense_seeds_share_one_look(window: Browser, tmp_path: Path) -> None:
    archive = ARCHIVE.with_name("cifar10-cpu-seeds")
    (study,) = planned(read_settings(archive))
    window.open(explorer.write(tmp_path / "many.html", {archive / study.name: study.thresholds}, None))
    keys = window.run("return [...document.querySelectorAll('#cell-key .key')].map((each) => each.textContent);")
    assert [words for words in keys if words.startswith("dense seed")] == ["dense seeds"]
    lines = "return [...new Set([...document.querySelectorAll('#cell-charts .thin')].map((each) => each.getAttribute("
    assert window.run(f"{lines}'stroke')))];") == [style.MANY_SEEDS.colour]
    touching = window.run(
        "return [...document.querySelectorAll('#cell-charts figure')].map((chart) => {"
        "  const boxes = [...chart.querySelectorAll('text[text-anchor=middle]')].map((text) =>"
        "    text.getBoundingClientRect());"
        "  return boxes.some((a, i) => boxes.slice(i + 1).some((b) => a.left < b.right && b.left < a.right"
        "    && a.top < b.bottom && b.top < a.bottom));"
        "});"
    )
    assert touching and not any(touching)


def test_no_dense_seed_is_black_as_the_mean_is(opened: Browser) -> None:
    seeds = opened.run("return JSON.parse(document.getElementById('content').textContent).look.seeds;")
    assert len(seeds) == 6 and "#000000" not in {each["colour"] for each in seeds}


@pytest.mark.parametrize(("low", "high"), [(0.46, 0.54), (43.60, 43.68), (-0.118, -0.031), (0, 1), (9.6, 31)])
def test_an_axis_has_two_numbers_at_least(opened: Browser, low: float, high: float) -> None:
    found = opened.run("return Charts.ticks(arguments[0], arguments[1], 2);", low, high)
    assert len(found["values"]) > 1
    said = [f"{value:.{found['decimals']}f}" for value in found["values"]]
    assert [float(text) for text in said] == pytest.approx(found["values"])


def test_noise_does_not_span_the_colours(window: Browser, tmp_path: Path) -> None:
    """As in the figures (`phase_panel`): four standard errors, or one point of error where none is known."""
    for se, least in ((0.002, 0.8), (np.nan, 1.0)):
        folder = made_up(tmp_path / f"calm{se}")
        grid = pd.read_csv(folder / "grid.csv")
        error = 0.436 + 1e-6 * np.arange(len(grid))
        grid.assign(test_error=error, test_error_se=se).to_csv(folder / "grid.csv", index=False)
        window.open(explorer.write(tmp_path / f"{se}.html", {folder: Thresholds()}, None))
        window.click('#measures input[value="test_error"]')
        bar = window.run("return [...document.querySelectorAll('svg.plane > .small')].map((each) => each.textContent);")
        # The numbers at the bar are less than two steps from its ends.
        numbers = [float(text) for text in bar]
        assert least - 2 * (numbers[1] - numbers[0]) < numbers[-1] - numbers[0] <= least


def test_published_and_obtained_stand_side_by_side(opened: Browser, folders: dict[Path, Thresholds]) -> None:
    choose(opened, FIGURE2_STUDY)
    headings = opened.run(
        "return [...document.querySelectorAll('#diagrams .heading')].map((each) => each.textContent);"
    )
    assert headings == ["published", "obtained"]
    tops = opened.run(
        "return [...document.querySelectorAll('#diagrams svg')].map((each) => each.getBoundingClientRect().top);"
    )
    assert tops[0] == tops[1]
    own = own_thresholds(folders, FIGURE2_STUDY)
    for name in ("published", FIGURE2_STUDY):
        assert counts_shown(opened, name) == regime_counts(regimes.label(grid_of(folders, name), own))
    opened.click('svg[data-study="published"] [data-cell="0"]')  # 10 epochs, 5 %: both have it
    value = figure2.wide(figure2.load()).query("temperature == 10 and density == 0.05")["lmc"].iloc[0]
    assert f"{value:.4f}".replace("-", "−") in opened.text("#cell-measures")
    selected = opened.run("return document.querySelectorAll('.cell[aria-selected=true]').length;")
    assert selected == 2
    rows = opened.run(
        "return [...document.querySelectorAll('#choices-table table')].map((each) =>"
        " each.querySelector('tbody tr').cells[0].textContent);"
    )
    assert [row.split(" from ")[1] for row in rows] == ["the coldest (160)"] * 2


def test_a_published_cell_that_was_not_obtained_is_told(opened: Browser) -> None:
    choose(opened, FIGURE2_STUDY)
    opened.click('svg[data-study="published"] [data-cell="0"]')
    opened.press("ArrowDown")  # 20 epochs, which only the published figure has
    assert opened.text("#cell-title").endswith("20, density 5 %")
    assert opened.text("#cell-regime").startswith("Not obtained. Published: Regime")
    assert opened.run("return document.activeElement.getAttribute('aria-selected')") == "true"
    assert opened.run("return document.querySelectorAll('.cell[aria-selected=true]').length;") == 1
    value = figure2.wide(figure2.load()).query("temperature == 20 and density == 0.05")["lmc"].iloc[0]
    assert f"{value:.4f}".replace("-", "−") in opened.text("#cell-measures")
    opened.press("ArrowUp")
    assert not opened.text("#cell-regime").startswith("Not obtained")


@pytest.mark.parametrize("width", [390, 1440])
def test_it_fits_the_window(opened: Browser, width: int) -> None:
    opened.resize(width, 900)
    for name in STUDIES:
        choose(opened, name)
        assert opened.run("return document.documentElement.scrollWidth <= window.innerWidth;"), name
    opened.resize(1280, 1000)


# What it is made of


EVIL = "x</script><!--<p id=EVIL><img src=x onerror=alert(1)>\u2028&lt;b&gt;\"'"


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.names.append(tag)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The explorer of a study whose every text tries to be markup."""
    folder = made_up(tmp_path_factory.mktemp("hostile") / "evil", study=EVIL, dataset=EVIL, model=EVIL, pair=EVIL)
    pd.DataFrame(
        [("lmc", 1, 80.0, 0.05, None, *[EVIL] * 6, 1.0, EVIL, EVIL)],
        columns=["stage", "dense_seed", "temperature", "density", "replica", "pair", "origin", "device", "threads",
                 "torch", "commit", "wall_s", "finished", "fingerprint"],
    ).to_csv(folder / "provenance.csv", index=False)  # fmt: skip
    return explorer.write(folder.parent / "explorer.html", {folder: Thresholds(inherited=EVIL)}, None)


def test_no_text_becomes_an_element_of_the_file(hostile: Path, file: Path) -> None:
    elements, usual = _Elements(), _Elements()
    elements.feed(hostile.read_text(encoding="utf-8"))
    usual.feed(file.read_text(encoding="utf-8"))
    assert elements.names == usual.names


def test_text_of_strangers_stays_text_in_the_browser(hostile: Path, window: Browser) -> None:
    window.open(hostile)
    window.click(f'[data-cell="{len(smooth_plane.DENSITIES)}"]')  # 80 epochs, 5 %
    window.run("document.querySelectorAll('details').forEach((each) => { each.open = true; });")
    assert window.run("return document.querySelector('[id=EVIL], img');") is None
    for place in ("#study option", "#facts", "#legend", "#cell-numbers", "#cell-provenance"):
        assert EVIL in window.run(f"return document.querySelector('{place}').textContent;"), place
    assert window.log("browser") == []


def test_the_policy_refuses_other_scripts(window: Browser, file: Path, tmp_path: Path) -> None:
    altered = tmp_path / "altered.html"
    altered.write_text(file.read_text(encoding="utf-8").replace("</body>", "<script>window.ran = 1</script></body>"))
    window.open(altered)
    assert window.run("return window.ran ?? null;") is None
    assert any("Content Security Policy" in entry["message"] for entry in window.log("browser"))


def test_the_same_tables_give_the_same_small_file(folders: dict[Path, Thresholds], tmp_path: Path) -> None:
    tiny = {folder: thresholds for folder, thresholds in folders.items() if folder.name == "tiny"}
    first, second = (explorer.write(tmp_path / name, tiny, None).read_bytes() for name in ("a", "b"))
    assert first == second and len(first) < 100_000


def test_long_curves_keep_their_ends_and_the_limit(
    folders: dict[Path, Thresholds], monkeypatch: pytest.MonkeyPatch
) -> None:
    archived = ARCHIVE / "cifar10-cpu"
    whole = content.of_study(archived, folders[archived])["curves"]
    numbers = 2 * len(whole["rows"]) * len(whole["at"])
    monkeypatch.setattr(content, "CURVE_NUMBERS", numbers // 2)
    short = content.of_study(archived, folders[archived])["curves"]
    assert 2 * len(short["rows"]) * len(short["at"]) <= numbers // 2
    assert (short["at"][0], short["at"][-1], short["every"]) == (whole["at"][0], whole["at"][-1], len(whole["at"]))
    assert [row[:3] for row in short["rows"]] == [row[:3] for row in whole["rows"]]


def test_short_curves_hold_the_evaluated_epochs_first() -> None:
    every, evaluated = range(1, 161), {10 * k for k in range(1, 17)}
    assert content.thinned(every, evaluated, 17) == [1, *sorted(evaluated)]
    assert evaluated < set(content.thinned(every, evaluated, 40)) and len(content.thinned(every, evaluated, 40)) == 40
    few = content.thinned(every, evaluated, 5)
    assert (few[0], few[-1], len(few)) == (1, 160, 5) and set(few[1:]) <= evaluated
    assert content.thinned([], set(), 5) == [] and content.thinned(every, evaluated, 0) == [1, 160]


def test_missing_values_are_not_drawn_as_zero(window: Browser, tmp_path: Path) -> None:
    """A pair without CKA, the standard error of one seed, a line without the errors of one end."""
    folder = made_up(tmp_path / "partly")
    pairs = pd.read_csv(folder / "pairs.csv")
    pairs.assign(cka_softmax=pairs["cka_softmax"].where(pairs["dense_seed"] == 1)).to_csv(
        folder / "pairs.csv", index=False
    )
    lines = pd.read_csv(folder / "lines.csv")
    lines[lines["t"] < 1].to_csv(folder / "lines.csv", index=False)
    grid = pd.read_csv(folder / "grid.csv")
    grid.assign(lmc_se=np.nan).to_csv(folder / "grid.csv", index=False)
    window.open(explorer.write(tmp_path / "partly.html", {folder: Thresholds()}, None))
    measured = by_place(grid, grid).merge(
        pairs[["temperature", "density"]].drop_duplicates(), how="left", indicator=True
    )
    window.click(f'[data-cell="{measured.index[measured["_merge"] == "both"][0]}"]')
    rows = window.run(
        "return [...document.querySelectorAll('#cell-measures tbody tr')].map((row) => [...row.cells].map((cell) =>"
        " cell.textContent));"
    )
    assert {row[0]: row[2] for row in rows}["LMC, training error (fraction)"] == "–"
    axis = window.run(
        "const chart = [...document.querySelectorAll('#cell-charts figure')].find((each) =>"
        " each.textContent.startsWith('CKA'));"
        "return [...chart.querySelectorAll('text[text-anchor=end]')].map((each) => Number(each.textContent));"
    )
    assert len(axis) > 1 and 0.9 < min(axis) < 0.95 < max(axis) < 1


def test_a_study_may_have_no_more_than_its_grid(tmp_path: Path) -> None:
    folder = tmp_path / "bare"
    folder.mkdir()
    seed_means.grid(smooth_plane.cells()).to_csv(folder / "grid.csv", index=False)
    made = content.of_study(folder, Thresholds())
    assert made["lines"]["rows"] == made["curves"]["rows"] == made["provenance"]["results"] == []


def test_published_values_lie_within_their_bounds() -> None:
    bounded = [measure for measure in content.of_published(Thresholds())["measures"] if "bounds" in measure]
    assert {measure["name"] for measure in bounded} == {"test_error", "lmc", "cka_softmax"}
    for measure in bounded:
        low, high = np.array(measure["bounds"], float)
        assert len(low) == 144
        assert (low - 1e-9 <= measure["values"]).all() and (measure["values"] <= high + 1e-9).all(), measure["name"]


def test_every_part_is_installed_with_the_package() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"][
        "three_regime"
    ]
    folder = Path(page.__file__).parent
    parts = [path for path in folder.iterdir() if path.suffix in (".js", ".css", ".html")]
    assert {path.name for path in parts} >= set(page.SCRIPTS)
    for path in parts:
        assert any(path.relative_to(ROOT / "three_regime").match(pattern) for pattern in declared), path
