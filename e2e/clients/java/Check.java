import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.Callable;
import java.util.function.BooleanSupplier;
import java.util.function.Supplier;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** What the programs share: checks that end the program, waits with a bound, and clients. */
final class Check {
    /** Bounds every wait; a healthy broker needs a fraction of it. */
    static final Duration PATIENCE = Duration.ofSeconds(90);

    private Check() {}

    static void that(boolean condition, String format, Object... args) {
        if (!condition) {
            throw new AssertionError(String.format(format, args));
        }
    }

    static void equal(Object got, Object want, String what) {
        that(Objects.equals(got, want), "%s: got %s, want %s", what, got, want);
    }

    /** Checks that what runs on a thread of its own has not failed. */
    static void works(Throwable failure, String who) {
        if (failure != null) {
            throw new AssertionError(who + " failed", failure);
        }
    }

    /** Waits until a condition holds, and says how things are when it does not come to that. */
    static void eventually(String what, BooleanSupplier condition, Supplier<String> instead)
            throws InterruptedException {
        long deadline = System.nanoTime() + PATIENCE.toNanos();
        while (!condition.getAsBoolean()) {
            that(System.nanoTime() < deadline, "not within %s: %s; %s",
                    PATIENCE, what, instead.get());
            Thread.sleep(20);
        }
    }

    /** Runs what must fail with one of some exceptions, which may be the cause of another. */
    @SafeVarargs
    static void fails(String what, Callable<?> action, Class<? extends Throwable>... with) {
        Throwable got = null;
        try {
            action.call();
        } catch (Throwable e) {
            got = e;
        }
        that(got != null, "%s: it did not fail", what);
        for (Throwable e = got; e != null; e = e.getCause()) {
            for (Class<? extends Throwable> class_ : with) {
                if (class_.isInstance(e)) {
                    return;
                }
            }
        }
        throw new AssertionError(what + ": failed in another way", got);
    }

    /** Says what has been shown; the driver looks for the last of these lines. */
    static void say(String format, Object... args) {
        System.out.printf(format + "%n", args);
        System.out.flush();
    }

    static Map<String, Object> config(String brokers, Object... more) {
        Map<String, Object> config = new HashMap<>();
        config.put("bootstrap.servers", brokers);
        for (int i = 0; i < more.length; i += 2) {
            config.put((String) more[i], more[i + 1]);
        }
        return config;
    }

    static KafkaProducer<String, String> producer(String brokers, Object... more) {
        Map<String, Object> config = config(brokers, "linger.ms", "0");
        config.putAll(config(brokers, more));
        return new KafkaProducer<>(config, new StringSerializer(), new StringSerializer());
    }

    static KafkaConsumer<String, String> consumer(String brokers, Object... more) {
        Map<String, Object> config =
                config(brokers, "auto.offset.reset", "earliest", "enable.auto.commit", "false");
        config.putAll(config(brokers, more));
        return new KafkaConsumer<>(config, new StringDeserializer(), new StringDeserializer());
    }

    static void create(Admin admin, String topic, int partitions) throws Exception {
        admin.createTopics(List.of(new NewTopic(topic, partitions, (short) -1))).all().get();
    }

    static List<TopicPartition> partitions(String topic, int count) {
        List<TopicPartition> partitions = new ArrayList<>();
        for (int p = 0; p < count; p++) {
            partitions.add(new TopicPartition(topic, p));
        }
        return partitions;
    }

    /**
     * Reads the values of a topic from its start to the end it has now, which with
     * read_committed is where the first open transaction begins.
     */
    static List<String> values(String brokers, String topic, int partitions, String isolation) {
        List<String> values = new ArrayList<>();
        for (ConsumerRecord<String, String> r : records(brokers, topic, partitions, isolation)) {
            values.add(r.value());
        }
        return values;
    }

    /** The records of a topic as {@link #values} reads them. */
    static List<ConsumerRecord<String, String>> records(
            String brokers, String topic, int partitions, String isolation) {
        List<ConsumerRecord<String, String>> records = new ArrayList<>();
        try (KafkaConsumer<String, String> c = consumer(brokers, "isolation.level", isolation)) {
            List<TopicPartition> all = partitions(topic, partitions);
            Map<TopicPartition, Long> ends = c.endOffsets(all);
            c.assign(all);
            c.seekToBeginning(all);
            long deadline = System.nanoTime() + PATIENCE.toNanos();
            while (all.stream().anyMatch(p -> c.position(p) < ends.get(p))) {
                that(System.nanoTime() < deadline, "%s of %s did not end at %s",
                        isolation, topic, ends);
                c.poll(Duration.ofMillis(100)).forEach(records::add);
            }
        }
        return records;
    }
}
