//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages/record"
)

// The test binary plays the ideal broker when it is asked to.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == idealCommand {
		exit(serveIdeal(os.Args[2]))
	}
	os.Exit(m.Run())
}

func TestFramesAreRequestsKafkaUnderstands(t *testing.T) {
	batch, n, err := small.batch()
	if err != nil || n < 100 || len(batch) > small.batchBytes {
		t.Fatalf("batch of %d bytes with %d records: %v", len(batch), n, err)
	}
	if _, rest, err := record.Parse(batch); err != nil || len(rest) > 0 {
		t.Errorf("the batch does not parse: %v, %d bytes left", err, len(rest))
	}
	const header = 4 + 2 + 2 + 4 + 2 + len(clientID)

	produce := kmsg.ProduceRequest{Version: produceVersion}
	if err := produce.ReadFrom(produceFrame("orders", 3, batch)[header:]); err != nil {
		t.Fatal(err)
	}
	p := produce.Topics[0].Partitions[0]
	if produce.Acks != acksAll || p.Partition != 3 || string(p.Records) != string(batch) {
		t.Errorf("acks %d, partition %d", produce.Acks, p.Partition)
	}

	frame := commitFrame("readers", "orders", 3)
	setCommitOffset(frame, 3, 77)
	commit := kmsg.OffsetCommitRequest{Version: commitVersion}
	if err := commit.ReadFrom(frame[header:]); err != nil {
		t.Fatal(err)
	}
	ps := commit.Topics[0].Partitions
	if commit.Group != "readers" || commit.Generation != -1 || len(ps) != 3 ||
		ps[0].Offset != 77 || ps[2].Partition != 2 || ps[2].Offset != 0 {
		t.Errorf("got %+v", commit)
	}

	frame = fetchFrame("orders", 3)
	setFetchOffset(frame, 77)
	fetch := kmsg.FetchRequest{Version: fetchVersion}
	if err := fetch.ReadFrom(frame[header:]); err != nil {
		t.Fatal(err)
	}
	f := fetch.Topics[0].Partitions[0]
	if f.Partition != 3 || f.FetchOffset != 77 || f.PartitionMaxBytes != fetchMaxBytes {
		t.Errorf("got %+v", f)
	}
}

func TestAnswersHaveTheSizeTheLoadExpects(t *testing.T) {
	produce := kmsg.ProduceResponse{Version: produceVersion, Topics: []kmsg.ProduceResponseTopic{{
		Topic: "orders", Partitions: []kmsg.ProduceResponseTopicPartition{{ErrorCode: 7}},
	}}}
	const correlation = 4
	body := append(make([]byte, correlation), produce.AppendTo(nil)...)
	size, errorAt := produceAnswer("orders")
	if err := answerError(body, errorAt); len(body) != size || err == nil {
		t.Errorf("answer has %d bytes, expected %d; error %v", len(body), size, err)
	}

	fetch := kmsg.FetchResponse{Version: fetchVersion, Topics: []kmsg.FetchResponseTopic{{
		Topic: "orders", Partitions: []kmsg.FetchResponseTopicPartition{{ErrorCode: 7}},
	}}}
	body = append(make([]byte, correlation), fetch.AppendTo(nil)...)
	size, errorAt = fetchAnswerHead("orders")
	if err := answerError(body, errorAt); len(body) != size || err == nil {
		t.Errorf("answer has %d bytes, expected %d; error %v", len(body), size, err)
	}
}

func TestAnswersToCommitsHaveTheSizeTheLoadExpects(t *testing.T) {
	commit := kmsg.OffsetCommitResponse{Version: commitVersion,
		Topics: []kmsg.OffsetCommitResponseTopic{{Topic: "orders",
			Partitions: []kmsg.OffsetCommitResponseTopicPartition{{}, {Partition: 1, ErrorCode: 7}}}}}
	body := append(make([]byte, 4), commit.AppendTo(nil)...)
	size, errorAt := commitAnswer("orders", 2)
	if len(body) != size || answerError(body, errorAt) != nil ||
		answerError(body, errorAt+6) == nil {
		t.Errorf("answer has %d bytes, expected %d: %x", len(body), size, body)
	}
}

func TestTheIdealBrokerStoresAndServes(t *testing.T) {
	dir := t.TempDir() + "/ideal"
	b, err := startIdeal(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer b.stop()
	for i, sc := range []scenario{{large, 1}, {small, 3}} {
		const bytes = 32 << 20
		p, err := b.run(t.Context(), sc, fmt.Sprint("topic-", i), bytes)
		if err != nil {
			t.Fatal(err)
		}
		if p.produce.bytes != p.fetch.bytes || p.produce.bytes < bytes*9/10 || p.produce.p99 <= 0 {
			t.Errorf("%s: %+v", sc.name(), p)
		}
		left, err := os.ReadDir(dir)
		if err != nil || len(left) != 1 {
			t.Errorf("after the topic was dropped there are %v, %v", left, err)
		}
	}
}

func TestALoadEndsWhenItIsInterrupted(t *testing.T) {
	b, err := startIdeal(t.Context(), t.TempDir()+"/ideal")
	if err != nil {
		t.Fatal(err)
	}
	defer b.stop()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.run(ctx, scenario{large, 1}, "orders", 1<<30); err == nil {
		t.Error("an interrupted load said that all went well")
	}
}

func TestTheMedianIsOneOfTheRuns(t *testing.T) {
	run := func(s int) result { return result{bytes: 1e9, took: time.Duration(s) * time.Second} }
	if got := median([]result{run(9), run(1), run(4)}); got.took != 4*time.Second {
		t.Errorf("median of 1, 4 and 9 s is %v", got.took)
	}
	ds := []time.Duration{5, 1, 3}
	if quantile(ds, 0.5) != 3 || quantile(ds, 0.99) != 5 || quantile(nil, 0.5) != 0 {
		t.Error("quantiles are wrong")
	}
}
