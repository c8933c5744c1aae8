import random
from collections import Counter, defaultdict

import numpy as np
import pytest

from producers.catalogue import CATEGORIES, CatalogueUnreadable, Item, invent, read_catalogue, write_catalogue
from producers.events import encode
from producers.shop import SITTING_PAUSE_MS, Shop
from producers.shop_config import LIST_LENGTH, ShopConfig
from stream.behaviors import behavior_table
from stream.records import CatalogEntry, Event, event_decoder
from stream.settings import BehaviorSettings, FieldSettings

T0 = 1_700_000_000_000
SMALL = ShopConfig(users=50, items=80, seed=3, renew_every=100, swap_every=150)


def run(shop, n, step_ms=5):
    return [shop.step(T0 + step_ms * number) for number in range(n)]


def test_the_seed_decides_everything():
    one, other = Shop(SMALL, "r", T0), Shop(SMALL, "r", T0)
    assert run(one, 2000) == run(other, 2000)
    assert one.stock.items == other.stock.items
    assert one.best_reachable == other.best_reachable
    assert run(Shop(ShopConfig(users=50, items=80, seed=4), "r", T0), 200) != run(Shop(SMALL, "r", T0), 200)


def test_every_event_is_accepted_by_its_reader():
    decode = event_decoder(FieldSettings(), behavior_table(BehaviorSettings()))
    events = run(Shop(ShopConfig(users=100, items=100, impressions=True), "r", T0), 5000)
    assert all(isinstance(decode(encode(event)), Event) for event in events)
    assert len({event.event_id for event in events}) == len(events)
    assert {event.behavior for event in events} == {
        "view", "like", "cart", "buy", "share", "dislike", "return", "search", "impression",
    }  # fmt: skip


def test_impressions_are_off_by_default():
    assert "impression" not in {event.behavior for event in run(Shop(SMALL, "r", T0), 3000)}


def test_only_items_that_are_sold_are_viewed():
    shop = Shop(SMALL, "r", T0)
    sold, gone = set(), set()
    for number in range(3000):
        event = shop.step(T0 + number)
        for item in shop.stock.take_changes():
            (sold if item.available else gone).add(item.item_id)
        if event.behavior == "view":
            assert event.item_id in sold - gone
    assert len(gone) == 30
    assert len(shop.stock) == 80


class Oracle:
    """Knows the shop's inside before every view, and makes the best list by brute force."""

    def __init__(self, shop):
        self.shop = shop
        self.hits = self.scored = 0
        self.last = {}

    def step(self, now_ms):
        shop = self.shop
        lists = {}
        for user in shop.crowd.present:
            mood, boosts = shop._mood(user), shop._boosts(user)
            chances = (1 - sum(boosts.values())) * shop._tastes.distribution(mood)
            for slot, share in boosts.items():
                chances[slot] += share
            lists[user.user_id] = [shop.stock.at(slot).item_id for slot in np.argsort(-chances)[:LIST_LENGTH]]
        event = shop.step(now_ms)
        if event.behavior == "view":
            if event.user_id in self.last:
                assert event.item_id != self.last[event.user_id]
                self.scored += 1
                self.hits += event.item_id in lists[event.user_id]
            self.last[event.user_id] = event.item_id


@pytest.mark.parametrize("launches", [False, True])
def test_the_best_reachable_hit_rate_is_what_an_oracle_reaches(launches):
    shop = Shop(ShopConfig(users=40, items=150, seed=11, renew_every=0, swap_every=200), "r", T0)
    oracle = Oracle(shop)
    for number in range(6000):
        if launches and number % 1000 == 500:
            shop.launch(T0 + number)
        oracle.step(T0 + number)
    assert oracle.scored == shop.n_scored > 4000
    # Three standard deviations of 4,000 throws are about 0.02.
    assert oracle.hits / oracle.scored == pytest.approx(shop.best_reachable, abs=0.02)


def test_the_usual_shop_leaves_room_above_popularity():
    shop = Shop(ShopConfig(), "r", T0)
    events = [event for event in run(shop, 30_000) if event.behavior == "view"]
    top = {item for item, _ in Counter(event.item_id for event in events).most_common(LIST_LENGTH)}
    popular = sum(event.item_id in top for event in events) / len(events)
    assert 0.7 < shop.best_reachable < 0.85
    assert 0.1 < popular < 0.25


def markov_hit_rate(events, last, followers):
    hits = n = 0
    for event in events:
        if event.behavior != "view":
            continue
        before = last.get(event.user_id)
        if before is not None:
            hits += event.item_id in [item for item, _ in followers[before].most_common(LIST_LENGTH)]
            followers[before][event.item_id] += 1
            n += 1
        last[event.user_id] = event.item_id
    return hits / n


def test_a_drift_makes_what_was_learned_worthless_and_it_can_be_learned_again():
    shop = Shop(ShopConfig(users=200, items=100, seed=5), "r", T0)
    last, followers = {}, defaultdict(Counter)
    markov_hit_rate(run(shop, 10_000), last, followers)
    before = markov_hit_rate(run(shop, 1000), last, followers)
    shop.drift()
    after = markov_hit_rate(run(shop, 1000), last, followers)
    markov_hit_rate(run(shop, 30_000), last, followers)
    recovered = markov_hit_rate(run(shop, 1000), last, followers)
    assert before > 0.6
    assert after < before - 0.25
    assert recovered > after + 0.2


def test_a_launched_item_is_viewed_by_many_at_once_and_fades():
    shop = Shop(ShopConfig(), "r", T0)
    run(shop, 3000)
    shop.stock.take_changes()
    item = shop.launch(T0)
    withdrawn, new = shop.stock.take_changes()
    assert (withdrawn.available, new) == (False, item)
    first = [event for event in run(shop, 500) if event.behavior == "view"]
    share = sum(event.item_id == item.item_id for event in first) / len(first)
    assert 0.07 < share < 0.22
    assert len({event.user_id for event in first if event.item_id == item.item_id}) > 20
    run(shop, 10_000)
    assert not shop._launched


def test_a_view_after_a_long_pause_is_not_scored():
    shop = Shop(ShopConfig(users=1, items=60, active=1.0), "r", T0)
    run(shop, 200, step_ms=SITTING_PAUSE_MS + 1)
    assert shop.n_scored == 0
    assert shop.best_reachable is None
    run(shop, 200)
    assert shop.best_reachable_recent is not None


def test_sittings_have_ids_of_their_own():
    events = run(Shop(SMALL, "r", T0), 2000)
    sittings = Counter(event.session_id for event in events)
    assert 5 < len(events) / len(sittings) < 15


@pytest.mark.parametrize("wrong", [{"users": 0}, {"items": 2 * LIST_LENGTH - 1}, {"personas": 0}])
def test_a_shop_that_makes_no_sense(wrong):
    with pytest.raises(ValueError, match="expected"):
        ShopConfig(**wrong)


def test_a_catalogue_file_is_the_shop_of_the_next_run(tmp_path):
    path = tmp_path / "items.jsonl"
    shop = Shop(SMALL, "r", T0)
    run(shop, 1000)
    write_catalogue(path, shop.stock.take_changes())
    items = read_catalogue(path)
    assert sorted(item.item_id for item in items) == sorted(item.item_id for item in shop.stock.items)
    again = Shop(SMALL, "s", T0, items)
    assert len(again.stock) == len(items)
    run(again, 500)
    assert len({item.item_id for item in again.stock.items}) == 80


def test_a_catalogue_of_ones_own(tmp_path):
    path = tmp_path / "items.jsonl"
    write_catalogue(path, [Item(f"sku-{n}", f"Thing {n}", [f"c{n % 3}"], 1.0) for n in range(50)])
    shop = Shop(ShopConfig(users=20, items=50, renew_every=100), "r", T0, read_catalogue(path))
    assert {event.item_id for event in run(shop, 90) if event.behavior == "view"} <= {f"sku-{n}" for n in range(50)}
    run(shop, 500)
    path.write_text('{"item_id": 5}\n')
    with pytest.raises(CatalogueUnreadable, match="line 1"):
        read_catalogue(path)


def test_invented_items_are_plausible_and_entries_readable():
    import msgspec

    from producers.catalogue import entry

    rng = random.Random(0)
    items = [invent(n, category, T0, rng) for n, category in enumerate(CATEGORIES)]
    assert len({item.title for item in items}) == len(CATEGORIES)
    for item in items:
        read = msgspec.json.decode(entry(item), type=CatalogEntry)
        assert (read.title, read.categories, read.price) == (item.title, item.categories, item.price)
        assert (read.available, read.created_at) == (True, T0)
        assert item.price > 0
