"""A cluster over TLS: its servers are asked, and lanes served, over TLS too. The embedded server has no TLS."""

from pathlib import Path

import pytest
import trustme
from redis.exceptions import ConnectionError as RedisConnectionError

from engine.lanes.clients import command
from engine.lanes.topology import reading
from engine.supervision.child import Command, Process
from tests.support.needs import needs_program
from tests.support.ports import held_port
from tests.support.waiting import wait_until


@pytest.mark.long
async def test_every_connection_speaks_tls(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    with held_port() as port, held_port() as bus_port:
        places = {"port": "0", "tls-port": str(port), "cluster-port": str(bus_port), "dir": str(tmp_path)}
        files = {"tls-cert-file": "server.pem", "tls-key-file": "server.pem", "tls-ca-cert-file": "authority.pem"}
        kind = {"bind": "127.0.0.1", "tls-auth-clients": "no", "tls-cluster": "yes", "cluster-enabled": "yes"}
        settings = places | files | kind
        words = [word for name, value in settings.items() for word in (f"--{name}", value)]
        process = Process(
            Command(argv=(str(needs_program("redis-server")), *words), cwd=tmp_path, log_path=tmp_path / "redis.log")
        )
        try:
            url = f"://127.0.0.1:{port}?ssl_ca_certs={tmp_path / 'authority.pem'}"
            alone = reading(f"rediss{url}", timeout_s=5.0).nodes[0].client

            async def owns_all() -> bool:
                try:
                    await command(alone, "CLUSTER", "ADDSLOTSRANGE", 0, 16_383)
                except RedisConnectionError:
                    return False
                return True

            await wait_until(owns_all, what="the server answering")

            async def is_whole() -> bool:
                return b"cluster_state:ok" in await command(alone, "CLUSTER", "INFO")

            await wait_until(is_whole, what="the cluster being whole")
            await alone.aclose()
            topology = reading(f"rediss+cluster{url}", lanes=range(2), timeout_s=5.0)
            for node in topology.nodes:
                assert await command(node.client, "SET", f"{{hongbao:00{node.lane}}}:a", "1") is True
                assert node.place == f"127.0.0.1:{port}"
            await topology.aclose()
            plain = reading(f"redis+cluster://127.0.0.1:{port}", lanes=range(1), timeout_s=2.0)
            with pytest.raises(RedisConnectionError, match="no server of the cluster knows its slots"):
                await command(plain.nodes[0].client, "PING")
            await plain.aclose()
        finally:
            process.kill()
