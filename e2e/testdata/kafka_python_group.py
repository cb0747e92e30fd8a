"""Two kafka-python consumers share a topic of three partitions in one group, commit,
and a third one finds where they stopped."""

import sys
import threading

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

bootstrap, topic = sys.argv[1:]
PARTITIONS, EACH = 3, 500
GROUP = topic + "-readers"


def produce(first, last):
    producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all")
    for i in range(first, last):
        for p in range(PARTITIONS):
            producer.send(topic, partition=p, value=b"%d" % i)
    producer.flush(60)
    producer.close()


def member():
    return KafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        group_id=GROUP,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        consumer_timeout_ms=60000,
        session_timeout_ms=6000,
        heartbeat_interval_ms=500,
    )


read = {}
lock = threading.Lock()
both = threading.Barrier(2, timeout=60)


def run(name):
    consumer = member()
    while len(consumer.assignment()) not in (1, 2):  # until both have a share
        consumer.poll(100)
        consumer.seek_to_beginning()
    both.wait()
    consumer.seek_to_beginning()
    while True:
        for tp, records in consumer.poll(200).items():
            with lock:
                for record in records:
                    read.setdefault(tp.partition, []).append((name, int(record.value)))
        with lock:
            if sum(len(v) for v in read.values()) >= PARTITIONS * EACH:
                break
    consumer.commit()
    both.wait()
    consumer.close()


produce(0, EACH)
members = [threading.Thread(target=run, args=(n,)) for n in ("amy", "bob")]
for m in members:
    m.start()
for m in members:
    m.join()
assert sorted(read) == list(range(PARTITIONS)), sorted(read)
for p, records in read.items():
    assert [n for _, n in records] == list(range(EACH)), (p, records)
    assert len({name for name, _ in records}) == 1, (p, "was read by two")
assert len({records[0][0] for records in read.values()}) == 2, "one read it all"

produce(EACH, EACH + 10)
heir = member()
for p in range(PARTITIONS):
    committed = heir.committed(TopicPartition(topic, p))
    assert committed == EACH, (p, committed)
rest = [next(heir) for _ in range(10 * PARTITIONS)]
assert sorted((r.partition, int(r.value)) for r in rest) == [
    (p, i) for p in range(PARTITIONS) for i in range(EACH, EACH + 10)
], rest
heir.close()
print(f"{PARTITIONS * (EACH + 10)} records shared")
