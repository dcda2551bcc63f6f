import numpy as np
import pyarrow as pa
import pytest

from halfling.corpus.store import ChunkWriter, digest_of, document_id, read_batches

DIGESTS = [0, 1, 2**63, 2**64 - 1]


@pytest.mark.parametrize("code", ["en", "zh-Hans"])
def test_rows_are_named_by_their_language_and_digest(tmp_path, code):
    with ChunkWriter(tmp_path / "one.parquet", code, 1) as writer:
        writer.add(np.array(DIGESTS, np.uint64), pa.array([b"a", b"b", b"c", b"d"]), np.ones(4, np.int64))
        writer.add(np.zeros(0, np.uint64), pa.array([], pa.binary()), np.zeros(0, np.int64))
    (rows,) = read_batches(tmp_path / "one.parquet")
    assert [row.id for row in rows] == [document_id(code, digest) for digest in DIGESTS]
    assert [digest_of(row.id) for row in rows] == DIGESTS
    assert [row.text for row in rows] == [*"abcd"]
