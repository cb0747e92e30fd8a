"""Two confluent-kafka consumers share a topic of three partitions, with the protocol
that is named; what they read is copied to another topic in transactions, with the
group's offsets. Then a transaction is aborted, and a producer is fenced."""

import sys

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

bootstrap, topic, strategy = sys.argv[1:]
PARTITIONS, EACH = 3, 300
GROUP, OUT = topic + "-readers", topic + "-out"

producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
for i in range(EACH):
    for p in range(PARTITIONS):
        producer.produce(topic, partition=p, value=f"{i}")
assert producer.flush(60) == 0


def member(name):
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "client.id": name,
            "group.id": GROUP,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "partition.assignment.strategy": strategy,
            "session.timeout.ms": 6000,
            "heartbeat.interval.ms": 500,
        }
    )
    consumer.subscribe([topic])
    return consumer


def transactional(name):
    p = Producer({"bootstrap.servers": bootstrap, "transactional.id": name})
    p.init_transactions(60)
    return p


names = ("amy", "bob")
members = {name: member(name) for name in names}
copiers = {name: transactional(f"{topic}-{name}") for name in names}
# A member that is polled before the other has joined reads alone: what it has read
# is thrown away, and each begins at the committed offsets once both have a share.
while sorted(len(m.assignment()) for m in members.values()) != [1, 2]:
    for m in members.values():
        m.poll(0.1)
for m in members.values():
    for tp in m.assignment():
        m.seek(TopicPartition(topic, tp.partition, 0))

copied = 0
while copied < PARTITIONS * EACH:
    for name in names:
        batch = members[name].consume(100, 0.5)
        for message in batch:
            assert message.error() is None, message.error()
        if not batch:
            continue
        copiers[name].begin_transaction()
        for message in batch:
            copiers[name].produce(OUT, partition=message.partition(), value=message.value())
        copiers[name].send_offsets_to_transaction(
            members[name].position(members[name].assignment()),
            members[name].consumer_group_metadata(),
            60,
        )
        copiers[name].commit_transaction(60)
        copied += len(batch)
for m in members.values():
    m.close()

copiers["amy"].begin_transaction()
copiers["amy"].produce(OUT, partition=0, value="aborted")
copiers["amy"].flush(60)
copiers["amy"].abort_transaction(60)

copiers["bob"].begin_transaction()
heir = transactional(f"{topic}-bob")
try:
    copiers["bob"].produce(OUT, partition=0, value="of a zombie")
    copiers["bob"].commit_transaction(60)
    raise AssertionError("a producer that was fenced could commit")
except KafkaException as e:
    assert e.args[0].fatal(), e
    assert e.args[0].code() in (KafkaError._FENCED, KafkaError.PRODUCER_FENCED), e
heir.begin_transaction()
for p in range(PARTITIONS):
    heir.produce(OUT, partition=p, value="end")
heir.commit_transaction(60)

check = Consumer(
    {"bootstrap.servers": bootstrap, "group.id": GROUP + "-check",
     "auto.offset.reset": "earliest", "isolation.level": "read_committed"}
)
check.subscribe([OUT])
seen = {p: [] for p in range(PARTITIONS)}
while any(values[-1:] != ["end"] for values in seen.values()):
    message = check.poll(60)
    assert message is not None, {p: len(v) for p, v in seen.items()}
    assert message.error() is None, message.error()
    seen[message.partition()].append(message.value().decode())
for p, values in seen.items():
    assert values == [f"{i}" for i in range(EACH)] + ["end"], (p, values)
check.close()
offsets = Consumer({"bootstrap.servers": bootstrap, "group.id": GROUP})
for tp in offsets.committed([TopicPartition(topic, p) for p in range(PARTITIONS)], 60):
    assert tp.offset == EACH, tp
offsets.close()
print(f"{copied} records copied")
