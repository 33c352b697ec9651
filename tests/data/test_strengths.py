import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rlhf_rm.data.strengths import from_members, published, read_strengths, write_strengths
from rlhf_rm.errors import UserError
from rlhf_rm.files import sha256

MEMBERS = np.array([[1.0, -2.0, 0.5], [3.0, -4.0, 0.5]])


@pytest.fixture
def vote(tmp_path):
    write_strengths(tmp_path, from_members(["a", "b", "c"], MEMBERS))
    return tmp_path


def rewrite(vote, **columns):
    file = vote / "strengths.parquet"
    table = pq.read_table(file)
    for name, values in columns.items():
        table = table.set_column(table.column_names.index(name), name, pa.array(values))
    pq.write_table(table, file)


def test_what_is_written_is_read(vote):
    table = pq.read_table(vote / "strengths.parquet")
    assert table.column_names == ["pair_id", "mean", "std", "member_00", "member_01"]
    for read in (read_strengths(vote), read_strengths(vote / "strengths.parquet")):
        assert read.mean.tolist() == [2.0, -3.0, 0.5] and read.std.tolist() == [1.0, 1.0, 0.0]
        assert (read.members_MB == MEMBERS).all()


def test_a_pair_that_comes_twice_is_one_row_and_joined_twice():
    strengths = from_members(["b", "a", "b"], np.array([[5.0, 1.0, 5.0]]))
    assert list(strengths.pair_id) == ["b", "a"]
    joined = strengths.joined(["a", "b", "a"])
    assert joined.mean.tolist() == [1.0, 5.0, 1.0] and joined.members_MB.tolist() == [[1.0, 5.0, 1.0]]


def test_pairs_without_a_strength_are_counted_and_named(vote):
    with pytest.raises(UserError, match=r"4 of 5 .* have no strength, the first of them x, y, z:"):
        read_strengths(vote).joined(["x", "a", "y", "z", "w", "x"])


def test_a_number_that_is_none_is_refused(vote):
    rewrite(vote, member_01=[1.0, np.nan, np.inf])
    with pytest.raises(UserError, match=r"member_01 has 2 values that are no finite .*, the first in row 2"):
        read_strengths(vote)


def test_a_damaged_file_is_refused(vote):
    file = vote / "strengths.parquet"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(UserError, match="is damaged and cannot be read"):
        read_strengths(vote)


def test_other_columns_are_refused(vote):
    pq.write_table(pa.table({"pair_id": ["a"], "score": [1.0]}), vote / "strengths.parquet")
    with pytest.raises(UserError, match="lacks the column mean: it needs pair_id, mean and std"):
        read_strengths(vote)
    rewrite_text = pa.table({"pair_id": ["a"], "mean": ["much"], "std": [0.0]})
    pq.write_table(rewrite_text, vote / "strengths.parquet")
    with pytest.raises(UserError, match="the column mean is not of numbers"):
        read_strengths(vote)


def test_rows_that_name_a_pair_twice_are_refused(vote):
    rewrite(vote, pair_id=["a", "b", "a"])
    with pytest.raises(UserError, match="names 1 pairs twice"):
        read_strengths(vote)


def test_another_votes_file_is_noticed(vote, tmp_path):
    about = {"strengths": sha256(vote / "strengths.parquet"), "members": [["one"], ["two"]]}
    (vote / "manifest.json").write_text(json.dumps(about))
    assert len(read_strengths(vote)) == 3
    (vote / "manifest.json").write_text(json.dumps(about | {"members": [["one"]]}))
    with pytest.raises(UserError, match=r"names 1 members, and strengths\.parquet has columns of 2"):
        read_strengths(vote)
    (vote / "manifest.json").write_text(json.dumps(about))
    rewrite(vote, member_01=[1.0, 2.0, 3.0])
    with pytest.raises(UserError, match=r"is not the file that manifest\.json beside it speaks of"):
        read_strengths(vote)


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(UserError, match=r"is no strengths file: give a strengths\.parquet"):
        read_strengths(tmp_path)


def test_published_columns_are_strengths():
    notes = {"strength_mean": np.array([0.5, 1.0]), "strength_member_00": np.array([0.0, 1.0])}
    read = published(notes | {"gold": np.zeros(2)}, ["a", "b"])
    assert read.mean.tolist() == [0.5, 1.0] and read.members_MB.tolist() == [[0.0, 1.0]]
    members = {f"strength_member_0{m}": row for m, row in enumerate(MEMBERS)}
    assert published(members, ["a", "b", "c"]).mean.tolist() == [2.0, -3.0, 0.5]
    with pytest.raises(UserError, match="has no strengths of its own"):
        published({"gold": np.zeros(2)}, ["a", "b"])
    with pytest.raises(UserError, match="1 of 2 pairs have no strength in the data, the first of them b"):
        published({"strength_mean": np.array([0.5, np.nan])}, ["a", "b"])


def test_published_members_without_a_value_are_left_out(caplog):
    notes = {"strength_mean": np.array([0.5, 1.0]), "strength_member_00": np.array([0.0, 1.0])}
    read = published(notes | {"strength_member_01": np.array([1.0, np.nan])}, ["a", "b"])
    assert read.members_MB.tolist() == [[0.0, 1.0]]
    assert "no value of member_01 for some pairs: of its strengths the mean and 1 members" in caplog.text
    with pytest.raises(UserError, match="1 of 2 pairs have no strength in the data, the first of them b"):
        published({"strength_member_00": np.array([1.0, np.nan])}, ["a", "b"])


@pytest.mark.parametrize("manifest", ["{", "[]", "null", "{}", b"\xff\xfe"])
def test_a_damaged_manifest_is_named(vote, manifest):
    file = vote / "manifest.json"
    file.write_bytes(manifest if isinstance(manifest, bytes) else manifest.encode())
    with pytest.raises(UserError, match=r"manifest\.json does not hold what this version reads"):
        read_strengths(vote)


def test_names_that_are_no_text_and_columns_that_come_twice_are_refused(vote):
    rewrite(vote, pair_id=[["a"], ["b"], ["c"]])
    with pytest.raises(UserError, match="3 values of the column pair_id are no text"):
        read_strengths(vote)
    values = pa.array([1.0])
    twice = pa.Table.from_arrays(
        [pa.array(["a"]), values, values, values], ["pair_id", "mean", "std", "mean"]
    )
    pq.write_table(twice, vote / "strengths.parquet")
    with pytest.raises(UserError, match="has the column mean twice"):
        read_strengths(vote)


def test_whatever_byte_is_harmed_it_is_refused_or_read_whole(tmp_path):
    path = tmp_path / "strengths.parquet"
    columns = {"pair_id": [str(i) for i in range(20)], "mean": [0.5] * 20, "std": [0.1] * 20}
    pq.write_table(pa.table(columns), path)
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x80]) + whole[at + 1 :])
        try:
            assert len(read_strengths(path)) == 20
        except UserError as refused:
            assert str(path) in str(refused)
