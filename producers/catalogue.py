"""What the synthetic shop sells: plausible titles by category, entries for the catalogue topic, and their file."""

import random
from collections.abc import Iterable
from pathlib import Path

import msgspec
from msgspec import Struct

CATEGORIES: dict[str, tuple[tuple[str, ...], float]] = {
    "Cookware": (("Frying Pan", "Stockpot", "Wok", "Casserole", "Saucepan", "Roasting Tin"), 45),
    "Coffee": (("Grinder", "Moka Pot", "Pour-Over Set", "Espresso Cup", "Milk Jug", "Coffee Scale"), 38),
    "Running": (("Running Shoe", "Running Vest", "Trail Jacket", "Running Belt", "Race Short", "Gaiter"), 70),
    "Cycling": (("Helmet", "Bike Light", "Saddle", "Pannier", "Floor Pump", "Cycling Glove"), 55),
    "Camping": (("Tent", "Sleeping Bag", "Camp Stove", "Headlamp", "Camp Chair", "Water Filter"), 85),
    "Garden": (("Planter", "Pruner", "Watering Can", "Trellis", "Garden Fork", "Bird Feeder"), 30),
    "Lighting": (("Desk Lamp", "Floor Lamp", "Pendant Light", "Wall Light", "Lantern", "Table Lamp"), 65),
    "Furniture": (("Side Table", "Bookcase", "Armchair", "Bench", "Stool", "Coat Stand"), 160),
    "Bedding": (("Duvet Cover", "Pillow", "Throw", "Fitted Sheet", "Quilt", "Bolster"), 50),
    "Stationery": (("Notebook", "Fountain Pen", "Desk Pad", "Pencil Case", "Planner", "Ink Bottle"), 18),
    "Toys": (("Puzzle", "Wooden Train", "Building Set", "Kite", "Plush Bear", "Marble Run"), 25),
    "Board Games": (("Strategy Game", "Card Game", "Party Game", "Dice Set", "Chess Set", "Word Game"), 32),
    "Audio": (("Headphones", "Speaker", "Turntable", "Microphone", "Amplifier", "Earphones"), 120),
    "Photography": (("Tripod", "Camera Bag", "Lens Filter", "Flash", "Camera Strap", "Photo Album"), 60),
    "Knitwear": (("Jumper", "Cardigan", "Beanie", "Scarf", "Mittens", "Slipover"), 58),
    "Bags": (("Backpack", "Tote", "Weekender", "Messenger Bag", "Wash Bag", "Wallet"), 75),
    "Skincare": (("Face Cream", "Cleanser", "Serum", "Hand Balm", "Body Oil", "Clay Mask"), 24),
    "Tea": (("Green Tea", "Teapot", "Oolong", "Herbal Infusion", "Tea Caddy", "Matcha Whisk"), 16),
    "Baking": (("Loaf Tin", "Mixing Bowl", "Rolling Pin", "Cake Stand", "Piping Set", "Proving Basket"), 22),
    "Yoga": (("Yoga Mat", "Yoga Block", "Bolster Cushion", "Yoga Strap", "Meditation Stool", "Foam Roller"), 34),
}
"""The kinds of things in each category, and what such a thing costs in the middle."""

_STYLES = (
    "Harbour", "Nordic", "Classic", "Alpine", "Linden", "Meridian", "Atlas", "Juniper", "Solstice", "Copper",
    "Willow", "Orchard", "Summit", "Heritage", "Ember", "Lagoon", "Pioneer", "Saffron", "Cobalt", "Birch",
)  # fmt: skip
_FINISHES = (
    "Walnut", "Slate", "Ivory", "Indigo", "Olive", "Charcoal", "Sand", "Rust", "Moss", "Pearl", "Graphite", "Amber",
)  # fmt: skip


class Item(Struct, frozen=True, omit_defaults=True):
    """An item as the catalogue file has it: the entry of the topic, and the id that is its key there."""

    item_id: str
    title: str
    categories: list[str]
    price: float
    available: bool = True
    created_at: int = 0


class CatalogueUnreadable(ValueError):
    """A catalogue file that cannot be used; the message names the line."""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Item).decode


def invent(number: int, category: str, created_at: int, rng: random.Random) -> Item:
    """Make up an item.

    Args:
        number: Makes its id; no two items of a shop have the same.
        category: One of `CATEGORIES`.
        created_at: When it came into the shop, in milliseconds since the epoch.
        rng: Chooses the words and the price.
    """
    kinds, middle = CATEGORIES[category]
    title = f"{rng.choice(_STYLES)} {rng.choice(kinds)}, {rng.choice(_FINISHES)}"
    price = round(max(1.0, middle * rng.lognormvariate(0, 0.5)) - 0.01, 2)
    return Item(f"i{number:05d}", title, [category], price, created_at=created_at)


def entry(item: Item) -> bytes:
    """Return the item's value for the catalogue topic; its key is the id."""
    values = msgspec.structs.asdict(item)
    del values["item_id"]
    return _encode({**values, "v": 1})


def write_catalogue(path: Path, items: Iterable[Item]) -> None:
    """Append items as JSONL; of several lines with one id the last is valid.

    Raises:
        OSError: The file cannot be written.
    """
    with path.open("ab") as file:
        file.writelines(_encode(item) + b"\n" for item in items)


def read_catalogue(path: Path) -> list[Item]:
    """Read the items that are available, in the order in which they came.

    Raises:
        CatalogueUnreadable: A line is no item.
        OSError: The file cannot be read.
    """
    items: dict[str, Item] = {}
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                item = _decode(line)
            except msgspec.MsgspecError as error:
                raise CatalogueUnreadable(f"{path}, line {number}: {error}") from error
            items[item.item_id] = item
    return [item for item in items.values() if item.available]
