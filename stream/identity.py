"""Which cluster and topics state belongs to: a topic made anew is another topic, its offsets mean something else."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

TAG_LENGTH = 6


@dataclass(frozen=True, slots=True)
class Identity:
    """Ids of a cluster and of topics in it.

    Attributes:
        cluster_id: Of the Kafka cluster.
        topic_ids: Topic name to topic id.
    """

    cluster_id: str
    topic_ids: Mapping[str, str]

    def tag(self, topic: str) -> str:
        """Return the first characters of the topic's id: short enough for each user's state."""
        return self.topic_ids[topic][:TAG_LENGTH]

    def difference(self, kept: "Identity") -> str | None:
        """Say in a clause how `kept`, what state was made from, differs from this; None when it does not.

        Topics that only one of the two knows do not count: topics may be added.

        >>> now = Identity("c", {"events": "B"})
        >>> now.difference(Identity("c", {"events": "A"}))
        'topic events was made anew (id A, now B)'
        """
        if kept.cluster_id != self.cluster_id:
            return f"this is another Kafka cluster (id {kept.cluster_id}, now {self.cluster_id})"
        for topic, topic_id in kept.topic_ids.items():
            now = self.topic_ids.get(topic, topic_id)
            if now != topic_id:
                return f"topic {topic} was made anew (id {topic_id}, now {now})"
        return None

    def dumps(self) -> bytes:
        """Return it as JSON."""
        return json.dumps({"cluster_id": self.cluster_id, "topic_ids": dict(self.topic_ids)}).encode()

    @classmethod
    def loads(cls, data: bytes | str) -> "Identity":
        """Read what `dumps` wrote."""
        fields = json.loads(data)
        return cls(fields["cluster_id"], fields["topic_ids"])
