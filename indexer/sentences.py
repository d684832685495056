"""Where a sentence ends in legal and scientific writing, and where to cut one that is too long.

One left-to-right scan stops at full stops and line ends only, and decides each from the word before
and the word after. It knows no model, no document and no section, and it is not a linguist: where
it cannot tell, it does not break, because a sentence that is too long costs the chunker one clause
cut, while a break inside "410 U.S. 113" tears a citation apart. Every pattern is possessive or
bounded and every look back is a fixed window, so the time is linear in the text for any input.
"""

from __future__ import annotations

import re
import unicodedata

_NEWLINES = "\n\r\u2028\u2029"
_OPENERS = r"\"'“”‘’«‹„(\[{<*_`~#「『（【《¿¡—–-"
_CLOSERS = r"\"'”’»›)\]}*_`」』）】》〉〕］"
_KANA_OR_IDEOGRAPH = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")

_STOP = re.compile(
    rf"""
      (?P<line> (?:\r\n?+ | [\n\u2028\u2029]) [^\S\n\r\u2028\u2029]*+ )
    | (?P<wide> [。！？｡؟۔।॥።။។]++ [{_CLOSERS}]*+ )
    | (?P<stop> [.!?…．] (?: [ \xa0]? [.!?…．] )*+ )
      [{_CLOSERS}]*+
      (?P<note> \[\d[\d,;\ –-]{{0,30}}+\] | \d{{1,3}}+(?:[,–-]\d{{1,3}}+){{0,5}}+ )?+
    """,
    re.VERBOSE,
)
_SPACE = re.compile(r"\s*+")
_GAP = re.compile(rf"\s*+[{_OPENERS}]*+")
_WORD = re.compile(r"[^\W\d_]{1,16}+")

# What a reference word points at: "Fig. 2", "Fig. S2", "Art. IV", "Ex. A", "Eq. (3)", "Id. § 5".
_NUMBER_LIKE = re.compile(
    r"""[\d§¶#]
      | (?: [IVXLCDM]{2,7}+ | [A-Z]{1,3}+[-.]?\d[\w.-]{0,20}+ | [A-Z](?![ ][a-z]) )
        (?=[\s,.;:)\]]|$)""",
    re.VERBOSE,
)
_DOTTED = re.compile(r"(?!www\.)(?:[^\W\d_]{1,4}\.)+[^\W_]{1,4}")
# A label that a line may begin with; the full stop after it ends nothing: "1.", "IV.", "Section 3."
_LABEL = re.compile(
    r"""(?: \(? (?: \d{1,3} (?:\.\d{1,3}){0,5} | [IVXLC]{1,7} | [ivxlc]{1,7} | [A-Za-z] ) \)?
          | (?: section | sec\. | article | art\. | clause | rule | chapter | schedule | figure
              | fig\. | table | appendix | §{1,2} ) \s? [\dIVXLC][\dIVXLC.]{0,10}
        )""",
    re.VERBOSE | re.IGNORECASE,
)
# What begins a unit of its own at the start of a line. The kinds have different false alarms in
# hard-wrapped text, so `_is_break_line` treats them apart.
_UNIT = re.compile(
    r"""(?P<item> \(? (?: [a-z]{1,2} | [ivxlc]{1,6} | [A-Z] | (?P<twice> [A-Z] ) (?P=twice)
                       | [IVX]{1,5} | \d{1,3}[A-Z]? | [a-z]-\d{1,2} ) \) \s )
      | (?P<clause> (?: \d{1,3} (?:\.\d{1,3}){1,5} \.? | \d{1,3}[A-Z]?\. )
                  [ \t]{1,8} ["“‘(]? [^\W\d_a-zß-ÿ]
                  | (?: SECTION | ARTICLE | CHAPTER ) [ ] [\dIVXLC] )
      | (?P<bullet> [-•‣▪◦●*\uf0a7\uf0b7] [ \t] )
      | (?P<loose> (?: [A-Za-z] | [IVX]{2,5} ) \. [ \t]{1,8} ["“‘(]? [^\W\d_a-zß-ÿ]
                 | \d{1,3} (?:\.\d{1,3}){1,5} \.? [ \t]{1,8} [a-z]
                 | (?: Section | Article | Clause | Rule ) [ ] [\dIVXLC] )""",
    re.VERBOSE,
)
_LIST_GOES_ON = re.compile(r"(?:[.;:][\"'”’)\]]?|[;,] (?:and|or|and/or))$")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_NEVER = _words("v vs Vs e.g E.g i.e I.e cf Cf viz ca approx resp Resp núm pág págs")
_TITLES = _words(
    "Dr Mr Mrs Ms Mx Prof Hon Messrs Mme Mlle St Gen Col Lt Capt Sgt Gov Sen Sr Sra Srta Dra"
)
_REFERENCES = _words(
    "no nos fig figs eq eqs eqn eqns sec secs sect art arts p pp para paras ch chs chap vol vols "
    "tab ref refs ex exs exh id ibid cl cls pt pts app suppl n nn r rr reg regs s ss sch ser dkt "
    "doc ecf tr compl decl stip amend const supp stat tbl col sched thm lem prop def cor"
)
# As `_REFERENCES`, but written with a capital they are hardly ever anything else.
_SURE_REFERENCES = _words(
    "Nos Fig Figs Eq Eqs Eqn Eqns Sec Secs Art Arts Tab Ref Refs Ex Exs Exh Dkt Vol Vols Ch Chs"
)
# May end a sentence as well; then only a word that begins most sentences tells.
_MAY_END = _words(
    "al Inc Corp Ltd Co Cos Bros Ass'n Ass’n Assn Int'l Int’l Nat'l Nat’l Dep't Dep’t Dept Gov't "
    "Gov’t App'x App’x Comm'n Comm’n Jr Esq Jan Feb Mar Apr Jun Jul Aug Sep Sept Oct Nov Dec Ct "
    "Cir Dist Div Supp Ed App Stat Reg Fed Rptr Rep Rev Rul Civ Crim Evid Proc Bankr Pub Const "
    "Cong Sess Op Cal Mass Pa Fla Tex Ill Minn Wis Wash Mich Conn Colo Del Ariz Ark Ga Ind Kan Ky "
    "La Md Me Miss Mo Mont Neb Nev Okla Or Tenn Va Vt Wyo Ala Univ Inst Acad Sci Natl Soc Biol "
    "Chem Phys Med Am Int Eng Engl Mfg Treas Harv Stan Colum Chi sp spp subsp var cv eds ed trans"
)
# No "He", "An", "You", "A" or "I": "J. He et al." and "J. A. Smith" are names.
_STARTERS = _words(
    "The This That These Those There It Its In On If When While Although After Before Here We "
    "They Our Their His Her However Moreover Furthermore Therefore Thus Accordingly Because Since "
    "Such Some Then Both Each Nor But For To By With Under Upon As At From"
)
_AWAIT_NUMBER = _REFERENCES | _words(
    "section sections subsection subsections paragraph paragraphs clause clauses article articles "
    "rule rules item items table tables figure figures part parts chapter schedule exhibit version "
    "equation equations § §§"
)

# Best first. A line end stands last: in hard-wrapped text it means nothing, in a table it must do.
_CUTS = (
    re.compile(r"[;:][\"'”’)\]]{0,3}\s|[；：]|\s(?=\((?:[a-z]{1,2}|[ivx]{1,5}|\d{1,2})\)\s)"),
    re.compile(r"[,—–][\"'”’)\]]{0,3}\s|[，、]"),
    re.compile(r"\n"),
)

_LOOK_BACK_CHARS = 40
_LONGEST_CLUSTER_CHARS = 64


def trim(text: str, start: int, end: int) -> tuple[int, int]:
    """`[start, end)` without outer white space; `start == end` if there is nothing else."""
    start = _SPACE.match(text, start, end).end()  # type: ignore[union-attr]
    while end > start and text[end - 1].isspace():  # no slice: the rest of a text may be long
        end -= 1
    return start, end


def sentence_spans(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """The sentences of `text[start:end]` as half-open character spans, in order.

    Spans are trimmed of white space, never empty, never overlap and together hold every character
    that is not white space. Blank lines always separate; so do the starts of lines that begin an
    enumeration or a numbered clause. An enumeration inside a line stays in its sentence. Headings
    and other text without a full stop are sentences of their own between blank lines.
    """
    spans: list[tuple[int, int]] = []
    begin = trim(text, start, end)[0]
    for match in _STOP.finditer(text, start, end):
        stop = match.end()
        if stop <= begin:
            continue
        kind = match.lastgroup
        if kind == "line":
            ends = _is_break_line(text, match, begin, end)
        elif kind == "wide":
            ends = stop == end or unicodedata.category(text[stop])[0] != "M"
        else:
            ends = _ends_sentence(text, match, begin, end)
        if ends:
            span = trim(text, begin, stop)
            if span[0] < span[1]:
                spans.append(span)
            begin = _SPACE.match(text, stop, end).end()  # type: ignore[union-attr]
    last = trim(text, begin, end)
    if last[0] < last[1]:
        spans.append(last)
    return spans


def _is_break_line(text: str, match: re.Match[str], begin: int, end: int) -> bool:
    """Whether a line end is a blank line or stands before a new unit."""
    stop = match.end()
    if stop == end or text[stop] in _NEWLINES or text[match.start()] == "\u2029":
        return True
    unit = _UNIT.match(text, stop, end)
    if unit is None or unit.lastgroup == "bullet":
        return unit is not None
    before = text[max(begin, match.start() - _LOOK_BACK_CHARS) : match.start()].rstrip()
    if unit.lastgroup == "loose" and not _LIST_GOES_ON.search(before):
        return False  # "a value of\n3.14 metres"
    if unit.lastgroup == "item" and before and (before[-1].isdigit() or before[-1] == ")"):
        return False  # "Section 12\n(b) of this Act", wrapped
    words = before.split()
    return not words or words[-1].rstrip(".").lower() not in _AWAIT_NUMBER


def _ends_sentence(text: str, match: re.Match[str], begin: int, end: int) -> bool:
    """Whether a run of . ! ? and … (with its closing quotes and notes) ends a sentence."""
    stop = match.end()
    run = match["stop"]
    strong = "!" in run or "?" in run
    if stop < end and not text[stop].isspace():
        # "3.14", "example.org", "F.3d"; Chinese with half-width marks has no space after them.
        return (strong or "．" in run) and _KANA_OR_IDEOGRAPH.match(text, stop) is not None
    gap = _GAP.match(text, stop, end)
    assert gap is not None
    if gap.end() >= end:
        return True
    after = text[gap.end()]
    if "¿" in gap[0] or "¡" in gap[0]:
        return True
    if after.islower():
        return False
    if strong:
        return True
    dots = len(run.replace(" ", "").replace("\xa0", "").replace("…", "..."))
    if dots > 1:
        # An ellipsis omits words of a sentence; four points are an ellipsis and a full stop.
        # More are the leaders of a table of contents, and there a digit follows.
        return dots > 3 and after.isupper()
    return _full_stop_ends(text, match, begin, gap.end(), end)


def _full_stop_ends(text: str, match: re.Match[str], begin: int, after: int, end: int) -> bool:
    """Whether one full stop before a capital, a digit or an uncased letter at `after` ends."""
    window_start = max(begin, match.start() - _LOOK_BACK_CHARS)
    before = text[window_start : match.start()].rstrip()
    line = before[max(before.rfind(newline) for newline in _NEWLINES) + 1 :]
    at_line_start = len(line) < len(before) or window_start == begin
    if at_line_start and _LABEL.fullmatch(line.strip()):
        return False
    words = before.split()
    word = words[-1].lstrip("\"'“‘«([{*_—–") if words else ""
    low = word.lower()
    if (
        match["note"] is not None
        and match["note"][0] != "["
        and not (word.isalpha() and word.islower())
    ):
        return False  # "Fig.2 The": only "…was shown.12 The" ends with a note number
    if word in _NEVER or word in _TITLES or word in _SURE_REFERENCES:
        return False
    if word == "No":  # "No. CV-12", but "No. The court disagrees." is an answer
        return len(words) == 1 and window_start == begin and not text[after].isdigit()
    if low in _REFERENCES and _NUMBER_LIKE.match(text, after, end):
        return False
    if word in _MAY_END or (len(word) == 1 and word.isalpha()) or _DOTTED.fullmatch(word):
        following = _WORD.match(text, after, end)
        return following is not None and following[0] in _STARTERS
    return True


def cut_sentence(text: str, start: int, limit: int, *, inside_words: bool) -> int | None:
    """The best place in `(start, limit]` to cut a sentence, with `limit` inside the text.

    After a semicolon, a colon or before an enumeration, else after a comma, else at a line end,
    each in the second half, so that cutting makes progress; else at white space; else inside a
    word, or None unless `inside_words`.
    """
    if limit <= start:
        return None
    for boundary in _CUTS:
        ends = [match.end() for match in boundary.finditer(text, (start + limit) // 2, limit)]
        if ends and ends[-1] > start:
            return ends[-1]
    cut = cut_at_space(text, start, limit)
    return cut if inside_words or text[cut].isspace() or text[cut - 1].isspace() else None


def cut_at_space(text: str, start: int, limit: int) -> int:
    """The last place in `(start, limit]` beside white space, else `limit` or just before it.

    `limit` lies inside the text. A cut inside a word never parts a base character from its
    combining marks or a surrogate from its pair, unless the cluster is absurdly long.
    """
    if text[limit].isspace() or text[limit - 1].isspace():
        return limit
    words = text[start:limit].rsplit(None, 1)
    if len(words) == 2:
        return limit - len(words[1])
    for at in range(limit, max(start, limit - _LONGEST_CLUSTER_CHARS), -1):
        before, after = text[at - 1], text[at]
        joined = "\u200d" in (before, after) or "\U0001f3fb" <= after <= "\U0001f3ff"
        paired = "\ud800" <= before <= "\udbff" and "\udc00" <= after <= "\udfff"
        if not (joined or paired or unicodedata.category(after)[0] == "M"):
            return at
    return limit
