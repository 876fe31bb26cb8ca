"""The page for an image in Chromium: pictures dropped and chosen, positions by mouse and keys, walks down, and what stays where."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from browsing import beyond, inaccessible, looked_at, sideways
from explorers import Command, is_running, wait_until
from filelock import FileLock
from PIL import Image
from shortened import short_recipes

import weightatlas as wa
from weightatlas.store.files import LOCK

pytestmark = pytest.mark.slow
FROM, TO = "blocks.5.3", "blocks.6.0"
LAST = f"{TO}.conv_pwl"


@pytest.fixture(scope="module")
def atlas(lite0, one_thread, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lens") / "atlas"
    with short_recipes():
        wa.build(lite0, folder, layers=[FROM, TO], units=[0], recipes="quick", only=["weights", "quick"])
    return folder


@pytest.fixture(scope="module")
def temporary(tmp_path_factory):
    return tmp_path_factory.mktemp("temporary")


@pytest.fixture(scope="module")
def command(atlas, temporary):
    """The explorer of an atlas that another build holds: images are looked at all the same."""
    env = {"TMPDIR": str(temporary)}
    with FileLock(atlas / LOCK), Command("open", atlas, "--no-browser", "--port", "0", env=env) as running:
        running.address()
        yield running


@pytest.fixture(scope="module")
def live(command):
    return f"http://127.0.0.1:{command.port}"


@pytest.fixture(scope="module")
def files(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for name in ("cat", "astronaut"):
        Image.fromarray(photos[name]).save(folder / f"{name}.png")
    return folder


def number(words):
    return float(words.replace("−", "-").replace("\u2009", ""))


def query(page):
    return page.evaluate("[...new URLSearchParams(location.search)]")


def chosen(page, file):
    """Chooses a picture; waits until the network has seen it."""
    page.locator("#image-file").set_input_files(file)
    page.wait_for_selector(".seen img")


def explained(page, unit, at=None):
    where = "" if at is None else f"[data-at='{at}']"
    page.wait_for_selector(f".reason[data-unit='{unit}']{where} .sum")
    return page.locator(".reason")


def late(route):
    """An explanation that takes longer than a page waits for."""
    if route.request.post_data_json["what"] == "explain":
        time.sleep(0.6)
    route.continue_()


def addends(reason):
    return {
        e["term"]: float(e["value"])
        for e in reason.locator(".addend").evaluate_all("a => a.map(e => ({...e.dataset}))")
    }


def dropped(page, file):
    """Drops a picture on the page, as a file manager does."""
    data = page.evaluate_handle(
        """([name, bytes]) => {
             const data = new DataTransfer();
             data.items.add(new File([new Uint8Array(bytes)], name, {type: 'image/png'}));
             return data;
           }""",
        [file.name, list(file.read_bytes())],
    )
    for event in ("dragenter", "dragover", "drop"):
        page.dispatch_event("main", event, {"dataTransfer": data})


def test_an_image_is_explained_down_to_a_layer_of_the_atlas(visit, live, lite0, photos, files):
    at = visit(live)
    page = at.go("?lens=image")
    looked_at(page)
    assert inaccessible(page) == []
    chosen(page, files / "cat.png")
    classes = page.locator(".classes .bars code").all_inner_texts()
    with_net = wa.activations(lite0, photos["cat"][None], ["classifier", LAST])
    assert classes == [f"classifier:{u}" for u, *_ in with_net.top_units("classifier", 5)]
    page.get_by_label("layer", exact=True).select_option(LAST)
    page.wait_for_selector(f".most[data-layer='{LAST}']")
    top = [f"{LAST}:{u}" for u, *_ in with_net.top_units(LAST, 12)]
    assert page.locator(".most .bars code").all_inner_texts() == top

    # a position by the mouse: the units that are most active there
    picture = page.locator(".seen .choose")
    box = picture.bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.45, box["y"] + box["height"] * 0.72)
    page.wait_for_selector(".most .button:has-text('anywhere')")
    assert dict(query(page))["at"] == "4,2"  # what a position sees is centred at 31.5 + 32 i pixels
    first = with_net.top_units(LAST, 1, at=(4, 2))[0]
    assert page.locator(".most .bars .num").first.inner_text().startswith(f"{first[1]:.3g}"[:3])
    page.locator(".most .bars a").first.click()

    # its sum is that of the package
    reason = explained(page, f"{LAST}:{first[0]}")
    a = wa.attributions(lite0, photos["cat"], f"{LAST}:{first[0]}", at=(4, 2))
    assert a.method == "exact"
    sums = addends(reason)
    assert [sums[n] for n in ("value", "base", "total")] == pytest.approx(
        [a.value, a.base, a.total], rel=1e-4, abs=1e-5
    )
    assert abs(sums["residual"]) < 1e-4 * abs(a.value)
    shown = {
        side: reason.locator(f".side-of[data-side={side}] .source").evaluate_all(
            "e => e.map(s => [s.dataset.unit, Number(s.dataset.sum)])"
        )
        for side in ("up", "down")
    }
    for side, units in zip(("up", "down"), a.pushed(6), strict=True):
        assert [name for name, _ in shown[side]] == [f"{a.source}:{u}" for u in units]
        assert [s for _, s in shown[side]] == pytest.approx(a.by_unit[units], rel=1e-4)
        words = reason.locator(f".side-of[data-side={side}] .adds").all_inner_texts()
        assert [number(w) for w in words] == pytest.approx(a.by_unit[units], rel=5e-3)
    assert "Nothing is missing" in reason.inner_text()

    # keys move the position and leave no steps in the history, also where the sum comes after the rest of the page
    page.locator(".seen .choose").focus()
    length = page.evaluate("history.length")
    page.route("**/api/look", late)
    page.keyboard.press("ArrowUp")
    explained(page, f"{LAST}:{first[0]}", "3,2")
    page.unroute("**/api/look")
    assert page.evaluate("[document.activeElement.className, history.length]") == ["choose", length]
    for key in ("ArrowRight", "ArrowDown", "ArrowLeft"):  # faster than the page is drawn
        page.keyboard.press(key)
    explained(page, f"{LAST}:{first[0]}", "4,2")

    # down two steps, each where it contributed most: behind the activations the convolutions, whose sums are exact
    step = (LAST, first[0], (4, 2))
    for layer in (f"{TO}.conv_dw", f"{TO}.conv_pw"):
        a = wa.attributions(lite0, photos["cat"], f"{step[0]}:{step[1]}", at=step[2])
        unit = a.pushed(1)[0][0]
        before = f"{step[0]}:{step[1]}"
        page.locator(".side-of[data-side=up] .source .face").first.click()
        reason = explained(page, f"{layer}:{unit}")
        step = (layer, unit, a.strongest_place(unit))
        below = wa.attributions(lite0, photos["cat"], f"{layer}:{unit}", at=step[2])
        assert addends(reason)["value"] == pytest.approx(below.value, rel=1e-4, abs=1e-5)
        assert reason.get_attribute("data-method") == "exact"
    assert page.locator(".trail li").count() == 3
    assert below.source == FROM
    looked_at(page)
    assert inaccessible(page) == []

    # reloaded, the view is the same; on a phone in the dark it can be read as well
    whole = page.locator("main").inner_text()
    page.reload()
    explained(page, f"{step[0]}:{step[1]}")
    assert page.locator("main").inner_text() == whole
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": 390, "height": 800})
    looked_at(page)
    assert inaccessible(page) == []
    page.set_viewport_size({"width": 3840, "height": 2160})
    assert (sideways(page), beyond(page)) == (0, [])
    page.set_viewport_size({"width": 1280, "height": 900})

    # a source's own page, on this image; from there to why
    link = page.locator(".source a.address").first
    name = page.locator(".source").first.get_attribute("data-unit")
    link.click()
    page.wait_for_selector(".on-image .seen")
    assert name in page.title()
    values = wa.activations(lite0, photos["cat"][None], FROM).unit(FROM, int(name.rpartition(":")[2]))[0]
    y, x = np.unravel_index(values.argmax(), values.shape)
    facts = page.locator(".on-image .facts").inner_text()
    assert f"{values.max():.3g}" in facts
    assert f"({y}, {x})" in facts
    looked_at(page)
    assert inaccessible(page) == []
    page.go_back()
    explained(page, f"{step[0]}:{step[1]}")
    page.go_back()
    explained(page, before)
    page.locator(".trail a").first.click()
    explained(page, f"{LAST}:{first[0]}")


def test_maps_have_the_colours_of_their_numbers(visit, live, lite0, photos, files):
    from weightatlas.figures import theme

    page = visit(live).go("?lens=image")
    chosen(page, files / "cat.png")
    page.evaluate(f"history.replaceState({{}}, '', location.search + '&step={LAST}:0:3,3')")
    page.reload()
    reason = explained(page, f"{LAST}:0")
    a = wa.attributions(lite0, photos["cat"], f"{LAST}:0", at=(3, 3))
    up, down = a.pushed(6)
    rows = {"weights": a.gradients, "patch": a.activations, "product": a.values}
    for place, (values, colours) in enumerate(
        zip(rows.values(), (theme.diverging, theme.activation, theme.diverging), strict=True)
    ):
        expected = colours(values[up + down, 3, 3], float(np.abs(values[up + down, 3, 3]).max()))
        found = reason.locator(f".source > :nth-child({place + 2}) canvas").evaluate_all(
            "c => c.map(e => [...e.getContext('2d').getImageData(0, 0, 1, 1).data].slice(0, 3))"
        )
        assert np.abs(np.array(found) - expected.astype(int)).max() <= 1


def test_it_is_dropped_anywhere_and_nothing_is_written_anywhere(visit, live, atlas, temporary, files):
    def listing():
        return {p: p.stat().st_mtime_ns for folder in (atlas, temporary) for p in folder.rglob("*")}

    page = visit(live).go(f"?unit={TO}:1&sort=excite")
    before = listing()
    dropped(page, files / "astronaut.png")
    page.wait_for_selector(".on-image .seen")  # the page of a unit stays, and shows the unit there
    first = dict(query(page))
    assert first["sort"] == "excite"
    why = page.get_by_role("link", name="why is it active there?").get_attribute("href")
    assert why.startswith(f"?lens=image&step={TO}:1:")
    page.goto(f"{live}/?lens=image&image={first['image']}&step={LAST}:1:2,2")
    explained(page, f"{LAST}:1")
    dropped(page, files / "cat.png")  # another image, the same view
    page.wait_for_function(
        "first => new URLSearchParams(location.search).get('image') !== first && document.querySelector('.reason .sum')",
        arg=first["image"],
    )
    assert dict(query(page))["step"] == f"{LAST}:1:2,2"
    page = visit(live).go("")
    dropped(page, files / "cat.png")  # any other page gives way
    page.wait_for_selector(".classes .bars")
    assert listing() == before


def test_what_is_no_image_is_told_and_the_page_stays(visit, live, files):
    at = visit(live)
    page = at.go("?lens=image")
    (files / "words.png").write_text("no picture")
    page.locator("#image-file").set_input_files(files / "words.png")
    page.get_by_role("alert").filter(has_text="cannot be read as an image").wait_for()
    with (files / "large.png").open("wb") as large:
        large.truncate(21 * 2**20)
    page.locator("#image-file").set_input_files(files / "large.png")
    page.get_by_role("alert").filter(has_text="21.0 MiB; an image may have 20").wait_for()
    assert [w for w in at.wrong if "422" not in w] == []
    at.wrong.clear()
    looked_at(page)
    assert inaccessible(page) == []
    chosen(page, files / "cat.png")
    assert page.get_by_role("alert").count() == 0


def test_what_an_address_says_that_does_not_exist_is_told_in_a_sentence(visit, live, files):
    page = visit(live).go("?lens=image")
    chosen(page, files / "cat.png")
    image = dict(query(page))["image"]
    start, step = f"{live}/?lens=image&image={image}", f"{LAST}:1:2,2"
    assert page.locator(".wrong").count() == 0
    for good in (
        f"&of={LAST}&at=2,2",
        f"&step={step}",
        f"&step={step}:input:gradient",
        "&overlay=off&palette=colorblind",
    ):
        page.goto(f"{start}{good}")
        page.wait_for_selector(".most")
        assert page.locator(".wrong").count() == 0, good
    for bad, told in (
        ("&method=foo", f"method=foo (it belongs to {(form := 'step=LAYER:UNIT:Y,X:SOURCE:METHOD')})"),
        ("&source=nope", f"source=nope (it belongs to {form})"),
        ("&layer=nope", "layer=nope (a layer is chosen with of=LAYER)"),
        ("&colour=red", "colour=red (this page reads no such parameter)"),
        (f"&of={LAST}&at=99,99", f"at=99,99 ({LAST} has positions 0,0 to 6,6)"),
        (f"&of={LAST}&at=middle", f"at=middle ({LAST} has positions 0,0 to 6,6)"),
        (f"&step={step}&at=1,1", "at=1,1 (a step has its own position)"),
        ("&step=foo", f"step=foo (a step is like {form}"),
        (f"&step={step}::foo", "the method foo of a step (there are exact, gradient"),
        (f"&step={LAST}:99999:0,0&step={step}", f"step={LAST}:99999:0,0 ({LAST} has units 0 to 319)"),
        (f"&step={LAST}:1:9,9&step={step}", f"step={LAST}:1:9,9 ({LAST} has positions 0,0 to 6,6)"),
        (f"&step=nope:1:0,0&step={step}", "step=nope:1:0,0 (the network has no layer nope"),
        ("&overlay=maybe", "overlay=maybe (it is on or off)"),
        (f"&step={'x' * 500}", f"step={'x' * 60}… ("),
    ):
        page.goto(f"{start}{bad}")
        page.wait_for_selector(".most")
        [words] = page.locator(".wrong").all_inner_texts()
        assert words.startswith(f"This address names what does not exist here: {told}"), bad
        assert words.endswith("; what is shown is the page without it.")
        if step in bad:
            assert explained(page, f"{LAST}:1", "2,2").get_attribute("data-method") == "exact"
            assert page.locator(".trail").count() == 0  # of two steps only one exists
    looked_at(page)
    for bad, told in (
        (f"&step={LAST}:1:9,9", f"there is no {LAST}:1 at (9, 9): {LAST} has positions 0,0 to 6,6"),
        (f"&step={LAST}:999:2,2", f"there is no {LAST}:999 at (2, 2): {LAST} has units 0 to 319"),
        ("&step=nope:1:2,2", "there is no nope:1 at (2, 2): the network has no layer nope"),
    ):  # what is asked for itself
        page.goto(f"{start}{bad}")
        page.get_by_text("This cannot be shown").wait_for()
        assert told in page.locator("main").inner_text()
    page.goto(f"{start}&layer=nope&step=foo&at=2,99")
    page.wait_for_selector(".most")
    [words] = page.locator(".wrong").all_inner_texts()
    assert words.count("(") == 3
    assert words.endswith("; what is shown is the page without these.")
    assert inaccessible(page) == []


def test_a_walk_that_ends_before_the_pixels_says_why(visit, live, files):
    page = visit(live).go("?lens=image")
    chosen(page, files / "cat.png")
    page.goto(f"{page.url}&step={LAST}:1:2,2")
    explained(page, f"{LAST}:1")
    assert page.locator(".ended").count() == 0

    def answer(route):  # of a network whose functions no walk goes through
        told = route.fetch().json()
        if "method" in told:
            told |= {"further": "", "ended": "what 'f' reads is no layer's output; source='c' goes on there"}
        route.fulfill(json=told)

    page.route("**/api/look", answer)
    page.reload()
    reason = explained(page, f"{LAST}:1")
    assert reason.locator("a.face").count() == 0
    assert reason.locator(".ended").inner_text() == (
        "The walk ends here: what 'f' reads is no layer's output. Another source layer, chosen above, goes on."
    )
    looked_at(page)


def test_the_key_i_goes_to_the_button_for_a_file_and_there_opens_the_choice(visit, live, files):
    page = visit(live).go(f"?unit={TO}:1")
    page.on("filechooser", lambda choice: None)  # the driver takes a while until it sees choices
    page.keyboard.press("i")
    page.wait_for_selector(".zone")
    page.wait_for_function("document.activeElement.id === 'image-file'")
    outline = "e => getComputedStyle(e.nextElementSibling).outlineStyle"
    assert page.locator("#image-file").evaluate(outline) == "solid"  # one sees where one is
    with page.expect_file_chooser() as choice:
        page.keyboard.press("i")
    choice.value.set_files(files / "cat.png")
    page.wait_for_selector(".seen img")
    page.wait_for_selector(".classes .bars")
    page.locator("h1").click()
    with page.expect_file_chooser() as choice:  # another one, wherever the focus is
        page.keyboard.press("i")
    choice.value.set_files(files / "astronaut.png")
    page.keyboard.press("?")  # other keys go on working
    page.wait_for_selector(".keylist")
    assert "choose a file" in page.locator(".keylist div", has=page.locator("kbd", has_text="i")).last.inner_text()


def test_an_image_that_is_gone_is_asked_for_again_and_the_view_comes_back(visit, live, command, files):
    at = visit(live)
    page = at.go("?lens=image")
    chosen(page, files / "cat.png")
    page.goto(f"{page.url}&step={LAST}:1:2,2")
    explained(page, f"{LAST}:1")
    view, whole = page.url, page.locator("main").inner_text()
    (child,) = [c for c in command.children() if b"builder.looking" in Path(f"/proc/{c}/cmdline").read_bytes()]
    os.kill(child, signal.SIGKILL)
    wait_until(lambda: not is_running(child))
    page.reload()
    page.get_by_text("is not in the server's memory").wait_for()
    looked_at(page)
    assert inaccessible(page) == []
    assert page.url == view
    chosen(page, files / "cat.png")
    explained(page, f"{LAST}:1")
    assert (page.url, page.locator("main").inner_text()) == (view, whole)
