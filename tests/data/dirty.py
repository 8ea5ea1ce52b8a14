"""Dirty tables, each made from a clean one: what is wrong, and as what it must be read, or what must be said."""

import bz2
import gzip
import io
import json
import lzma
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from losslab.data.notes import write_setting

ROWS = 60
FEATURES = ["age", "height", "income", "town", "born"]
draws = np.random.default_rng(0)
CLEAN = pd.DataFrame(
    {
        "age": [str(20 + 7 * i % 60) for i in range(ROWS)],
        "height": [f"{1.5 + 0.013 * (i * 17 % 40):.3f}" for i in range(ROWS)],
        "income": [f"{1000.5 + 137.25 * (i * 23 % 50):.2f}" for i in range(ROWS)],
        "town": ["Ulm", "Köln", "Bad Tölz"] * (ROWS // 3),
        "born": [f"{d:%Y-%m-%d}" for d in pd.date_range("1950-01-13", periods=ROWS, freq="97D")],
        "price": [f"{value:.2f}" for value in 3000 + 900 * draws.normal(size=ROWS)],
        "kind": [["cat", "dog", "owl"][i] for i in draws.integers(0, 3, ROWS)],
    }
)
NUMBERS = ["age", "height", "income", "price"]


@dataclass
class Dirt:
    """A file, and what is expected of it: the same as of a clean table, or a sentence.

    Args:
        name: what is wrong.
        content: of the file.
        like: the clean table that it must be read as.
        says: the refusal, or, with `like`, a note.
        settings: what is typed beside path and target.
        file: its name.
        settings_like: what is typed for the clean table.
    """

    name: str
    content: bytes
    like: pd.DataFrame | None = None
    says: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    file: str = "table.csv"
    settings_like: dict[str, Any] = field(default_factory=dict)


def text(frame: pd.DataFrame = CLEAN, sep: str = ",", end: str = "\n", header: bool = True) -> str:
    return frame.to_csv(sep=sep, lineterminator=end, index=False, header=header)


def changed(frame: Any = CLEAN, **columns: Any) -> pd.DataFrame:
    """Replace columns: by other cells, a function of each cell, or a few cells by row."""
    new: pd.DataFrame = frame.copy()
    for name, cells in columns.items():
        if callable(cells):
            new[name] = [cells(cell) for cell in frame[name]]
        elif isinstance(cells, dict):
            new[name] = [cells.get(row, cell) for row, cell in enumerate(frame[name])]
        else:
            new[name] = cells
    return new


def comma(cell: str) -> str:
    return cell.replace(".", ",")


def grouped(sign: str, point: str = ".") -> Callable[[str], str]:
    return lambda cell: f"{float(cell):,.2f}".replace(",", "T").replace(".", point).replace("T", sign)


def dated(pattern: str) -> Callable[[str], str]:
    return lambda cell: f"{pd.Timestamp(cell):{pattern}}"


def one_line(cells: list[str], row: int, of: str | None = None) -> str:
    lines = (of or text()).splitlines()
    return "\n".join([*lines[:row], *cells, *lines[row:]]) + "\n"


def encodings() -> Iterator[Dirt]:
    yield Dirt("BOM", ("\ufeff" + text()).encode(), CLEAN)
    yield Dirt("UTF-16", text().encode("utf-16"), CLEAN)
    yield Dirt("UTF-16, big end first", b"\xfe\xff" + text().encode("utf-16-be"), CLEAN)
    yield Dirt("UTF-16 without BOM", text().encode("utf-16-le"), says="bytes that no text has.*data.encoding=utf-16")
    yield Dirt("UTF-16 without BOM, told", text().encode("utf-16-le"), CLEAN, settings={"encoding": "utf-16-le"})
    yield Dirt(
        "latin-1", text().encode("latin-1"), says="not in UTF-8: if '.*öl.*' looks right, type data.encoding=cp1252"
    )
    yield Dirt("latin-1, told", text().encode("latin-1"), CLEAN, settings={"encoding": "latin-1"})
    euros = changed(income=lambda cell: f"{cell} €")
    yield Dirt("cp1252 with €, told", text(euros).encode("cp1252"), CLEAN, settings={"encoding": "cp1252"})
    yield Dirt(
        "an encoding that is none",
        text().encode(),
        says="data.encoding=utf9 .*type utf-8",
        settings={"encoding": "utf9"},
    )
    yield Dirt("NUL bytes", text().encode().replace(b"dog", b"d\0g"), says="bytes that no text")


def separators() -> Iterator[Dirt]:
    for name, sign in (("semicolon", ";"), ("tab", "\t"), ("pipe", "|")):
        yield Dirt(name, text(sep=sign).encode(), CLEAN)
    yield Dirt("a colon, told", text(sep=":").encode(), CLEAN, settings={"delimiter": ":"})
    for name, sign, word in (("two signs", "::", "::"), ("bars", "||", "||"), ("a word", ";", "semicolon")):
        yield Dirt(f"{name}, told", text().replace(",", sign).encode(), CLEAN, settings={"delimiter": word})
    yield Dirt(
        "a sign that is not there", text().encode(), says="has no ; in its first line", settings={"delimiter": ";"}
    )
    yield Dirt(
        "a sign of no one", text(sep="^").encode(), says="the table has one alone, 'age.height.*type data.delimiter="
    )
    words = changed(town=lambda cell: cell.split()[0])
    aligned = words.to_string(index=False, justify="right") + "\n"
    yield Dirt("aligned by spaces", aligned.encode(), words)
    yield Dirt("single spaces", text(words, " ").encode(), words)
    yield Dirt("a space after each comma", text().replace(",", ", ").encode(), CLEAN)
    yield Dirt("sep=; above the header, as Excel writes it", ("sep=;\n" + text(sep=";")).encode(), CLEAN)
    yield Dirt("a separator at the end of each line", text().replace("\n", ",\n").encode(), CLEAN)
    head, rest = text().split("\n", 1)
    yield Dirt("a separator at the end of each row alone", (head + "\n" + rest.replace("\n", ",\n")).encode(), CLEAN)
    yield Dirt(
        "a cell more in each row",
        (head + "\n" + rest.replace("\n", ",7\n")).encode(),
        says="line 2 has 8 cells.*header has 7",
    )
    yield Dirt("a row of too few cells", one_line(["25,1.6"], 4).encode(), says="line 5 has 2 cells.*header has 7")
    yield Dirt(
        "a row of too many cells", one_line(["1,2,3,4,5,6,7,8,9"], 4).encode(), says="line 5 has 9 cells.*header has 7"
    )


def number_formats() -> Iterator[Dirt]:
    commas = changed(**dict.fromkeys(("income", "price"), comma))
    yield Dirt("decimal comma", text(commas, ";").encode(), CLEAN)
    yield Dirt(
        "decimal comma or thousands",
        text(changed(height=comma), ";").encode(),
        says="column height .*data.decimal=point.*data.decimal=comma",
    )
    yield Dirt("decimal comma, told", text(changed(height=comma), ";").encode(), CLEAN, settings={"decimal": "comma"})
    for name, sign, point in (
        ("comma", ",", "."),
        ("point", ".", ","),
        ("space", " ", "."),
        ("space and decimal comma", " ", ","),
        ("narrow no-break space", "\u202f", ","),
        ("apostrophe", "'", "."),
        ("typographic apostrophe", "\u2019", "."),
    ):
        yield Dirt(f"thousands: {name}", text(changed(income=grouped(sign, point)), ";").encode(), CLEAN)
    whole = changed(height=lambda cell: str(int(float(cell) * 100)), price=lambda cell: f"{float(cell):.0f}")
    points = changed(whole, income=lambda cell: f"{float(cell):,.0f}".replace(",", "."))
    note = "income: 1.000 is read as 1, with a decimal point; type data.decimal=comma if it is 1000"
    yield Dirt("thousands or decimals", text(points, ";").encode(), points, says=note)
    plain = changed(whole, income=lambda cell: f"{float(cell):.0f}")
    yield Dirt("thousands, told", text(points, ";").encode(), plain, settings={"decimal": "comma"})
    for name, pattern in (
        ("$", "${}"),
        ("€ behind", "{} €"),
        ("£ with sign", "+£{}"),
        ("EUR", "EUR {}"),
        ("%", "{} %"),
        ("₹", "₹{}"),
        ("CHF", "CHF {}"),
        ("kr", "{} kr."),
        ("kg", "{}kg"),
        ("km/h", "{} km/h"),
        ("m²", "{} m²"),
        ("words", "{} days"),
    ):
        yield Dirt(f"unit {name}", text(changed(income=pattern.format), ";").encode(), CLEAN)
    negative = changed(income={row: f"-{CLEAN['income'][row]}" for row in range(9)})
    brackets = changed(income={row: f"({CLEAN['income'][row]})" for row in range(9)})
    yield Dirt("brackets for a minus", text(brackets).encode(), negative)
    minus = changed(income={row: f"\u2212{CLEAN['income'][row]}" for row in range(9)})
    yield Dirt("typographic minus", text(minus).encode(), negative)
    yield Dirt("plus signs", text(changed(income="+{}".format)).encode(), CLEAN)
    yield Dirt("exponents", text(changed(income=lambda cell: f"{float(cell):.6E}")).encode(), CLEAN)
    yield Dirt("spaces around", text(changed(**dict.fromkeys(NUMBERS, "  {} ".format))).encode(), CLEAN)
    yield Dirt("quotes around", CLEAN.to_csv(index=False, quoting=1).encode(), CLEAN)
    yield Dirt("two units", text(changed(income={3: "$7", 4: "7 €"})).encode(), says="column income .*line 5, '[$]7'")
    yield Dirt(
        "one odd word",
        text(changed(age={3: "old"})).encode(),
        says="column age holds text among its numbers in 1 of 60 rows .first: line 5, 'old'",
    )
    yield Dirt(
        "one odd word, told",
        text(changed(age={3: "old"})).encode(),
        changed(age={3: ""}),
        settings={"types": ["age: number"]},
    )
    yield Dirt(
        "beyond 2^53",
        text(changed(age=[str(2**60 + 10**6 * i) for i in range(ROWS)])).encode(),
        changed(age=[str(i) for i in range(ROWS)]),
    )
    yield Dirt(
        "1e400",
        text(changed(age={3: "1e400"})).encode(),
        says="column age .*line 5, '1e400'",
    )
    yield Dirt(
        "hexadecimal",
        text(changed(age=lambda cell: hex(int(cell) * 999))).encode(),
        says="columns hold text: age; type 'data.drop",
    )
    zips = changed(age=[f"{i:05d}" for i in range(1000, 1000 + ROWS)])
    yield Dirt(
        "leading zeros",
        text(zips).encode(),
        zips,
        says="age begins with 0 as codes do, and is read as numbers: type data.types={age:category}",
    )
    yield Dirt(
        "leading zeros, told",
        text(zips).encode(),
        zips,
        settings={"types": ["age: category"]},
        settings_like={"types": ["age: category"]},
    )


def dates() -> Iterator[Dirt]:
    for name, pattern in (
        ("with time", "%Y-%m-%dT00:00:00"),
        ("with zone", "%Y-%m-%d 00:00:00+00:00"),
        ("with Z", "%Y-%m-%dT00:00:00Z"),
        ("day first, dots", "%d.%m.%Y"),
        ("day first, slashes", "%d/%m/%Y"),
        ("month first", "%m/%d/%Y"),
        ("year first, slashes", "%Y/%m/%d"),
        ("month by name", "%d %B %Y"),
        ("month by short name", "%b %d, %Y"),
        ("year first, month by name", "%Y-%b-%d"),
        ("of SAS", "%d%b%Y"),
        ("of C", "%a %b %d 00:00:00 %Y"),
        ("of mail", "%a, %d %b %Y 00:00:00 +0000"),
        ("with AM", "%m/%d/%Y 12:00 AM"),
        ("day first with PM", "%d/%m/%Y 11:59 pm"),
    ):
        yield Dirt(f"dates {name}", text(changed(born=dated(pattern))).encode(), CLEAN)
    unclear = changed(born=[f"{1 + i % 11:02d}/{2 + i % 9:02d}/19{50 + i % 40}" for i in range(ROWS)])
    yield Dirt(
        "dates day or month first",
        text(unclear).encode(),
        says="column born .*data.dates=day_first or data.dates=month_first",
    )
    iso = changed(unclear, born=lambda cell: f"{cell[6:]}-{cell[3:5]}-{cell[:2]}")
    yield Dirt("dates day first, told", text(unclear).encode(), iso, settings={"dates": "day_first"})
    mixed = changed(born={row: f"{pd.Timestamp(CLEAN['born'][row]):%d.%m.%Y}" for row in range(20)})
    yield Dirt("dates mixed", text(mixed).encode(), says="columns hold text: born")
    odd = changed(born={row: f"{pd.Timestamp(CLEAN['born'][row]):%d %b}" for row in range(20)})
    yield Dirt("dates without years", text(odd).encode(), says="columns hold text: born")
    yield Dirt(
        "a date that is none", text(changed(born={3: "1950-02-30"})).encode(), says="column born .*line 5, '1950-02-30'"
    )


def headers() -> Iterator[Dirt]:
    plain = CLEAN[NUMBERS]
    bare = text(plain, header=False)
    yield Dirt("no header", bare.encode(), says="begins with numbers .*data.header=false")
    numbered = plain.set_axis([f"column{number}" for number in range(1, 5)], axis=1)
    told = {"header": False, "target": "column4"}
    yield Dirt("no header, told", bare.encode(), numbered, settings=told, settings_like={"target": "column4"})
    yield Dirt("no header, with words", text(header=False).encode(), says="data.target=price is not a column")
    yield Dirt(
        "a name twice",
        text(CLEAN.assign(more=CLEAN["age"])).replace("more", "age", 1).encode(),
        CLEAN.assign(**{"age.1": CLEAN["age"]}),
    )
    index = CLEAN.assign(**{"Unnamed: 0": [str(row) for row in range(ROWS)]})[["Unnamed: 0", *CLEAN]]
    yield Dirt(
        "an index without a name",
        CLEAN.to_csv().encode(),
        index,
        says="Unnamed: 0 differs in every row and is called like an id",
    )
    spaced = CLEAN.rename(columns=lambda name: f"  {name} ")
    yield Dirt("spaces around names", text(spaced).encode(), CLEAN)
    yield Dirt(
        "names that differ in spaces",
        text(CLEAN.assign(**{" age": CLEAN["height"]})).encode(),
        says="two columns called age",
    )
    broken = CLEAN.rename(columns={"age": "age\n(years)"})
    yield Dirt("a name of two lines", text(broken).encode(), CLEAN.rename(columns={"age": "age (years)"}))
    odd = CLEAN.rename(columns={"age": "größe [m] 'x' #1"})
    yield Dirt("names of any characters", text(odd).encode(), odd)
    yield Dirt(
        "a line of units below",
        one_line(["years,m,EUR,,,EUR,"], 1).encode(),
        says="column (age|price) .*line 2, '(years|EUR)'",
    )
    yield Dirt(
        "a title above",
        ("Report of May\n\n" + text()).encode(),
        says="line 3 has 7 cells.*header has 1.*above the header",
    )
    yield Dirt(
        "comments above",
        ("# made by hand\n# in May\n" + text()).encode(),
        says="line 3 has 7 cells.*header has 1.*above the header",
    )
    yield Dirt(
        "a total below",
        (text() + "Total,,,,,9,\n").encode(),
        says="column age .*line 62, 'Total'",
        settings={"target": "price"},
    )


def lines() -> Iterator[Dirt]:
    for name, end in (("CRLF", "\r\n"), ("CR", "\r")):
        yield Dirt(name, text(end=end).encode(), CLEAN)
    mixed = "".join(line + ("\r\n" if number % 2 else "\n") for number, line in enumerate(text().splitlines()))
    yield Dirt("mixed ends of lines", mixed.encode(), CLEAN)
    yield Dirt("no end of the last line", text().rstrip("\n").encode(), CLEAN)
    yield Dirt("empty lines", text().replace("\n", "\n\n").encode(), CLEAN)
    blanked = changed(kind={5: ""})
    yield Dirt("lines of spaces", one_line(["   ", ""], 9, text(blanked)).encode(), blanked)
    quoted = changed(town=lambda cell: f"{cell}\nDE")
    yield Dirt("quoted newlines", text(quoted).encode(), quoted)
    yield Dirt(
        "an unclosed quote",
        text().replace("Ulm", '"Ulm', 1).encode(),
        says="has a quote in line 2 that is never closed",
    )
    yield Dirt("nothing", b"", says="is empty")
    yield Dirt("empty lines alone", b"\n\n\n", says="is empty")
    yield Dirt("a header alone", text(CLEAN[:0]).encode(), says="has a header but no rows")
    yield Dirt("one row", text(CLEAN[:1]).encode(), says="nothing to learn|too few")


def places() -> Iterator[Dirt]:
    """A bad cell is named by its line in the file, whatever stands above it."""
    bad = changed(age=dict.fromkeys((30, 31, 32), "old"))
    long = changed(bad, town=lambda cell: f"{cell}\nDE")
    for name, content, settings in (
        ("quoted newlines", text(long), {}),
        ("empty lines", text(bad).replace("\n", "\n\n"), {}),
        ("both", text(long).replace("2\n", "2\n\n"), {}),
        ("sep=", "sep=;\n" + text(bad, sep=";"), {}),
        ("no header", text(bad, header=False), {"header": False, "target": "column6", "drop": ["column7"]}),
        ("some of the rows", text(bad), {"rows": 50}),
        ("rows without a target", text(changed(bad, price={3: ""})), {"drop_rows": "missing_target"}),
    ):
        line = 1 + next(number for number, each in enumerate(content.split("\n")) if each.startswith("old"))
        yield Dirt(f"a bad cell, {name}", content.encode(), says=f"first: line {line}, 'old'", settings=settings)
    head = text(long[:20])
    line = head.count("\n") + 1
    yield Dirt("a longer row, quoted newlines", (head + "1,2,3,4,5,6,7,8\n").encode(), says=f"line {line} has 8 cells")
    yield Dirt("a shorter row, quoted newlines", (head + "1,2\n").encode(), says=f"line {line} has 2 cells")
    yield Dirt("an unclosed quote, quoted newlines", (head + '1,"2\n3').encode(), says=f"a quote in line {line} that")


def names_of_rows() -> Iterator[Dirt]:
    """Columns of one name are told, and those that number the rows."""
    yield Dirt(
        "columns of one name",
        text(CLEAN.assign(more=CLEAN["height"])).replace("kind,more", "kind,age").encode(),
        CLEAN.assign(**{"age.1": CLEAN["height"]}),
        says="age heads 2 columns: the second is read as age.1",
    )
    for title, note in (
        ("lauf", "lauf counts the rows: type 'data.drop=[lauf]' unless"),
        ("Nr", "Nr differs in every row and is called like an id: type 'data.drop=[Nr]' unless"),
        (
            "Unnamed: 0",
            "Unnamed: 0 differs in every row and is called like an id: type 'data.drop=[Unnamed: 0]' unless",
        ),
    ):
        counted = CLEAN.assign(**{title: [str(1 + i) for i in range(ROWS)]})
        yield Dirt(f"a counter {title}", text(counted).encode(), counted, says=note)


def cells() -> Iterator[Dirt]:
    constant = CLEAN.assign(more="7")
    yield Dirt("a constant column", text(constant).encode(), CLEAN, says="more: one value only, left out")
    yield Dirt("an empty column", text(CLEAN.assign(more="")).encode(), CLEAN, says="more: one value only, left out")
    for word in ("", "NA", "N/A", "null", "NULL", "?", "None", "n/a", "#N/A", "<NA>"):
        yield Dirt(f"a cell of {word or 'nothing'}", text(changed(age={3: word})).encode(), changed(age={3: ""}))
    coded = changed(age={3: "-999.0", 4: "-999"})
    blank = changed(age={3: "", 4: ""})
    yield Dirt("a code for nothing, told", text(coded).encode(), blank, settings={"missing": ["-999"]})
    for word in ("NaN", "nan", "None"):
        given = text(changed(price={3: word})).encode()
        rest = pd.concat([CLEAN[:3], CLEAN[4:]])
        drop = {"drop_rows": "missing_target"}
        yield Dirt(f"a target of {word}, told", given, rest, says="1 row without a target left out", settings=drop)
        yield Dirt(f"a target of {word}", given, says="column price .*line 5.*type data.drop_rows=missing_target")
    huge = changed(age=lambda cell: f"{cell[0]}e+301")
    yield Dirt("huge numbers", text(huge).encode(), says="age holds numbers beyond 1e.37 .*write them in a larger unit")
    for kind in ("number", "date"):
        says = f"data.types={{town:{kind}}} does not fit: none of its cells is one, such as 'Ulm'"
        yield Dirt(f"words told as {kind}", text().encode(), says=says, settings={"types": [f"town: {kind}"]})
    for word in ("NaN", "inf"):
        yield Dirt(
            f"a cell of {word}",
            text(changed(age={3: word})).encode(),
            says=f"column age holds NaN or infinity .*line 5, '{word}'.*leave those cells empty",
        )
    for word in ("-", ".", "unknown", "--"):
        given = text(changed(age={3: word})).encode()
        yield Dirt(
            f"a cell of {word}",
            given,
            says=rf"column age .*line 5, '{word}'.*types=.age:number.*\('data.missing=\[{re.escape(word)}",
        )
        yield Dirt(f"a cell of {word}, told", given, changed(age={3: ""}), settings={"missing": [word]})
    yield Dirt(
        "equal rows",
        text(pd.concat([CLEAN, CLEAN[:9]])).encode(),
        pd.concat([CLEAN, CLEAN[:9]]),
        says="9 rows are equal to an earlier one",
    )
    many = pd.concat([CLEAN] * 20, ignore_index=True)
    many = many.assign(
        town=[f"town {i % 500}" for i in range(len(many))], price=[f"{i * 37 % 101}" for i in range(len(many))]
    )
    yield Dirt("500 categories", text(many).encode(), many)
    ids = CLEAN.assign(person_id=[f"{i * 7919 % 100_003}" for i in range(ROWS)])
    yield Dirt("an id", text(ids).encode(), ids, says="person_id differs in every row")
    copied = CLEAN.assign(cost=[f"{2 * float(cell):.2f}" for cell in CLEAN["price"]])
    yield Dirt("a copy of the target", text(copied).encode(), copied, says="cost tells the target of every row")


def targets() -> Iterator[Dirt]:
    yield Dirt(
        "no target in some rows",
        text(changed(price={3: "", 7: ""})).encode(),
        says="column price holds no value in 2 of 60 rows .*data.drop_rows=missing_target",
    )
    kept = changed(price={3: "", 7: ""}).drop([3, 7])
    yield Dirt(
        "no target in some rows, told",
        text(changed(price={3: "", 7: ""})).encode(),
        kept,
        settings={"drop_rows": "missing_target"},
        says="2 rows without a target left out",
    )
    for bad in (["rotary"], ["low", "n. a."]):
        given = text(changed(price=dict.fromkeys((3, 9), bad[0]) | {5: bad[-1]})).encode()
        rest = pd.concat([CLEAN[:3], CLEAN[4:5], CLEAN[6:9], CLEAN[10:]])
        told = write_setting("data.missing", bad)
        yield Dirt(f"a target of {bad[-1]}", given, says=re.escape(f"type data.drop_rows=missing_target {told} to"))
        typed = {"drop_rows": "missing_target", "missing": bad}
        yield Dirt(f"a target of {bad[-1]}, told", given, rest, "3 rows without a target left out", typed)
    yield Dirt("a constant target", text(changed(price="7")).encode(), says="data.target=price is 7 in every row")
    for middle, said in (("1000000000", "varies by .* around 1000000000, .*: subtract 1000000000 from"), ("100", "")):
        near = changed(price=lambda cell, middle=middle: f"{int(middle) + float(cell) % 7:.3f}")
        yield Dirt(f"a target near {middle}", text(near).encode(), None if said else near, said)
    yield Dirt(
        "a target of words",
        text(changed(price="dear")).encode(),
        says="data.target=price holds text .*task=single_label",
    )
    yield Dirt(
        "no column of that name",
        text().encode(),
        says="data.target=prize is not a column; nearest: price",
        settings={"target": "prize"},
    )
    classes = {"target": "kind", "task": "single_label"}
    yield Dirt("classes", text().encode(), CLEAN, settings=classes, settings_like=classes)
    rare = changed(kind={3: "yak"})
    yield Dirt("a class of one row", text(rare).encode(), rare, settings=classes, settings_like=classes)
    single = changed(kind={**dict.fromkeys(range(ROWS), "cat"), 3: "yak"})
    alone = "all test rows are of class cat: metrics of them say nothing of yak"
    yield Dirt("a class but for one row", text(single).encode(), single, alone, settings=classes, settings_like=classes)
    pairs = changed(kind=[f"k{i // 2}" for i in range(ROWS)])
    fewer = "60 of 60 rows .* have fewer than three, which are only trained on, .*: leave rare classes out"
    yield Dirt("classes of two rows", text(pairs).encode(), says=fewer, settings=classes)
    yield Dirt("one class", text(changed(kind="cat")).encode(), says="has one class only", settings=classes)
    yield Dirt(
        "a class for each row",
        text(changed(kind=[f"k{i}" for i in range(ROWS)])).encode(),
        says="60 classes in 60 rows",
        settings=classes,
    )
    flags = draws.integers(0, 2, (ROWS, 2))
    plain = CLEAN.assign(u=flags[:, 0].astype(str), v=flags[:, 1].astype(str))
    labels = {"target": ["u", "v"], "task": "multi_label"}
    for no, yes in (
        ("-1", "1"),
        ("false", "true"),
        ("FALSE", "TRUE"),
        ("no", "Yes"),
        ("N", "Y"),
        ("f", "t"),
        ("off", "on"),
        ("0.0", "1.0"),
    ):
        words = {name: np.where(plain[name] == "1", yes, no) for name in "uv"}
        yield Dirt(
            f"labels of {no} and {yes}",
            text(CLEAN.assign(**words)).encode(),
            plain,
            settings=labels,
            settings_like=labels,
        )
    yield Dirt(
        "labels of 0, 1 and 2",
        text(plain.assign(u=[str(i % 3) for i in range(ROWS)])).encode(),
        says="label column u holds 2, but",
        settings=labels,
    )
    tags = {"target": "tags", "task": "multi_label"}
    sets = [[tag for tag, on in zip("uvw", row, strict=True) if on] for row in draws.integers(0, 2, (ROWS, 3))]
    tagged = CLEAN.assign(tags=["|".join(row) for row in sets])
    for name, write in (
        ("commas", ", ".join),
        ("semicolons", ";".join),
        ("spaces", " ".join),
        ("a list", lambda row: str(row)),
        ("JSON", json.dumps),
    ):
        yield Dirt(
            f"tags by {name}",
            text(CLEAN.assign(tags=[write(row) for row in sets]), "\t").encode(),
            tagged,
            settings=tags,
            settings_like=tags,
        )


def files() -> Iterator[Dirt]:
    plain = text().encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("table.csv", plain)
    both = io.BytesIO(packed.getvalue())
    with zipfile.ZipFile(both, "a") as archive:
        archive.writestr("other.csv", plain)
    for suffix, content in (
        ("gz", gzip.compress(plain)),
        ("bz2", bz2.compress(plain)),
        ("xz", lzma.compress(plain)),
        ("zip", packed.getvalue()),
    ):
        yield Dirt(suffix, content, CLEAN, file=f"table.csv.{suffix}")
        yield Dirt(
            f"{suffix}, cut off", content[: len(content) // 2], says="is not a table", file=f"table.csv.{suffix}"
        )
    yield Dirt("a zip of two files", both.getvalue(), says="holds table.csv, other.csv: unpack it", file="table.zip")
    yield Dirt("gzip without its suffix", gzip.compress(plain), says="packed.*rename it to .*[.]gz")
    yield Dirt("spaces and umlauts in its name", plain, CLEAN, file="meine größte Tabelle (1).csv")
    yield Dirt("another suffix", plain, CLEAN, file="table.data")
    records = CLEAN.to_dict("records")
    yield Dirt("JSON lines", "\n".join(map(json.dumps, records)).encode(), CLEAN, file="table.jsonl")
    yield Dirt("JSON", json.dumps(records).encode(), CLEAN, file="table.json")
    typed = [{**row, "age": int(row["age"]), "price": float(row["price"])} for row in records]
    yield Dirt("JSON lines of numbers", "\n".join(map(json.dumps, typed)).encode(), CLEAN, file="table.jsonl")
    lacking = [
        {key: value for key, value in row.items() if key != "age" or number != 3} for number, row in enumerate(records)
    ]
    yield Dirt(
        "JSON lines, one without a key",
        "\n".join(map(json.dumps, lacking)).encode(),
        changed(age={3: ""}),
        file="table.jsonl",
    )
    nested = [{**row, "age": {"years": row["age"]}} for row in records]
    yield Dirt(
        "nested JSON",
        "\n".join(map(json.dumps, nested)).encode(),
        says="age holds objects.*a column for each",
        file="table.jsonl",
    )
    yield Dirt("broken JSON", b'{"age": 1}\n{"age": ', says="line 2", file="table.jsonl")
    yield Dirt("HTML", b"<!DOCTYPE html>\n<html><body>Not found</body></html>", says="web page")
    yield Dirt("an Excel file called CSV", packed.getvalue(), says="packed.*rename it")


EVERY = [
    *(
        dirt
        for kinds in (
            encodings,
            separators,
            number_formats,
            dates,
            headers,
            lines,
            places,
            names_of_rows,
            cells,
            targets,
            files,
        )
        for dirt in kinds()
    )
]
