package txns

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/txn"
)

// asKafka reads a record with the code of a Kafka client.
func asKafka(t *testing.T, key, value []byte) (string, kmsg.TxnMetadataValue) {
	t.Helper()
	var k kmsg.TxnMetadataKey
	if err := k.ReadFrom(key); err != nil || k.Version != 0 {
		t.Fatalf("key %x: version %d, %v", key, k.Version, err)
	}
	v := kmsg.NewTxnMetadataValue()
	if err := v.ReadFrom(value); err != nil {
		t.Fatalf("value %x: %v", value, err)
	}
	return k.TransactionalID, v
}

// toKafka makes the value that a Kafka client would write.
func toKafka(m *meta) kmsg.TxnMetadataValue {
	v := kmsg.NewTxnMetadataValue()
	v.ProducerID, v.ProducerEpoch = int64(m.producer), int16(m.epoch)
	v.TimeoutMillis, v.State = m.timeoutMs, kmsg.TransactionState(m.state)
	v.LastUpdateTimestamp, v.StartTimestamp = int64(m.updatedMs), int64(m.startedMs)
	v.PreviousProducerID, v.NextProducerID = int64(m.previous), int64(m.next)
	if m.v2 {
		v.ClientTransactionVersion = 2
	}
	if v.PreviousProducerID != -1 || v.NextProducerID != -1 || m.v2 {
		v.Version = 1
	}
	if m.state != txn.Empty {
		v.Topics = []kmsg.TxnMetadataValueTopic{}
	}
	for _, p := range m.partitions {
		if n := len(v.Topics); n == 0 || v.Topics[n-1].Topic != p.Topic {
			topic := kmsg.NewTxnMetadataValueTopic()
			topic.Topic = p.Topic
			v.Topics = append(v.Topics, topic)
		}
		topic := &v.Topics[len(v.Topics)-1]
		topic.Partitions = append(topic.Partitions, p.Partition)
	}
	return v
}

func TestRecordsAreThoseOfKafka(t *testing.T) {
	for _, m := range []*meta{
		state(txn.Empty), state(txn.Ongoing), state(txn.CompleteAbort),
		state(txn.Empty, previous(6)), state(txn.CompleteCommit, v2), state(txn.PrepareAbort, v2),
		state(txn.PrepareCommit, v2, epoch(maxEpoch), next(9)),
		state(txn.CompleteCommit, v2, previous(6)), state(txn.PrepareAbort, without),
		state(txn.Ongoing, func(m *meta) {
			for i := range int32(300) {
				m.partitions = append(m.partitions, messages.TopicPartition{
					Topic: strings.Repeat("x", int(i%3)*100+49), Partition: i})
			}
			sortedSet(m.partitions)
		}),
	} {
		key, value := encodeKey("pay"), m.encodeValue()
		id, got := asKafka(t, key, value)
		want := toKafka(m)
		if id != "pay" || !reflect.DeepEqual(got, want) {
			t.Errorf("%v: Kafka reads %q %+v, want %+v", m.state, id, got, want)
		}
		if ours := want.AppendTo(nil); !bytes.Equal(ours, value) {
			t.Errorf("%v: Kafka writes %x, we write %x", m.state, ours, value)
		}
		if back, err := parseValue(value); err != nil || !reflect.DeepEqual(back, m) {
			t.Errorf("%v: read back %+v, %v, want %+v", m.state, back, err, m)
		}
	}
}

func TestTheBytesOfARecordStayAsTheyAre(t *testing.T) {
	m := state(txn.PrepareCommit, v2, previous(3), next(9))
	m.partitions = []messages.TopicPartition{{Topic: "a", Partition: 1}, {Topic: "a", Partition: 2}}
	m.updatedMs, m.startedMs = 2, 1
	for _, tt := range []struct {
		name string
		got  []byte
		want string
	}{
		{"key", encodeKey("pay"), "0000" + "0003706179"},
		{"V2", m.encodeValue(), "0001" + "0000000000000007" + "0005" + "0000ea60" + "02" +
			"02" + "0261" + "03" + "0000000100000002" + "00" +
			"0000000000000002" + "0000000000000001" +
			"03" + "00080000000000000003" + "01080000000000000009" + "02020002"},
		{"V1", state(txn.Empty, func(m *meta) { m.updatedMs = 2 }).encodeValue(),
			"0000" + "0000000000000007" + "0005" + "0000ea60" + "00" + "ffffffff" +
				"0000000000000002" + "ffffffffffffffff"},
	} {
		if got := hex.EncodeToString(tt.got); got != tt.want {
			t.Errorf("%s:\n%s, want\n%s", tt.name, got, tt.want)
		}
	}
}

func TestRecordsOfKafkaAreRead(t *testing.T) {
	m := state(txn.PrepareCommit, v2, previous(6), next(9))
	v := toKafka(m)
	v.NextProducerEpoch = 3 // KIP-939
	v.UnknownTags.Set(17, []byte("later"))
	v.Topics[0].UnknownTags.Set(3, []byte("later"))
	if got, err := parseValue(v.AppendTo(nil)); err != nil || !reflect.DeepEqual(got, m) {
		t.Errorf("read %+v, %v, want %+v", got, err, m)
	}
	// Kafka names the producer id as the previous one when it has not changed, and
	// keeps V2's version 1 for idle ids.
	v = toKafka(state(txn.Empty))
	v.Version, v.PreviousProducerID = 1, v.ProducerID
	if got, err := parseValue(v.AppendTo(nil)); err != nil || got.previous != none {
		t.Errorf("read %+v, %v", got, err)
	}
}

func TestKeysOfOtherTypesAreTold(t *testing.T) {
	for _, tt := range []struct {
		key  []byte
		want error
	}{
		{[]byte{0, 1, 0, 1, 'x'}, ErrUnknownKey}, {[]byte{0xff, 0xff}, ErrUnknownKey},
		{nil, ErrDamaged}, {[]byte{0}, ErrDamaged}, {[]byte{0, 0}, ErrDamaged},
		{[]byte{0, 0, 0, 2, 'x'}, ErrDamaged}, {[]byte{0, 0, 0, 1, 'x', 'y'}, ErrDamaged},
		{[]byte{0, 0, 0xff, 0xff}, ErrDamaged},
	} {
		if id, err := ParseKey(tt.key); !errors.Is(err, tt.want) || id != "" {
			t.Errorf("%x: %q, %v, want %v", tt.key, id, err, tt.want)
		}
	}
	if id, err := ParseKey(encodeKey("pay")); id != "pay" || err != nil {
		t.Errorf("%q, %v", id, err)
	}
}

func TestDamagedRecordsAreTold(t *testing.T) {
	good := map[string][]byte{
		"V1": state(txn.Ongoing).encodeValue(),
		"V2": state(txn.PrepareCommit, v2, next(9), previous(3)).encodeValue(),
	}
	replay := func(value []byte) error {
		m := New("pay", nil, nil)
		return m.Replay(coord.Replayed{Record: coord.Record{Key: encodeKey("pay"), Value: value}})
	}
	for name, b := range good {
		for n := range b {
			if err := replay(b[:n:n]); !errors.Is(err, ErrDamaged) {
				t.Errorf("%s, %d of %d bytes: %v", name, n, len(b), err)
			}
		}
		if err := replay(append(slices.Clone(b), 0)); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s, a byte too many: %v", name, err)
		}
	}
	for name, m := range map[string]*meta{
		"state dead":            state(txn.Dead),
		"state epoch fence":     state(txn.PrepareEpochFence),
		"state unknown":         state(txn.State(-1)),
		"no producer id":        state(txn.Empty, func(m *meta) { m.producer = none }),
		"no epoch":              state(txn.Empty, epoch(noEpoch)),
		"previous out of range": state(txn.Empty, previous(-2)),
		"next out of range":     state(txn.PrepareAbort, next(-2)),
		"next when idle":        state(txn.CompleteAbort, next(9)),
		"partition out of range": state(txn.Ongoing, func(m *meta) {
			m.partitions = []messages.TopicPartition{{Topic: "a", Partition: -1}}
		}),
	} {
		if err := replay(m.encodeValue()); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := replay([]byte{0, 2}); !errors.Is(err, ErrDamaged) {
		t.Errorf("unknown version: %v", err)
	}
	foreign := coord.Record{Key: encodeKey("other")}
	failed(t, New("pay", nil, nil).Replay(coord.Replayed{Record: foreign}), ErrDamaged)
}

func FuzzParseKey(f *testing.F) {
	f.Add(encodeKey("pay"))
	f.Add([]byte{0, 1, 0})
	f.Fuzz(func(t *testing.T, key []byte) {
		id, err := ParseKey(key)
		switch {
		case err == nil:
			if !bytes.Equal(encodeKey(id), key) {
				t.Errorf("%x is read as %q", key, id)
			}
		case !errors.Is(err, ErrUnknownKey) && !errors.Is(err, ErrDamaged):
			t.Errorf("%x: %v", key, err)
		}
	})
}

// What is read from any bytes says what Kafka's code reads from them, and is
// written so that it is read alike.
func FuzzParseValue(f *testing.F) {
	for _, m := range []*meta{
		state(txn.Empty), state(txn.Ongoing), state(txn.CompleteCommit, v2, previous(6)),
		state(txn.PrepareCommit, v2, epoch(maxEpoch), next(9)),
	} {
		f.Add(m.encodeValue())
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		m, err := parseValue(value)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Errorf("%x: %v", value, err)
			}
			return
		}
		_, v := asKafka(t, encodeKey("pay"), value)
		if v.ProducerID != int64(m.producer) || v.ProducerEpoch != int16(m.epoch) ||
			v.TimeoutMillis != m.timeoutMs || int8(v.State) != int8(m.state) ||
			v.NextProducerID != int64(m.next) || v.StartTimestamp != int64(m.startedMs) ||
			v.LastUpdateTimestamp != int64(m.updatedMs) {
			t.Errorf("%x: Kafka reads %+v, we read %+v", value, v, m)
		}
		again, err := parseValue(m.encodeValue())
		if err != nil || !reflect.DeepEqual(again, m) {
			t.Errorf("%x: read %+v, then %+v, %v", value, m, again, err)
		}
	})
}

func TestRandomRecordsAreReadBack(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		m := state(txn.State(rng.IntN(6)), epoch(messages.ProducerEpoch(rng.IntN(1<<15))))
		m.partitions = nil
		if m.state == txn.Ongoing || m.prepared() {
			for range rng.IntN(20) {
				m.partitions = append(m.partitions, messages.TopicPartition{
					Topic: strings.Repeat("t", 1+rng.IntN(4)), Partition: int32(rng.IntN(5))})
			}
			m.partitions = sortedSet(m.partitions)
		}
		m.producer = messages.ProducerID(1 + rng.Int64N(1<<62))
		m.v2 = rng.IntN(2) == 0
		if rng.IntN(2) == 0 {
			m.previous = 0
		}
		if m.prepared() && rng.IntN(2) == 0 {
			m.next = messages.ProducerID(rng.Int64N(1 << 62))
		}
		got, err := parseValue(m.encodeValue())
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Fatalf("wrote %+v, read %+v, %v", m, got, err)
		}
		_, v := asKafka(t, encodeKey("pay"), m.encodeValue())
		if !reflect.DeepEqual(v, toKafka(m)) {
			t.Fatalf("wrote %+v, Kafka reads %+v", m, v)
		}
	}
}
