"""Words from outside in a terminal, in Markdown and in a spreadsheet."""

from __future__ import annotations

import re

import pytest

from store.untrusted.text import markdown_word, printable, spreadsheet_word


@pytest.mark.parametrize("text", ["a\x1b[2Jb", "a\nb", "a\r\x07", "\u202egnp.exe", "a\x9bm", "\ud800"])
def test_what_steers_a_terminal_is_not_printed(text: str) -> None:
    assert len(printable(text)) == len(text)
    assert printable(text).isprintable()
    assert printable(text).count("?") == sum(not sign.isprintable() for sign in text)


@pytest.mark.parametrize(
    "text", ["<script>", "`rm`", "**x**", "[x](y)", "![x](y)", "_x_", "a\\", "~~x~~", "&lt;", "a\n# b"]
)
def test_no_sign_of_markdown_is_active(text: str) -> None:
    shown = markdown_word(text)
    assert "\n" not in shown
    bare = re.sub(r"\\[\W_]", "", shown)
    assert not set("\\`*<>[]~") & set(bare)
    assert not re.search(r"(^|\W)_|_(\W|$)|&\w+;", bare)


@pytest.mark.parametrize("text", ["asp_matched", "7M3", "attention_gan", "copy H&E", "a-b (c)", "Größe"])
def test_ordinary_words_stay_as_they_are(text: str) -> None:
    assert markdown_word(text) == spreadsheet_word(text) == printable(text) == text


@pytest.mark.parametrize("text", ["=1+1", "+cmd|'/C calc'!A0", "-2+3", "@SUM(1)"])
def test_no_word_is_a_formula(text: str) -> None:
    assert spreadsheet_word(text) == f"'{text}"


@pytest.mark.parametrize("text", ["-0.5", "+3", "1e-3", "-inf", "nan", ""])
def test_numbers_stay_numbers(text: str) -> None:
    assert spreadsheet_word(text) == text
