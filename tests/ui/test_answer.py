"""Answers in words on the page: asked for, streamed, checked, left, failed; also without script."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect
from tests.api.conftest import EVIL, TEXTS
from tests.remote.chat import Chat, Script, Turn, chatting
from tests.ui.site import Site, check_accessible, watched
from tests.ui.test_search import HOLD

ASKED = "/?q=When+does+a+patent+license+terminate%3F"
BUTTON = "Answer from these passages"


@pytest.fixture(scope="module")
def chat() -> Iterator[Chat]:
    with chatting() as service:
        yield service


@pytest.fixture(scope="module")
def answers(
    browser: Browser, chat: Chat, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A server that has `chat` write answers."""
    home = tmp_path_factory.mktemp("answers") / "home"
    with Site(
        home,
        LONGLEAF_CHUNKER__TARGET_TOKENS="48",
        LONGLEAF_ANSWER__URL=chat.url,
        LONGLEAF_ANSWER__MODEL="words",
    ) as opened:
        opened.collection("law")
        for name, text in TEXTS.items():
            opened.upload("law", name, text.encode())
        yield opened


@pytest.fixture
def asking(browser: Browser, answers: Site) -> Iterator[Page]:
    with watched(browser, answers, locale="en-GB") as opened:
        yield opened


def press(page: Page) -> None:
    page.get_by_role("button", name=BUTTON).click()


def test_an_answer_is_asked_for_streams_and_leads_to_its_passages(asking: Page, chat: Chat) -> None:
    first, second = Turn(), Turn()
    chat.script(first, "When you sue [", second, "1]. It is free [99].\n\nMoons are cheese.")
    before = len(chat.asked)
    asking.goto(ASKED)
    expect(asking.get_by_role("button", name=BUTTON)).to_be_visible()
    expect(asking.locator(".goes")).to_contain_text(f"to words at {chat.url}/v1")
    expect(asking.locator(".foot")).to_contain_text("answers are asked of")
    check_accessible(asking)
    assert len(chat.asked) == before, "nobody asked"
    press(asking)
    written = asking.locator("#written")
    expect(written).to_have_attribute("data-state", "writing")
    assert first.reached.wait(30)
    check_accessible(asking)
    first.go.set()
    expect(written.locator(".words")).to_have_text("When you sue ")
    assert second.reached.wait(30)
    second.go.set()
    expect(written).to_have_attribute("data-state", "answered")
    words = written.locator(".words > p")
    assert words.all_inner_texts() == ["When you sue [1]. It is free [?].", "Moons are cheese."]
    expect(written.locator(".uncited")).to_have_count(3)  # "It is free", its full stop, the moons
    expect(written.locator(".checks")).to_contain_text("2 of 3 sentences cite no passage")
    expect(written.locator(".checks")).to_contain_text("may still be wrong")
    check_accessible(asking)
    # By keys alone: to the citation, which points at its hit and leads to the passage.
    expect(written.locator("h2")).to_be_focused()
    asking.keyboard.press("Tab")
    cited = written.locator("a.cited")
    expect(cited).to_be_focused()
    expect(asking.locator(".hit.pointed h3")).to_have_text("Apache License")
    asking.keyboard.press("Enter")
    expect(asking).to_have_url(re.compile(r"/documents/[^/]+\?start=\d+&end=\d+"))
    expect(asking.locator("#hit").first).to_be_visible()


def test_the_button_is_there_from_the_first_hits_on_and_moves_none(asking: Page) -> None:
    asking.add_init_script(HOLD)
    asking.goto("/")
    asking.locator("#q").fill("patent license")
    held = asking.locator("html")
    expect(held).to_have_attribute("data-held", "1")
    asking.evaluate("release()")
    hit = asking.locator(".hit").first
    expect(hit).to_be_visible()
    button = asking.get_by_role("button", name=BUTTON)
    expect(button).to_be_disabled()
    check_accessible(asking)
    before = asking.locator(".hits").bounding_box()
    expect(held).to_have_attribute("data-held", "1")
    while asking.locator("#results[aria-busy=true]").count():
        asking.evaluate("release()")
    expect(button).to_be_enabled()
    after = asking.locator(".hits").bounding_box()
    assert before and after and before["y"] == after["y"]


def test_what_a_model_writes_is_text(asking: Page, chat: Chat) -> None:
    hold = Turn()
    chat.script(
        EVIL, " [1]", hold, " <b>bold</b> [a](javascript:alert(1)) ![x](http://evil.example/x)"
    )
    asking.goto(ASKED)
    press(asking)
    assert hold.reached.wait(30)
    expect(asking.locator(".words")).to_contain_text("<script>alert(1)</script>")
    expect(asking.locator(".words a.cited")).to_have_text("[1]")
    hold.go.set()
    expect(asking.locator("#written")).to_have_attribute("data-state", "answered")
    expect(asking.locator(".words")).to_contain_text("<b>bold</b> [a](javascript:alert(1))")
    assert asking.locator(".words :not(p):not(a.cited):not(span)").count() == 0


def test_thinking_aloud_is_taken_back(asking: Page, chat: Chat) -> None:
    hold = Turn()
    chat.script("Hm, rent?", hold, "</think>When you sue [1].")
    asking.goto(ASKED)
    press(asking)
    expect(asking.locator(".words")).to_have_text("Hm, rent?")
    hold.go.set()
    expect(asking.locator("#written")).to_have_attribute("data-state", "answered")
    expect(asking.locator(".words")).to_have_text("When you sue [1].")


def test_the_documents_do_not_say(asking: Page, chat: Chat) -> None:
    chat.script("The documents do not say.")
    asking.goto(ASKED)
    press(asking)
    written = asking.locator("#written")
    expect(written.get_by_role("heading")).to_have_text("The documents do not say")
    expect(written).to_contain_text("ask with other words")
    expect(asking.locator(".hit").first).to_be_visible()
    check_accessible(asking)


def test_a_failure_says_what_to_do_and_it_can_be_asked_again(asking: Page, chat: Chat) -> None:
    chat.says = lambda _: Script([{"error": {"message": "secret"}}], status=401)
    asking.goto(ASKED)
    press(asking)
    written = asking.locator("#written")
    expect(written).to_have_attribute("data-state", "failed")
    expect(written).to_contain_text("LONGLEAF_ANSWER__API_KEY")
    expect(asking.locator(".hit").first).to_be_visible()
    check_accessible(asking)
    chat.script("When you sue [1].")
    written.get_by_role("button", name="Ask again").click()
    expect(written).to_have_attribute("data-state", "answered")
    # The server itself fails.
    cut_off = {"status": 200, "content_type": "text/event-stream", "body": ""}
    asking.route("**/answer?*", lambda route: route.fulfill(**cut_off))
    written.get_by_role("button", name="Ask again").click()
    expect(written.get_by_role("alert")).to_contain_text("The server does not answer.")
    asking.unroute("**/answer?*")
    written.get_by_role("button").click()
    expect(written.get_by_role("alert")).to_have_count(0)
    expect(written).to_have_attribute("data-state", "answered")


@pytest.mark.parametrize("way", ["stop", "type"])
def test_an_answer_that_is_left_is_ended(asking: Page, chat: Chat, way: str) -> None:
    hold = Turn()
    chat.script("When you", hold)
    asking.goto(ASKED)
    press(asking)
    expect(asking.locator(".words")).to_have_text("When you")
    if way == "stop":
        asking.get_by_role("button", name="Stop").click()
        expect(asking.get_by_role("button", name=BUTTON)).to_be_focused()
    else:
        asking.locator("#q").fill("tenant rent")
        expect(asking).to_have_title("tenant rent · Longleaf")
        expect(asking.locator(".words")).to_have_count(0)
        asking.go_back()
        expect(asking.get_by_role("button", name=BUTTON)).to_be_visible()
    assert hold.left.wait(60), "the model writes on for nobody"


def test_an_answer_that_is_there_is_gone_back_to(asking: Page, chat: Chat) -> None:
    chat.script("When you sue [1].")
    asking.goto(ASKED)
    asking.locator("body").click(position={"x": 2, "y": 2})
    asking.keyboard.press("a")
    expect(asking.locator("#written")).to_have_attribute("data-state", "answered")
    asked = len(chat.asked)
    asking.locator("#q").fill("tenant rent")
    expect(asking).to_have_title("tenant rent · Longleaf")
    expect(asking.get_by_role("button", name=BUTTON)).to_be_visible()
    asking.go_back()
    expect(asking.locator(".words")).to_have_text("When you sue [1].")
    assert len(chat.asked) == asked


def test_no_answer_is_offered_where_there_is_no_question(asking: Page) -> None:
    for address in ("/", '/?q="no+such+phrase"', '/?filter={"field":"collection","eq":"law"}'):
        asking.goto(address)
        expect(asking.locator("#written")).to_have_count(0)


def test_without_script_the_button_brings_the_page_with_its_answer(
    browser: Browser, answers: Site, chat: Chat
) -> None:
    chat.script("When you sue [1]. Moons are cheese.")
    with watched(browser, answers, java_script_enabled=False) as page:
        page.goto(ASKED)
        press(page)
        expect(page.locator("#written")).to_have_attribute("data-state", "answered")
        expect(page.locator(".words")).to_have_text("When you sue [1]. Moons are cheese.")
        expect(page.locator(".hit").first).to_be_visible()
        page.locator("a.cited").click()
        expect(page).to_have_url(re.compile("/documents/"))
        page.goto(ASKED.replace("/?", "/answer?"))
        expect(page).to_have_url(re.compile(r"/\?q=When"))
        page.goto("/?q=zeppelin&good=on")


def test_without_a_model_there_is_no_button_but_a_line(page: Page) -> None:
    page.goto(ASKED)
    expect(page.locator(".hit").first).to_be_visible()
    expect(page.locator("#written")).to_have_count(0)
    expect(page.locator(".no-answers")).to_contain_text("answer.url")
    expect(page.locator(".foot")).to_contain_text("everything stays on this machine")
    check_accessible(page)
