"""Writes 1,000 records to each of three partitions with kafka-python and reads
them back: keys, values, headers, order and offsets must be those that were sent."""

import sys

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

bootstrap, topic = sys.argv[1:]
PARTITIONS, EACH = 3, 1000

producer = KafkaProducer(
    bootstrap_servers=bootstrap, acks="all", compression_type="gzip", linger_ms=5
)
futures = {}
for i in range(EACH):
    for p in range(PARTITIONS):
        futures[p, i] = producer.send(
            topic,
            partition=p,
            key=b"key-%d" % i,
            value=b"value-%d-%d" % (p, i) if i % 10 else None,
            headers=[("source", b"kafka-python"), ("empty", b"")],
        )
producer.flush(60)
for (p, i), future in futures.items():
    metadata = future.get(60)
    assert (metadata.partition, metadata.offset) == (p, i), (p, i, metadata)

consumer = KafkaConsumer(
    bootstrap_servers=bootstrap, group_id=None, consumer_timeout_ms=30000
)
partitions = [TopicPartition(topic, p) for p in range(PARTITIONS)]
consumer.assign(partitions)
consumer.seek_to_beginning(*partitions)
assert consumer.end_offsets(partitions) == {tp: EACH for tp in partitions}

next_offset = dict.fromkeys(range(PARTITIONS), 0)
for read, record in enumerate(consumer, start=1):
    p, i = record.partition, record.offset
    assert i == next_offset[p], (record, next_offset)
    next_offset[p] += 1
    assert record.key == b"key-%d" % i, record
    assert record.value == (b"value-%d-%d" % (p, i) if i % 10 else None), record
    assert record.headers == [("source", b"kafka-python"), ("empty", b"")], record
    if read == PARTITIONS * EACH:
        break
print(f"{sum(next_offset.values())} records read back")
