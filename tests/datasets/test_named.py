from pathlib import Path

from seqlab.datasets import card, catalog
from seqlab.datasets.named import catalog_markdown

REPO = Path(__file__).parents[2]
BENCHMARKS = {
    "ml-1m": (6040, 3416, 999_611),
    "amazon-beauty": (22_363, 12_101, 198_502),
    "amazon-sports": (35_598, 18_357, 296_337),
    "amazon2018-games": (50_597, 16_874, 453_637),
}


def test_every_card_has_licence_source_and_counts():
    table = catalog().set_index("name")
    assert set(table.index) >= {"complete-journey", "complete-journey-products", "ml-100k", *BENCHMARKS}
    for name in table.index:
        one = card(name)
        assert all((one.title, one.about, one.source, one.url, one.licence, one.citation, one.columns)), name
        assert min(one.users, one.items, one.events) > 0
        assert one.ties in ("source", "shuffle") and one.order in ("source", "time")
        assert bool(one.package) != bool(one.official), name
    for name, counts in BENCHMARKS.items():
        assert tuple(table.loc[name, ["users", "items", "events"]]) == counts


def test_the_catalog_has_the_availability_of_each_dataset(alone):
    have = catalog().set_index("name")["have"]
    assert have["complete-journey"].startswith("with the package")
    assert (have["ml-1m"], have["amazon-beauty"]) == ("by download", "by hand")


def test_the_readme_of_data_is_made_from_the_cards():
    assert (REPO / "data" / "README.md").read_text(encoding="utf-8") == catalog_markdown() + "\n"
