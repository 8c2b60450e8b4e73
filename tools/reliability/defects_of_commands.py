"""The table of defects of the command line's options, and of files that they name."""

from __future__ import annotations

from case import Defect, Unchanged
from changes import refused, to
from defects_of_graphs import ARPA, OPENFST_TEXT, OPTION_NAME, OPTION_SIZE, TOKENS_FILE, swap

WHOLE = (
    Defect("text", to("many"), refused("'many'")),
    Defect("nothing", to(""), refused("''")),
    Defect("negative", to("-1"), refused("-1")),
    Defect("a fraction", to("1.5"), refused("'1.5'")),
    Defect("NaN", to("nan"), refused("'nan'")),
    Defect("an exponent", to("1e3"), refused("'1e3'")),
    Defect("hexadecimal", to("0x10"), refused("'0x10'")),
    Defect("beyond 64 bits", to("9" * 20), refused("9" * 20, "99" + ",999" * 6)),
)
AT_LEAST_1 = (*WHOLE, Defect("zero", to("0"), refused("0 is")))
AT_LEAST_2 = (*AT_LEAST_1, Defect("one", to("1"), refused("1 is")), Defect("2^31", to(str(2**31)), refused(2**31)))

FILE = (
    Defect("nothing named", to(""), refused("''", "'.'")),
    Defect("stdin", to("-"), refused("'-'")),
    Defect("a folder", to("a folder"), refused("directory")),
    Defect("no file", to("no file"), refused("does not exist")),
    Defect("a device", to("/dev/null"), refused("/dev/null", under=("/dev/null",))),
)

# What an editor or another system makes of a table of names.
SYMBOLS = (
    *FILE,
    Defect("a byte order mark", lambda x: b"\xef\xbb\xbf" + x, refused("\\ufeff")),
    Defect("a zero byte", swap("a ", "a\0 "), refused("\\x00", "'a'", under=("file",))),
    Defect("an escape", swap("a ", "a\x1b[2J "), refused("\\x1b", "'a'", under=("file",))),
    Defect("an id of 5,000 digits", swap(" 1", " " + "9" * 5000), refused("line 2")),
    Defect("UTF-16", lambda x: x.decode().encode("utf-16"), refused("line 1")),
    Defect("ends of lines as on Windows", lambda x: x.replace(b"\n", b"\r\n"), Unchanged()),
)

PICTURE = (
    Defect("another ending", to("{folder}/graph.pdf"), refused("graph.pdf")),
    Defect("no ending", to("{folder}/graph"), refused("graph")),
    Defect("no such folder", to("{folder}/none/graph.svg"), refused("none")),
    Defect("a folder", to("{folder}"), refused("/")),
    Defect("stdout", to("-"), refused("-")),
    Defect("nothing", to(""), refused("''", "'.'", " . ")),
    Defect("left out", to(None), refused("output")),
    Defect("another picture's ending, in capitals", to("{folder}/graph.SVG"), Unchanged()),
)

NEW_FILE = (
    Defect("no such folder", to("{folder}/none/new.html"), refused("none")),
    Defect("a folder", to("{folder}"), refused("/")),
    Defect("nothing", to(""), refused("''", "'.'", " . ")),
    Defect("a file's child", to("/dev/null/new.html"), refused("/dev/null")),
)

SIZE = (
    *(defect for defect in OPTION_SIZE if defect.name != "too small for the graph"),
    Defect("nothing", to(""), refused("''")),
    Defect("NaN", to("nan"), refused("'nan'")),
    Defect("an exponent", to("1e9"), refused("'1e9'")),
    Defect("zero", to("0"), refused("'0'")),
    Defect("less than a byte", to("0.5"), refused("'0.5'")),
    Defect("a unit alone", to("GiB"), refused("'GiB'")),
)

NAME_OR_NONE = (*OPTION_NAME, Defect("with a blank", to("compact "), refused("'compact '")))

COMMAND_DEFECTS: dict[str, tuple[Defect, ...]] = {
    "option_whole": WHOLE,
    "option_from_one": AT_LEAST_1,
    "option_from_two": AT_LEAST_2,
    "option_symbols": (*SYMBOLS, *(defect for defect in TOKENS_FILE if defect.name != "no file")),
    "option_words": (
        *SYMBOLS,
        Defect("a word left out", swap("b 3\n", ""), refused("writes 3")),
        Defect("of another graph", to(b"<eps> 0\n"), refused("writes 3")),
        Defect("no <eps>", swap("<eps> 0", "eps 0"), refused("'eps'")),
    ),
    "option_lm": (
        *FILE,
        *(defect for defect in ARPA if defect.name not in ("no file", "a folder", "an order left out")),
    ),
    "option_graph": (
        *FILE,
        *(defect for defect in OPENFST_TEXT if defect.name not in ("no file", "a folder")),
    ),
    "option_picture": PICTURE,
    "option_report": NEW_FILE,
    "option_bytes": SIZE,
    "option_choice": NAME_OR_NONE,
    "labels_of_picture": (*AT_LEAST_1, Defect("more than can be read", to("1000"), refused("1,000"))),
    "arcs_of_bigram": (*AT_LEAST_1, Defect("more than there are", to("2451"), refused("2,451"))),
    "tokens_of_frames": (*WHOLE, Defect("more than frames", to("51"), refused("51"))),
    "frames": (*AT_LEAST_1, Defect("200,001", to("200001"), refused("200001"))),
    "batch_size": (*AT_LEAST_1, Defect("100,001", to("100001"), refused("100001"))),
    "num_threads": (*AT_LEAST_1, Defect("1,025", to("1025"), refused("1025"))),
    "folder": (
        Defect("a file", to(b"prose"), refused("file")),
        Defect("nothing", to(""), refused("''", "'.'")),
        Defect("a file's child", to("/dev/null/store"), Unchanged()),  # a warning: the graph is written, not kept
    ),
}
