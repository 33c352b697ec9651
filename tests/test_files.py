import json

import pytest

from rlhf_rm.files import WHOLE, fingerprint, is_whole, sha256, whole_directory, write_json, write_text


def test_a_file_is_replaced_whole_and_nothing_is_left_beside_it(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    write_text(path, "first ü")
    write_text(path, "second")
    assert path.read_text(encoding="utf-8") == "second"
    assert list(path.parent.iterdir()) == [path]


def test_json_has_no_nan_and_a_refused_value_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.json"
    write_json(path, {"ü": [1, None]})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"x": float("nan")})
    assert json.loads(path.read_text(encoding="utf-8")) == {"ü": [1, None]}


def test_a_directory_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "made"

    def fill(text, fail=False):
        with whole_directory(target) as part:
            (part / text).write_text(text)
            assert not (target / text).exists()
            if fail:
                raise RuntimeError

    with pytest.raises(RuntimeError):
        fill("one", fail=True)
    assert list(tmp_path.iterdir()) == []
    fill("one")
    with pytest.raises(RuntimeError):
        fill("two", fail=True)
    assert [path.name for path in target.iterdir()] == ["one"]
    fill("three")
    assert [path.name for path in target.iterdir()] == ["three"]
    assert list(tmp_path.iterdir()) == [target]


def test_a_name_in_an_artefact_leads_nowhere_else(tmp_path):
    (tmp_path / "outside").write_text("x")
    made = tmp_path / "made"
    made.mkdir()
    (made / "file").write_text("x")
    known = sha256(made / "file")
    for name, whole in (
        ("file", True),
        ("./file", True),
        ("../outside", False),
        (f"{tmp_path}/outside", False),
    ):
        write_json(made / WHOLE, {name: known})
        assert is_whole(made) is whole, name
    (made / "link").symlink_to(tmp_path / "outside")
    write_json(made / WHOLE, {"link": known})
    assert not is_whole(made)


def test_a_fingerprint_is_of_content_and_order_of_parts_but_not_of_keys():
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert len({fingerprint(1, 2), fingerprint(2, 1), fingerprint([1, 2]), fingerprint("1", 2)}) == 4
