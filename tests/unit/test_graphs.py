"""Edge lists, scale-free graphs and sample texts."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from cli.graphs import Graph, GraphError, read_edge_list, scale_free
from cli.samples import display_name, tweet_text, username
from cli.seed import Sample
from views.text import entities, problem_of


def _file(folder: Path, text: str | bytes) -> Path:
    path = folder / "graph.edges"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_an_edge_list_may_have_comments_blank_lines_and_repeats(tmp_path: Path) -> None:
    path = _file(tmp_path, "# comment\n% another\r\n\n a   b \nb c\r\nc\tb\na b\n" + "# " + "x" * 1000 + "\nc 10")
    assert read_edge_list(path) == Graph(4, ((0, 1), (1, 2), (2, 3)))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("1 2\n3\n", "line 2: expected two names, `u v`, not 1"),
        ("1 2 3", "line 1: expected two names, `u v`, not 3"),
        ("# x\n\n1 2\n7 7\n", "line 4: '7' cannot follow itself"),
        ("1 2\n" + "x" * 300 + " y\n", "line 2: longer than 256 characters"),
        ("", "has no edges"),
        ("# nothing\n", "has no edges"),
        (b"1 2\n\xff\xfe 3\n", "not UTF-8 text"),
    ],
)
def test_a_bad_edge_list_is_refused_with_the_line(tmp_path: Path, text: str | bytes, complaint: str) -> None:
    path = _file(tmp_path, text)
    with pytest.raises(GraphError) as caught:
        read_edge_list(path)
    assert str(path) in str(caught.value)
    assert complaint in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GraphError, match="cannot be read: No such file"):
        read_edge_list(tmp_path / "none")


def test_a_scale_free_graph_is_simple_connected_and_uneven() -> None:
    graph = scale_free(500, links=5, chance=random.Random(1))
    assert graph.size == 500
    assert len(set(graph.edges)) == len(graph.edges) == 5 * (500 - 5) + 10
    assert all(0 <= one < other < 500 for one, other in graph.edges)
    degrees = graph.degrees()
    assert min(degrees) == 5  # each comes with its links (to earlier ones), so that all are connected
    assert max(degrees) > 5 * sorted(degrees)[250]  # hubs


def test_the_same_chance_gives_the_same_graph_and_a_larger_one_begins_with_it() -> None:
    small = scale_free(50, links=3, chance=random.Random(7))
    assert small == scale_free(50, links=3, chance=random.Random(7))
    assert scale_free(80, links=3, chance=random.Random(7)).edges[: len(small.edges)] == small.edges
    assert small != scale_free(50, links=3, chance=random.Random(8))


@pytest.mark.parametrize(("size", "links"), [(1, 1), (0, 1), (5, 0)])
def test_a_graph_of_nothing_is_refused(size: int, links: int) -> None:
    with pytest.raises(GraphError):
        scale_free(size, links=links, chance=random.Random(1))


def test_sample_names_are_usernames_and_differ() -> None:
    numbers = [*range(2_000), 99_999_999]
    names = {username(number) for number in numbers}
    assert len(names) == len(numbers)
    assert all(len(name) <= 15 and name.replace("_", "").isalnum() and name.isascii() for name in names)
    assert all(1 <= len(display_name(number)) <= 50 for number in numbers)


def test_sample_texts_are_tweets_with_all_that_tweets_have() -> None:
    texts = [tweet_text(random.Random(number), 1_000_000) for number in range(1_000)]
    assert [problem_of(text) for text in texts] == [None] * 1_000
    found = [entities(text) for text in texts]
    for kind in ("hashtags", "mentions", "urls"):
        assert sum(bool(getattr(one, kind)) for one in found) > 50
    assert sum(not text.isascii() for text in texts) > 100


def test_a_sample_is_the_same_each_time_and_a_few_write_most_of_it() -> None:
    graph = scale_free(100, links=3, chance=random.Random(1))
    posts = list(Sample(graph, 1_000, seed=1).posts())
    assert posts == list(Sample(graph, 1_000, seed=1).posts())
    assert posts == list(Sample(graph, 2_000, seed=1).posts())[:1_000]
    assert posts != list(Sample(graph, 1_000, seed=2).posts())
    assert len({request_id for _, _, request_id in posts}) == 1_000
    authors = [author for author, _, _ in posts]
    by_author = sorted((authors.count(author) for author in set(authors)), reverse=True)
    assert sum(by_author[:10]) > 400
    assert sorted(Sample(graph, 0, seed=1).pairs()) == sorted(
        pair for one, other in graph.edges for pair in ((one, other), (other, one))
    )
