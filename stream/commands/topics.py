"""`millstream topics`: create what is missing, and say what differs."""

import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from stream.settings import Settings
from stream.topics.cluster import Cluster, ClusterFacts
from stream.topics.compare import Finding, compare, event_partitions, warnings
from stream.topics.expected import expected_topics
from stream.topics.preflight import ask, create_missing, refused

app = typer.Typer(help="The topics of this application.", no_args_is_help=True)


@app.command()
def create(context: typer.Context) -> None:
    """Create the topics that do not exist yet; an existing topic is never altered."""
    settings: Settings = context.obj
    created, facts = create_missing(settings)
    for topic in created:
        partitions = f"{topic.partitions} partition" + ("" if topic.partitions == 1 else "s")
        typer.echo(f"created {topic.name} ({partitions}, {topic.config['cleanup.policy']})")
    if not created:
        typer.echo("every topic exists")
    for warning in warnings(facts):
        typer.echo(f"warning: {warning}", err=True)


@app.command()
def describe(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="one object instead of the table")] = False,
) -> None:
    """Show the topics and what differs from what is expected; exit code 1 if the worker could not start with them."""
    settings: Settings = context.obj
    cluster = Cluster(settings)
    facts = ask(cluster, settings)
    findings = compare(settings, facts)
    refusals = refused(cluster, settings, facts)
    if as_json:
        typer.echo(json.dumps(_report(settings, facts, findings) | {"refusals": refusals}))
    else:
        _print(settings, facts, findings)
        for line in refusals:
            typer.echo(f"STOPS THE WORKER: {line}")
        if not findings and not refusals:
            typer.echo("everything is as expected")
    if refusals or any(finding.stops for finding in findings):
        raise typer.Exit(1)


def _report(settings: Settings, facts: ClusterFacts, findings: list[Finding]) -> dict[str, Any]:
    topics = {
        name: {"partitions": topic.partitions, "replicas": topic.replicas} for name, topic in facts.topics.items()
    }
    differences = [{"topic": f.topic, "difference": f.text, "stops": f.stops} for f in findings]
    return {
        "cluster_id": facts.cluster_id,
        "brokers": facts.n_brokers,
        "topics": topics,
        "differences": differences,
        "warnings": list(warnings(facts)),
        "settings": {"app_id": settings.app_id},
    }


def _print(settings: Settings, facts: ClusterFacts, findings: list[Finding]) -> None:
    table = Table("topic", "partitions", "replicas", "cleanup", box=None, pad_edge=False)
    for expected in expected_topics(settings, event_partitions(settings, facts)):
        actual = facts.topics.get(expected.name)
        if actual is None:
            table.add_row(expected.name, "-", "-", "-")
        else:
            cleanup = (actual.config or {}).get("cleanup.policy", "?")
            table.add_row(expected.name, str(actual.partitions), str(actual.replicas), cleanup)
    Console().print(table)
    for finding in findings:
        typer.echo(f"{'STOPS THE WORKER' if finding.stops else 'differs'}: {finding.topic} {finding.text}")
    for warning in warnings(facts):
        typer.echo(f"warning: {warning}")
