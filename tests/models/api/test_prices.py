"""Dollars against published list prices, worked out by hand, and against genai-prices' own
reckoning.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import genai_prices
import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl_harness.models.api.prices import Price, Tokens, find_price

MILLION = 1_000_000

MODELS = [
    ("openai", "gpt-4o-mini"),
    ("openai", "gpt-5"),
    ("openai", "gpt-5.6-luna"),
    ("anthropic", "claude-sonnet-4-5"),
    ("anthropic", "claude-haiku-5-5"),
    ("anthropic", "claude-opus-4-1"),
    ("google", "gemini-2.0-flash-lite"),  # without a price for cached tokens
    ("google", "gemini-2.5-pro"),
    ("google", "gemini-2.5-flash"),
    ("google", "gemini-3.5-flash"),
]
NO_BATCH_PRICE = {"claude-opus-4-1", "gemini-2.0-flash-lite", "gemini-3.5-flash"}
every_model = pytest.mark.parametrize(("provider", "model"), MODELS)

counts = st.integers(0, 400_000)


@st.composite
def some_tokens(draw: st.DrawFn) -> Tokens:
    plain, cached, written, completion = (draw(counts) for _ in range(4))
    kept = draw(st.integers(0, written))
    prompt = plain + cached + written
    return Tokens(
        prompt=prompt, cached=cached, written=written, written_1h=kept, completion=completion
    )


def price(provider: str, model: str) -> Price:
    found = find_price(provider, model)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("provider", "model", "tokens", "dollars"),
    [
        # gpt-4o-mini: input 0.15, cached 0.075, output 0.60
        # (developers.openai.com/api/docs/pricing)
        ("openai", "gpt-4o-mini", Tokens(prompt=100_000, completion=10_000), 0.015 + 0.006),
        ("openai", "gpt-4o-mini", Tokens(prompt=100_000, cached=80_000), 0.003 + 0.006),
        (
            "openai",
            "gpt-4o-mini",
            Tokens(prompt=100_000, written=80_000),
            0.015,
        ),  # writes cost no more than input
        # gpt-5: input 1.25, cached 0.125, output 10
        (
            "openai",
            "gpt-5-2025-08-07",
            Tokens(prompt=10_000, cached=8_000, completion=1_000),
            0.0025 + 0.001 + 0.01,
        ),
        # claude-sonnet-4-5: input 3, read 0.30, write 3.75 or 6 for an hour, output 15; twice that
        # (output 22.50) above 200,000 (platform.claude.com/docs/en/about-claude/pricing)
        (
            "anthropic",
            "claude-sonnet-4-5-20250929",
            Tokens(prompt=10_000, completion=1_000),
            0.03 + 0.015,
        ),
        (
            "anthropic",
            "claude-sonnet-4-5",
            Tokens(prompt=10_000, cached=2_000, written=4_000),
            0.012 + 0.0006 + 0.015,
        ),
        (
            "anthropic",
            "claude-sonnet-4-5",
            Tokens(prompt=10_000, written=4_000, written_1h=3_000),
            0.018 + 0.02175,
        ),
        (
            "anthropic",
            "claude-sonnet-4-5",
            Tokens(prompt=300_000, cached=290_000, completion=1_000),
            0.06 + 0.174 + 0.0225,
        ),
        # gemini-2.5-pro: input 1.25, cached 0.125, output 10; above 200,000: 2.50, 0.25, 15
        # (ai.google.dev/gemini-api/docs/pricing)
        (
            "google",
            "gemini-2.5-pro",
            Tokens(prompt=100_000, cached=60_000, completion=2_000),
            0.05 + 0.0075 + 0.02,
        ),
        (
            "google",
            "models/gemini-2.5-pro",
            Tokens(prompt=400_000, cached=300_000, completion=2_000),
            0.25 + 0.075 + 0.03,
        ),
    ],
)
def test_an_answer_costs_what_the_price_list_says(
    provider: str, model: str, tokens: Tokens, dollars: float
) -> None:
    assert price(provider, model).cost_usd(tokens) == pytest.approx(dollars)


@pytest.mark.parametrize(
    ("provider", "model", "border", "below", "above"),
    [
        ("google", "gemini-2.5-pro", 200_000, 1.25, 2.5),
        ("anthropic", "claude-sonnet-4-5", 200_000, 3, 6),
        ("openai", "gpt-5.4", 272_000, 2.5, 5),
    ],
)
def test_a_tier_begins_behind_its_border_and_holds_for_the_whole_prompt(
    provider: str, model: str, border: int, below: float, above: float
) -> None:
    found = price(provider, model)
    assert found.input_usd(Tokens(prompt=border)) == pytest.approx(border * below / MILLION)
    assert found.input_usd(Tokens(prompt=border + 1)) == pytest.approx(
        (border + 1) * above / MILLION
    )


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "gpt-5"),
        ("anthropic", "claude-sonnet-4-5"),
        ("anthropic", "claude-opus-4-1"),
        ("google", "gemini-3.5-flash"),
    ],
)
@given(tokens=some_tokens())
def test_a_batch_costs_half(provider: str, model: str, tokens: Tokens) -> None:
    found = price(provider, model)
    whole = found.cost_usd(tokens)
    assert whole is not None
    assert found.cost_usd(tokens, batch=True) == pytest.approx(whole / 2)


def test_cached_tokens_keep_their_price_in_a_batch_where_the_price_list_says_so() -> None:
    # gemini-2.5-pro in batch: input 0.625, cached 0.125 as ever
    # (ai.google.dev/gemini-api/docs/pricing)
    found = price("google", "gemini-2.5-pro")
    assert found.input_usd(Tokens(prompt=100_000, cached=60_000), batch=True) == pytest.approx(
        0.025 + 0.0075
    )


def test_a_write_for_an_hour_costs_twice_the_input_where_only_the_short_one_has_a_price() -> None:
    # anthropic/claude-sonnet-4.5 at OpenRouter: input 3, write 3.75
    found = price("openrouter", "anthropic/claude-sonnet-4.5")
    assert found.input_usd(Tokens(prompt=10_000, written=10_000)) == pytest.approx(0.0375)
    assert found.input_usd(
        Tokens(prompt=10_000, written=10_000, written_1h=10_000)
    ) == pytest.approx(0.06)


@pytest.mark.parametrize(
    ("provider", "model"), [("openai", "no-such-model"), ("no-such-provider", "gpt-5"), ("", "")]
)
def test_an_unknown_model_has_no_price(provider: str, model: str) -> None:
    assert find_price(provider, model) is None


@pytest.mark.parametrize(
    "tokens",
    [
        Tokens(prompt=1, cached=2),
        Tokens(prompt=3, cached=2, written=2),
        Tokens(prompt=3, written=1, written_1h=2),
        Tokens(prompt=-1),
        Tokens(prompt=1, completion=-1),
    ],
)
def test_counts_that_contradict_each_other_have_no_price(tokens: Tokens) -> None:
    found = price("anthropic", "claude-sonnet-4-5")
    assert found.cost_usd(tokens) is None
    assert found.input_usd(tokens) is None


def test_an_empty_answer_costs_nothing() -> None:
    assert price("openai", "gpt-4o-mini").cost_usd(Tokens(prompt=0)) == 0


@every_model
@given(tokens=some_tokens(), batch=st.booleans())
def test_genai_prices_reckons_the_same(
    provider: str, model: str, tokens: Tokens, batch: bool
) -> None:
    usage = genai_prices.Usage(
        input_tokens=tokens.prompt,
        cache_read_tokens=tokens.cached,
        cache_write_tokens=tokens.written,
        output_tokens=tokens.completion,
    )
    context = {"processing": "batch"} if batch and model not in NO_BATCH_PRICE else None
    theirs = genai_prices.calc_price(usage, model, provider_id=provider, price_context=context)
    share = 0.5 if batch and context is None else 1.0
    ours = replace(tokens, written_1h=0)
    found = price(provider, model)
    assert found.cost_usd(ours, batch=batch) == pytest.approx(float(theirs.total_price) * share)
    assert found.input_usd(ours, batch=batch) == pytest.approx(float(theirs.input_price) * share)


@every_model
@given(tokens=some_tokens(), more=counts, batch=st.booleans())
def test_more_tokens_of_any_kind_never_cost_less(
    provider: str, model: str, tokens: Tokens, more: int, batch: bool
) -> None:
    prompt = tokens.prompt + more
    found = price(provider, model)
    least = found.cost_usd(tokens, batch=batch)
    assert least is not None
    for larger in (
        replace(tokens, prompt=prompt),
        replace(tokens, prompt=prompt, cached=tokens.cached + more),
        replace(tokens, prompt=prompt, written=tokens.written + more),
        replace(
            tokens,
            prompt=prompt,
            written=tokens.written + more,
            written_1h=tokens.written_1h + more,
        ),
        replace(tokens, completion=tokens.completion + more),
    ):
        cost = found.cost_usd(larger, batch=batch)
        assert cost is not None
        assert cost >= least * (1 - 1e-9)


@every_model
@given(prefix=counts, query=counts, n=st.integers(2, 500), batch=st.booleans(), hour=st.booleans())
def test_caching_pays_from_the_second_query_on_and_for_an_hour_from_the_third(
    provider: str, model: str, prefix: int, query: int, n: int, batch: bool, hour: bool
) -> None:
    found = price(provider, model)
    whole = Tokens(prompt=prefix + query)
    write = found.input_usd(
        replace(whole, written=prefix, written_1h=prefix if hour else 0), batch=batch
    )
    read = found.input_usd(replace(whole, cached=prefix), batch=batch)
    plain = found.input_usd(whole, batch=batch)
    assert write is not None
    assert read is not None
    assert plain is not None
    n_queries = n + hour
    assert write + (n_queries - 1) * read <= n_queries * plain * (1 + 1e-9)


def test_a_gemini_cache_is_paid_by_the_hour() -> None:
    # gemini-2.5-pro: 4.50, gemini-2.5-flash: 1.00 a million tokens an hour
    # (ai.google.dev/gemini-api/docs/pricing)
    assert price("google", "gemini-2.5-pro").storage_usd(200_000, 0.5) == pytest.approx(0.45)
    assert price("google", "gemini-2.5-flash").storage_usd(MILLION, 2) == pytest.approx(2.0)
    assert price("openai", "gpt-5").storage_usd(MILLION, 1) is None


@pytest.mark.parametrize(
    ("provider", "model", "window"),
    [
        ("openai", "gpt-4o-mini", 128_000),
        ("anthropic", "claude-haiku-4-5", 200_000),
        ("google", "gemini-2.5-flash", 1_048_576),
        ("google", "gemini-2.5-pro", 1_048_576),
    ],
)
def test_a_context_window_is_known(provider: str, model: str, window: int) -> None:
    assert price(provider, model).context_window == window


def test_every_model_on_the_list_can_be_priced() -> None:
    from genai_prices.data_snapshot import get_snapshot

    providers = {provider.id: provider for provider in get_snapshot().providers}
    tokens = Tokens(prompt=300_000, cached=1_000, written=1_000, completion=1_000)
    for provider in ("openai", "anthropic", "google", "openrouter", "deepseek"):
        for model in providers[provider].models:
            found = find_price(provider, model.id)
            if found is not None:  # some ids there are prefixes, which no name matches
                cost, in_batch = found.cost_usd(tokens), found.cost_usd(tokens, batch=True)
                assert cost is not None
                assert in_batch is not None
                assert 0 <= in_batch <= cost, model.id


def test_the_price_list_is_not_read_before_it_is_needed() -> None:
    code = "import sys, icl_harness.models.api.prices; print('genai_prices' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"
