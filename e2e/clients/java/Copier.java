import java.time.Duration;
import java.util.Collection;
import java.util.HashMap;
import java.util.Map;
import java.util.Set;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.TransactionAbortableException;

/**
 * Copies records from topic to topic on a thread of its own, a handful in each transaction
 * together with the offsets read, and aborts every fourth transaction that it could commit.
 */
final class Copier {
    private static final int HANDFUL = 25;

    volatile Throwable failure;
    volatile int aborts;

    private final String name;
    private final KafkaConsumer<String, String> consumer;
    private final KafkaProducer<String, String> producer;
    private final String to;
    private final int dieAt; // the transaction in the middle of which it dies; 0: none
    private final Thread thread;
    private volatile boolean works;
    private volatile boolean ended;

    Copier(String brokers, String protocol, String from, String to, String name, int dieAt) {
        this.name = name;
        this.to = to;
        this.dieAt = dieAt;
        producer = Check.producer(brokers, "transactional.id", "copy-" + protocol + "-" + name);
        consumer = Check.consumer(brokers, "group.id", "copy-" + protocol, "client.id", name,
                "group.protocol", protocol, "isolation.level", "read_committed",
                "max.poll.records", String.valueOf(HANDFUL));
        consumer.subscribe(Set.of(from));
        thread = new Thread(this::run, name);
        thread.start();
    }

    /** Reports whether it has partitions of its own. */
    boolean works() {
        Check.works(failure, name);
        return works;
    }

    /** Reports whether it has come to its end. */
    boolean ended() {
        return !thread.isAlive();
    }

    void join() throws InterruptedException {
        thread.join();
    }

    void end() throws InterruptedException {
        ended = true;
        join();
        Check.works(failure, name);
    }

    @Override
    public String toString() {
        return name + (failure == null ? "" : " failed: " + failure);
    }

    private void run() {
        try {
            producer.initTransactions();
            for (int n = 1; !ended;) {
                Map<TopicPartition, OffsetAndMetadata> read = new HashMap<>();
                Iterable<ConsumerRecord<String, String>> records =
                        consumer.poll(Duration.ofMillis(50));
                works = !consumer.assignment().isEmpty();
                if (!records.iterator().hasNext()) {
                    continue;
                }
                producer.beginTransaction();
                for (ConsumerRecord<String, String> r : records) {
                    producer.send(new ProducerRecord<>(to, r.partition(), null, r.value()));
                    read.put(new TopicPartition(r.topic(), r.partition()),
                            new OffsetAndMetadata(r.offset() + 1));
                }
                if (n == dieAt) {
                    producer.flush();
                    break;
                }
                finish(n++, read);
            }
        } catch (Throwable e) {
            failure = e;
        } finally {
            producer.close(Duration.ZERO); // does not end the transaction
            consumer.close();
        }
    }

    private void finish(int n, Map<TopicPartition, OffsetAndMetadata> read) {
        try {
            producer.sendOffsetsToTransaction(read, consumer.groupMetadata());
            if (n % 4 != 0) {
                producer.commitTransaction();
                return;
            }
        } catch (CommitFailedException | TransactionAbortableException e) {
            // A rebalance came between: what was read is another's now, or is read again.
        }
        producer.abortTransaction();
        aborts++;
        rewind(consumer.assignment());
    }

    private void rewind(Collection<TopicPartition> partitions) {
        Map<TopicPartition, OffsetAndMetadata> committed =
                consumer.committed(Set.copyOf(partitions));
        committed.forEach((p, o) -> consumer.seek(p, o == null ? 0 : o.offset()));
    }
}
