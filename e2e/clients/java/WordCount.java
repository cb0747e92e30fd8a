import java.util.Arrays;
import java.util.Locale;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;

/**
 * Kafka Streams counts the words of the topic "lines" into "counts", exactly once, until it
 * is told to end (SIGTERM). Every word goes over a repartition topic, its count into a store
 * with a changelog; each step of a count is written, so that a step that comes twice shows.
 *
 * <p>Arguments: BROKERS NAME FOLDER, the name of this instance and where its stores are.
 */
public final class WordCount {
    private WordCount() {}

    public static void main(String[] args) throws Exception {
        Properties config = new Properties();
        config.putAll(Check.config(args[0],
                StreamsConfig.APPLICATION_ID_CONFIG, "wordcount",
                StreamsConfig.CLIENT_ID_CONFIG, args[1],
                StreamsConfig.STATE_DIR_CONFIG, args[2],
                StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2,
                StreamsConfig.REPLICATION_FACTOR_CONFIG, "3",
                StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, "1000",
                StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, "0",
                StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.StringSerde.class,
                StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Serdes.StringSerde.class,
                StreamsConfig.consumerPrefix("auto.offset.reset"), "earliest",
                StreamsConfig.consumerPrefix("session.timeout.ms"), "6000",
                StreamsConfig.consumerPrefix("heartbeat.interval.ms"), "500",
                StreamsConfig.producerPrefix("transaction.timeout.ms"), "10000"));
        StreamsBuilder builder = new StreamsBuilder();
        builder.<String, String>stream("lines")
                .flatMapValues(line -> Arrays.asList(line.toLowerCase(Locale.ROOT).split("\\s+")))
                .groupBy((key, word) -> word, Grouped.with(Serdes.String(), Serdes.String()))
                .count(Materialized.as("words"))
                .toStream()
                .mapValues(count -> Long.toString(count))
                .to("counts", Produced.with(Serdes.String(), Serdes.String()));
        try (KafkaStreams streams = new KafkaStreams(builder.build(config), config)) {
            CountDownLatch end = new CountDownLatch(1);
            streams.setUncaughtExceptionHandler(e -> {
                Check.say("a thread was replaced: %s", e);
                return StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse.REPLACE_THREAD;
            });
            streams.setStateListener((now, before) -> Check.say("%s: %s", args[1], now));
            Thread main = Thread.currentThread();
            Runtime.getRuntime().addShutdownHook(new Thread(() -> {
                end.countDown();
                try {
                    main.join(); // a JVM ends when its hooks have: the streams close first
                } catch (InterruptedException e) {
                    throw new AssertionError(e);
                }
            }));
            streams.start();
            end.await();
        }
    }
}
