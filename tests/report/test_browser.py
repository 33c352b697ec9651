"""Pages as a reader sees them: reports, votes and audits in a real browser."""

import numpy as np
import pytest

from rlhf_rm.audit.page import page as audit_page
from rlhf_rm.commands.vote import show
from rlhf_rm.data.strengths import from_members
from rlhf_rm.data.types import Message, PreferencePair
from rlhf_rm.voting.summary import summarise

WIDTHS = (390, 1440)
BRIGHTNESS = """
(element => {
  const [r, g, b] = getComputedStyle(element).backgroundColor.match(/[0-9]+/g).map(Number);
  return (r + g + b) / 3;
})
"""


@pytest.fixture(scope="module")
def pages(artefacts, report, tmp_path_factory):
    """A page of each kind, all with a text that would run if it could."""
    root = tmp_path_factory.mktemp("inputs")
    made = [
        artefacts.write_run(root / "runs/contrastive", embedded=True),
        artefacts.write_vote(root / "votes/one"),
        artefacts.write_rounds(root / "rounds/meta"),
        artefacts.write_evaluation(root / "evaluations/one"),
        artefacts.write_judgement(root / "judgements/one"),
    ]
    found = {"report": report(*made) / "report.html"}
    evil = artefacts.EVIL
    pairs = [
        PreferencePair((Message("user", f"{i} {evil}"),), evil, artefacts.LONG, id=evil) for i in range(30)
    ]
    strengths = from_members([pair.pair_id for pair in pairs], np.linspace(-1, 2, 60).reshape(2, 30))
    show(root, strengths, pairs, summarise(strengths, {}), evil)
    found["vote"] = root / "vote.html"
    example = {"id": evil, "prompt": evil, "chosen": artefacts.LONG, "rejected": ""}
    finding = {"name": "a", "title": "A check", "verdict": "mend", "count": 3, "of": 9, "share": 1 / 3}
    finding |= {"advice": "Mend it.", "numbers": {"most": 3}, "examples": [example]}
    packing = {"padded": 9, "packed": 7, "shared": 4}
    packing |= {"prefix_share": 0.4, "gain_over_padded": 2.2, "gain_over_packed": 1.7}
    found["audit"] = root / "audit.html"
    told = {"findings": [finding], "pairs": {"train": 9}, "packing": packing}
    found["audit"].write_text(audit_page(told, f"Audit of {evil}"))
    return found


@pytest.mark.parametrize("kind", ["report", "vote", "audit"])
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_cut_off_and_all_pictures_are_there(browser, pages, kind, width):
    for dark in (False, True):
        browser.open(pages[kind], width=width, dark=dark)
        assert browser.evaluate("innerWidth") == width
        assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth")
        # What is too wide lies in something that scrolls by itself, and nothing else sticks out.
        sticking_out = browser.evaluate(
            "[...document.querySelectorAll('main *')].filter(one => !one.closest('.wide') && "
            "one.getBoundingClientRect().right > innerWidth + 1).map(one => one.outerHTML.slice(0, 80))"
        )
        assert sticking_out == []
        sizes = browser.evaluate("[...document.images].map(one => one.complete && one.naturalWidth)")
        assert all(sizes) and len(sizes) >= {"report": 20, "vote": 2, "audit": 0}[kind]
        on_page = browser.evaluate("document.querySelector('main').getBoundingClientRect().width")
        assert on_page > 0.6 * width


def test_the_tables_of_one_run_fit_on_a_phone(browser, artefacts, report, tmp_path):
    run = artefacts.write_run(tmp_path / "one")
    browser.open(report(run) / "report.html", width=390)
    cut = "[...document.querySelectorAll('.wide')].filter(one => one.scrollWidth > one.clientWidth)"
    assert browser.evaluate(f"{cut}.map(one => one.innerText.slice(0, 80))") == []
    assert browser.evaluate("document.querySelectorAll('.numbers').length") >= 2


@pytest.mark.parametrize("kind", ["report", "vote", "audit"])
def test_it_is_dark_in_the_dark_and_light_on_paper(browser, pages, kind):
    def bright(of="document.body"):
        return browser.evaluate(f"{BRIGHTNESS}({of})")

    figure = "document.querySelector('figure, .card')"
    browser.open(pages[kind], width=1440)
    light = browser.evaluate("[...document.images].map(one => one.currentSrc)")
    assert bright() > 230 and bright(figure) > 230
    browser.open(pages[kind], width=1440, dark=True)
    dark = browser.evaluate("[...document.images].map(one => one.currentSrc)")
    assert bright() < 40 and bright(figure) < 50
    assert all(one != other for one, other in zip(light, dark, strict=True))
    ink = browser.evaluate("getComputedStyle(document.body).color.match(/[0-9]+/g).map(Number)")
    assert min(ink) > 200
    browser.open(pages[kind], width=800, dark=True, print_media=True)
    assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert bright() > 230
    assert browser.evaluate("[...document.images].map(one => one.currentSrc)") == light


@pytest.mark.parametrize("kind", ["report", "vote", "audit"])
def test_texts_of_the_data_are_read_and_do_not_run(browser, pages, kind, artefacts):
    browser.open(pages[kind], width=390)
    assert browser.evaluate("document.title") != "ran"
    assert browser.evaluate("document.querySelectorAll('script, [onerror], main b, main i').length") == 0
    assert browser.evaluate(f"document.body.textContent.split({artefacts.EVIL!r}).length") > 2
    assert [one for one in browser.requested() if not one.startswith(("data:", "file:"))] == []
    assert len([one for one in browser.requested() if one.startswith("file:")]) == 1


def test_pixels_of_a_figure_follow_the_page(browser, pages):
    for dark, wanted in ((False, (255, 255, 255)), (True, (0x1D, 0x1F, 0x23))):
        browser.open(pages["report"], width=1440, dark=dark)
        corner = browser.evaluate(
            "(async () => { const image = document.images[0]; await image.decode();"
            "const canvas = Object.assign(document.createElement('canvas'), {width: 20, height: 20});"
            "const context = canvas.getContext('2d'); context.drawImage(image, 0, 0);"
            "return [...context.getImageData(3, 3, 1, 1).data].slice(0, 3) })()"
        )
        assert tuple(corner) == wanted


def test_the_contents_lead_to_every_section(browser, pages):
    browser.open(pages["report"], width=1440)
    headings = browser.evaluate("[...document.querySelectorAll('h2')].map(one => one.textContent)")
    links = browser.evaluate("[...document.querySelectorAll('nav a')].map(one => one.textContent)")
    assert [one for one in links if one in headings] == headings and len(headings) == 5
    broken = "[...document.querySelectorAll('nav a')].filter(one => !document.querySelector(one.hash)).length"
    assert browser.evaluate(broken) == 0
    # Beside the page where there is room, above it where there is none.
    of = "document.querySelector({!r}).getBoundingClientRect().{}"
    assert browser.evaluate(f"{of.format('nav', 'right')} < {of.format('h1', 'left')}")
    browser.open(pages["report"], width=390)
    assert browser.evaluate(f"{of.format('nav', 'bottom')} <= {of.format('h1', 'top')}")
