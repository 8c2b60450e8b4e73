"""Lexicons are read strictly, from lexicon.txt and from sentencepiece models; their transducers tell words apart."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import sentencepiece

from tests import oracles
from tests.graphs.relations import relation
from wfst_losses.graphs.lexicon import Lexicon, disambiguated, sentencepiece_tokens
from wfst_losses.graphs.symbols import read_symbols, read_words, write_symbols

TOKENS = ["<blk>", "a", "b", "c", "SIL"]


def read(tmp_path: Path, content: str, **options: object) -> Lexicon:
    path = tmp_path / "lexicon.txt"
    path.write_text(content)
    return Lexicon.from_file(path, TOKENS, **options)


def test_words_are_numbered_as_they_come_or_as_given(tmp_path: Path) -> None:
    content = "one a b\n\ntwo\tb  c \r\none c\n"
    lexicon = read(tmp_path, content)
    assert lexicon.words == ("<eps>", "one", "two")
    assert lexicon.entries == ((1, (1, 2), 0), (2, (2, 3), 0), (1, (3,), 0))
    (tmp_path / "words.txt").write_text("<eps> 0\n!SIL 1\ntwo 2\none 3\n#0 4\n<s> 5\n</s> 6\n")
    lexicon = read(tmp_path, content, words=tmp_path / "words.txt")
    assert lexicon.words == ("<eps>", "!SIL", "two", "one")
    assert [word for word, _, _ in lexicon.entries] == [3, 2, 3]


def test_symbols_come_where_they_are_needed() -> None:
    spellings = [(1, 2), (1,), (1, 2), (3,), (1, 2, 2)]
    entries = disambiguated(enumerate(spellings, start=1))
    assert [mark for _, _, mark in entries] == [1, 1, 2, 0, 0]


@pytest.mark.parametrize("silence", [None, "SIL"])
def test_no_sequence_of_labels_and_symbols_is_two_sequences_of_words(tmp_path: Path, silence: str | None) -> None:
    lexicon = read(tmp_path, "A a\nB a b\nC a b\nD b\nE a a\nF SIL a\n", silence=silence)
    written: dict[oracles.Tokens, set[oracles.Tokens]] = {}
    for labelling, words in relation(lexicon.graph, 4):
        written.setdefault(labelling, set()).add(words)
    assert len(written) > 30
    assert {len(words) for words in written.values()} == {1}


def test_silence_is_optional_everywhere_and_its_choices_sum_to_one(tmp_path: Path) -> None:
    lexicon = read(tmp_path, "A a\nB b\n", silence="SIL", silence_probability=0.2)
    mass: dict[oracles.Tokens, float] = {}
    spelled: dict[oracles.Tokens, float] = {}
    # Two words take eight labels at most: silence is followed by a symbol of its own.
    for num_labels in range(9):
        for (labelling, words), probability in relation(lexicon.graph, num_labels).items():
            mass[words] = mass.get(words, 0.0) + probability
            if words == (1,):
                spelled[tuple(label for label in labelling if label < len(TOKENS))] = probability
    assert {words: mass[words] for words in [(), (1,), (2, 1)]} == pytest.approx({(): 1.0, (1,): 1.0, (2, 1): 1.0})
    assert spelled == pytest.approx({(1,): 0.64, (4, 1): 0.16, (1, 4): 0.16, (4, 1, 4): 0.04})


def test_back_off_loops_between_words(tmp_path: Path) -> None:
    lexicon = read(tmp_path, "A a b\n")
    back_off, written = len(TOKENS), len(lexicon.words)
    assert set(relation(lexicon.graph, 3)) == {
        ((1, 2, back_off), (1, written)),
        ((back_off, 1, 2), (written, 1)),
        ((back_off,) * 3, (written,) * 3),
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has no words"),
        ("A a\nB\n", "line 2: word 'B' has no pronunciation"),
        ("A a\nB #1\n", "line 2: word 'B' has no pronunciation"),
        ("A a z\n", "line 1: token 'z' of word 'A' is not among the tokens"),
        ("A a <blk>\n", "line 1: word 'A' is spelled with '<blk>', the blank"),
        ("A a\nB b\nA  a\n", "line 3: 'A  a' is on line 1 already"),
        ("<eps> a\n", "line 1: word '<eps>' is not among the words"),
        ("A a #0\n", "line 1: ends in '#0'"),
        ("A a #" + "9" * 5000 + "\n", "line 1: ends in '#999"),
        ("A a #2147483640\n", "line 1: ends in '#2147483640', expected '#1' to '#2147483639'"),
        ("A a b #1\nB a b\nC a b\n", "line 3: the pronunciation of 'C' is that of 'B' on line 2"),
        ("A a b #1\nB a b #1\n", "line 2: the pronunciation of 'B' is that of 'A' on line 1"),
        ("A a b c\nB a b\nC c #1\n", "line 1: the pronunciation of 'A' begins with that of 'B' on line 2"),
    ],
)
def test_errors_name_the_line(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"expected|tokens") as caught:
        read(tmp_path, content)
    assert f"lexicon.txt{', ' * message.startswith('line')}" in str(caught.value)
    assert message in str(caught.value)


WORDS = ["<eps>", "A", "B"]


@pytest.mark.parametrize(
    ("tokens", "words", "entries", "message"),
    [
        (
            TOKENS,
            WORDS,
            [[1, [1], 0], [2, [1, 1], 0]],
            r"entries\[1\] is \[2, \[1, 1\], 0\], .* begins with .*entries\[0\]",
        ),
        (TOKENS, WORDS, [(1, (1,), 0), (2, (1,), 0)], r"entries\[1\] is \(2, \(1,\), 0\), .* is that of entries\[0\]"),
        (TOKENS, WORDS, [(1, (1,), 2**31 - 8)], r"entries\[0\]\[2\] is 2147483640, expected 0\.\.2147483639"),
        (["<blk>", "a", "a"], WORDS, [(1, (1,), 0)], "tokens holds 'a' twice"),
        (TOKENS, ["<eps>", "A", "A"], [(1, (1,), 0)], "words holds 'A' twice"),
        (TOKENS, ["A", "B"], [(1, (1,), 0)], "words begins with .*'A'.*, expected '<eps>' as word 0"),
    ],
)
def test_entries_are_held_to_what_files_are(
    tokens: list[str], words: list[str], entries: list[tuple[int, oracles.Tokens, int]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Lexicon(tokens, words, entries)


def test_a_file_with_symbols_of_its_own_is_taken_at_its_word(tmp_path: Path) -> None:
    lexicon = read(tmp_path, "A a b #3\nB a b\nC a b c\nD c\n".replace("B a b\n", "B a b #1\n"))
    assert [mark for _, _, mark in lexicon.entries] == [3, 1, 0, 0]
    assert lexicon.num_marks == 4


def test_other_arguments_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="word 'A' is not among the words"):
        read(tmp_path, "A a\n", words=["<eps>", "B"])
    with pytest.raises(ValueError, match="expected '<eps>' as word 0"):
        read(tmp_path, "A a\n", words=["A"])
    with pytest.raises(ValueError, match="words holds 'A' twice"):
        read(tmp_path, "A a\n", words=["<eps>", "A", "A"])
    with pytest.raises(ValueError, match="silence is 'x'"):
        read(tmp_path, "A a\n", silence="x")
    with pytest.raises(ValueError, match="silence_probability is 1"):
        read(tmp_path, "A a\n", silence="SIL", silence_probability=1)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sentencepiece")
    words = ["".join(letters) for letters in itertools.product("abcd", repeat=3)]
    (folder / "text").write_text("\n".join(" ".join(words[place : place + 5]) for place in range(60)))
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "text"), model_prefix=str(folder / "bpe"), vocab_size=30, model_type="bpe",
        user_defined_symbols="<blk>,<sos/eos>", unk_id=2, bos_id=-1, eos_id=-1, minloglevel=2,
    )  # fmt: skip
    return folder / "bpe.model"


def test_words_as_sentencepiece_spells_them(model: Path) -> None:
    processor = sentencepiece.SentencePieceProcessor(model_file=str(model))
    lexicon = Lexicon.from_sentencepiece(model, ["abc", "dab", "a"])
    assert lexicon.tokens[:3] == ("<blk>", "<sos/eos>", "<unk>")
    assert lexicon.num_labels == 30
    assert lexicon.words == ("<eps>", "abc", "dab", "a")
    assert [spelling for _, spelling, _ in lexicon.entries] == [
        tuple(processor.encode(word)) for word in ("abc", "dab", "a")
    ]
    assert list(lexicon.tokens) == sentencepiece_tokens(model)


def test_sentencepiece_errors(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"word 'xyz' is spelled with .*, expected pieces that are tokens"):
        Lexicon.from_sentencepiece(model, ["abc", "xyz"])
    with pytest.raises(ValueError, match="word 'abc' is spelled with"):
        Lexicon.from_sentencepiece(model, ["abc"], ["<blk>", "z"])
    with pytest.raises(ValueError, match="words holds 'abc' twice"):
        Lexicon.from_sentencepiece(model, ["abc", "abc"])
    (tmp_path / "broken.model").write_bytes(model.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"broken\.model: is no sentencepiece model"):
        Lexicon.from_sentencepiece(tmp_path / "broken.model", ["abc"])


def test_symbol_tables_come_back(tmp_path: Path) -> None:
    names = ["<eps>", "\u0085", "b c".replace(" ", "\u3000"), "#0"]
    write_symbols(names, tmp_path / "words.txt")
    assert read_symbols(tmp_path / "words.txt", first=("<eps>",)) == names
    assert read_words(tmp_path / "words.txt") == names[:3]
    write_symbols(["<eps>", "#0", "word"], tmp_path / "words.txt")
    with pytest.raises(ValueError, match=r"words\.txt, line 3: word 'word' comes after '#0', expected it before"):
        read_words(tmp_path / "words.txt")
    write_symbols(["word"], tmp_path / "words.txt")
    with pytest.raises(ValueError, match=r"words\.txt, line 1: word 0 is 'word', expected '<eps>'"):
        read_words(tmp_path / "words.txt")
