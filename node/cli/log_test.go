package cli

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/record"
)

// batchOf is a batch of n records from an offset on.
func batchOf(t *testing.T, base messages.Offset, n int) []byte {
	t.Helper()
	bu := record.NewBuilder(record.Compression{}).BaseOffset(base).Producer(7, 1, 0)
	for i := range n {
		bu.Append(messages.Timestamp(noon.UnixMilli()+int64(i)), []byte("k"),
			[]byte("value "+strconv.Itoa(i)), record.RecordHeader{Key: []byte("h")})
	}
	b, err := bu.Build()
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes
}

// flipped is b with one bit of its last byte changed.
func flipped(b []byte) []byte {
	b = slices.Clone(b)
	b[len(b)-1] ^= 1
	return b
}

const (
	firstLog  = "00000000000000000000.log"
	secondLog = "00000000000000000005.log"
)

// writePartition makes a partition's folder of these files and returns it.
func writePartition(t *testing.T, files map[string][]byte) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "orders-0")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestLogDumpPrintsBatchesAndRecords(t *testing.T) {
	content := slices.Concat(batchOf(t, 0, 3), batchOf(t, 3, 2), make([]byte, 4096))
	file := filepath.Join(writePartition(t, map[string][]byte{firstLog: content}), firstLog)
	size := len(batchOf(t, 0, 3))
	want := "" +
		"  POSITION         FIRST          LAST  RECORDS      BYTES  CODEC   EPOCH  TIME" +
		"                      NOTE\n" +
		"         0             0             2        3        115  none       -1  " +
		"2026-03-01T12:00:00.002Z  producer 7 epoch 1 sequence 0\n" +
		"       115             3             4        2         97  none       -1  " +
		"2026-03-01T12:00:00.001Z  producer 7 epoch 1 sequence 0\n" +
		"       212  4,096 bytes reserved for batches to come\n"
	if size != 115 {
		t.Fatalf("a batch of 3 records has %d bytes", size)
	}
	if got := succeed(t, nil, "", "log", "dump", file); got != want {
		t.Errorf("printed\n%s\nwant\n%s", got, want)
	}
	got := succeed(t, nil, "", "log", "dump", file, "--records", "--offset", "4")
	if !strings.Contains(got, "             4  2026-03-01T12:00:00.001Z  "+
		"key \"k\"  value \"value 1\"  header h=null\n") || strings.Contains(got, "\n         0 ") {
		t.Errorf("records printed as\n%s", got)
	}
}

func TestLogDumpHasTheseFields(t *testing.T) {
	dir := writePartition(t, map[string][]byte{firstLog: batchOf(t, 0, 1)})
	file := filepath.Join(dir, firstLog)
	got := succeed(t, nil, "", "log", "dump", file, "--records", "-o", "json")
	want := `{"position":0,"sizeBytes":79,"baseOffset":0,"lastOffset":0,"count":1,"codec":"none",` +
		`"leaderEpoch":-1,"producerId":7,"producerEpoch":1,"baseSequence":0,` +
		`"baseTimestamp":1772366400000,"maxTimestamp":1772366400000,"transactional":false,` +
		`"control":false,"records":[{"offset":0,"timestamp":1772366400000,"key":"k",` +
		`"value":"value 0","headers":[{"key":"h","value":null}]}]}` + "\n"
	if got != want {
		t.Errorf("printed\n%s\nwant\n%s", got, want)
	}
}

func TestLogDumpMarksDamageAndFails(t *testing.T) {
	content := slices.Concat(flipped(batchOf(t, 0, 3)), batchOf(t, 3, 2))
	file := filepath.Join(writePartition(t, map[string][]byte{firstLog: content}), firstLog)
	r := troupe(t, nil, "", "log", "dump", file)
	if r.code != ExitFailure || !strings.Contains(r.out, "DAMAGED: ") ||
		!strings.Contains(r.out, "\n       115 ") || // the batch after it
		!strings.HasPrefix(r.err, "troupe: log dump: "+file+": 1 batch damaged; ") {
		t.Errorf("exit %d\n%s\n%s", r.code, r.out, r.err)
	}
}

func TestLogDumpOfAnotherFileSaysWhichToName(t *testing.T) {
	index := strings.Replace(firstLog, ".log", ".index", 1)
	dir := writePartition(t, map[string][]byte{index: {}, "note": []byte("this is not a batch")})
	for name, want := range map[string]string{
		index:  "is an index or snapshot; name the segment's .log file",
		"note": "no batch at position 0: ",
		"gone": "no such file or directory; name the segment's .log file",
	} {
		r := troupe(t, nil, "", "log", "dump", filepath.Join(dir, name))
		if r.code != ExitFailure || !strings.Contains(r.err, want) ||
			strings.Count(r.err, "\n") != 1 {
			t.Errorf("%s: exit %d, stderr %q", name, r.code, r.err)
		}
	}
}

func TestLogCheckTellsATornEndFromDamage(t *testing.T) {
	first, second := batchOf(t, 0, 3), batchOf(t, 3, 2)
	next := batchOf(t, 5, 4)
	zeros := make([]byte, 4096)
	for _, tt := range []struct {
		name   string
		files  map[string][]byte
		synced string // content of the recovery point file
		state  string
		end    int64
	}{
		{name: "whole batches are good", end: 9, state: stateGood, files: map[string][]byte{
			firstLog: slices.Concat(first, second), secondLog: next}},
		{name: "reserved space is good", end: 5, state: stateGood,
			files: map[string][]byte{firstLog: slices.Concat(first, second, zeros)}},
		{name: "an empty segment is good", end: 5, state: stateGood, files: map[string][]byte{
			firstLog: slices.Concat(first, second), secondLog: {}}},
		{name: "half a batch at the end is unfinished", end: 3, state: stateTail,
			files: map[string][]byte{firstLog: slices.Concat(first, second[:70])}},
		{name: "half a header at the end is unfinished", end: 3, state: stateTail,
			files: map[string][]byte{firstLog: slices.Concat(first, second[:9])}},
		{name: "a batch with zeros in it at the end is unfinished", end: 3, state: stateTail,
			files: map[string][]byte{firstLog: slices.Concat(first, second[:70], zeros)}},
		{name: "an unfinished end of what was synced is damage", end: 3, state: stateDamaged,
			files:  map[string][]byte{firstLog: slices.Concat(first, second[:70])},
			synced: "0\n1\norders 0 5\n"},
		{name: "an unfinished end after what was synced is none", end: 3, state: stateTail,
			files:  map[string][]byte{firstLog: slices.Concat(first, second[:70])},
			synced: "0\n1\norders 0 3\n"},
		{name: "a log that ends before what was synced is damaged", end: 3, state: stateDamaged,
			files: map[string][]byte{firstLog: first}, synced: "0\n1\norders 0 5\n"},
		{name: "a bad batch in what was synced is damage", end: 0, state: stateDamaged,
			files:  map[string][]byte{firstLog: slices.Concat(flipped(first), second)},
			synced: "0\n1\norders 0 5\n"},
		{name: "half a batch before another segment is damage", end: 3, state: stateDamaged,
			files: map[string][]byte{firstLog: slices.Concat(first, second[:70]), secondLog: next}},
		{name: "offsets that fall are damage", end: 5, state: stateDamaged,
			files: map[string][]byte{firstLog: slices.Concat(first, second, first, next)}},
		{name: "segments that overlap are damage", end: 11, state: stateDamaged,
			files: map[string][]byte{firstLog: slices.Concat(first, batchOf(t, 3, 8)),
				secondLog: next}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := writePartition(t, tt.files)
			if tt.synced != "" {
				name := filepath.Join(filepath.Dir(dir), "recovery-point-offset-checkpoint")
				if err := os.WriteFile(name, []byte(tt.synced), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			for _, asked := range []string{dir, filepath.Dir(dir)} {
				r := troupe(t, nil, "", "log", "check", asked)
				fields := strings.Fields(strings.Split(r.out, "\n")[1])
				wantCode := ExitOK
				if tt.state == stateDamaged {
					wantCode = ExitFailure
				}
				// PARTITION SEGMENTS BATCHES RECORDS SIZE (and its unit) START END STATE
				if r.code != wantCode || fields[8] != tt.state ||
					fields[7] != strconv.FormatInt(tt.end, 10) {
					t.Errorf("%s: exit %d\n%s%s", asked, r.code, r.out, r.err)
				}
			}
		})
	}
}

func TestLogCheckChangesNothing(t *testing.T) {
	content := slices.Concat(batchOf(t, 0, 3), batchOf(t, 3, 2)[:70])
	dir := writePartition(t, map[string][]byte{firstLog: content})
	succeed(t, nil, "", "log", "check", dir)
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("the folder has %v (%v)", entries, err)
	}
	got, err := os.ReadFile(filepath.Join(dir, firstLog))
	if err != nil || !slices.Equal(got, content) {
		t.Errorf("the log changed (%v)", err)
	}
}

func TestLogCheckOfAnotherFolderSaysWhichToName(t *testing.T) {
	dir := t.TempDir()
	for name, want := range map[string]string{
		dir:                        "holds no partition; name a data directory or a partition's folder",
		filepath.Join(dir, "gone"): "no such file or directory; name a data directory or a",
	} {
		r := troupe(t, nil, "", "log", "check", name)
		if r.code != ExitFailure || !strings.Contains(r.err, want) {
			t.Errorf("exit %d, stderr %q", r.code, r.err)
		}
	}
}

func TestLogCheckHasTheseFields(t *testing.T) {
	dir := writePartition(t, map[string][]byte{
		firstLog: slices.Concat(batchOf(t, 0, 3), batchOf(t, 3, 2)[:70])})
	got := succeed(t, nil, "", "log", "check", dir, "-o", "yaml")
	want := "- name: orders-0\n" +
		"  topicId: \"\"\n" +
		"  segments: 1\n" +
		"  batches: 1\n" +
		"  records: 3\n" +
		"  sizeBytes: 115\n" +
		"  startOffset: 0\n" +
		"  endOffset: 3\n" +
		"  state: unfinished\n" +
		"  problems:\n" +
		"    - file: 00000000000000000000.log\n" +
		"      position: 115\n" +
		"      offset: 3\n" +
		"      text: '70 of 97 bytes: batch is cut short: corrupt record batch'\n" +
		"      tail: true\n"
	if got != want {
		t.Errorf("printed\n%s\nwant\n%s", got, want)
	}
}
