"""Writes 1,000 records to each of three partitions with confluent-kafka's
idempotent producer and reads them back in order."""

import sys

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaException,
    Producer,
    TopicPartition,
)

bootstrap, topic = sys.argv[1:]
PARTITIONS, EACH = 3, 1000

producer = Producer(
    {"bootstrap.servers": bootstrap, "enable.idempotence": True, "compression.type": "zstd"}
)
delivered = []


def on_delivery(error, message):
    if error is not None:
        raise KafkaException(error)
    delivered.append((message.partition(), message.offset()))


for i in range(EACH):
    for p in range(PARTITIONS):
        producer.produce(
            topic, partition=p, key=f"key-{i}", value=f"value-{p}-{i}", on_delivery=on_delivery
        )
    producer.poll(0)
assert producer.flush(60) == 0
expected = sorted((p, i) for p in range(PARTITIONS) for i in range(EACH))
assert sorted(delivered) == expected, len(delivered)

consumer = Consumer(
    {
        "bootstrap.servers": bootstrap,
        "group.id": "none",  # librdkafka insists on one; assign does not use it
        "enable.auto.commit": False,
        "check.crcs": True,
    }
)
consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in range(PARTITIONS)])
next_offset = dict.fromkeys(range(PARTITIONS), 0)
while sum(next_offset.values()) < PARTITIONS * EACH:
    message = consumer.poll(30)
    assert message is not None, next_offset
    assert message.error() is None, message.error()
    p, i = message.partition(), message.offset()
    assert i == next_offset[p], (p, i, next_offset)
    next_offset[p] += 1
    assert message.key() == f"key-{i}".encode(), message.key()
    assert message.value() == f"value-{p}-{i}".encode(), message.value()
for p in range(PARTITIONS):
    assert consumer.get_watermark_offsets(TopicPartition(topic, p)) == (0, EACH)
consumer.close()
print(f"{sum(next_offset.values())} records read back")
