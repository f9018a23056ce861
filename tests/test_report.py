"""The report in a real browser: the system's Chromium, headless; without one, tests say so."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import toy
from recorded_studies import record, recorded

from nas import pareto
from nas.record.entries import study_document
from nas.record.store import TrialStore
from nas.report.devices import priced_devices
from nas.report.page import embed_pictures, page, page_document
from nas.report.study import study
from nas.retarget import device_gate, recorded_space, retarget_document

OLD, NEW = "iphone-17-pro-max", "iphone-12"
EXAMPLE = Path(__file__).parents[1] / "experiments/any_problem"
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
PIXEL = bytes.fromhex(  # a PNG of one pixel
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154"
    "789c63f8cfc000000301010018dd8db00000000049454e44ae426082"
)

needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium here: install the system's chromium package"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reported")
    recorded(folder, proxy={"failing_depth": 4})
    done = toy.nas(folder, "report", "toy")
    assert done.returncode == 0, done.stderr
    return folder


def store_of(folder: Path, name: str = "toy") -> TrialStore:
    return TrialStore.open(f"sqlite:///{folder}/runs/nas.db", name)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        found = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def opened(browser: Any, folder: Path) -> Iterator[Any]:
    with opened_page(browser, (folder / "runs/toy/report.html").as_uri()) as page:
        yield page


class opened_page:  # noqa: N801, used as a function
    """A page that must say nothing on its console and load nothing from anywhere else."""

    def __init__(self, browser: Any, address: str, **context: Any) -> None:
        self._context = browser.new_context(viewport={"width": 1200, "height": 900}, **context)
        self._page, self._address = self._context.new_page(), address
        self._said: list[str] = []
        self._asked: list[str] = []

    def __enter__(self) -> Any:
        self._page.on("console", lambda message: self._said.append(message.text))
        self._page.on("pageerror", lambda error: self._said.append(str(error)))
        self._page.on("request", lambda request: self._asked.append(request.url))
        self._page.goto(self._address)
        self._page.wait_for_function("document.querySelector('#state').textContent !== 'reading'")
        return self._page

    def __exit__(self, *failed: Any) -> None:
        self._context.close()
        if failed[0] is None:
            assert self._said == []
            own = self._address.split("#")[0].rstrip("/")
            assert [url for url in self._asked if not url.startswith((own, "data:", "blob:"))] == []


def table(page: Any, name: str) -> list[tuple[int, dict[str, float]]]:
    """Trials of the page's table of the front, with the figures that stand behind its text."""
    return page.eval_on_selector_all(
        f"#{name} tbody tr",
        "rows => rows.map(row => [Number(row.dataset.trial), Object.fromEntries("
        "[...row.querySelectorAll('[data-name]')]"
        ".map(cell => [cell.dataset.name, Number(cell.dataset.value)]))])",
    )


def texts(page: Any, name: str) -> list[list[str]]:
    return page.eval_on_selector_all(
        f"#{name} tbody tr", "rows => rows.map(row => [...row.cells].map(cell => cell.textContent))"
    )


@needs_chromium
def test_front_of_page_json_terminal_and_plot_is_the_same(opened: Any, folder: Path) -> None:
    document = toy.json_of(folder, "front", "toy")
    shown = table(opened, "front-table")
    assert [trial for trial, _ in shown] == [entry["trial"] for entry in document["front"]]
    for (_, figures), entry in zip(shown, document["front"], strict=True):
        assert figures == {name: entry[name] for name in figures}
        assert {"loss", "decode_ms", "parameters"} <= set(figures)
    lines = toy.nas(folder, "front", "toy").stdout.splitlines()
    rows = [line.split() for line in lines if re.match(r"\d+ ", line)]
    assert rows == texts(opened, "front-table")
    drawn = opened.evaluate(
        "document.querySelector('#front-chart').data.find(t => t.name === 'front')"
        ".customdata.map(([study, row]) => doc.studies[study].trials.trial[row])"
    )
    assert sorted(drawn) == sorted(entry["trial"] for entry in document["front"])


@needs_chromium
def test_slider_redraws_the_front_of_that_budget(opened: Any, folder: Path) -> None:
    for limit in (12.0, 11.0, 10.7):
        opened.fill("#number-decode_ms", str(limit))
        gate = device_gate(
            store_of(folder).record(),
            recorded_space(store_of(folder).record()),
            OLD,
            {"decode_ms": limit},
        )
        expected = retarget_document(store_of(folder), gate)["front"]
        assert [trial for trial, _ in table(opened, "front-table")] == [
            entry["trial"] for entry in expected
        ]
    before = table(opened, "front-table")
    opened.focus("#range-decode_ms")
    opened.keyboard.press("End")
    assert len(table(opened, "front-table")) > len(before)
    opened.fill("#number-decode_ms", "3")
    assert table(opened, "front-table") == []
    assert re.search(
        r"The nearest is trial \d+: decode_ms 10\.\d of 3", opened.inner_text("#verdict")
    )
    opened.click("#reset")
    assert opened.input_value("#number-decode_ms") == "150"


@needs_chromium
def test_any_figure_is_an_axis_or_a_colour(opened: Any) -> None:
    for name in ("parameters", "trial", "accuracy", "seconds"):
        opened.select_option("#x", name)
        opened.select_option("#colour", name)
        front = "document.querySelector('#front-chart').data.find(t => t.name === 'front')"
        across, colours = opened.evaluate(f"[{front}.x, {front}.marker.color]")
        assert across == colours


@needs_chromium
def test_other_device_has_the_latencies_of_its_table(opened: Any, folder: Path) -> None:
    opened.select_option("#device", NEW)
    opened.fill("#number-decode_ms", "22")
    record = store_of(folder).record()
    gate = device_gate(record, recorded_space(record), NEW, {"decode_ms": 22.0})
    expected = retarget_document(store_of(folder), gate)["front"]
    shown = table(opened, "front-table")
    assert [(trial, figures["decode_ms"]) for trial, figures in shown] == [
        (entry["trial"], entry["decode_ms"]) for entry in expected
    ]


@needs_chromium
def test_clicked_points_stand_beside_each_other(opened: Any, folder: Path) -> None:
    trials = {trial.number: trial for trial in store_of(folder).trials()}
    clicked = "{points: [{customdata: [0, 1]}]}"
    opened.evaluate(f"document.querySelector('#front-chart').emit('plotly_click', {clicked})")
    row = opened.locator("#front-table tbody tr").nth(2)
    row.focus()
    opened.keyboard.press("Enter")
    first, second = (
        int(card.get_attribute("data-trial")) for card in opened.locator(".card").all()
    )
    assert second == int(row.get_attribute("data-trial"))
    for name, *shown in texts(opened, "choices"):
        values = [str(trials[trial].choices.get(name, "–")) for trial in (first, second)]
        assert shown == values
    differing = opened.locator("td.differs").count()
    a, b = trials[first].choices, trials[second].choices
    assert differing == 2 * sum(a.get(n) != b.get(n) for n in {*a, *b})
    bars = opened.evaluate("document.querySelector('#blocks-chart').data.map(t => [t.y, t.x])")
    for (names, ms), trial in zip(bars, (first, second), strict=True):
        rows = trials[trial].blocks[OLD]["decode"]
        assert names[:-1] == [f"decode · {step}" for step, *_ in rows]
        assert ms[:-1] == [taken for *_, taken in rows]
        assert sum(ms) == pytest.approx(trials[trial].price["decode_ms"])
    assert "analytic, not measured on a device" in opened.inner_text("#cards")


@needs_chromium
def test_failures_progress_and_importances_are_told(opened: Any, folder: Path) -> None:
    failed = [t for t in store_of(folder).trials() if t.state == "failed"]
    assert [row[2] for row in texts(opened, "failed")] == [trial.error for trial in failed]
    grown = opened.evaluate("document.querySelector('#progress-chart').data[0].y")
    document = study_document(store_of(folder))
    assert grown == sorted(grown)
    assert grown[-1] == document["hypervolume"]["value"]
    shares = opened.evaluate("doc.studies[0].importance")
    assert set(shares) == {"loss", "decode_ms"}
    assert sum(shares["loss"].values()) == pytest.approx(1)
    opened.click("#experiments summary")
    assert "evaluator: ./toy.py:ToyEvaluator" in opened.inner_text("#experiments pre >> nth=0")


@needs_chromium
def test_several_studies_lie_over_each_other(browser: Any, folder: Path) -> None:
    recorded(folder, rows=range(1, 72, 4), study="second")
    done = toy.nas(folder, "report", "toy", "second", "-o", "both.html")
    assert done.returncode == 0, done.stderr
    with opened_page(browser, (folder / "both.html").as_uri()) as page:
        names = {row[0].split()[0] for row in texts(page, "front-table")}
        assert names == {"toy", "second"}
        page.uncheck("#studies input >> nth=0")
        trials = [trial for trial, _ in table(page, "front-table")]
        assert trials == [e["trial"] for e in study_document(store_of(folder, "second"))["front"]]


@needs_chromium
def test_text_from_names_and_files_is_text(browser: Any, folder: Path, tmp_path: Path) -> None:
    evil = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    document = page_document([{**study(store_of(folder)), "study": evil}])
    document["studies"][0]["errors"] = {0: evil}
    (tmp_path / "evil.html").write_text(page(document), encoding="utf-8")
    with opened_page(browser, (tmp_path / "evil.html").as_uri()) as opened:
        assert opened.inner_text("#title") == evil
        assert evil in opened.inner_text("#verdict")
        assert opened.locator("main img, main script, header img").count() == 0


@needs_chromium
@pytest.mark.parametrize(
    "changes",
    [
        {"objectives": ["loss"]},
        {"objectives": ["loss", "decode_ms", "parameters"]},
        {"objectives": ["accuracy", "parameters"]},
    ],
    ids=["one", "three", "maximised"],
)
def test_any_number_of_objectives(browser: Any, tmp_path: Path, changes: dict[str, Any]) -> None:
    recorded(tmp_path, **changes)
    toy.nas(tmp_path, "report", "toy")
    expected = [e["trial"] for e in study_document(store_of(tmp_path))["front"]]
    with opened_page(browser, (tmp_path / "runs/toy/report.html").as_uri()) as page:
        assert [trial for trial, _ in table(page, "front-table")] == expected


@needs_chromium
def test_problem_with_prices_of_its_own_has_its_limits(browser: Any, tmp_path: Path) -> None:
    shutil.copytree(EXAMPLE, tmp_path / "own", ignore=shutil.ignore_patterns("__pycache__", "runs"))
    record(tmp_path / "own/experiment.yaml", range(0, 1155, 50))
    done = toy.nas(tmp_path / "own", "report", "any-problem")
    assert done.returncode == 0, done.stderr
    whole = study_document(store_of(tmp_path / "own", "any-problem"))
    everything = [*whole["front"], *whole["dominated"]]
    with opened_page(browser, (tmp_path / "own/runs/any-problem/report.html").as_uri()) as page:
        assert [trial for trial, _ in table(page, "front-table")] == [
            entry["trial"] for entry in pareto.front(
                [e for e in everything if e["cycles"] <= 900 and e["flash_bytes"] <= 120],
                whole["directions"],
            )
        ]  # fmt: skip
        page.fill("#number-cycles", "300")
        few = [e for e in everything if e["cycles"] <= 300 and e["flash_bytes"] <= 120]
        expected = [entry["trial"] for entry in pareto.front(few, whole["directions"])]
        assert [trial for trial, _ in table(page, "front-table")] == expected


@needs_chromium
@pytest.mark.parametrize("rows", [(), range(3)], ids=["none", "all failed"])
def test_study_without_a_result_says_so(browser: Any, tmp_path: Path, rows: range) -> None:
    recorded(tmp_path, rows=rows, proxy={"failing_depth": 1})
    assert toy.nas(tmp_path, "report", "toy").returncode == 0
    with opened_page(browser, (tmp_path / "runs/toy/report.html").as_uri()) as page:
        assert "toy: no trial is complete." in page.inner_text("#verdict")
        assert len(texts(page, "failed")) == len(rows)


@needs_chromium
def test_curves_pictures_and_a_divider(browser: Any, folder: Path, tmp_path: Path) -> None:
    shown = study(store_of(folder))
    trial = study_document(store_of(folder))["front"][0]["trial"]
    points = [{"level": k, "bpp_coded": 0.1 * (k + 1), "lpips": 0.4 - 0.1 * k} for k in range(3)]
    (tmp_path / "picture.png").write_bytes(PIXEL)
    shown |= {
        "rd": {trial: points},
        "pictures": {trial: str(tmp_path / "picture.png")},
        "peers": {"AVIF": [{"quality": 1, "bpp_coded": 0.2, "lpips": 0.5}]},
    }
    embed_pictures([shown])
    (tmp_path / "page.html").write_text(page(page_document([shown])), encoding="utf-8")
    with opened_page(browser, (tmp_path / "page.html").as_uri()) as opened:
        opened.click("#front-table tbody tr >> nth=0")
        lines = opened.evaluate(
            "Object.fromEntries(document.querySelector('#chosen-rd').data.map(t => [t.name, t.y]))"
        )
        assert lines[f"trial {trial}"] == [p["lpips"] for p in points]
        assert lines["AVIF"] == [0.5]
        assert lines["envelope"] == [p["lpips"] for p in points]
        opened.locator(".divider input").fill("80")
        clip = opened.locator(".decoded").evaluate("node => node.style.clipPath")
        assert "80%" in clip


@needs_chromium
def test_page_fits_a_phone_and_is_dark_where_the_system_is(
    browser: Any, folder: Path, tmp_path: Path
) -> None:
    document = page_document([study(store_of(folder))])
    document["labels"] |= {"loss": "BD-rate by LPIPS against the reference [%]"}
    file = tmp_path / "page.html"
    file.write_text(page(document), encoding="utf-8")
    with opened_page(browser, file.as_uri(), color_scheme="dark") as shown:
        shown.set_viewport_size({"width": 390, "height": 800})
        shown.click("#front-table tbody tr >> nth=0")
        shown.wait_for_timeout(300)
        assert shown.evaluate("document.documentElement.scrollWidth") <= 390
        heights = shown.eval_on_selector_all(".card dd", "all => all.map(x => x.offsetHeight)")
        assert max(heights) < 60
        assert shown.evaluate("document.documentElement.dataset.theme") == "dark"


@needs_chromium
def test_served_page_follows_a_search(browser: Any, tmp_path: Path) -> None:
    recorded(tmp_path, rows=range(6))
    command = [sys.executable, "-m", "nas", "report", "toy", "--serve", "--port", "0"]
    server = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        address = re.match(r"http://127\.0\.0\.1:\d+/", line)
        assert address, line
        with opened_page(browser, address[0]) as page:
            before = page.inner_text("#state")
            assert before.startswith("6 trials have ended")
            page.click("#front-table tbody tr >> nth=0")
            chosen = page.locator(".card").get_attribute("data-trial")
            recorded(tmp_path, rows=range(6, 9), trials=17)
            page.wait_for_function(
                "document.querySelector('#state').textContent.startsWith('9 trials')",
                timeout=60_000,
            )
            assert page.locator(".card").get_attribute("data-trial") == chosen
        with urllib.request.urlopen(f"{address[0]}document") as answer:
            tag = answer.headers["ETag"]
        request = urllib.request.Request(f"{address[0]}document", headers={"If-None-Match": tag})
        with pytest.raises(urllib.error.HTTPError, match="304"):
            urllib.request.urlopen(request)
    finally:
        server.terminate()
        server.wait(timeout=30)


def test_prices_of_blocks_on_another_device_add_up_to_its_latency(folder: Path) -> None:
    store = store_of(folder)
    trials = [t for t in store.trials() if t.scored]
    devices = priced_devices(store.record(), trials, recorded_space(store.record()))
    assert set(devices.latency) >= {OLD, NEW}
    assert devices.missing == {}
    ms = devices.blocks["ms"][NEW]
    for row, trial in enumerate(trials):
        steps = devices.blocks["rows"][trial.number]["decode"]
        network = devices.latency[NEW]["network_ms"][row]
        dispatch = network - sum(ms[sign] for _, sign in steps)
        assert dispatch == pytest.approx(devices.latency[NEW]["network_ms"][0] - sum(
            ms[sign] for _, sign in devices.blocks["rows"][trials[0].number]["decode"]
        ))  # fmt: skip


def test_report_of_an_unknown_study_is_one_line(folder: Path) -> None:
    done = toy.nas(folder, "report", "toi")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "no study 'toi'" in done.stderr
    assert "did you mean 'toy'?" in done.stderr


def test_report_without_its_space_shows_the_recorded_devices(tmp_path: Path) -> None:
    recorded(tmp_path)
    (tmp_path / "toy.yaml").unlink()
    done = toy.nas(tmp_path, "report", "toy")
    assert done.returncode == 0
    assert "only the recorded devices are shown" in done.stderr


def test_device_without_prices_says_why(folder: Path) -> None:
    store = store_of(folder)
    record = replace(store.record(), identity={**store.record().identity, "precision": "w8a8"})
    devices = priced_devices(record, store.trials()[:3], recorded_space(record), ("gone.yaml",))
    assert devices.missing["gone.yaml"] == "no latency table at gone.yaml"


def test_page_is_small_and_the_same_each_time(folder: Path) -> None:
    shown = study(store_of(folder))
    pages = [page({**page_document([shown]), "written": "then"}) for _ in range(2)]
    assert pages[0] == pages[1]
    assert len(pages[0]) < 6e6
