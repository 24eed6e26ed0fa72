"""Several queries in one request: who is asked with whom, which answer is whose, and what each
took.
"""

from fractions import Fraction

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from icl_harness.models.base import Answer, Sampling, Usage
from icl_harness.prompts.tree import Query
from icl_harness.runner.groups import (
    Request,
    group_sampling,
    make_requests,
    parse_answers,
    share_usage,
    split_answer,
)

QUERIES = [Query(id=f"q{i}", text=f"n {i} ->\n", seed=i) for i in range(7)]
WAYS = [
    "{n}: ",
    "{n}. ",
    "{n}) ",
    "({n}) ",
    "**{n}**: ",
    "**{n}:** ",
    "Answer {n}: ",
    "**Answer {n}**: ",
    "### {n}:\n",
]

lines = st.text(alphabet="xy ,-1.", min_size=1, max_size=12).map(lambda text: "x" + text.strip())
texts = st.lists(lines, min_size=1, max_size=3).map("\n".join)


def test_queries_are_grouped_as_they_follow_each_other_and_one_alone_is_asked_as_it_is() -> None:
    requests = make_requests(QUERIES, 3)
    assert [[q.id for q in request.members] for request in requests] == [
        ["q0", "q1", "q2"],
        ["q3", "q4", "q5"],
        ["q6"],
    ]
    assert len({request.query.id for request in requests}) == 3
    assert all(request.is_group for request in requests)
    assert [request.query for request in make_requests(QUERIES, 1)] == QUERIES
    assert not make_requests(QUERIES, 1)[0].is_group


def test_the_queries_of_a_group_stand_numbered_behind_the_instruction() -> None:
    text = make_requests(QUERIES, 3)[1].query.text
    assert text.startswith("Answer each of the 3 numbered queries below.")
    assert text.endswith("\n\n1: n 3 ->\n\n2: n 4 ->\n\n3: n 5 ->\n\nAnswers:\n")


def test_a_group_may_take_as_long_as_its_answers_and_is_not_stopped_after_the_first() -> None:
    sampling = Sampling(max_tokens=20, stop=("\n",), temperature=0.5)
    grouped = group_sampling(sampling, 5)
    assert 5 * 20 < grouped.max_tokens <= 5 * 30
    assert (grouped.stop, grouped.temperature) == ((), 0.5)
    assert group_sampling(sampling, 1) is sampling


@given(st.sampled_from(WAYS), st.lists(texts, min_size=1, max_size=12), st.data())
def test_each_query_gets_its_own_answer_whatever_the_way_of_numbering(way, answers, data) -> None:
    n = len(answers)
    missing = data.draw(st.sets(st.integers(1, n)))
    twice = data.draw(st.sets(st.integers(1, n))) - missing
    numbers = [i for i in range(1, n + 1) if i not in missing]
    numbers += [*twice, *data.draw(st.sets(st.integers(n + 1, n + 5)))]
    order = data.draw(st.permutations(numbers))
    said = "\n".join(way.format(n=i) + (answers[i - 1] if i <= n else "of no one") for i in order)
    expected = [None if i in missing | twice else answers[i - 1] for i in range(1, n + 1)]
    assert parse_answers(f"Here they are:\n\n{said}\n", n) == expected


@pytest.mark.parametrize(
    ("reply", "answers"),
    [
        (
            "1: Steps:\n1. add\n2. halve\n3. done\n2: no steps",
            ["Steps:\n1. add\n2. halve\n3. done", "no steps"],
        ),
        ("**1:** a\n\n**2:** b\n", ["a", "b"]),
        ("1:5\n2:-7.5", ["5", "-7.5"]),
        ("1. 1.5 apples\n2. 2.5", ["1.5 apples", "2.5"]),
        ("1: a\n2. b", ["a", "b"]),
        ("1:\n2: b", ["", "b"]),
        ("Query 1: a\nquery #2: b", ["a", "b"]),
        ("[1] a\n[2] b", ["a", "b"]),
        ("- 1) a\n- 2) b", ["a", "b"]),
        ("a\nb", [None, None]),
        ("", [None, None]),
        ("2.5 apples\n10 pears", [None, None]),
        ("1: a, 2: b", ["a", "b"]),
        ("1: a; 2: b", ["a", "b"]),
        ("1: a 2: b", ["a", "b"]),
        ("1:a,2:b", ["a", "b"]),
        ("1: a | 2: b", ["a", "b"]),
        ("1：a\n2：b", ["a", "b"]),
        ("1：a，2：b", ["a", "b"]),
        ("１：a\n２：b", ["a", "b"]),
        ("1 - a\n2 - b", ["a", "b"]),
        ("1 – a\n2 – b", ["a", "b"]),
        ("1 — a\n2 — b", ["a", "b"]),
        ("1 - a, 2 - b", ["a", "b"]),
        ("1- a\n2- b", ["a", "b"]),
        ("1 -> a\n2 -> b", ["a", "b"]),
        ("1 → a\n2 → b", ["a", "b"]),
        ("1 = a\n2 = b", ["a", "b"]),
        ("1=a\n2=b", ["a", "b"]),
        ("1) a 2) b", ["a", "b"]),
        ("(1) a (2) b", ["a", "b"]),
        ("(1) a, (2) b", ["a", "b"]),
        ("1. a 2. b", ["a", "b"]),
        ("1. a, 2. b", ["a", "b"]),
        ("1、a\n2、b", ["a", "b"]),
        ('{"1": "a", "2": "b"}', ["a", "b"]),
        ('```json\n{"1": "a", "2": "b"}\n```', ["a", "b"]),
        ('Here:\n```json\n{"1": "a", "2": "b"}\n```', ["a", "b"]),
        ('["a", "b"]', ["a", "b"]),
        ('{"answers": ["a", "b"]}', ["a", "b"]),
        ('{"answers": {"1": "a", "2": "b"}}', ["a", "b"]),
        ('[{"query": 1, "answer": "a"}, {"query": 2, "answer": "b"}]', ["a", "b"]),
        ('[{"id": 2, "label": "b"}, {"id": 1, "label": "a"}]', ["a", "b"]),
        ('{"1": {"answer": "a"}, "2": {"answer": "b"}}', ["a", "b"]),
        ('{"1": 5, "2": -7.5}', ["5", "-7.5"]),
        ('{"query_1": "a", "query_2": "b"}', ["a", "b"]),
        ('{"2": "b"}', [None, "b"]),
        ("<think>1: x\n2: y</think>\n1: a\n2: b", ["a", "b"]),
        ("<think>1: x, 2: y\n1: a\n</think>1: a, 2: b", ["a", "b"]),
        ("1: x first I look\n2: y\n\nAnswers:\n1: a\n2: b", ["a", "b"]),
        ("Let me see. 1: x\n2: y\n\n**Answers:**\n\n1: a\n2: b", ["a", "b"]),
        ("### Answers\n1: a\n2: b", ["a", "b"]),
        ("Answers:\n1: a\n2: b", ["a", "b"]),
        ("| 1 | a |\n| 2 | b |", ["a", "b"]),
        ("| # | answer |\n|---|---|\n| 1 | a |\n| 2 | b |", ["a", "b"]),
        ("Query 1: a\nQuery 2: b", ["a", "b"]),
        ("**Query 1**\na\n\n**Query 2**\nb", ["a", "b"]),
        ("Answer to query 1: a\nAnswer to query 2: b", ["a", "b"]),
        ("1\\. a\n2\\. b", ["a", "b"]),
        ("#1: a\n#2: b", ["a", "b"]),
        ("Q1: a\nQ2: b", ["a", "b"]),
        ("A1: a\nA2: b", ["a", "b"]),
        ("1: a", ["a", None]),
        ("2: b", [None, "b"]),
        ("1: a, 3: c", ["a, 3: c", None]),
        ("1: Steps:\n2 - 1 = 1\n2: b", ["Steps:\n2 - 1 = 1", "b"]),
        ("2: b\n1: a", ["a", "b"]),
        ("a, b", [None, None]),
        ("1:\na\n2:\nb", ["a", "b"]),
        ('"1": "a",\n"2": "b"', ['"a",', '"b"']),
        ("1: at 2: 30\n2: b", ["at 2: 30", "b"]),
        ("Answers: 1: a, 2: b", ["a", "b"]),
        ("1: a\n1: c\n2: b", [None, "b"]),
        ("**1:** a **2:** b", ["a", "b"]),
        ("1:a 2:b", ["a", "b"]),
        ("1: -1, 2: 0", ["-1", "0"]),
        ("1: 3.5, 2: 1,000", ["3.5", "1,000"]),
        ("1: a\n\n2: b\n", ["a", "b"]),
        ("[1] a [2] b", ["a", "b"]),
        ("1: a / 2: b", ["a", "b"]),
    ],
)
def test_answers_as_models_write_them(reply, answers) -> None:
    assert parse_answers(reply, 2) == answers


@settings(deadline=None)
@given(st.text(alphabet="1234:.)(*#- \nanswer", max_size=60), st.integers(1, 5))
@example("1" * 5000 + ": x", 2)
@example("-" * 5000, 2)
@example("*" * 5000 + "\n1: x", 1)
@example("answers" + " " * 100_000 + "x", 2)
@example("a" + " " * 100_000 + "x", 2)
@example("1: x, " * 20_000, 2)
@example("[" * 100_000, 2)
def test_any_reply_can_be_read_and_answers_are_parts_of_it(reply, n) -> None:
    found = parse_answers(reply, n)
    assert len(found) == n
    assert all(answer in reply for answer in found if answer is not None)


counts = st.one_of(st.none(), st.integers(0, 10**7))


@given(counts, counts, st.one_of(st.none(), st.floats(1e-9, 1e4)), st.integers(1, 50))
@example(10, 3, 0.1, 3)
def test_shares_sum_to_the_whole_exactly_in_tokens_and_dollars(prompt, reasoning, cost, n) -> None:
    shares = share_usage(Usage(prompt_tokens=prompt, reasoning_tokens=reasoning, cost_usd=cost), n)
    assert len(shares) == n
    for name, whole in (
        ("prompt_tokens", prompt),
        ("reasoning_tokens", reasoning),
        ("cost_usd", cost),
    ):
        parts = [getattr(share, name) for share in shares]
        if whole is None:
            assert set(parts) == {None}
        else:
            assert sum(map(Fraction, parts)) == Fraction(whole) == Fraction(sum(parts))
            assert max(parts) - min(parts) <= (n if name != "cost_usd" else 1e-12 * whole), (
                "about the same for each"
            )


def split(answer: Answer, stop=()) -> list[tuple[str, str | None, bool]]:
    (request,) = make_requests(QUERIES[:3], 3)
    return [
        (query.id, own.text, found) for query, own, found in split_answer(request, answer, stop)
    ]


def test_an_answer_ends_at_the_trequests_stop_and_one_that_is_not_found_is_the_whole_reply() -> (
    None
):
    reply = "1:\nfirst\nand more\n3: third"
    assert split(Answer(query_id="g", text=reply), ["\n"]) == [
        ("q0", "first", True),
        ("q1", reply, False),
        ("q2", "third", True),
    ]


def test_a_group_that_fails_fails_for_all_its_queries() -> None:
    (request,) = make_requests(QUERIES[:3], 3)
    failed = Answer(
        query_id="g", status="failed", error="503", n_lost=4, usage=Usage(prompt_tokens=7)
    )
    found = [own for _, own, _ in split_answer(request, failed, ())]
    assert [(own.query_id, own.status, own.error) for own in found] == [
        (f"q{i}", "failed", "503") for i in range(3)
    ]
    assert [own.n_lost for own in found] == [2, 1, 1]
    assert [own.usage.prompt_tokens for own in found] == [3, 2, 2]


def test_a_request_of_one_query_is_no_group_even_where_it_looks_alike() -> None:
    assert not Request(query=QUERIES[0], members=(QUERIES[0],)).is_group
    assert make_requests(QUERIES[:1], 4)[0].is_group, "the last of a cell is numbered as all are"
