# ruff: noqa: E501 - whole sentences read better than broken ones
"""Encodings told from their bytes: sentences written for this, none of which the rules were fitted to.

`python tests/indexer/test_encodings.py` prints the table of right and wrong.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longleaf.indexer.parsers.decode import charset_in_markup, decode
from longleaf.indexer.parsers.encodings import codec_named, guess, shown

WESTERN = ("cp1252", "iso8859_1")
CENTRAL = ("cp1250", "iso8859_2")
CYRILLIC = ("cp1251", "iso8859_5", "cp866")

SENTENCES = {
    "de": (WESTERN, "Die Verjährung beginnt mit dem Schluss des Jahres, in dem der Anspruch fällig geworden ist.", "Für Schäden an übergebenen Geräten haftet der Käufer."),
    "fr": (WESTERN, "Les parties déclarent avoir reçu, préalablement à la signature, toutes les informations nécessaires.", "L'œuvre protégée a été cédée à l'éditeur."),
    "es": (WESTERN, "La parte demandada no contestó a la demanda dentro del plazo señalado en el artículo décimo.", "El año pasado se publicó la resolución número doce."),
    "pt": (WESTERN, "A decisão não será executada antes da notificação de todas as partes interessadas na ação.", "As obrigações são solidárias."),
    "it": (WESTERN, "Il contratto è nullo perché manca la forma scritta, che è richiesta dalla legge per la sua validità.", "La società è già fallita."),
    "nl": (WESTERN, "De geïntimeerde heeft in hoger beroep geen nieuwe feiten gesteld die tot een ander oordeel leiden.", "De coördinatie van het project is geëindigd."),
    "da": (WESTERN, "Aftalen ophører, når køberen har betalt hele beløbet, og sælgeren har udført sine øvrige pligter.", "Æblerne blev målt på øen."),
    "sv": (WESTERN, "Avtalet upphör att gälla när köparen har betalat hela beloppet och säljaren har fullgjort sina åtaganden.", "Åtgärderna är förbjudna enligt äldre lag."),
    "fi": (WESTERN, "Sopimus päättyy, kun ostaja on maksanut koko määrän ja myyjä on täyttänyt kaikki velvoitteensa.", "Päätös on lainvoimainen eikä siitä saa enää valittaa."),
    "en": (WESTERN, "The seller’s liability is capped at £5,000 – see “Schedule 2” – and excludes any naïve reliance.", "Measured at 25 °C ± 2 °C, n = 12; cf. § 4."),
    "pl": (CENTRAL, "Umowa wygasa, gdy kupujący zapłaci całą cenę, a sprzedawca wykona wszystkie swoje obowiązki.", "Sąd oddalił powództwo w całości, ponieważ roszczenie było przedawnione."),
    "cs": (CENTRAL, "Smlouva zaniká, jakmile kupující zaplatí celou cenu a prodávající splní všechny své povinnosti.", "Soud žalobu zamítl v celém rozsahu, protože nárok byl promlčen."),
    "hu": (CENTRAL, "A szerződés megszűnik, ha a vevő az egész vételárat kifizette, és az eladó minden kötelezettségét teljesítette.", "A bíróság a keresetet elutasította, mert az igény elévült."),
    "ro": (CENTRAL, "Contractul încetează când cumpărătorul a plătit tot preţul şi vânzătorul şi-a îndeplinit toate obligaţiile.", "Instanţa a respins cererea, deoarece dreptul la acţiune s-a prescris."),
    "ru": ((*CYRILLIC, "koi8_r"), "Договор прекращается, когда покупатель уплатил всю цену, а продавец исполнил свои обязанности.", "Требование не было заявлено в срок."),
    "uk": (("cp1251", "koi8_u"), "Договір припиняється, коли покупець сплатив усю ціну, а продавець виконав свої обов'язки.", "Вимогу не було заявлено в строк."),
    "bg": (CYRILLIC, "Договорът се прекратява, когато купувачът е платил цялата цена и продавачът е изпълнил задълженията си.", "Искът е отхвърлен изцяло."),
    "el": (("cp1253", "iso8859_7"), "Η σύμβαση λήγει όταν ο αγοραστής έχει καταβάλει ολόκληρο το τίμημα.", "Το δικαστήριο απέρριψε την αγωγή."),
    "tr": (("cp1254", "iso8859_9"), "Alıcı bedelin tamamını ödediğinde ve satıcı bütün yükümlülüklerini yerine getirdiğinde sözleşme sona erer.", "Mahkeme, davanın süresi içinde açılmadığı için reddine karar verdi."),
    "he": (("cp1255", "iso8859_8"), "החוזה מסתיים כאשר הקונה שילם את מלוא התמורה והמוכר מילא את כל חובותיו.", "בית המשפט דחה את התביעה."),
    "ar": (("cp1256", "iso8859_6"), "ينتهي العقد عندما يدفع المشتري الثمن كاملا ويؤدي البائع جميع التزاماته.", "رفضت المحكمة الدعوى لانقضاء المدة."),
    "lt": (("cp1257",), "Sutartis baigiasi, kai pirkėjas sumoka visą kainą, o pardavėjas įvykdo visas savo pareigas.", "Teismas ieškinį atmetė, nes reikalavimui buvo suėjęs senaties terminas."),
    "th": (("cp874",), "สัญญาสิ้นสุดลงเมื่อผู้ซื้อชำระราคาครบถ้วนและผู้ขายปฏิบัติหน้าที่ทั้งหมดแล้ว", "ศาลยกฟ้องโจทก์"),
    "ja": (("cp932", "euc_jp", "iso2022_jp"), "買主が代金の全額を支払ったときは、この契約は終了する。", "裁判所は原告の請求を棄却した。"),
    "zh": (("gb18030", "gb2312"), "买方付清全部价款并且卖方履行其全部义务后,本合同终止。", "法院驳回了原告的诉讼请求。"),
    "zh-Hant": (("big5",), "買方付清全部價款並且賣方履行其全部義務後,本契約即行終止。", "法院駁回原告之訴。"),
    "ko": (("euc_kr",), "매수인이 대금 전액을 지급하고 매도인이 모든 의무를 이행하면 이 계약은 종료한다.", "법원은 원고의 청구를 기각하였다."),
}  # fmt: skip
"""Language -> (encodings, a long sentence, a short one)."""


def _read(text: str, codec: str) -> str:
    return decode(text.encode(codec, "ignore"), "a.txt").text


def _cases() -> list[tuple[str, str, int, str]]:
    return [
        (language, codec, number, text)
        for language, (codecs, *texts) in SENTENCES.items()
        for codec in codecs
        for number, text in enumerate(texts)
        if not text.encode(codec, "ignore").isascii() or codec == "iso2022_jp"
    ]


def _wrong() -> list[tuple[str, str, int]]:
    return [
        (language, codec, number)
        for language, codec, number, text in _cases()
        if _read(text, codec) != text.encode(codec, "ignore").decode(codec)
    ]


def test_sentences_read_as_they_were_written() -> None:
    wrong = _wrong()
    assert [case for case in wrong if case[2] == 0] == []
    assert len(wrong) <= 0.05 * len(_cases())


def test_western_text_stays_western_however_short() -> None:
    for language, (codecs, *texts) in SENTENCES.items():
        if codecs is WESTERN:
            for text in texts:
                for words in text.split():
                    assert guess(words.encode("cp1252") + b" \xe9") == "cp1252", (language, words)


@pytest.mark.parametrize(
    "text",
    [
        "Ärzte §", "“§”", "÷×±", "Åse Øystein Ærø", "ÄÖÜ ÉÈÀ ÑÇ", "© ® ™ –—…", "££££££££",
        "“Ç’est là”", "••••••••••••••", "——————————————", "““““”””” ““““””””", "ÀÀÀÀÀÀÀÀÀÀÀÀÀÀ",
        "Þórður Ævar Örn Ýmir", "éèéèéèéèéèéè", "…………………… 12", "10 µg, ½, ¼, ¾",
    ],
)  # fmt: skip
def test_signs_and_capitals_are_no_foreign_words(text: str) -> None:
    assert guess(text.encode("cp1252")) == "cp1252"


def test_the_warning_names_the_encoding() -> None:
    read = decode(SENTENCES["ru"][1].encode("koi8_r"), "a.txt")
    assert read.warnings == ("not UTF-8: read as KOI8-R/U",)
    read = decode(SENTENCES["pl"][1].encode("iso8859_2"), "a.txt")
    assert read.warnings == ("not UTF-8: read as ISO-8859-2",)
    assert [shown(c) for c in ("cp1252", "gb18030")] == ["Windows-1252", "GB18030"]


def test_words_that_begin_late_in_a_long_file_are_found() -> None:
    text = "Nothing but ASCII here.\n" * 200_000 + SENTENCES["el"][1]
    assert _read(text, "cp1253") == text
    mostly = (SENTENCES["ja"][1] * 3 + "\n") * 3_000
    assert _read(mostly, "cp932") == mostly


def test_one_bad_byte_does_not_change_the_encoding() -> None:
    data = (SENTENCES["ja"][1] * 20).encode("cp932")
    read = decode(data[:401] + b"\xff" + data[401:], "a.txt")
    assert read.text.count("\ufffd") <= 2 and read.text.startswith(SENTENCES["ja"][1])
    assert any("not valid" in note for note in read.warnings)


@pytest.mark.parametrize(
    ("label", "codec"),
    [
        ("ISO-8859-1", "cp1252"), ("us-ascii", "cp1252"), ("GB2312", "gb18030"), ("utf8", "utf8"),
        ("x-sjis", "cp932"), ("ks_c_5601-1987", "cp949"), ("KOI8-R", "koi8-u"), ("utf-7", None),
        ("unicode_escape", None), ("idna", None), ("iso-8859-12", None), ("rot13", None), ("", None),
    ],
)  # fmt: skip
def test_labels_name_text_encodings_and_nothing_else(label: str, codec: str | None) -> None:
    assert codec_named(label) == codec


def test_markup_declares_its_encoding() -> None:
    assert charset_in_markup(b'<?xml version="1.0" encoding="windows-1251"?><a/>') == "cp1251"
    assert charset_in_markup(b"<html><meta charset=koi8-r>") == "koi8-u"
    assert charset_in_markup(b'<p>encoding="windows-1251"</p>') is None


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=400))
def test_any_bytes_are_guessed_to_be_something_that_decodes(data: bytes) -> None:
    data.decode(guess(data), "replace")


if __name__ == "__main__":
    wrong = _wrong()
    for language in SENTENCES:
        mine = [case for case in _cases() if case[0] == language]
        failed = [f"{c} ({'short' if n else 'long'})" for lang, c, n in wrong if lang == language]
        print(f"{language:8} {len(mine) - len(failed)}/{len(mine)} {', '.join(failed)}")
    print(len(_cases()) - len(wrong), "of", len(_cases()))
