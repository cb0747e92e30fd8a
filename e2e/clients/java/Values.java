import org.apache.kafka.clients.consumer.ConsumerRecord;

/**
 * Prints the records of a topic up to the end it has now, one a line: partition, key and
 * value with tabs between.
 *
 * <p>Arguments: BROKERS TOPIC PARTITIONS ISOLATION.
 */
public final class Values {
    private Values() {}

    public static void main(String[] args) {
        StringBuilder lines = new StringBuilder();
        for (ConsumerRecord<String, String> r :
                Check.records(args[0], args[1], Integer.parseInt(args[2]), args[3])) {
            lines.append(r.partition()).append('\t').append(r.key()).append('\t')
                    .append(r.value()).append('\n');
        }
        System.out.print(lines);
        System.out.flush();
    }
}
