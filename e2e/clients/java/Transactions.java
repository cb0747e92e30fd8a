import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.TransactionDescription;
import org.apache.kafka.clients.admin.TransactionState;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerGroupMetadata;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.InvalidProducerEpochException;
import org.apache.kafka.common.errors.InvalidTxnStateException;
import org.apache.kafka.common.errors.ProducerFencedException;

/**
 * Shows what transactions promise: all or nothing over partitions and offsets, nothing seen
 * before it is committed, and no word of a producer that was replaced.
 *
 * <p>Arguments: BROKERS.
 */
public final class Transactions {
    private static final int PARTITIONS = 3;
    private static final String COMMITTED = "read_committed";
    private static final String UNCOMMITTED = "read_uncommitted";

    private final String brokers;
    private final Admin admin;

    private Transactions(String brokers, Admin admin) {
        this.brokers = brokers;
        this.admin = admin;
    }

    public static void main(String[] args) throws Exception {
        try (Admin admin = Admin.create(Check.config(args[0]))) {
            Transactions t = new Transactions(args[0], admin);
            t.commitsAndAborts();
            t.nothingBehindAnOpenTransactionIsSeen();
            t.aProducerThatIsReplacedIsFenced();
            t.aTransactionThatTakesTooLongIsAborted();
            t.offsetsGoWithTheTransaction();
            for (String protocol : List.of("classic", "consumer")) {
                t.copyThroughRebalances(protocol);
                t.offsetsOfAZombieAreRefused(protocol);
            }
        }
        Check.say("transactions: done");
        System.exit(0);
    }

    private KafkaProducer<String, String> producer(String id, Object... more) {
        List<Object> config = new ArrayList<>(List.of("transactional.id", id));
        config.addAll(List.of(more));
        KafkaProducer<String, String> p = Check.producer(brokers, config.toArray());
        p.initTransactions();
        return p;
    }

    private static void send(
            KafkaProducer<String, String> p, String topic, String name, int count) {
        for (int i = 0; i < count; i++) {
            p.send(new ProducerRecord<>(topic, i % PARTITIONS, null, name + i));
        }
    }

    private static List<String> names(String name, int count) {
        return IntStream.range(0, count).mapToObj(i -> name + i).collect(Collectors.toList());
    }

    private void values(String topic, String isolation, List<?>... want) {
        List<String> all = new ArrayList<>();
        for (List<?> w : want) {
            w.forEach(v -> all.add((String) v));
        }
        List<String> got = Check.values(brokers, topic, PARTITIONS, isolation);
        Collections.sort(all);
        Collections.sort(got);
        Check.equal(got, all, isolation + " of " + topic);
    }

    private void commitsAndAborts() throws Exception {
        String topic = "commits";
        Check.create(admin, topic, PARTITIONS);
        try (KafkaProducer<String, String> p = producer("commits")) {
            for (int i = 0; i < 4; i++) {
                p.beginTransaction();
                send(p, topic, i + "-", 100);
                p.flush();
                if (i % 2 == 0) {
                    p.commitTransaction();
                } else {
                    p.abortTransaction();
                }
            }
            p.beginTransaction();
            p.commitTransaction(); // nothing in it
            p.beginTransaction();
            p.abortTransaction();
        }
        values(topic, COMMITTED, names("0-", 100), names("2-", 100));
        values(topic, UNCOMMITTED, names("0-", 100), names("1-", 100), names("2-", 100),
                names("3-", 100));
        TransactionDescription d =
                admin.describeTransactions(List.of(topic)).description(topic).get();
        Check.that(Set.of(TransactionState.COMPLETE_COMMIT, TransactionState.COMPLETE_ABORT,
                TransactionState.EMPTY).contains(d.state()), "state %s", d.state());
        Check.equal(d.topicPartitions(), Set.of(), "partitions of a transaction that is over");
        Check.say("commits: 2 of 4 transactions were committed, read_committed sees 200 of 400");
    }

    private void nothingBehindAnOpenTransactionIsSeen() throws Exception {
        String topic = "open";
        Check.create(admin, topic, PARTITIONS);
        TopicPartition p0 = new TopicPartition(topic, 0);
        try (KafkaProducer<String, String> plain = Check.producer(brokers);
                KafkaProducer<String, String> first = producer("open-1");
                KafkaProducer<String, String> second = producer("open-2")) {
            plain.send(new ProducerRecord<>(topic, 0, null, "before")).get();
            first.beginTransaction();
            first.send(new ProducerRecord<>(topic, 0, null, "first")).get();
            second.beginTransaction();
            second.send(new ProducerRecord<>(topic, 0, null, "second")).get();
            plain.send(new ProducerRecord<>(topic, 0, null, "behind")).get();
            second.abortTransaction();
            Check.equal(end(p0, COMMITTED), 1L, "last stable offset");
            values(topic, COMMITTED, List.of("before"));
            values(topic, UNCOMMITTED, List.of("before", "first", "second", "behind"));
            TransactionDescription d =
                    admin.describeTransactions(List.of("open-1")).description("open-1").get();
            Check.equal(d.state(), TransactionState.ONGOING, "state");
            Check.equal(d.topicPartitions(), Set.of(p0), "partitions of the transaction");
            first.commitTransaction();
            Check.eventually("the last stable offset is the end",
                    () -> end(p0, COMMITTED) == end(p0, UNCOMMITTED),
                    () -> "" + end(p0, COMMITTED));
            Check.equal(Check.values(brokers, topic, PARTITIONS, COMMITTED),
                    List.of("before", "first", "behind"), "read_committed when all is over");
        }
        Check.say("open: read_committed waited for the transaction, and saw all in order then");
    }

    private long end(TopicPartition p, String isolation) {
        try (KafkaConsumer<String, String> c =
                Check.consumer(brokers, "isolation.level", isolation)) {
            return c.endOffsets(List.of(p)).get(p);
        }
    }

    private void aProducerThatIsReplacedIsFenced() throws Exception {
        String topic = "fenced";
        Check.create(admin, topic, PARTITIONS);
        KafkaProducer<String, String> zombie = producer("fenced");
        zombie.beginTransaction();
        send(zombie, topic, "zombie-", 9);
        zombie.flush();
        try (KafkaProducer<String, String> next = producer("fenced")) {
            Check.fails("commit of a replaced producer", () -> {
                zombie.commitTransaction();
                return null;
            }, ProducerFencedException.class, InvalidProducerEpochException.class);
            next.beginTransaction();
            send(next, topic, "next-", 9);
            next.commitTransaction();
        }
        zombie.close(Duration.ZERO);
        values(topic, COMMITTED, names("next-", 9));

        KafkaProducer<String, String> writer = producer("fenced");
        writer.beginTransaction();
        admin.fenceProducers(List.of("fenced")).all().get();
        Check.fails("write of a fenced producer", () -> {
            writer.send(new ProducerRecord<>(topic, 0, null, "late")).get();
            writer.commitTransaction();
            return null;
        }, ProducerFencedException.class, InvalidProducerEpochException.class);
        writer.close(Duration.ZERO);
        values(topic, COMMITTED, names("next-", 9));
        Check.say("fenced: a replaced producer committed nothing");
    }

    private void aTransactionThatTakesTooLongIsAborted() throws Exception {
        String topic = "late";
        Check.create(admin, topic, PARTITIONS);
        KafkaProducer<String, String> slow = producer("late", "transaction.timeout.ms", "1500");
        slow.beginTransaction();
        slow.send(new ProducerRecord<>(topic, 0, null, "slow")).get();
        TopicPartition p0 = new TopicPartition(topic, 0);
        Check.equal(end(p0, COMMITTED), 0L, "last stable offset while it is open");
        // The record and the marker of its abort.
        Check.eventually("the transaction is aborted", () -> end(p0, COMMITTED) == 2,
                () -> "last stable offset " + end(p0, COMMITTED));
        // Which of the two it is hangs on how far the epoch rose: see docs/divergence.md.
        Check.fails("commit when the time is over", () -> {
            slow.commitTransaction();
            return null;
        }, ProducerFencedException.class, InvalidTxnStateException.class);
        slow.close(Duration.ZERO);
        values(topic, COMMITTED);
        Check.say("late: the transaction was aborted when its time was over");
    }

    private void offsetsGoWithTheTransaction() throws Exception {
        String topic = "offsets";
        Check.create(admin, topic, PARTITIONS);
        TopicPartition p0 = new TopicPartition(topic, 0);
        ConsumerGroupMetadata group = new ConsumerGroupMetadata("offsets-group");
        try (KafkaProducer<String, String> p = producer("offsets");
                KafkaConsumer<String, String> c =
                        Check.consumer(brokers, "group.id", "offsets-group")) {
            p.beginTransaction();
            p.sendOffsetsToTransaction(Map.of(p0, new OffsetAndMetadata(7, "kept")), group);
            p.commitTransaction();
            Check.equal(c.committed(Set.of(p0)).get(p0), new OffsetAndMetadata(7, "kept"),
                    "offset of a committed transaction");
            p.beginTransaction();
            p.sendOffsetsToTransaction(Map.of(p0, new OffsetAndMetadata(9, "dropped")), group);
            p.abortTransaction();
            Check.equal(c.committed(Set.of(p0)).get(p0), new OffsetAndMetadata(7, "kept"),
                    "offset after an aborted transaction");
        }
        Check.say("offsets: the committed transaction's stayed, the aborted one's did not");
    }

    /**
     * Copies a topic record by record with workers that come, abort, die in the middle of a
     * transaction, and go: the copy has every record once.
     */
    private void copyThroughRebalances(String protocol) throws Exception {
        String from = "from-" + protocol;
        String to = "to-" + protocol;
        int count = 2000;
        int sent = 0;
        Check.create(admin, from, PARTITIONS);
        Check.create(admin, to, PARTITIONS);
        Copier one = new Copier(brokers, protocol, from, to, "one", 0);
        Copier doomed = new Copier(brokers, protocol, from, to, "doomed", 5);
        Copier again;
        try (KafkaProducer<String, String> p = Check.producer(brokers)) {
            bothHavePartitions(one, doomed);
            for (int i = 0; !doomed.ended() && i < count; i++) {
                p.send(new ProducerRecord<>(from, i % PARTITIONS, null, "r" + i)).get();
                sent++;
            }
            doomed.join();
            Check.works(doomed.failure, "doomed worker");
            // One of the same name takes its place and ends what it left open.
            again = new Copier(brokers, protocol, from, to, "doomed", 0);
            bothHavePartitions(one, again);
            for (; sent < count; sent++) {
                p.send(new ProducerRecord<>(from, sent % PARTITIONS, null, "r" + sent));
            }
        }
        try (KafkaConsumer<String, String> c =
                Check.consumer(brokers, "group.id", "copy-" + protocol)) {
            List<TopicPartition> all = Check.partitions(from, PARTITIONS);
            Map<TopicPartition, Long> ends = c.endOffsets(all);
            Check.eventually("all is copied", () -> {
                bothWork(one, again);
                Map<TopicPartition, OffsetAndMetadata> now = c.committed(Set.copyOf(all));
                return all.stream().allMatch(
                        p -> now.get(p) != null && now.get(p).offset() == ends.get(p));
            }, () -> c.committed(Set.copyOf(all)) + " of " + ends + " " + one + " " + again);
        }
        one.end();
        again.end();
        List<ConsumerRecord<String, String>> copy =
                Check.records(brokers, to, PARTITIONS, COMMITTED);
        Set<String> values = copy.stream().map(ConsumerRecord::value)
                .collect(Collectors.toCollection(TreeSet::new));
        Check.equal(copy.size(), count, "records of the copy");
        Check.equal(values, new TreeSet<>(names("r", count)), "values of the copy");
        Check.that(one.aborts + again.aborts > 0, "no transaction was aborted: nothing was shown");
        int all = Check.values(brokers, to, PARTITIONS, UNCOMMITTED).size();
        Check.that(all > count, "read_uncommitted sees %d: no transaction was cut short", all);
        Check.say("copy (%s): %d records once each, of %d written; %d + %d transactions aborted",
                protocol, count, all, one.aborts, again.aborts);
    }

    private static void bothHavePartitions(Copier a, Copier b) throws InterruptedException {
        Check.eventually("both workers have partitions", () -> bothWork(a, b),
                () -> a + " " + b);
    }

    private static boolean bothWork(Copier a, Copier b) {
        return a.works() & b.works();
    }

    private void offsetsOfAZombieAreRefused(String protocol) throws Exception {
        String topic = "zombie-" + protocol;
        String group = topic + "-group";
        Check.create(admin, topic, 1);
        TopicPartition p0 = new TopicPartition(topic, 0);
        ConsumerGroupMetadata old;
        try (KafkaConsumer<String, String> c = Check.consumer(brokers, "group.id", group,
                "group.protocol", protocol)) {
            c.subscribe(Set.of(topic));
            Check.eventually("the consumer has the partition", () -> {
                c.poll(Duration.ofMillis(50));
                return c.assignment().contains(p0);
            }, () -> "");
            old = c.groupMetadata();
        }
        try (KafkaProducer<String, String> p = producer("zombie-" + protocol)) {
            p.beginTransaction();
            Check.fails("offsets of a member that left", () -> {
                p.sendOffsetsToTransaction(Map.of(p0, new OffsetAndMetadata(1)), old);
                p.commitTransaction();
                return null;
            }, CommitFailedException.class);
            p.abortTransaction();
        }
        Check.say("zombie (%s): a member that left can commit no offsets", protocol);
    }
}
