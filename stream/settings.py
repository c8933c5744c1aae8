"""Every setting of a process: environment over `millstream.toml` over defaults, read once in `main` and passed down."""

import difflib
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from online_model.config import ModelConfig
from stream.kafka_properties import clean_properties
from stream.secrets import Secret, is_secret, secret_of

ENV_PREFIX = "MILLSTREAM_"
ENV_DELIMITER = "__"
TOML_VARIABLE = "MILLSTREAM_CONFIG"
"""Names another file than `millstream.toml` in the current folder; read before the settings are."""

Exclusion = Literal["none", "current", "sitting", "bought", "seen"]
SHORTEST_TOKEN = 16
Start = int | Literal["earliest", "latest"]
"""Where a group without offsets begins; a number is milliseconds since the epoch."""


class SettingsError(ValueError):
    """A setting cannot be used; the message is the one line to show."""


class _Group(BaseModel):
    """A part of the settings: unknown names are errors, values do not change after the start."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def _supported_mechanism(value: object) -> object:
    if str(value).upper() in ("OAUTHBEARER", "GSSAPI"):
        raise ValueError(f"{value} is not supported: use PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512, or SSL with a key")
    return value


class KafkaSettings(_Group):
    """How to reach Kafka; names and values are librdkafka's, dots written as underscores."""

    bootstrap_servers: str | None = Field(None, description="host:port,... of the brokers")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="what the brokers' listener speaks; the SASL ones need a user name and a password"
    )
    sasl_mechanism: Annotated[
        Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"], BeforeValidator(_supported_mechanism)
    ] = Field("SCRAM-SHA-512", description="how the password is shown to the broker; used with the SASL protocols")
    sasl_username: str | None = Field(None, description="the user that the broker knows")
    sasl_password: SecretStr | None = Field(None, description="its password; `millstream config` hides it")
    sasl_password_file: Path | None = Field(None, description="a file that holds the password, instead of it")
    ssl_ca_location: Path | None = Field(
        None, description="file (or folder) of the authorities that are trusted, PEM; the system's by default"
    )
    ssl_certificate_location: Path | None = Field(None, description="the client's certificate, PEM")
    ssl_key_location: Path | None = Field(None, description="the client's key, PEM")
    ssl_key_password: SecretStr | None = Field(None, description="opens the client's key, where that is encrypted")
    ssl_key_password_file: Path | None = Field(None, description="a file that holds the key's password, instead of it")
    ssl_crl_location: Path | None = Field(None, description="file of revoked certificates, PEM")
    ssl_cipher_suites: str | None = Field(None, description="those allowed up to TLS 1.2, as OpenSSL writes them")
    ssl_endpoint_identification_algorithm: Literal["https", "none"] = Field(
        "https", description="whether a broker's certificate must name the address that was asked for"
    )
    session_timeout_seconds: float = Field(30.0, gt=0, description="how long a silent worker keeps its partitions")
    transaction_timeout_seconds: float = Field(
        10.0, gt=0, description="how long a dead worker's transaction stays open"
    )
    delivery_timeout_seconds: float = Field(
        30.0, gt=0, description="an output not acknowledged in this time ends the process"
    )
    properties: Annotated[dict[str, str | int | float | bool], AfterValidator(clean_properties)] = Field(
        default_factory=dict,
        description="anything else that librdkafka can be told: see [operations](operations.md#settings-of-librdkafka)",
    )

    @model_validator(mode="after")
    def _sasl_needs_credentials(self) -> "KafkaSettings":
        password = secret_of("sasl_password", self.sasl_password, self.sasl_password_file)
        secret_of("ssl_key_password", self.ssl_key_password, self.ssl_key_password_file)
        if self.security_protocol.startswith("SASL") and (self.sasl_username is None or password is None):
            raise ValueError(
                f"security_protocol={self.security_protocol} needs sasl_username, and sasl_password or "
                "sasl_password_file"
            )
        return self

    @property
    def password(self) -> Secret:
        """The user's password, wherever it is kept."""
        return secret_of("sasl_password", self.sasl_password, self.sasl_password_file)

    @property
    def key_password(self) -> Secret:
        """What opens the client's key, wherever it is kept."""
        return secret_of("ssl_key_password", self.ssl_key_password, self.ssl_key_password_file)


class TopicSettings(_Group):
    """Names of the topics. What is None is named after the application: `<app_id>-...`."""

    events: Annotated[list[str], NoDecode] = Field(
        ["user-events"], min_length=1, description="one or more, co-partitioned"
    )
    recommendations: str = Field("recommendations", description="the answers")
    rejected_events: str = Field("rejected-events", description="events that could not be used, with the reason")
    item_catalog: str = Field("item-catalog", description="what is known of items; written by the synthetic shop alone")
    user_profiles: str = Field("user-profiles", description="reserved: created, and not read yet")
    erasure_requests: str = Field("erasure-requests", description="reserved: created, and not read yet")
    training_examples: str | None = Field(
        None, description="the log that the trainer learns from; `<app_id>-training-examples` by default"
    )
    model_updates: str | None = Field(
        None, description="reserved: created, and not used yet; `<app_id>-model-updates` by default"
    )
    user_state: str | None = Field(
        None, description="the changelog of the users' states; `<app_id>-user-state` by default"
    )
    partitions: int = Field(
        16, ge=1, le=4096, description="of the events topic, when `millstream topics create` makes it"
    )

    @model_validator(mode="before")
    @classmethod
    def _split_list(cls, values: Any) -> Any:
        """Take the events topics as `a,b` too, which is how a list fits into one variable."""
        if isinstance(values, dict) and isinstance(events := values.get("events"), str):
            return {**values, "events": [name.strip() for name in events.split(",") if name.strip()]}
        return values


class WebSettings(_Group):
    """The worker's own address."""

    host: str = Field("127.0.0.1", description="where to listen; 0.0.0.0 is every address of the machine")
    port: int = Field(8080, ge=0, le=65535, description="0 takes a free one")
    token: SecretStr | None = Field(
        None, description="what a request must bring as `Authorization: Bearer ...`; `millstream config` hides it"
    )
    token_file: Path | None = Field(None, description="a file that holds the token, instead of it")
    max_connections: int = Field(512, ge=1, le=65536, description="open at once; further ones are closed unheard")
    max_lookups: int = Field(256, ge=1, le=65536, description="under way at once; further ones are answered with 503")
    lookups_per_second: int = Field(
        5000, ge=0, description="of all clients together; further ones are answered with 429; 0: any number"
    )
    advertised_url: str | None = Field(None, description="where other workers send requests for this one's users")

    @model_validator(mode="after")
    def _token_is_hard_to_guess(self) -> "WebSettings":
        token = self.bearer
        if token is not None and not (len(token) >= SHORTEST_TOKEN and token.isascii() and token.isprintable()):
            raise ValueError(f"token: expected at least {SHORTEST_TOKEN} printable ASCII characters")
        return self

    @property
    def bearer(self) -> Secret:
        """The token that requests must bring, wherever it is kept; None where they need none."""
        return secret_of("token", self.token, self.token_file)


class BehaviorSettings(_Group):
    """What each behaviour is to the recommender. Roles given here are added to the defaults, or replace them."""

    roles: dict[str, Literal["interest", "strong", "negative", "exposure", "signal"]] = Field(
        default_factory=dict, description="behaviour to role: interest, strong, negative, exposure or signal"
    )
    aliases: dict[str, str] = Field(
        default_factory=dict, description="a name in your records to the behaviour that it stands for"
    )


class FieldSettings(_Group):
    """Names of an event's fields in your records, where they differ."""

    user_id: str = Field("user_id", description="who did it")
    item_id: str = Field("item_id", description="what it was done with")
    behavior: str = Field("behavior", description="what was done: view, cart, buy, ...")
    timestamp: str = Field(
        "timestamp", description="when: integer milliseconds since the epoch, or RFC 3339 text with an offset"
    )
    event_id: str = Field("event_id", description="your own id of the event; a repetition is not applied again")
    session_id: str = Field("session_id", description="your own id of the visit; not used yet")
    recommendation_id: str = Field("recommendation_id", description="the list that the event answers")
    position: str = Field("position", description="place of the item in what was shown")
    surface: str = Field("surface", description="where in the application; the answer carries it too")
    dwell_seconds: str = Field("dwell_seconds", description="how long the user stayed")
    value: str = Field("value", description="a number that belongs to the event: a price, a rating")
    query: str = Field("query", description="what was searched for")
    context: str = Field("context", description="anything else, a flat object")
    items: str = Field("items", description="what an impression showed, in order")


class SequenceSettings(_Group):
    """How events become a user's sequence."""

    sitting_gap_seconds: int = Field(1800, gt=0, description="a longer pause ends a sitting")
    allowed_lateness_seconds: int = Field(600, ge=0, description="older than the user's newest event by more: rejected")
    allowed_future_seconds: int = Field(
        300, ge=0, description="ahead of the record's Kafka timestamp by more: rejected"
    )
    max_users: int = Field(5_000_000, ge=1, description="the least recently active are evicted beyond this")


class ListSettings(_Group):
    """The lists that are published."""

    k: int = Field(20, ge=1, le=100, description="items in a list")
    exclude: Exclusion = Field(
        "current", description="what may not stand in a list besides what the user turned down: see docs/records.md"
    )


class IntakeSettings(_Group):
    """How events are taken from Kafka."""

    max_batch: int = Field(256, ge=1, le=65536, description="events scored and published together, at most")
    commit_interval_ms: int = Field(
        100,
        ge=0,
        le=10_000,
        description="between two transactions: answers do not wait for them; a kill repeats the answers of this time",
    )
    max_learning_lag: int = Field(
        1024, ge=64, description="examples the trainer may be behind before a worker that is catching up waits for it"
    )


class OverloadSettings(_Group):
    """What gives way when live events come faster than they can be answered or learned; a backlog is no overload."""

    grow_after_seconds: float = Field(1.0, gt=0, description="live events wait for longer: batches grow, up to 8 times")
    batch_deadline_ms: int = Field(500, ge=1, description="a batch grows until it takes as long as this")
    coalesce_after_seconds: float = Field(
        5.0, gt=0, description="live events wait for longer: one list answers several of a user's events in a batch"
    )
    larger_steps_after_seconds: float = Field(
        30.0, gt=0, description="live examples wait for longer: steps of up to 8 mini-batches"
    )
    sample_after_seconds: float = Field(
        120.0,
        gt=0,
        description="live examples wait for longer: half of them are learned, at twice the lag a quarter ...",
    )

    @model_validator(mode="after")
    def _in_order(self) -> "OverloadSettings":
        if self.coalesce_after_seconds < self.grow_after_seconds:
            raise ValueError("coalesce_after_seconds must not be below grow_after_seconds")
        if self.sample_after_seconds < self.larger_steps_after_seconds:
            raise ValueError("sample_after_seconds must not be below larger_steps_after_seconds")
        return self


class TrainerSettings(_Group):
    """The one writer of the weights."""

    isolation: Literal["process", "thread"] = Field("process", description="where the trainer of a worker runs")
    niceness: int = Field(
        5, ge=0, le=19, description="how far its process gives way to answers where cores are short; see nice(1)"
    )
    by: Literal["time", "count"] = Field(
        "time", description="count: mini-batches are full, so two replays agree bit for bit"
    )
    batch_interval_ms: int = Field(250, ge=1, description="a mini-batch waits no longer than this for more examples")
    update_interval_ms: int = Field(
        200, ge=1, le=250, description="the serving copy is updated no more often than this"
    )
    checkpoint_interval_seconds: float = Field(
        60.0, gt=0, description="between two checkpoints; a stop writes one as well"
    )
    keep_checkpoints: int = Field(3, ge=1, description="checkpoints kept; older ones are deleted")


class WatchdogSettings(_Group):
    """When a worker that is alive and does not work is ended, for a supervisor to start it again.

    While the broker does not answer, no such time runs.
    """

    loop_seconds: float = Field(15.0, gt=0, description="the event loop stands still")
    assignment_seconds: float = Field(90.0, gt=0, description="no partitions are assigned and loaded")
    stall_seconds: float = Field(60.0, gt=0, description="events wait, and nothing is committed")
    learning_seconds: float = Field(120.0, gt=0, description="examples wait, and the trainer learns none")


class MeasureSettings(_Group):
    """The live measure: what share of users, and what live learning is compared with."""

    sample: float = Field(0.1, gt=0, le=1, description="share of users whose events are measured, by sticky hash")
    frozen_after: int = Field(50_000, ge=1, description="learned examples after which the frozen copy is taken")
    nightly_hours: float = Field(24.0, gt=0, description="event time between two refreshes of the nightly copy")


class GuardSettings(_Group):
    """What the trainer does where learning has done harm: see docs/protocol.md."""

    enabled: bool = Field(True, description="watch learning, and go back to an earlier checkpoint where that is better")
    max_returns: int = Field(
        3, ge=1, le=16, description="returns whose smaller steps may last at once; beyond it, learning goes on as it is"
    )
    keep_checkpoints: int = Field(
        8, ge=0, le=16, description="checkpoints kept besides the latest, at growing distances, to go back to"
    )


def _start(text: str) -> str:
    if text in ("earliest", "latest"):
        return text
    try:
        if datetime.fromisoformat(text).tzinfo is not None:
            return text
    except ValueError:
        pass
    raise ValueError(f"expected earliest, latest or a time with its offset such as 2026-01-31T08:00:00Z, got {text!r}")


class Settings(BaseSettings):
    """What a millstream process was told.

    >>> Settings(app_id="shop").training_examples_topic
    'shop-training-examples'
    """

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter=ENV_DELIMITER,
        extra="forbid",
        frozen=True,
        protected_namespaces=(),
        hide_input_in_errors=True,
    )

    app_id: str = Field(
        "millstream",
        pattern=r"^[A-Za-z0-9._-]{1,100}$",
        description="group, transactional ids, prefix of internal topics",
    )
    data_dir: Path = Field(Path(".millstream"), description="checkpoints, instance id, the key of the pseudonyms")
    start: Annotated[str, AfterValidator(_start)] = Field(
        "earliest", description="where a group without offsets begins: earliest, latest or a time"
    )
    answer_max_age: float | None = Field(
        None,
        gt=0,
        description="seconds; older events are learned and not answered (a first start on months of history)",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto",
        description="where the worker's model lives, unless model.device names a place; auto: CUDA if there is one",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="what is logged, to standard error"
    )
    stop_timeout_seconds: float = Field(20.0, gt=0, description="a stop that takes longer is cut short")
    kafka: KafkaSettings = KafkaSettings()
    topics: TopicSettings = TopicSettings()
    web: WebSettings = WebSettings()
    behaviors: BehaviorSettings = BehaviorSettings()
    fields: FieldSettings = FieldSettings()
    sequence: SequenceSettings = SequenceSettings()
    lists: ListSettings = ListSettings()
    intake: IntakeSettings = IntakeSettings()
    overload: OverloadSettings = OverloadSettings()
    trainer: TrainerSettings = TrainerSettings()
    measure: MeasureSettings = MeasureSettings()
    guard: GuardSettings = GuardSettings()
    watchdog: WatchdogSettings = WatchdogSettings()
    model: ModelConfig = ModelConfig()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments over environment over the TOML file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_path())

    @property
    def training_examples_topic(self) -> str:
        """The log that the trainer learns from."""
        return self.topics.training_examples or f"{self.app_id}-training-examples"

    @property
    def model_updates_topic(self) -> str:
        """Updates of the weights, when roles are split."""
        return self.topics.model_updates or f"{self.app_id}-model-updates"

    @property
    def user_state_topic(self) -> str:
        """The compacted changelog of the users' states."""
        return self.topics.user_state or f"{self.app_id}-user-state"

    @property
    def checkpoint_dir(self) -> Path:
        """Where the trainer keeps its checkpoints."""
        return self.data_dir / "checkpoints"

    def librdkafka(self) -> dict[str, str | int | float]:
        """Return the configuration that every confluent-kafka client of this process starts from.

        Raises:
            SettingsError: No broker is named.
        """
        kafka = self.kafka
        if kafka.bootstrap_servers is None:
            raise SettingsError("no Kafka is named: set MILLSTREAM_KAFKA__BOOTSTRAP_SERVERS to host:port of a broker")
        config: dict[str, str | int | float] = {
            "bootstrap.servers": kafka.bootstrap_servers,
            "security.protocol": kafka.security_protocol,
            "log_level": 3,  # errors: what is tried again by itself needs no line
        }
        return config | _credentials(kafka) | kafka.properties

    def start_ms(self) -> Start:
        """Return where to begin without offsets: a word, or milliseconds since the epoch."""
        if self.start == "earliest" or self.start == "latest":
            return self.start  # type: ignore[return-value]  # mypy does not narrow a str to these literals
        return int(datetime.fromisoformat(self.start).astimezone(UTC).timestamp() * 1000)


def _credentials(kafka: KafkaSettings) -> dict[str, str]:
    config: dict[str, str | Path | None] = {}
    if kafka.security_protocol.startswith("SASL"):
        mechanism = {"sasl.mechanism": kafka.sasl_mechanism}
        config |= mechanism | {"sasl.username": kafka.sasl_username, "sasl.password": kafka.password}
    if kafka.security_protocol.endswith("SSL"):
        config |= {
            "ssl.ca.location": kafka.ssl_ca_location,
            "ssl.certificate.location": kafka.ssl_certificate_location,
            "ssl.key.location": kafka.ssl_key_location,
            "ssl.key.password": kafka.key_password,
            "ssl.crl.location": kafka.ssl_crl_location,
            "ssl.cipher.suites": kafka.ssl_cipher_suites,
            "ssl.endpoint.identification.algorithm": kafka.ssl_endpoint_identification_algorithm,
        }
    return {name: str(value) for name, value in config.items() if value is not None}


def toml_path() -> Path:
    """Return the settings file that applies here; it need not exist."""
    return Path(os.environ.get(TOML_VARIABLE, "millstream.toml"))


def load_settings(overrides: Mapping[str, Any] | None = None) -> Settings:
    """Read the settings of this process.

    Args:
        overrides: Values that stand over environment and file, nested by group.

    Raises:
        SettingsError: A value cannot be used, or a variable or a name in the file is no setting.
    """
    if TOML_VARIABLE in os.environ and not toml_path().is_file():
        raise SettingsError(f"{TOML_VARIABLE} names {toml_path()}, which is no file")
    if unknown := unknown_variables(os.environ):
        name, near = next(iter(unknown.items()))
        raise SettingsError(
            f"{name} is no setting" + (f"; did you mean {near}?" if near else " (see `millstream config`)")
        )
    try:
        return Settings(**(overrides or {}))
    except ValidationError as error:
        raise SettingsError(_one_line(error)) from error
    except ValueError as error:  # a TOML file that does not parse, a variable that should be JSON and is not
        raise SettingsError(str(error).splitlines()[0]) from error


def variable_names(model: type[BaseModel] = Settings, prefix: str = ENV_PREFIX) -> list[str]:
    """Return every environment variable that is a setting.

    >>> "MILLSTREAM_WEB__PORT" in variable_names()
    True
    """
    names: list[str] = []
    for name, info in model.model_fields.items():
        variable = prefix + name.upper()
        kind = info.annotation
        names.append(variable)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            names.extend(variable_names(kind, variable + ENV_DELIMITER))
        elif hasattr(kind, "__dataclass_fields__"):
            names.extend(variable + ENV_DELIMITER + field.upper() for field in kind.__dataclass_fields__)  # type: ignore[union-attr]
    return names


_MAPPINGS = ("BEHAVIORS__ROLES", "BEHAVIORS__ALIASES", "KAFKA__PROPERTIES")
"""Settings of which an entry can be a variable of its own."""


def unknown_variables(environ: Mapping[str, str]) -> dict[str, str | None]:
    """Return the variables that look like settings and are none, each with the nearest real one.

    pydantic-settings passes over a misspelt variable in silence; a worker that starts with a default instead is worse
    than one that does not start.
    """
    known = variable_names()
    mappings = tuple(ENV_PREFIX + name + ENV_DELIMITER for name in _MAPPINGS)
    unknown = [
        name
        for name in environ
        if name.upper().startswith(ENV_PREFIX)
        and name.upper() not in known
        and name.upper() != TOML_VARIABLE
        and not name.upper().startswith(mappings)
    ]
    return {name: next(iter(difflib.get_close_matches(name.upper(), known, 1)), None) for name in sorted(unknown)}


def _one_line(error: ValidationError) -> str:
    first = error.errors()[0]
    location = ".".join(str(part) for part in first["loc"]) or "settings"
    variable = ENV_PREFIX + location.replace(".", ENV_DELIMITER).upper()
    message = "no such setting" if first["type"] == "extra_forbidden" else first["msg"]
    return f"{location} ({variable}): {message}{_given(first['type'], location, first.get('input'))}"


def _given(kind: str, location: str, value: object) -> str:
    """Show the value that cannot be used, unless it is a secret or may hold one: a whole group, an unknown name."""
    shown = isinstance(value, str | int | float) and kind != "extra_forbidden" and not is_secret(location)
    return f", got {value!r:.80}" if shown else ""
