import gzip
import json

import pytest

from rlhf_rm.data.reading import MAX_LISTED, BadRowError, read_rows
from rlhf_rm.errors import UserError

GOOD = {"prompt": "naïve 你好 🙂", "chosen": "a"}


def read(path, parse=dict, on_bad_row="error", limit=None):
    return read_rows(path, lambda row, _: [parse(row)], on_bad_row=on_bad_row, limit=limit)


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_plain_and_gzipped_lines_give_the_same_rows_and_line_numbers(write_rows, name):
    path = write_rows([GOOD, b"  ", {"n": 2}], name)
    rows = read(path)
    assert rows.items == [GOOD, {"n": 2}]
    assert read_rows(path, lambda row, place: [place], on_bad_row="error").items == [f"{name}:1", f"{name}:3"]
    assert (rows.given, rows.skipped, rows.blank) == (2, 0, 1)


def test_the_content_and_not_the_name_tells_whether_a_file_is_gzipped(tmp_path):
    zipped, plain = tmp_path / "zipped.jsonl", tmp_path / "plain.jsonl.gz"
    zipped.write_bytes(gzip.compress(b'{"a": 1}\n'))
    plain.write_bytes(b'{"a": 1}\n')
    assert read(zipped).items == read(plain).items == [{"a": 1}]


def test_a_byte_order_mark_windows_line_ends_and_a_missing_last_newline_do_no_harm(tmp_path):
    path = tmp_path / "windows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n{"a": 2}')
    assert read(path).items == [{"a": 1}, {"a": 2}]


BAD_LINES = {
    "not JSON": (b'{"prompt": "x",}', "not JSON: "),
    "cut off": (b'{"prompt": "x', "not JSON: "),
    "array": (b"[1, 2]", "a list, where an object"),
    "number": (b"7", "a number, where an object"),
    "utf-8": (b'{"prompt": "caf\xe9"}', "byte 16 (0xe9) is not UTF-8"),
    "surrogate": (b'{"prompt": "\\ud83d"}', "surrogate"),
    "nested": (b"[" * 200_000, "not JSON that can be read"),
    "huge number": (b'{"n": ' + b"1" * 5000 + b"}", "not JSON that can be read"),
}


@pytest.mark.parametrize(("line", "reason"), BAD_LINES.values(), ids=BAD_LINES)
def test_a_bad_line_is_an_error_with_file_and_line_or_is_skipped_and_listed(write_rows, line, reason):
    path = write_rows([GOOD, b"", line, GOOD])
    with pytest.raises(UserError) as error:
        read(path)
    assert str(error.value).startswith(f"{path}:3: ")
    assert reason in str(error.value)
    assert "on_bad_row=skip" in str(error.value)
    rows = read(path, on_bad_row="skip")
    assert (rows.given, len(rows.items), rows.skipped) == (3, 2, 1)
    assert rows.problems[0].startswith(f"{path}:3: ")
    assert reason in rows.problems[0]


def test_whole_surrogate_pairs_are_characters(write_rows):
    assert read(write_rows([b'{"a": "\\ud83d\\ude42"}'])).items == [{"a": "🙂"}]


def test_every_bad_row_is_counted_but_only_the_first_are_listed(write_rows, caplog):
    def refuse_odd(row):
        if row["n"] % 2:
            raise BadRowError("odd.")
        return row["n"]

    path = write_rows([{"n": n} for n in range(100)])
    rows = read(path, refuse_odd, on_bad_row="skip")
    assert rows.items == list(range(0, 100, 2))
    assert (rows.skipped, len(rows.problems)) == (50, MAX_LISTED)
    assert rows.problems[0] == f"{path}:2: odd."
    assert "skipped 50 of 100 rows" in caplog.text
    json.dumps(rows.report())


def test_limit_counts_good_rows_and_stops_reading(write_rows):
    rows = read(write_rows([b"bad", {"n": 1}, {"n": 2}, b"bad"]), on_bad_row="skip", limit=2)
    assert ([row["n"] for row in rows.items], rows.skipped) == ([1, 2], 1)


@pytest.mark.parametrize("on_bad_row", ["error", "skip"])
def test_a_truncated_or_corrupt_archive_is_an_error_even_when_bad_rows_are_skipped(tmp_path, on_bad_row):
    content = gzip.compress("".join(f'{{"n": {n**9}}}\n' for n in range(5000)).encode())
    truncated, corrupt, wrong_sum = (tmp_path / f"{name}.jsonl.gz" for name in ("cut", "corrupt", "sum"))
    truncated.write_bytes(content[: len(content) // 2])
    corrupt.write_bytes(content[:2000] + bytes(64) + content[2064:])
    wrong_sum.write_bytes(content[:-8] + bytes(8))
    for path in (truncated, corrupt, wrong_sum):
        with pytest.raises(UserError, match="truncated or damaged gzip archive") as error:
            read(path, on_bad_row=on_bad_row)
        assert str(path) in str(error.value)


def test_a_missing_file_names_what_looks_similar(write_rows, tmp_path):
    write_rows([GOOD], "harmless-train.jsonl")
    with pytest.raises(UserError, match=r"does not exist; did you mean harmless-train\.jsonl"):
        read(tmp_path / "harmless_train.jsonl")
    with pytest.raises(UserError, match=r"holds harmless-train\.jsonl"):
        read(tmp_path / "x")
    with pytest.raises(UserError, match=r"there is no folder .*nowhere"):
        read(tmp_path / "nowhere" / "deep" / "x.jsonl")


@pytest.mark.parametrize("name", ["empty.jsonl", "empty.jsonl.gz"])
def test_files_without_a_usable_row_are_errors(write_rows, tmp_path, name):
    with pytest.raises(UserError, match="holds no rows"):
        read(write_rows([], name))
    (tmp_path / "zero").write_bytes(b"")
    with pytest.raises(UserError, match="holds no rows"):
        read(tmp_path / "zero")
    with pytest.raises(UserError, match=r"none of the 2 rows is usable; the first: .*:1: not JSON"):
        read(write_rows([b"x", b"y"], name), on_bad_row="skip")


def test_folders_parquet_and_unknown_settings_are_refused(write_rows, tmp_path):
    with pytest.raises(UserError, match="is a directory"):
        read(tmp_path)
    (tmp_path / "a.parquet").write_bytes(b"PAR1...")
    with pytest.raises(UserError, match="Parquet"):
        read(tmp_path / "a.parquet")
    path = write_rows([GOOD])
    with pytest.raises(UserError, match="on_bad_row=ignore is unknown: use one of error, skip"):
        read(path, on_bad_row="ignore")
    for limit in (0, 10.5, "abc"):
        with pytest.raises(UserError, match=f"limit={limit} must be a whole number of at least 1, or null"):
            read(path, limit=limit)
