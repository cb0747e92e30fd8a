package metrics

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// exercise touches every metric once.
func exercise() *Node {
	n := New(Build{Version: "1.2.3", Commit: "abc", Go: "go1.26"})
	n.Request(0, 9, 3*time.Millisecond)
	n.RequestError(0, 6)
	n.ConnectionOpened()
	n.ConnectionRejected("too many connections")
	n.FetchSessionEvicted()
	n.BytesIn(10)
	n.BytesOut(20)
	orders := n.Topic("orders")
	orders.Produced(7, 700)
	orders.ProduceFailed()
	orders.Fetched(350)
	orders.FetchFailed()
	n.LogFlushed(2 * time.Millisecond)
	n.Compacted(time.Minute, 900, 300)
	n.PartitionRecovered(time.Second, 17)
	n.ISRChanged(-1)
	n.ISRChanged(2)
	n.ReplicatedIn(40)
	n.ReplicatedOut(80)
	n.ActorRestarted("replica")
	n.DeadLetter()
	n.Observe(snapshot)
	return n
}

func snapshot() Snapshot {
	return Snapshot{
		Replicas: []Replica{
			{Topic: "orders", Partition: 0, Leader: true, SizeBytes: 700, Segments: 2,
				LogStart: 5, LogEnd: 12, HighWatermark: 11},
			{Topic: "orders", Partition: 1, Leader: true, UnderReplicated: true,
				UnderMinISR: true, Reassigning: true},
			{Topic: "orders", Partition: 2, Offline: true},
			{Topic: "orders", Partition: 3, Lag: 17, Dirty: 0.75, Uncleanable: true},
			{Topic: "orders", Partition: 4, Leader: true, AtMinISR: true},
		},
		Cluster: Cluster{Controller: true, Brokers: 1, Topics: 1, Partitions: 3,
			OfflinePartitions: 1, Fenced: 2, NotPreferred: 3},
		LogDirs: []LogDir{{Path: "/data\xff", TotalBytes: 100, FreeBytes: 60, UsedBytes: 30,
			Online: true}},
		Recovering:    4,
		Coordinators:  []Coordinator{{Kind: "group", Active: 3, Loading: 2, Members: 11}},
		MailboxDepths: map[string]int64{"replica": 3},
		FetchSessions: 4, FetchSessionPartitions: 44,
		Budgets:       []Budget{{Name: "request bytes", Used: 1, Limit: 1000}},
		GroupsLeftOut: 6,
		Groups: []ConsumerGroup{{ID: "billing\xff", Members: 2, Partitions: []GroupPartition{
			{Topic: "orders", Partition: 0, Committed: 5, Lag: 7, Behind: 1500 * time.Millisecond},
			{Topic: "orders", Partition: 1, Committed: 6, Lag: 8, Behind: -1},
			{Topic: "orders", Partition: 2, Committed: 7, Lag: -1, Behind: -1},
		}}, {ID: "billing\xfe", Members: 9}},
	}
}

func scrape(t *testing.T, n *Node) string {
	t.Helper()
	answer := httptest.NewRecorder()
	n.Handler().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if answer.Code != http.StatusOK {
		t.Fatalf("scrape answers %d: %s", answer.Code, answer.Body)
	}
	return answer.Body.String()
}

func TestAScrapeShowsWhatWasCounted(t *testing.T) {
	text := scrape(t, exercise())
	for _, want := range []string{
		`troupe_build_info{commit="abc",go="go1.26",version="1.2.3"} 1`,
		`kafka_network_requestmetrics_requests_total{request="Produce",version="9"} 1`,
		`kafka_network_requestmetrics_errors_total{error="NOT_LEADER_OR_FOLLOWER",` +
			`request="Produce"} 1`,
		`kafka_network_requestmetrics_totaltimems_bucket{request="Produce",le="2.5"} 0`,
		`kafka_network_requestmetrics_totaltimems_bucket{request="Produce",le="5"} 1`,
		`kafka_network_requestmetrics_totaltimems_sum{request="Produce"} 3`,
		`kafka_server_socket_server_metrics_connection_count 1`,
		`troupe_network_connections_rejected_total{reason="too many connections"} 1`,
		`kafka_server_brokertopicmetrics_messagesin_total{topic="orders"} 7`,
		`kafka_server_brokertopicmetrics_bytesin_total{topic="orders"} 700`,
		`kafka_server_brokertopicmetrics_bytesout_total{topic="orders"} 350`,
		`kafka_server_brokertopicmetrics_totalproducerequests_total{topic="orders"} 2`,
		`kafka_server_brokertopicmetrics_failedproducerequests_total{topic="orders"} 1`,
		`kafka_server_brokertopicmetrics_totalfetchrequests_total{topic="orders"} 2`,
		`kafka_server_brokertopicmetrics_failedfetchrequests_total{topic="orders"} 1`,
		`troupe_coordinator_partitions{kind="group",state="active"} 3`,
		`troupe_coordinator_partitions{kind="group",state="loading"} 2`,
		`troupe_coordinator_members{kind="group"} 11`,
		`kafka_server_fetchsessioncache_numincrementalfetchsessions 4`,
		`kafka_server_fetchsessioncache_numincrementalfetchpartitionscached 44`,
		`kafka_server_fetchsessioncache_incrementalfetchsessionevictions_total 1`,
		`kafka_server_replicamanager_partitioncount 5`,
		`kafka_server_replicamanager_leadercount 3`,
		`kafka_server_replicamanager_underreplicatedpartitions 1`,
		`kafka_server_replicamanager_underminisrpartitioncount 1`,
		`kafka_server_replicamanager_atminisrpartitioncount 1`,
		`kafka_server_replicamanager_reassigningpartitions 1`,
		`kafka_server_replicamanager_isrshrinks_total 1`,
		`kafka_server_replicamanager_isrexpands_total 1`,
		`kafka_server_replicafetchermanager_maxlag{clientid="Replica"} 17`,
		`kafka_server_brokertopicmetrics_replicationbytesin_total 40`,
		`kafka_server_brokertopicmetrics_replicationbytesout_total 80`,
		`kafka_controller_kafkacontroller_fencedbrokercount 2`,
		`kafka_controller_kafkacontroller_preferredreplicaimbalancecount 3`,
		`kafka_server_replicamanager_offlinereplicacount 1`,
		`troupe_log_compaction_timems_sum 60000`,
		`troupe_log_compaction_read_bytes_total 900`,
		`troupe_log_compaction_removed_bytes_total 300`,
		`kafka_log_logcleanermanager_max_dirty_percent 75`,
		`kafka_log_logcleanermanager_uncleanable_partitions_count 1`,
		`kafka_log_log_size{partition="0",topic="orders"} 700`,
		`kafka_log_log_numlogsegments{partition="0",topic="orders"} 2`,
		`kafka_log_log_logstartoffset{partition="0",topic="orders"} 5`,
		`kafka_log_log_logendoffset{partition="0",topic="orders"} 12`,
		`kafka_cluster_partition_highwatermark{partition="0",topic="orders"} 11`,
		`kafka_controller_kafkacontroller_activecontrollercount 1`,
		`kafka_controller_kafkacontroller_globaltopiccount 1`,
		`kafka_controller_kafkacontroller_globalpartitioncount 3`,
		`kafka_controller_kafkacontroller_offlinepartitionscount 1`,
		"troupe_log_dir_free_bytes{dir=\"/data\uFFFD\"} 60",
		"kafka_consumergroup_members{consumergroup=\"billing\uFFFD\"} 2",
		"kafka_consumergroup_current_offset{consumergroup=\"billing\uFFFD\"," +
			`partition="2",topic="orders"} 7`,
		"kafka_consumergroup_current_offset_sum{consumergroup=\"billing\uFFFD\",topic=\"orders\"} 18",
		"kafka_consumergroup_lag{consumergroup=\"billing\uFFFD\",partition=\"1\",topic=\"orders\"} 8",
		"kafka_consumergroup_lag_sum{consumergroup=\"billing\uFFFD\",topic=\"orders\"} 15",
		"kafka_consumergroup_lag_seconds{consumergroup=\"billing\uFFFD\"," +
			`partition="0",topic="orders"} 1.5`,
		`troupe_consumergroup_partitions_left_out 6`,
		`troupe_recovery_pending_partitions 4`,
		`troupe_recovery_timems_sum 1000`,
		`troupe_recovery_truncated_bytes_total 17`,
		`troupe_actor_mailbox_depth{kind="replica"} 3`,
		`troupe_actor_restarts_total{kind="replica"} 1`,
		`troupe_actor_dead_letters_total 1`,
		`troupe_budget_limit{budget="request bytes"} 1000`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no line %s", want)
		}
	}
	for _, unknown := range []string{
		"lag{consumergroup=\"billing\uFFFD\",partition=\"2\"",
		"lag_seconds{consumergroup=\"billing\uFFFD\",partition=\"1\"",
	} {
		if strings.Contains(text, unknown) {
			t.Errorf("shows %s, which nobody knows", unknown)
		}
	}
	if strings.Contains(text, `log_size{partition="2"`) {
		t.Error("an offline replica has the offsets of a log that nobody can see")
	}
}

// The table is what the reference is generated from: neither may have a metric
// the other lacks.
func TestTheTableAndAScrapeNameTheSameMetrics(t *testing.T) {
	shown := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^# (HELP|TYPE) (\w+) (.*)$`).
		FindAllStringSubmatch(scrape(t, exercise()), -1) {
		if !strings.HasPrefix(m[2], "go_") && !strings.HasPrefix(m[2], "process_") {
			shown[m[1]+" "+m[2]] = m[3]
		}
	}
	documented := map[string]string{}
	for _, d := range Table() {
		documented["HELP "+d.Name] = d.Help
		documented["TYPE "+d.Name] = string(d.Kind)
	}
	for key, text := range documented {
		if shown[key] != text {
			t.Errorf("%s: the table says %q, a scrape %q", key, text, shown[key])
		}
	}
	for _, key := range slices.Sorted(maps.Keys(shown)) {
		if _, ok := documented[key]; !ok {
			t.Errorf("%s is not in the table", key)
		}
	}
}

func TestNamesFollowPrometheusAndTheirOwner(t *testing.T) {
	for _, d := range Table() {
		if !strings.HasPrefix(d.Name, "kafka_") && !strings.HasPrefix(d.Name, "troupe_") {
			t.Errorf("%s is neither Kafka's nor ours", d.Name)
		}
		if total := strings.HasSuffix(d.Name, "_total"); total != (d.Kind == Counter) {
			t.Errorf("%s is a %s", d.Name, d.Kind)
		}
		if d.Help == "" || !strings.HasSuffix(d.Help, ".") {
			t.Errorf("%s has no sentence of help: %q", d.Name, d.Help)
		}
		if (d.Kind == Histogram) != (len(d.Buckets) > 0) || !slices.IsSorted(d.Buckets) {
			t.Errorf("%s has buckets %v", d.Name, d.Buckets)
		}
	}
}

func TestANewNodeShowsNoStateItDoesNotKnow(t *testing.T) {
	text := scrape(t, New(Build{}))
	for _, unknown := range []string{"partitioncount", "activecontrollercount", "orders"} {
		if strings.Contains(text, unknown) {
			t.Errorf("shows %s before the node has any", unknown)
		}
	}
	for _, process := range []string{"go_goroutines", "process_resident_memory_bytes"} {
		if !strings.Contains(text, process) {
			t.Errorf("does not show %s", process)
		}
	}
}

func TestAPIsAreNamedAsInKafkaEvenOutsideTheTables(t *testing.T) {
	n := New(Build{})
	n.Request(1, 12, time.Millisecond)
	n.RequestError(1, -1)
	n.RequestError(18, 0)
	n.Request(18, 77, time.Millisecond)
	n.Request(20000, 0, time.Millisecond)
	n.RequestError(3, 4444)
	for _, key := range []int16{17, 22, 29, 45, 50} { // which the library spells its own way
		n.Request(key, 0, time.Millisecond)
	}
	text := scrape(t, n)
	for _, want := range []string{
		`requests_total{request="FetchConsumer",version="12"} 1`,
		`errors_total{error="UNKNOWN_SERVER_ERROR",request="FetchConsumer"} 1`,
		`errors_total{error="NONE",request="ApiVersions"} 1`,
		`requests_total{request="ApiVersions",version="77"} 1`,
		`requests_total{request="Unknown",version="0"} 1`,
		`errors_total{error="4444",request="Metadata"} 1`,
		`requests_total{request="SaslHandshake",version="0"} 1`,
		`requests_total{request="InitProducerId",version="0"} 1`,
		`requests_total{request="DescribeAcls",version="0"} 1`,
		`requests_total{request="AlterPartitionReassignments",version="0"} 1`,
		`requests_total{request="DescribeUserScramCredentials",version="0"} 1`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no line %s", want)
		}
	}
}

func TestADeletedTopicIsForgotten(t *testing.T) {
	n := New(Build{})
	n.Topic("orders").Produced(1, 1)
	n.ForgetTopic("orders")
	n.ForgetTopic("never seen")
	if text := scrape(t, n); strings.Contains(text, "orders") {
		t.Error("the series of a deleted topic are still there")
	}
	n.Topic("orders").Produced(1, 1)
	const want = `messagesin_total{topic="orders"} 1`
	if text := scrape(t, n); !strings.Contains(text, want) {
		t.Error("a topic made again does not start from zero")
	}
}

func TestTopicsBeyondTheBoundAreCountedTogether(t *testing.T) {
	n := New(Build{})
	n.topics.max = 2
	for i := range 5 {
		n.Topic(fmt.Sprintf("t-%d", i)).Produced(1, 10)
	}
	n.ForgetTopic(otherTopics)
	text := scrape(t, n)
	for _, want := range []string{
		`messagesin_total{topic="t-0"} 1`,
		`messagesin_total{topic="t-1"} 1`,
		`messagesin_total{topic="(other)"} 3`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no line %s", want)
		}
	}
	if strings.Contains(text, "t-2") {
		t.Error("a topic beyond the bound has series of its own")
	}
}

func TestCountingFromManyGoroutinesLosesNothing(t *testing.T) {
	n := New(Build{})
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for i := range 200 {
				n.Topic(fmt.Sprintf("t-%d", i%10)).Produced(1, 1)
				n.Request(0, 9, time.Microsecond)
				n.RequestError(0, 2)
			}
		})
	}
	all.Wait()
	text := scrape(t, n)
	for _, want := range []string{
		`requests_total{request="Produce",version="9"} 1600`,
		`errors_total{error="CORRUPT_MESSAGE",request="Produce"} 1600`,
		`messagesin_total{topic="t-3"} 160`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no line %s", want)
		}
	}
}

func TestCountingARequestAllocatesNothing(t *testing.T) {
	n := exercise()
	count := func() {
		n.Request(0, 9, time.Millisecond)
		n.RequestError(0, 6)
		n.BytesIn(100)
		orders := n.Topic("orders")
		orders.Produced(10, 1000)
		orders.Fetched(1000)
	}
	if allocs := testing.AllocsPerRun(1000, count); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

func BenchmarkCountingAProduceRequest(b *testing.B) {
	n := exercise()
	for b.Loop() {
		n.BytesIn(1000)
		n.Topic("orders").Produced(10, 1000)
		n.Request(0, 9, time.Millisecond)
	}
}

func BenchmarkAScrapeWith1000Partitions(b *testing.B) {
	n := exercise()
	replicas := make([]Replica, 1000)
	for i := range replicas {
		replicas[i] = Replica{Topic: "orders", Partition: int32(i), Leader: true}
	}
	n.Observe(func() Snapshot { return Snapshot{Replicas: replicas} })
	for b.Loop() {
		if _, err := n.registry.Gather(); err != nil {
			b.Fatal(err)
		}
	}
}
