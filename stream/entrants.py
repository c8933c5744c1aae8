"""Who takes part in a comparison: models by name, their settings, and how each is built."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from stream.errors import StartupError
from stream.recorded import check_model, model_config, parse_setting
from stream.settings import Settings

if TYPE_CHECKING:
    from online_model.config import ModelConfig
    from online_model.evaluation.contestant import Racer
    from online_model.evaluation.sequences import Step

NIGHTLY = "nightly:"


@dataclass(frozen=True, slots=True)
class Entrant:
    """A model that takes part.

    Attributes:
        name: What tables call it.
        kind: Which learner it is.
        config: Its settings.
        nightly: It is trained anew before each tenth of the stream, instead of learning live.
    """

    name: str
    kind: str
    config: "ModelConfig"
    nightly: bool = False

    def with_settings(self, settings: Mapping[str, Any]) -> "Entrant":
        """Return the same model with some settings changed.

        Raises:
            StartupError: One is out of range.
        """
        try:
            return replace(self, config=replace(self.config, **settings))
        except ValueError as error:
            raise StartupError(f"settings of {self.name}: {error}") from error

    def build(
        self,
        read: "Callable[[], Iterator[Step]]",
        n_events: int,
        epochs: int,
        on_training: Callable[[int], None] = lambda n_events: None,
    ) -> "Racer":
        """Return an empty model.

        Args:
            read: Returns the stream from its beginning.
            n_events: Events in it.
            epochs: Times that a nightly training goes through its events.
            on_training: Told of each mini-batch of a nightly training.
        """
        from online_model.evaluation.retrained import Retrained
        from online_model.learners import build

        if not self.nightly:
            return build(self.kind, self.config)
        return Retrained(
            lambda: build(self.kind, self.config),
            read,
            n_events,
            batch_size=self.config.batch_size,
            epochs=epochs,
            on_training=on_training,
        )


def entrants(settings: Settings, models: str, changes: Iterable[str], given: dict[str, Any]) -> list[Entrant]:
    """Return the models that `--models` names.

    Args:
        settings: The program's.
        models: Names of learners, parted by commas; `LABEL=LEARNER` gives one a name of its own, and
            `nightly:NAME` is the offline rival of the model or learner of that name, with its settings.
        changes: NAME.SETTING=VALUE, for settings that differ from the program's.
        given: Settings of the model that all of them have.

    Raises:
        StartupError: A name is unknown or given twice, or a setting is out of range.
    """
    found: dict[str, Entrant] = {}
    base = model_config(settings, given)
    words = [word.strip() for word in models.split(",") if word.strip()]
    if not words:
        raise StartupError("--models names no model")
    # Offline rivals take the settings of the live ones, which may stand after them.
    for word in sorted(words, key=lambda word: word.startswith(NIGHTLY)):
        if word.startswith(NIGHTLY):
            other = found.get(word.removeprefix(NIGHTLY))
            kind = other.kind if other is not None else word.removeprefix(NIGHTLY)
            entrant = Entrant(word, check_model("--models", kind), base, nightly=True)
        else:
            label, equals, kind = word.partition("=")
            entrant = Entrant(label, check_model("--models", kind if equals else label), base)
        if entrant.name in found:
            raise StartupError(f"--models names {entrant.name} twice: write LABEL=LEARNER to give one another name")
        found[entrant.name] = entrant
    changed = _changed(found, changes)
    return [changed[word.partition("=")[0]] for word in words]


def _changed(found: dict[str, Entrant], changes: Iterable[str]) -> dict[str, Entrant]:
    given: dict[str, dict[str, Any]] = {name: {} for name in found}
    for change in changes:
        label, setting = split_change("--set", change, found)
        name, value = parse_setting("--set", setting)
        refuse_batch_size("--set", name)
        given[label][name] = value
    return {
        # What is set for the live one holds for its offline rival too, unless that is told otherwise.
        name: entrant.with_settings({**given.get(name.removeprefix(NIGHTLY), {}), **given[name]})
        for name, entrant in found.items()
    }


def split_change(option: str, change: str, names: Iterable[str]) -> tuple[str, str]:
    """Return model and rest of NAME.SETTING=...

    Raises:
        StartupError: It is none, or no such model takes part.
    """
    label, dot, rest = change.partition(".")
    if not dot or "=" in label:
        raise StartupError(f"{option} must be MODEL.SETTING=VALUE, not {change!r}")
    if label not in names:
        raise StartupError(f"{option}: no model {label!r} takes part; there are {', '.join(names)}")
    return label, rest


def refuse_batch_size(option: str, name: str) -> None:
    """Hold that all models meet the same mini-batches.

    Raises:
        StartupError: It is the setting that would change that.
    """
    if name == "batch_size":
        raise StartupError(f"{option}: all models meet the same mini-batches: set MILLSTREAM_MODEL__BATCH_SIZE")
