"""Which hidden documents a validator scores: held before they run out, and never drawn from a pool it does not have."""

from dataclasses import replace
from pathlib import Path

import pytest

from ralph.data.corpora import Document
from ralph.data.partition import Fractions
from ralph.data.pool import open_pool
from ralph.data.refresh import refresh
from ralph.data.tokenizer import open_tokenizer
from ralph.errors import ConfigurationError, InfrastructureError
from ralph.protocol.pool import SHARDS, Subset
from tests.auditor.world import HIDDEN, World, prepare_data

LAST = HIDDEN.rotation_rounds - 1
NEWS = [Document(source="docs", text=f"News of day {day}: " + f"it rained {day} times. " * 12) for day in range(2600)]


@pytest.fixture(scope="module")
def scarce(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world whose shard ``confirm`` suffices for one rotation, before the last round of it."""
    world = World.create(tmp_path_factory.mktemp("scarce") / "world", prepare_data(tmp_path_factory.mktemp("scarce-data")))
    size = world.pools.newest.commitment.shard("confirm").documents
    rules = world.profile.rules
    hidden = rules.hidden.model_copy(update={"confirm": size * 3 // 5})
    world.profile = world.profile.model_copy(update={"rules": rules.model_copy(update={"hidden": hidden})})
    for _ in range(LAST):
        world.play()
    return world


def test_the_last_round_of_a_rotation_is_held_until_there_are_documents_for_the_next(scarce: World, tmp_path: Path) -> None:
    hidden = scarce._hidden(LAST, bytes(32))
    hidden.check_supply(LAST - 1)
    with pytest.raises(InfrastructureError, match=r"shard confirm .* run `ralph data refresh` and name the refreshed pool") as held:
        hidden.check_supply(LAST)
    assert held.value.code == "OPS-DATA"
    pools = scarce.pools
    try:
        for number in range(8):  # nothing is opened yet, so only a tenth at a time may be replaced
            refreshed(scarce, tmp_path / str(number), NEWS[: 300 * (number + 1)])
            try:
                scarce._hidden(LAST, bytes(32)).check_supply(LAST)
            except InfrastructureError:
                continue
            assert number > 0
            return
        raise AssertionError("eight refreshes did not end the hold")
    finally:
        scarce.pools = pools


def refreshed(world: World, out: Path, news: list[Document]) -> None:
    """Configure a further refresh."""
    old = world.pools.newest
    made = refresh(
        out,
        old,
        tokenizer=open_tokenizer(world.pools.data.tokenizer_bytes, vocabulary=world.pools.data.vocabulary),
        documents=news,
        fractions=Fractions(),
    )
    new = open_pool(out, key=old.key.path, expect=made.digest())
    world.pools = replace(world.pools, pools=(*world.pools.pools, new))


def test_rows_are_the_drawn_documents_and_no_two_subsets_share_one(scarce: World) -> None:
    hidden = scarce._hidden(LAST, bytes(32))
    opened = [hidden.opened(Subset(shard=name, rotation=0)) for name in SHARDS]
    texts = [one.tokens for subset in opened for one in subset.openings]
    assert len(set(texts)) == len(texts)
    for subset in opened:
        rows = hidden.rows(subset.subset)
        assert len(rows) == len(subset.openings) == scarce.profile.rules.hidden.count(subset.subset)


def test_a_pool_that_is_not_configured_holds_the_round(scarce: World) -> None:
    with pytest.raises(InfrastructureError, match="name it in `hidden` or `hidden_refreshed`") as held:
        scarce.pools.find(bytes(32))
    assert held.value.code == "OPS-DATA"


def test_refreshes_out_of_order_are_refused(scarce: World) -> None:
    with pytest.raises(ConfigurationError, match="oldest first") as caught:
        replace(scarce.pools, pools=(scarce.pools.newest, scarce.pools.newest))
    assert caught.value.code == "OPS-DATA"
