"""Coordinates for maps, kept where they cost, and neighbours."""

import numpy as np
import pytest

from seqlab.inspection import projection


@pytest.fixture
def vectors():
    return np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SEQLAB_CACHE", str(tmp_path))
    return tmp_path


def test_pca_keeps_the_direction_of_most_variance(vectors):
    vectors[:, 3] *= 50
    spots = projection.coordinates(vectors)
    assert spots.shape == (50, 2)
    assert abs(np.corrcoef(spots[:, 0], vectors[:, 3])[0, 1]) > 0.999


def test_umap_is_computed_once_per_content_and_survives_a_broken_cache(vectors, cache, monkeypatch):
    calls = []

    def slow(given, seed):
        calls.append(seed)
        return given[:, :2] + seed

    monkeypatch.setattr(projection, "_umap", slow)
    first = projection.coordinates(vectors, "umap")
    assert np.array_equal(projection.coordinates(vectors.copy(), "umap"), first)
    assert len(calls) == 1
    projection.coordinates(vectors, "umap", seed=1)
    vectors[0, 0] += 1
    projection.coordinates(vectors, "umap")
    assert len(calls) == 3
    kept = sorted((cache / "projections").iterdir())
    assert len(kept) == 3
    assert not [path for path in kept if path.suffix != ".safetensors"]
    for path in kept:
        path.write_bytes(path.read_bytes()[:60])
    projection.coordinates(vectors, "umap")
    assert len(calls) == 4


def test_tsne_keeps_groups_together(cache):
    centre = np.repeat(np.eye(8, dtype=np.float32), 12, axis=0)
    spots = projection.coordinates(centre + 0.05 * np.random.default_rng(0).normal(size=centre.shape), "tsne")
    gaps = np.linalg.norm(spots[:, None] - spots[None], axis=2) + 1e9 * np.eye(len(spots))
    assert (gaps.argmin(1) // 12 == np.arange(len(spots)) // 12).all()


def test_equal_vectors_lie_on_one_spot(cache):
    assert not projection.coordinates(np.ones((40, 3)), "tsne").any()


def test_unknown_projection_and_too_few_items_are_errors(vectors):
    with pytest.raises(ValueError, match="'pca', 'tsne' and 'umap'"):
        projection.coordinates(vectors, "mds")
    with pytest.raises(ValueError, match="at least 3"):
        projection.coordinates(vectors[:2])


def test_neighbours_are_the_largest_cosines_without_the_item_itself(vectors):
    rows, cosine = projection.neighbours(vectors, 7, 5)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    every = unit @ unit[7]
    every[7] = -2
    assert rows.tolist() == np.argsort(-every)[:5].tolist()
    assert np.allclose(cosine, every[rows], atol=1e-6)
    assert len(projection.neighbours(vectors[:4], 0, 10)[0]) == 3
