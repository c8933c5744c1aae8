import socket
from pathlib import Path

import pytest

from stream.brokers.errors import BrokerError
from stream.brokers.folder import explain, stored_cluster_id
from stream.brokers.ports import HIGHEST_PORT, LOOPBACK, LOWEST_PORT, free_ports, is_free
from stream.brokers.properties import parse, render, server_properties

META = "#\nnode.id={node}\ndirectory.id=x\nversion={version}\ncluster.id=abc\n"


def _meta(folder: Path, node: int = 1, version: int = 1) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "meta.properties").write_text(META.format(node=node, version=version))


def test_a_new_or_empty_folder_has_no_cluster(tmp_path: Path) -> None:
    assert stored_cluster_id(tmp_path / "new") is None
    assert stored_cluster_id(tmp_path) is None


def test_an_unfinished_start_is_taken_up_again(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "server.properties").write_text("")
    assert stored_cluster_id(tmp_path) is None


def test_our_folder_says_its_cluster(tmp_path: Path) -> None:
    _meta(tmp_path / "log")
    assert stored_cluster_id(tmp_path) == "abc"


def test_somebody_elses_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(BrokerError, match="neither empty nor a local Kafka's data folder"):
        stored_cluster_id(tmp_path)


def test_another_kafkas_log_folder(tmp_path: Path) -> None:
    _meta(tmp_path)
    with pytest.raises(BrokerError, match=r"another Kafka \(cluster abc\)"):
        stored_cluster_id(tmp_path)


@pytest.mark.parametrize(("node", "version"), [(2, 1), (1, 0)])
def test_another_node_or_format(tmp_path: Path, node: int, version: int) -> None:
    _meta(tmp_path / "log", node, version)
    with pytest.raises(BrokerError, match="of another cluster or format"):
        stored_cluster_id(tmp_path)


def test_an_empty_log_is_explained_too() -> None:
    assert explain("") == "its log is empty"


def test_the_properties_survive_java_escapes(tmp_path: Path) -> None:
    properties = server_properties(1, 2, tmp_path)
    assert parse(render(properties)) == properties
    assert all(LOOPBACK in listener for listener in properties["listeners"].split(","))


def test_a_port_that_somebody_listens_on_is_not_free() -> None:
    with socket.socket() as server:
        server.bind((LOOPBACK, 0))
        server.listen()
        assert not is_free(server.getsockname()[1])


def test_free_ports_are_distinct_and_never_of_the_range_for_outgoing_connections() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    assert all(LOWEST_PORT <= port <= HIGHEST_PORT for port in ports)
