import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentMap;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.CloseOptions;
import org.apache.kafka.clients.consumer.CloseOptions.GroupMembershipOperation;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RebalanceInProgressException;
import org.apache.kafka.common.utils.Utils;

/**
 * A consumer of a group on a thread of its own. It commits what it has read before it asks
 * for more and before it gives a partition away, so that a rebalance must neither lose a
 * record nor bring one twice.
 */
final class Member implements ConsumerRebalanceListener {
    private static final Duration CLOSE = Duration.ofSeconds(10);

    final String name;
    volatile Throwable failure;

    private final KafkaConsumer<String, String> consumer;
    private final ConcurrentMap<String, Integer> seen; // how often, by value; shared by the group
    private final Thread thread;
    private final Set<Integer> assigned = new TreeSet<>();
    private final Map<TopicPartition, OffsetAndMetadata> uncommitted = new HashMap<>();
    private final List<String> unsure = new ArrayList<>(); // values read and not committed
    private final Set<Integer> revoked = new TreeSet<>(); // since mark
    private int lost;
    private int changes;
    private volatile GroupMembershipOperation end;

    Member(String name, KafkaConsumer<String, String> consumer, String topic,
            ConcurrentMap<String, Integer> seen) {
        this.name = name;
        this.consumer = consumer;
        this.seen = seen;
        consumer.subscribe(Set.of(topic), this);
        thread = new Thread(this::run, name);
        thread.start();
    }

    static ConcurrentMap<String, Integer> ledger() {
        return new ConcurrentHashMap<>();
    }

    /** Ends the member as a good consumer does: a dynamic one leaves, a static one does not. */
    void close() throws InterruptedException {
        close(GroupMembershipOperation.DEFAULT);
    }

    /** Ends the member without a word to the group, as a crash does. */
    void vanish() throws InterruptedException {
        close(GroupMembershipOperation.REMAIN_IN_GROUP);
    }

    /** Ends the member for good, a static one too. */
    void leave() throws InterruptedException {
        close(GroupMembershipOperation.LEAVE_GROUP);
    }

    private void close(GroupMembershipOperation how) throws InterruptedException {
        end = how;
        thread.join();
    }

    /** The numbers of the partitions it has. */
    synchronized Set<Integer> assigned() {
        return new TreeSet<>(assigned);
    }

    /** The partitions that were taken from it since mark. */
    synchronized Set<Integer> revoked() {
        return new TreeSet<>(revoked);
    }

    /** How often it was assigned or lost something. */
    synchronized int changes() {
        return changes;
    }

    synchronized int lost() {
        return lost;
    }

    synchronized void mark() {
        revoked.clear();
    }

    @Override
    public String toString() {
        return name + assigned() + (failure == null ? "" : " failed: " + failure);
    }

    private void run() {
        try {
            while (end == null) {
                for (ConsumerRecord<String, String> r : consumer.poll(Duration.ofMillis(50))) {
                    seen.merge(r.value(), 1, Integer::sum);
                    unsure.add(r.value());
                    uncommitted.put(new TopicPartition(r.topic(), r.partition()),
                            new OffsetAndMetadata(r.offset() + 1, r.leaderEpoch(), name));
                }
                commit();
            }
            commitUntilDone();
            consumer.close(CloseOptions.groupMembershipOperation(end).withTimeout(CLOSE));
        } catch (Throwable e) {
            failure = e;
            // It was put out of the group: others read these again, as they must.
            unsure.forEach(value -> seen.merge(value, -1, Integer::sum));
            Utils.closeQuietly(consumer, name);
        }
    }

    /**
     * Commits, unless a rebalance goes on: then the next poll ends it, and what is taken
     * away is committed before it goes.
     */
    private boolean commit() {
        if (uncommitted.isEmpty()) {
            return true;
        }
        try {
            consumer.commitSync(uncommitted);
            uncommitted.clear();
            unsure.clear();
            return true;
        } catch (RebalanceInProgressException e) {
            return false;
        } catch (CommitFailedException e) {
            // In a group of the consumer protocol the member's epoch may move on while the
            // commit is under way. A member that was put out is told by onPartitionsLost.
            if (e.getMessage().contains("stale member epoch")) {
                return false;
            }
            throw e;
        }
    }

    private void commitUntilDone() {
        while (!commit()) {
            consumer.pause(consumer.assignment());
            consumer.poll(Duration.ofMillis(50));
        }
    }

    /** Commits inside a callback, where the member may not poll. */
    private void commitHere() {
        for (int tries = 0; !commit(); tries++) {
            Check.that(tries < 100, "%s cannot commit before its partitions are revoked", name);
            Utils.sleep(20);
        }
    }

    @Override
    public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
        synchronized (this) {
            assigned.addAll(numbers(partitions));
            changes++;
        }
    }

    @Override
    public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
        if (!partitions.isEmpty() && failure == null) {
            commitHere();
        }
        synchronized (this) {
            assigned.removeAll(numbers(partitions));
            revoked.addAll(numbers(partitions));
            if (!partitions.isEmpty()) {
                changes++;
            }
        }
    }

    @Override
    public void onPartitionsLost(Collection<TopicPartition> partitions) {
        synchronized (this) {
            assigned.removeAll(numbers(partitions));
            lost += partitions.size();
            changes++;
        }
    }

    private static Set<Integer> numbers(Collection<TopicPartition> partitions) {
        return partitions.stream().map(TopicPartition::partition).collect(Collectors.toSet());
    }
}
