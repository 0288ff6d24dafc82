"""Real servers for tests and benchmarks: started on loopback, on free ports, stopped after.

One module a server; each is a :class:`~kvfs.testing.servers.base.Server`::

    @pytest.fixture(scope="session")
    def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
        with Etcd(tmp_path_factory.mktemp("etcd")) as server:
            yield server
"""
