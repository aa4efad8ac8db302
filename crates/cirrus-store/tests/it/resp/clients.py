"""What people do with redis-py, against a node. Arguments: protocol, host, ports (2: a cluster)."""

import sys

import redis

protocol, host, ports = int(sys.argv[1]), sys.argv[2], [int(port) for port in sys.argv[3:]]

if len(ports) == 1:
    client = redis.Redis(host=host, port=ports[0], protocol=protocol, client_name="test")
    assert client.ping()
    client.flushall()
    assert client.set("k", "v", ex=100) and client.get("k") == b"v"
    assert client.set("k", "w", nx=True) is None
    assert 98 <= client.ttl("k") <= 100
    assert client.incr("n", 5) == 5 and client.incrbyfloat("n", 0.5) == 5.5
    assert client.mset({"a": "1", "b": "2"}) and client.mget("a", "b", "c") == [b"1", b"2", None]
    large = bytes(range(256)) * 40_000
    assert client.set("large", large) and client.get("large") == large
    assert client.getrange("large", 256, 511) == bytes(range(256))
    assert client.rpush("q", "1", "2", "3") == 3 and client.blpop(["none", "q"], 1) == (
        [b"q", b"1"] if protocol == 3 else (b"q", b"1")
    )
    assert client.lrange("q", 0, -1) == [b"2", b"3"] and client.type("q") == b"list"
    pipe = client.pipeline(transaction=False)
    for index in range(1000):
        pipe.set(f"p:{index}", index)
    assert all(pipe.execute())
    assert sorted(client.scan_iter("p:*", count=37)) == sorted(b"p:%d" % i for i in range(1000))
    assert len(client.keys("p:?")) == 10
    assert client.dbsize() == 1000 + 6
    assert client.delete("a", "b", "c") == 2
    assert client.info("server")["redis_version"].startswith("7.")
    assert client.client_getname() in (b"test", "test")
    assert client.config_get("maxmemory")
    assert "get" in client.command()
    try:
        client.lpush("k", "x")
        raise SystemExit("a value took an item")
    except redis.ResponseError as error:
        assert "WRONGTYPE" in str(error), error
    client.set("gone", "x", px=1)
    while client.exists("gone"):
        pass
else:
    cluster = redis.RedisCluster(host=host, port=ports[0], protocol=protocol)
    for index in range(200):
        assert cluster.set(f"key:{index}", index)
    assert [int(cluster.get(f"key:{index}")) for index in range(200)] == list(range(200))
    # Each node has its own.
    counts = [redis.Redis(host=host, port=port).dbsize() for port in ports]
    assert sum(counts) == 200 and min(counts) > 50, counts
    assert cluster.mset({"{t}a": "1", "{t}b": "2"}) and cluster.mget("{t}a", "{t}b") == [b"1", b"2"]
    assert cluster.mget_nonatomic("key:1", "key:2", "key:3") == [b"1", b"2", b"3"]
    single = redis.Redis(host=host, port=ports[0])
    errors = []
    for command in (["GET", "key:%d"], ["MGET", "key:1", "key:2"]):
        for index in range(20):
            try:
                single.execute_command(*[a.replace("%d", str(index)) for a in command])
            except redis.ResponseError as error:
                errors.append(type(error).__name__ + " " + str(error))
    assert any("Moved" in error or "MOVED" in error for error in errors), errors
    assert any("CrossSlot" in error or "CROSSSLOT" in error for error in errors), errors
    assert cluster.cluster_keyslot("foo") == 12182
print("ok")
