package commitlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io/fs"
	"maps"
	"strings"
	"testing"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/persistence/vfs"
)

func TestFolderNames(t *testing.T) {
	id := strings.Repeat("0f", 16)
	for _, tt := range []struct {
		name      string
		topic     string
		partition int32
		kind      DirKind
		ok        bool
	}{
		{"orders-0", "orders", 0, Live, true},
		{"a.b-c-12", "a.b-c", 12, Live, true},
		{"orders-0." + id + "-delete", "orders", 0, Deleted, true},
		{"a.b-7." + id + "-stray", "a.b", 7, Stray, true},
		{"orders-0." + id + "-future", "orders", 0, Future, true},
		{"orders-0.xyz-delete", "", 0, 0, false},
		{"orders", "", 0, 0, false},
		{"-1", "", 0, 0, false},
		{"orders-", "", 0, 0, false},
		{"orders-01", "", 0, 0, false},
		{"orders-99999999999", "", 0, 0, false},
		{"x-delete", "", 0, 0, false},
	} {
		topic, partition, kind, ok := ParseDirName(tt.name)
		if ok != tt.ok || (ok && (topic != tt.topic || partition != tt.partition || kind != tt.kind)) {
			t.Errorf("%q: %q %d %d %v", tt.name, topic, partition, kind, ok)
		}
	}
}

func TestAFolderOfAnotherTopicIsRefused(t *testing.T) {
	m := newMem(t)
	mustOpen(t, m, testOptions())
	o := testOptions()
	o.TopicID[0]++
	if _, _, err := Open(m, testDir, o); !errors.Is(err, ErrWrongTopic) {
		t.Errorf("other id: %v", err)
	}
	if id, err := ReadMetadata(m, testDir); err != nil || id != testID {
		t.Errorf("metadata %v %v", id, err)
	}
}

func TestAFolderIsSetAsideAndDeleted(t *testing.T) {
	m := newMem(t)
	l, _ := mustOpen(t, m, testOptions())
	fill(t, l, 10, 5, 10)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	aside, err := SetAside(m, testDir)
	if err != nil {
		t.Fatal(err)
	}
	if aside != testDir+"."+testID.Hex()+"-stray" {
		t.Errorf("set aside as %s", aside)
	}
	if _, err := m.Stat(testDir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
	// Another life of the same name, set aside too, gets another name.
	mustOpen(t, m, testOptions())
	second, err := SetAside(m, testDir)
	if err != nil || second == aside {
		t.Errorf("second set aside as %s: %v", second, err)
	}
	for _, dir := range []string{aside, second} {
		if err := Delete(m, dir); err != nil {
			t.Fatal(err)
		}
	}
	if entries, _ := m.ReadDir("data"); len(entries) != 0 {
		t.Errorf("left: %v", entries)
	}
}

func TestTheLongestTopicNameCanBeRenamed(t *testing.T) {
	dir := "data/" + strings.Repeat("x", 249) + "-7"
	got := renamed(dir, strings.Repeat("a", 32), deleteSuffix)
	name := strings.TrimPrefix(got, "data/")
	if _, n, kind, ok := ParseDirName(name); len(name) > nameMax || !ok || n != 7 || kind != Deleted {
		t.Errorf("%d bytes, partition %d, kind %d, %v", len(name), n, kind, ok)
	}
}

func TestCheckpointsAreReadAsWritten(t *testing.T) {
	m := newMem(t)
	want := map[messages.TopicPartition]messages.Offset{
		{Topic: "b", Partition: 0}: 7, {Topic: "a", Partition: 10}: 1, {Topic: "a", Partition: 2}: 0,
	}
	if got, err := ReadCheckpoint(m, "data/"+RecoveryPointFile); err != nil || len(got) != 0 {
		t.Errorf("missing file: %v %v", got, err)
	}
	if err := WriteCheckpoint(m, "data/"+RecoveryPointFile, want); err != nil {
		t.Fatal(err)
	}
	b, err := vfs.ReadFile(m.CrashClone(1, vfs.LoseUnsynced), "data/"+RecoveryPointFile)
	if err != nil || string(b) != "0\n3\na 2 0\na 10 1\nb 0 7\n" {
		t.Errorf("content %q %v", b, err)
	}
	if got, err := ReadCheckpoint(m, "data/"+RecoveryPointFile); err != nil || !maps.Equal(got, want) {
		t.Errorf("read back %v %v", got, err)
	}
}

func TestTheEmptySnapshotIsOneOfKafkas(t *testing.T) {
	sum := crc32.Checksum(noProducers[6:], crc32.MakeTable(crc32.Castagnoli))
	if binary.BigEndian.Uint32(noProducers[2:]) != sum {
		t.Errorf("sum is %08x", sum)
	}
}

func FuzzCheckpoint(f *testing.F) {
	f.Add([]byte("0\n1\na 0 5\n"))
	f.Add([]byte("0\n0\n"))
	f.Add([]byte("1\n0\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		offsets, err := decodeCheckpoint(b)
		if err != nil {
			if !errors.Is(err, ErrBadCheckpoint) {
				t.Errorf("error %v", err)
			}
			return
		}
		again, err := decodeCheckpoint(encodeCheckpoint(offsets))
		if err != nil || !maps.Equal(again, offsets) {
			t.Errorf("%v became %v: %v", offsets, again, err)
		}
	})
}

func FuzzEpochFile(f *testing.F) {
	f.Add([]byte("0\n2\n1 0\n3 17\n"))
	f.Add([]byte("0\n0\n"))
	f.Add([]byte("0\n1\n-1 0\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := decodeEpochs(b)
		if err != nil {
			return
		}
		for i := 1; i < len(l); i++ {
			if l[i].Epoch <= l[i-1].Epoch || l[i].Start <= l[i-1].Start {
				t.Errorf("entries %v", l)
			}
		}
		again, err := decodeEpochs(l.encode())
		if err != nil || !bytes.Equal(again.encode(), l.encode()) {
			t.Errorf("%v became %v: %v", l, again, err)
		}
	})
}

func FuzzMetadata(f *testing.F) {
	f.Add(encodeMetadata(testID))
	f.Add([]byte("version: 0\ntopic_id: x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		id, err := decodeMetadata(b)
		if err != nil {
			if !errors.Is(err, ErrBadMetadata) {
				t.Errorf("error %v", err)
			}
			return
		}
		if again, err := decodeMetadata(encodeMetadata(id)); err != nil || again != id {
			t.Errorf("%v became %v: %v", id, again, err)
		}
	})
}

// FuzzRecovery opens a folder whose log file holds anything.
func FuzzRecovery(f *testing.F) {
	good := append(bytes.Clone(batch(f, 0, 0, 2, 5, noon).Bytes), batch(f, 2, 0, 1, 9, noon).Bytes...)
	f.Add(good, uint8(0))
	f.Add(append(bytes.Clone(good), make([]byte, 100)...), uint8(1))
	f.Add(good[:len(good)-3], uint8(0))
	f.Fuzz(func(t *testing.T, content []byte, point uint8) {
		m := newMem(t)
		if err := m.MkdirAll(testDir); err != nil {
			t.Fatal(err)
		}
		file, err := m.Create(testDir + "/00000000000000000000.log")
		if err != nil {
			t.Fatal(err)
		}
		if len(content) > 0 {
			if _, err := file.WriteAt(content, 0); err != nil {
				t.Fatal(err)
			}
		}
		file.Close()
		l, _ := mustOpen(t, m, testOptions())
		mustBatches(t, readAll(t, l, 0))
		l.Abandon()
		o := testOptions() // what is trusted may be bad, but must do no harm
		o.RecoveryPoint, o.Clean = messages.Offset(point), point%2 == 1
		m = m.CrashClone(1, vfs.KeepAll)
		if l, _, err := Open(m, testDir, o); err == nil {
			if v, err := l.Read(l.Start(), l.End(), 1<<20, true); err == nil {
				v.Release()
			}
			l.Abandon()
		}
	})
}

func TestDeletingAFolderThatIsNotThereIsNoError(t *testing.T) {
	if err := Delete(newMem(t), testDir); err != nil {
		t.Error(err)
	}
}
