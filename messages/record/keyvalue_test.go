package record

import (
	"bytes"
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
)

// readAsConsumer returns the records that a consumer reads from b, which holds
// whole batches, markers included.
func readAsConsumer(t *testing.T, b []byte, aborted ...messages.ProducerID) []*kgo.Record {
	t.Helper()
	in := kmsg.NewFetchResponseTopicPartition()
	in.HighWatermark, in.LastStableOffset, in.RecordBatches = 1000, 1000, b
	for _, id := range aborted {
		in.AbortedTransactions = append(in.AbortedTransactions,
			kmsg.FetchResponseTopicPartitionAbortedTransaction{ProducerID: int64(id)})
	}
	out, _ := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{
		KeepControlRecords: true, IsolationLevel: kgo.ReadCommitted(),
	}, &in, kgo.DefaultDecompressor(), nil)
	if out.Err != nil {
		t.Fatal(out.Err)
	}
	return out.Records
}

func TestMarkersAreReadByAnotherLibrary(t *testing.T) {
	for _, m := range []Marker{{Commit: true, CoordinatorEpoch: 7}, {CoordinatorEpoch: 1 << 30}} {
		b := EndTxnMarker(m, 42, 3, 1234)
		all := readAsConsumer(t, b.Bytes)
		if len(all) != 1 || !all[0].Attrs.IsControl() || !all[0].Attrs.IsTransactional() ||
			all[0].ProducerID != 42 || all[0].ProducerEpoch != 3 || b.Attributes != 0x30 {
			t.Fatalf("attributes %x, read as %+v", b.Attributes, all)
		}
		var key kmsg.ControlRecordKey
		var value kmsg.EndTxnMarker
		if err := errors.Join(key.ReadFrom(all[0].Key), value.ReadFrom(all[0].Value)); err != nil {
			t.Fatal(err)
		}
		want := kmsg.ControlRecordKeyTypeAbort
		if m.Commit {
			want = kmsg.ControlRecordKeyTypeCommit
		}
		if key.Version != 0 || key.Type != want || value.Version != 0 ||
			value.CoordinatorEpoch != m.CoordinatorEpoch ||
			!bytes.Equal(key.AppendTo(nil), all[0].Key) ||
			!bytes.Equal(value.AppendTo(nil), all[0].Value) {
			t.Errorf("%+v is read as %+v %+v", m, key, value)
		}
	}
}

func TestAMarkerEndsATransactionForAConsumer(t *testing.T) {
	type keyValue KeyValue // as the callers have one of their own
	data, err := OfKeyValues([]keyValue{{Key: []byte("a"), Value: []byte("1")}}, 42, 3, 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, commit := range []bool{true, false} {
		marker := EndTxnMarker(Marker{Commit: commit}, 42, 3, 1001)
		marker.Stamp(1, 0)
		var aborted []messages.ProducerID
		want := 2
		if !commit {
			aborted, want = []messages.ProducerID{42}, 1
		}
		all := readAsConsumer(t, append(bytes.Clone(data.Bytes), marker.Bytes...), aborted...)
		if len(all) != want || !all[want-1].Attrs.IsControl() {
			t.Errorf("commit %v: a consumer reads %d records", commit, len(all))
		}
	}
}

func TestRecordsOfCoordinatorsAreReadByAnotherLibrary(t *testing.T) {
	records := []KeyValue{
		{Key: []byte("a"), Value: []byte("1")}, {Key: []byte("b")}, {Key: []byte("c"), Value: []byte{}},
	}
	for _, tt := range []struct {
		id         messages.ProducerID
		epoch      messages.ProducerEpoch
		attributes int16
	}{{messages.NoProducerID, -1, 0}, {0, 0, 0x10}, {42, 3, 0x10}} {
		b, err := OfKeyValues(records, tt.id, tt.epoch, 1234)
		if err != nil {
			t.Fatal(err)
		}
		p := mustParse(t, b.Bytes)
		if p.Header != b.Header || p.Attributes != tt.attributes || p.ProducerID != tt.id ||
			p.ProducerEpoch != tt.epoch || p.BaseSequence != messages.NoSequence ||
			p.BaseTimestamp != 1234 || p.MaxTimestamp != 1234 || p.BaseOffset != 0 {
			t.Errorf("header is %+v", p.Header)
		}
		all := readAsConsumer(t, b.Bytes)
		if len(all) != len(records) {
			t.Fatalf("%d records are read as %d", len(records), len(all))
		}
		for i, r := range all {
			if !same(r.Key, records[i].Key) || !same(r.Value, records[i].Value) ||
				r.Offset != int64(i) || r.Timestamp.UnixMilli() != 1234 {
				t.Errorf("record %d is read as %+v", i, r)
			}
		}
	}
	if _, err := OfKeyValues([]KeyValue{}, 1, 1, 1); !errors.Is(err, messages.ErrInvalidRecord) {
		t.Errorf("a batch of nothing: %v", err)
	}
}
