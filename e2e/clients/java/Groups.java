import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentMap;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.MemberDescription;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.FencedInstanceIdException;
import org.apache.kafka.common.errors.GroupIdNotFoundException;
import org.apache.kafka.common.errors.UnreleasedInstanceIdException;

/**
 * Puts a group through its life while records come in: members join, leave, restart and
 * vanish, and in the end every record was read exactly once.
 *
 * <p>Arguments: BROKERS KIND, where KIND is range, cooperative or consumer, with -static
 * behind it for members with instance ids.
 */
public final class Groups {
    private static final int PARTITIONS = 6;

    private final String brokers;
    private final String protocol;
    private final boolean fixed; // members have instance ids
    private final String topic;
    private final String group;
    private final Admin admin;
    private final ConcurrentMap<String, Integer> seen = Member.ledger();
    private final List<Member> members = new ArrayList<>();

    private Groups(String brokers, String kind, Admin admin) {
        this.brokers = brokers;
        this.admin = admin;
        protocol = kind.replace("-static", "");
        fixed = kind.endsWith("-static");
        topic = kind + "-topic";
        group = kind + "-group";
    }

    public static void main(String[] args) throws Exception {
        try (Admin admin = Admin.create(Check.config(args[0]))) {
            new Groups(args[0], args[1], admin).run();
        }
        Check.say("%s: done", args[1]);
        System.exit(0); // a member that failed may have left a thread
    }

    private void run() throws Exception {
        Check.create(admin, topic, PARTITIONS);
        Feeder feeder = new Feeder(brokers, topic, PARTITIONS);
        Member a = join("a");
        spread(a);
        Member b = join("b");
        spread(a, b);
        Check.equal(a.revoked().size(), protocol.equals("range") ? PARTITIONS : PARTITIONS / 2,
                "partitions taken from a when b came");
        Member c = join("c");
        spread(a, b, c);
        describe("a", "b", "c");
        Check.say("%s: three members have %s %s %s", group, a, b, c);

        if (fixed) {
            b = restart(b, a, c);
            fence(c, a, b);
            c = members.get(members.size() - 1);
        } else {
            b.close();
            spread(a, c);
            Check.say("%s: b left, now %s %s", group, a, c);
            b = join("b");
            spread(a, b, c);
        }
        c.vanish();
        spread(a, b);
        describe("a", "b");
        Check.say("%s: c vanished, now %s %s", group, a, b);

        int sent = feeder.stop();
        everythingWasReadOnce(sent);
        for (Member m : members) {
            Check.works(m.failure, m.name);
            Check.equal(m.lost(), 0, "partitions that " + m.name + " lost");
        }
        a.leave();
        b.leave();
        endOfGroup();
    }

    private Member join(String name) {
        KafkaConsumer<String, String> consumer = consumer(name);
        Member m = new Member(name, consumer, topic, seen);
        members.add(m);
        return m;
    }

    private KafkaConsumer<String, String> consumer(String name) {
        Map<String, Object> more = Check.config(brokers, "group.id", group, "client.id", name);
        if (fixed) {
            more.put("group.instance.id", name);
        }
        if (protocol.equals("consumer")) {
            more.put("group.protocol", "consumer"); // session and heartbeats are the broker's
        } else {
            more.put("group.protocol", "classic");
            more.put("session.timeout.ms", "6000");
            more.put("heartbeat.interval.ms", "300");
            more.put("partition.assignment.strategy", protocol.equals("range")
                    ? "org.apache.kafka.clients.consumer.RangeAssignor"
                    : "org.apache.kafka.clients.consumer.CooperativeStickyAssignor");
        }
        return Check.consumer(brokers, more.entrySet().stream()
                .flatMap(e -> List.of(e.getKey(), e.getValue()).stream()).toArray());
    }

    /** Waits until the members have all partitions, as many each. */
    private void spread(Member... all) throws InterruptedException {
        Check.eventually("the partitions of " + group + " are spread", () -> {
            Set<Integer> union = new TreeSet<>();
            for (Member m : all) {
                if (m.failure != null) {
                    throw new AssertionError(m.name + " failed", m.failure);
                }
                if (m.assigned().size() != PARTITIONS / all.length) {
                    return false;
                }
                union.addAll(m.assigned());
            }
            return union.size() == PARTITIONS;
        }, () -> List.of(all).toString());
    }

    /** A static member that comes back has what it had, and the others notice nothing. */
    private Member restart(Member m, Member... others) throws Exception {
        Set<Integer> had = m.assigned();
        List<Integer> before = changes(others);
        m.close();
        Member again = join(m.name);
        Check.eventually(m.name + " is back with " + had, () -> again.assigned().equals(had),
                again::toString);
        Check.equal(changes(others), before, "rebalances when a static member came back");
        Check.say("%s: %s came back to %s unnoticed", group, m.name, had);
        return again;
    }

    private static List<Integer> changes(Member... members) {
        return List.of(members).stream().map(Member::changes).collect(Collectors.toList());
    }

    /**
     * Two members with one instance id: in a classic group the newcomer fences the other, in
     * one of the consumer protocol it is refused while the other lives.
     */
    private void fence(Member m, Member... others) throws Exception {
        Set<Integer> had = m.assigned();
        Member twin = join(m.name);
        boolean newcomerWins = !protocol.equals("consumer");
        Member loser = newcomerWins ? m : twin;
        Member winner = newcomerWins ? twin : m;
        Check.eventually("one of the twins fails", () -> loser.failure != null,
                () -> m + " and " + twin);
        Class<?> want = newcomerWins
                ? FencedInstanceIdException.class : UnreleasedInstanceIdException.class;
        Check.that(want.isInstance(loser.failure), "the twin failed with %s", loser.failure);
        Check.eventually("the winner has " + had, () -> winner.assigned().equals(had),
                winner::toString);
        members.remove(loser);
        members.remove(winner);
        members.add(winner);
        Check.say("%s: one of two members with one instance id got %s", group,
                loser.failure.getClass().getSimpleName());
    }

    private void describe(String... names) throws Exception {
        ConsumerGroupDescription d =
                admin.describeConsumerGroups(List.of(group)).all().get().get(group);
        Check.equal(d.groupState(), GroupState.STABLE, "state");
        Check.equal(d.members().stream().map(MemberDescription::clientId)
                .collect(Collectors.toCollection(TreeSet::new)), new TreeSet<>(List.of(names)),
                "members by client id");
        for (MemberDescription m : d.members()) {
            Check.equal(m.groupInstanceId().isPresent(), fixed, m.clientId() + " is static");
            Check.equal(m.assignment().topicPartitions().size(), PARTITIONS / names.length,
                    "partitions of " + m.clientId());
        }
        Check.equal(d.partitionAssignor(), protocol.equals("cooperative") ? "cooperative-sticky"
                : protocol.equals("range") ? "range" : "uniform", "assignor");
    }

    private void everythingWasReadOnce(int sent) throws Exception {
        Check.eventually(sent + " records are read", () -> seen.size() >= sent,
                () -> seen.size() + " are");
        Check.eventually("what a failed member had not committed is read again",
                () -> !seen.containsValue(0), () -> "");
        seen.forEach((value, times) -> Check.equal(times, 1, "times that " + value + " was read"));
        List<TopicPartition> all = Check.partitions(topic, PARTITIONS);
        Check.eventually("all is committed", () -> lag(all) == 0, () -> lag(all) + " is not");
        Check.say("%s: %d records, each read once; all is committed", group, sent);
    }

    private long lag(List<TopicPartition> all) {
        try {
            Map<TopicPartition, OffsetAndMetadata> committed =
                    admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get();
            long lag = 0;
            for (TopicPartition p : all) {
                long end = admin.listOffsets(Map.of(p, OffsetSpec.latest()))
                        .partitionResult(p).get().offset();
                lag += end - (committed.get(p) == null ? 0 : committed.get(p).offset());
            }
            return lag;
        } catch (Exception e) {
            throw new AssertionError(e);
        }
    }

    private void endOfGroup() throws Exception {
        Check.eventually("the group is empty", () -> {
            try {
                return admin.describeConsumerGroups(List.of(group)).all().get().get(group)
                        .groupState() == GroupState.EMPTY;
            } catch (Exception e) {
                throw new AssertionError(e);
            }
        }, () -> "");
        admin.deleteConsumerGroups(List.of(group)).all().get();
        Check.fails("describe a group that is deleted",
                () -> admin.describeConsumerGroups(List.of(group)).all().get(),
                GroupIdNotFoundException.class);
    }

    /** Writes numbered records to all partitions until it is told to stop. */
    private static final class Feeder {
        private final Thread thread;
        private volatile boolean stopped;
        private int sent;
        private Throwable failure;

        Feeder(String brokers, String topic, int partitions) {
            thread = new Thread(() -> {
                try (KafkaProducer<String, String> producer = Check.producer(brokers)) {
                    for (; !stopped; sent++) {
                        producer.send(
                                new ProducerRecord<>(topic, sent % partitions, null, "r" + sent));
                        Thread.sleep(5);
                    }
                } catch (Throwable e) {
                    failure = e;
                }
            });
            thread.start();
        }

        /** Returns how many records there are. */
        int stop() throws InterruptedException {
            stopped = true;
            thread.join();
            Check.works(failure, "feeder");
            return sent;
        }
    }
}
