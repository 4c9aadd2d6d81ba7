"""LMDB databases: written, read, resumed at any key; damaged ones give an error and never a crash."""

import random
import shutil
import struct

import lmdb
import numpy as np
import pytest

from breve.data.lmdb_reader import LmdbReader
from breve.data.lmdb_writer import write_lmdb
from breve.errors import DataError


def records(count, size=100):
    rng = np.random.default_rng(1)
    return [(b"%08d" % i, rng.bytes(size)) for i in range(count)]


@pytest.mark.parametrize(
    ("count", "size"), [(1, 0), (3, 10), (2500, 30), (40, 2030), (5, 4080), (5, 4081), (3, 200_000)]
)
def test_what_is_written_is_read_back(tmp_path, count, size):
    wanted = records(count, size)
    assert write_lmdb(tmp_path / "db", wanted) == count
    reader = LmdbReader(tmp_path / "db")
    assert len(reader) == count
    assert list(reader.items()) == wanted
    assert list(LmdbReader(tmp_path / "db" / "data.mdb").items()) == wanted


def test_reader_agrees_with_liblmdb_on_keys_of_any_order_and_size(tmp_path):
    rng = random.Random(2)
    wanted = {rng.randbytes(rng.randrange(1, 400)): rng.randbytes(rng.randrange(0, 9000)) for _ in range(700)}
    write_lmdb(tmp_path / "db", wanted.items())
    with lmdb.open(str(tmp_path / "db"), readonly=True, lock=False) as environment, environment.begin() as transaction:
        theirs = list(transaction.cursor())
    assert list(LmdbReader(tmp_path / "db").items()) == theirs == sorted(wanted.items())


def test_database_that_was_changed_and_shrunk_is_read(tmp_path):
    wanted = dict(records(3000, 500))
    with lmdb.open(str(tmp_path / "db"), map_size=1 << 26) as environment:
        for step in (0, 1, 2):
            with environment.begin(write=True) as transaction:
                for key, value in list(wanted.items())[step::3]:
                    transaction.put(key, value)
        with environment.begin(write=True) as transaction:
            for key in list(wanted)[500:]:
                transaction.delete(key)
                del wanted[key]
    assert dict(LmdbReader(tmp_path / "db").items()) == wanted


@pytest.mark.parametrize(
    "after", [b"", b"00000000", b"0000", b"00000999", b"00001234", b"00001234x", b"00002499", b"z"]
)
def test_items_after_a_key(tmp_path, after):
    wanted = records(2500, 40)
    write_lmdb(tmp_path / "db", wanted)
    assert list(LmdbReader(tmp_path / "db").items(after)) == [r for r in wanted if r[0] > after]


def test_many_readers_at_once(tmp_path):
    write_lmdb(tmp_path / "db", records(10))
    readers = [LmdbReader(tmp_path / "db") for _ in range(3)]
    for rows in zip(*(reader.items() for reader in readers), strict=True):
        assert rows[0] == rows[1] == rows[2]


def test_reading_leaves_no_trace(tmp_path):
    write_lmdb(tmp_path / "db", records(10))
    list(LmdbReader(tmp_path / "db").items())
    assert [p.name for p in (tmp_path / "db").iterdir()] == ["data.mdb"]


def test_unsorted_records_are_written_in_order(tmp_path):
    write_lmdb(tmp_path / "db", [(b"b", b"2"), (b"c", b"3"), (b"a", b"1")])
    assert [key for key, _ in LmdbReader(tmp_path / "db").items()] == [b"a", b"b", b"c"]


def test_map_grows_beyond_its_first_size(tmp_path):
    wanted = [(b"%08d" % i, bytes(1 << 20)) for i in range(80)]
    write_lmdb(tmp_path / "db", iter(wanted))
    assert sum(len(value) for _, value in LmdbReader(tmp_path / "db").items()) == 80 << 20


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([(b"a", b"1"), (b"a", b"2")], "comes twice"),
        ([], "no records"),
        ([(b"k" * 600, b"1")], "cannot write"),
        ([(b"", b"1")], "cannot write"),
    ],
)
def test_nothing_is_left_when_writing_fails(tmp_path, bad, message):
    with pytest.raises(DataError, match=message):
        write_lmdb(tmp_path / "db", bad)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_when_the_records_break_off(tmp_path):
    def broken():
        yield b"0", b"zero"
        raise DataError("the picture is damaged")

    with pytest.raises(DataError, match="the picture is damaged"):
        write_lmdb(tmp_path / "db", broken())
    assert list(tmp_path.iterdir()) == []


def test_existing_database_is_kept_unless_overwriting_is_asked_for(tmp_path):
    write_lmdb(tmp_path / "db", records(3))
    with pytest.raises(DataError, match="exists already"):
        write_lmdb(tmp_path / "db", records(5))
    assert len(LmdbReader(tmp_path / "db")) == 3
    write_lmdb(tmp_path / "db", records(5), overwrite=True)
    assert len(LmdbReader(tmp_path / "db")) == 5
    assert [p.name for p in tmp_path.iterdir()] == ["db"]


def test_nothing_but_a_database_is_overwritten(tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.txt").write_text("years")
    (tmp_path / "file").write_text("one")
    for path in (tmp_path / "work", tmp_path / "file"):
        with pytest.raises(DataError, match="is no database, so it is not overwritten"):
            write_lmdb(path, records(3), overwrite=True)
    assert (tmp_path / "work" / "thesis.txt").read_text() == "years"


def read_all(path):
    reader = LmdbReader(path)
    return sum(len(key) + len(value) for key, value in reader.items())


@pytest.fixture(scope="module")
def healthy(tmp_path_factory):
    path = tmp_path_factory.mktemp("healthy")
    write_lmdb(path / "small", records(2500, 60))
    write_lmdb(path / "big", records(12, 30_000))
    return path


def damaged(tmp_path, content: bytes):
    (tmp_path / "db").mkdir(exist_ok=True)
    (tmp_path / "db" / "data.mdb").write_bytes(content)
    return tmp_path / "db"


@pytest.mark.parametrize("name", ["small", "big"])
@pytest.mark.parametrize("kept", [0, 1, 100, 4096, 8191, 8192, 8193, 0.3, 0.9])
def test_truncated_database_is_refused(tmp_path, healthy, name, kept):
    content = (healthy / name / "data.mdb").read_bytes()
    end = int(kept * len(content)) if isinstance(kept, float) else kept
    with pytest.raises(DataError, match=r"truncated|no LMDB"):
        read_all(damaged(tmp_path, content[:end]))


@pytest.mark.parametrize("name", ["small", "big"])
@pytest.mark.parametrize("seed", range(40))
def test_damaged_database_gives_an_error_or_other_records_but_never_a_crash(tmp_path, healthy, name, seed):
    rng = random.Random(seed)
    content = bytearray((healthy / name / "data.mdb").read_bytes())
    for _ in range(rng.randrange(1, 60)):
        page = rng.randrange(len(content) // 4096) * 4096
        content[page + rng.randrange(rng.choice([16, 64, 4096]))] = rng.randrange(256)
    try:
        assert read_all(damaged(tmp_path, bytes(content))) > 0
    except DataError as error:
        assert str(tmp_path) in str(error)  # noqa: PT017 (either is right)


@pytest.mark.parametrize("seed", range(10))
def test_page_of_garbage_is_noticed(tmp_path, healthy, seed):
    content = bytearray((healthy / "small" / "data.mdb").read_bytes())
    rng = random.Random(seed)
    reader = LmdbReader(healthy / "small")
    start = rng.choice(list(reader._leaves(reader._meta.root, reader._meta.depth, None))) * 4096
    content[start : start + 4096] = rng.randbytes(4096)
    with pytest.raises(DataError, match="is damaged"):
        read_all(damaged(tmp_path, bytes(content)))


@pytest.mark.parametrize("end", [0, 15, 16, 17, 4097, 65535])
def test_page_without_nodes_is_noticed(tmp_path, healthy, end):
    content = bytearray((healthy / "small" / "data.mdb").read_bytes())
    struct.pack_into("<H", content, LmdbReader(healthy / "small")._meta.root * 4096 + 12, end)
    with pytest.raises(DataError, match="is damaged"):
        read_all(damaged(tmp_path, bytes(content)))


def test_page_that_points_to_itself_does_not_hang(tmp_path, healthy):
    content = bytearray((healthy / "small" / "data.mdb").read_bytes())
    root = max(struct.unpack_from("<QQQ", content, start + 16 + 112) for start in (0, 4096))[0]
    nodes = struct.unpack_from("<H", content, root * 4096 + 16)[0]
    struct.pack_into("<HHH", content, root * 4096 + nodes, root & 0xFFFF, root >> 16, 0)
    with pytest.raises(DataError, match="is damaged"):
        read_all(damaged(tmp_path, bytes(content)))


@pytest.mark.parametrize(
    "content", [b"", b"hello", bytes(8192), b"\x89HDF\r\n\x1a\n" + bytes(9000), bytes(range(256)) * 64]
)
def test_foreign_file_is_refused(tmp_path, content):
    with pytest.raises(DataError, match=r"no LMDB database|truncated"):
        LmdbReader(damaged(tmp_path, content))


def test_database_of_another_version_is_refused(tmp_path, healthy):
    content = bytearray((healthy / "small" / "data.mdb").read_bytes())
    content[20] = content[4096 + 20] = 2
    with pytest.raises(DataError, match="another version; expected 1, found 2"):
        LmdbReader(damaged(tmp_path, bytes(content)))


def test_missing_database_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere.*No such file"):
        LmdbReader(tmp_path / "nowhere")


def test_empty_database_is_refused(tmp_path):
    lmdb.open(str(tmp_path / "db")).close()
    with pytest.raises(DataError, match="is empty"):
        LmdbReader(tmp_path / "db")


def test_databases_within_a_database_are_refused(tmp_path):
    with lmdb.open(str(tmp_path / "db"), max_dbs=2) as environment:
        inner = environment.open_db(b"inner")
        with environment.begin(write=True) as transaction:
            transaction.put(b"a", b"1", db=inner)
    with pytest.raises(DataError, match="holds databases of its own"):
        read_all(tmp_path / "db")


def test_file_cut_while_it_is_read_gives_an_error(tmp_path, healthy):
    shutil.copytree(healthy / "big", tmp_path / "db")
    items = LmdbReader(tmp_path / "db").items()
    next(items)
    with open(tmp_path / "db" / "data.mdb", "r+b") as file:
        file.truncate(20_000)
    with pytest.raises(DataError, match="truncated"):
        list(items)
