"""A stream of events that has something of everything: what people do in a shop, seeded."""

import random

START = 1_700_000_000_000


def events(n, seed=1, users=60, items=120):
    """Yield `n` events: all roles, late ones, too late ones, repeated event ids, new sittings."""
    dice = random.Random(seed)
    now = {}
    ids = {}
    for number in range(n):
        user = f"u{dice.randrange(users)}"
        clock = now[user] = now.get(user, START) + dice.choice([5_000, 20_000, 90_000, 3_000_000])
        event = {"user_id": user, "behavior": dice.choice(BEHAVIORS), "timestamp": clock}
        if event["behavior"] == "impression":
            event["items"] = [f"i{dice.randrange(items)}" for _ in range(5)]
        elif event["behavior"] == "search":
            event["query"] = "shoes"
        else:
            event["item_id"] = f"i{dice.randrange(items)}"
        chance = dice.random()
        if chance < 0.05:
            event["timestamp"] -= dice.randrange(1_000, 500_000)  # late, and allowed to be
        elif chance < 0.07:
            event["timestamp"] -= 20_000_000  # too late, unless it is the user's first
        if chance > 0.6:
            event["event_id"] = f"e{number}"
            if chance > 0.9 and user in ids:
                event["event_id"] = ids[user]
            ids[user] = event["event_id"]
        yield event


BEHAVIORS = ["view"] * 8 + ["click", "play", "like", "cart", "purchase", "dislike", "return", "impression", "search"]
