package wire

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/dynamicpb"
)

func TestWhatIsMarshalledInPlaceIsWhatTheResponseIs(t *testing.T) {
	for _, aborted := range []int{0, 1, 20} {
		for _, n := range []int{0, 1, 127, 128, 100_000} {
			want := &ClientResponse{RequestId: 1 << 63, Result: &ClientResponse_Fetched{
				Fetched: &ClientFetched{HighWatermark: 1 << 40, LastStable: 7, LogStart: 5,
					More: true, Part: 3}}}
			for i := range aborted {
				want.GetFetched().Aborted = append(want.GetFetched().Aborted,
					&ClientAborted{ProducerId: int64(i), FirstOffset: 1 << 50})
			}
			records := bytes.Repeat([]byte{9}, n)
			memory := append(make([]byte, HeadRoom), records...)
			got, err := proto.Marshal(FetchedInPlace{proto.CloneOf(want), memory})
			if err != nil {
				t.Fatal(err)
			}
			want.GetFetched().Records = records
			plain, err := proto.Marshal(want)
			if err != nil || !bytes.Equal(got, plain) {
				t.Errorf("%d records, %d aborted: %.99x instead of %.99x, %v", n, aborted, got, plain, err)
			}
			if at := len(got) - n; n > 0 && aborted < 2 && &got[at] != &memory[HeadRoom] {
				t.Errorf("%d bytes of records were copied", n)
			}
			if name := proto.MessageName(FetchedInPlace{want, memory}); name !=
				proto.MessageName(want) {
				t.Errorf("it is a message of the type %s", name)
			}
		}
	}
}

func TestRecordsAreNotCopiedWhenTheyAreRead(t *testing.T) {
	records := bytes.Repeat([]byte("r"), recordsLeast)
	for _, m := range withRecords(records) {
		data, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		got := m.ProtoReflect().New().Interface()
		if err := proto.Unmarshal(data, got); err != nil || !proto.Equal(got, m) {
			t.Fatalf("%v, %v", got, err)
		}
		if at := recordsOf(got); &at[0] != &data[len(data)-len(records)] {
			t.Errorf("%T: the records were copied", got)
		}
	}
}

func withRecords(records []byte) []proto.Message {
	return []proto.Message{
		&ClientRequest{RequestId: 300, TimeoutMs: 7, Command: &ClientRequest_Append{
			Append: &ClientAppend{Topic: "orders", Acks: -1, Records: records}}},
		&ClientResponse{RequestId: 1, Result: &ClientResponse_Fetched{
			Fetched: &ClientFetched{HighWatermark: 1 << 40, More: true, Records: records}}},
	}
}

func recordsOf(m proto.Message) []byte {
	if m, ok := m.(*ClientRequest); ok {
		return m.GetAppend().GetRecords()
	}
	return m.(*ClientResponse).GetFetched().GetRecords()
}

// Whatever comes in is read as the protobuf library alone reads it.
func FuzzRecords(f *testing.F) {
	for _, n := range []int{0, 1, recordsLeast, recordsLeast + 1} {
		for i, m := range withRecords(bytes.Repeat([]byte("r"), n)) {
			data, err := proto.Marshal(m)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data, i == 0)
			f.Add(append(data, data...), i == 0)                   // merges
			f.Add(append(data, "\x08\x01"...), i == 0)             // the records are not last
			f.Add(append([]byte("\xf8\x07\x01"), data...), i == 0) // an unknown field
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, request bool) {
		m := withRecords(nil)[1]
		if request {
			m = withRecords(nil)[0]
		}
		got, want := m.ProtoReflect().New().Interface(), dynamicpb.NewMessage(
			m.ProtoReflect().Descriptor())
		own, theirs := proto.Unmarshal(data, got), proto.Unmarshal(data, want)
		if (own == nil) != (theirs == nil) {
			t.Fatalf("read with %v; the library alone says %v", own, theirs)
		}
		// Not proto.Equal: it tells apart how unknown fields were written.
		text := prototext.MarshalOptions{EmitUnknown: true}
		if own == nil && text.Format(got) != text.Format(want) {
			t.Fatalf("read as %v; the library alone reads %v", got, want)
		}
	})
}
