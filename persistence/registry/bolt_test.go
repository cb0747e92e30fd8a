package registry

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/troupelog/troupe/persistence/vfs"
)

// readBytes and writeBytes handle whole files on the real disk.
func readBytes(t testing.TB, name string) []byte {
	t.Helper()
	b, err := vfs.ReadFile(vfs.OS{}, name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func writeBytes(t testing.TB, name string, content []byte) {
	t.Helper()
	disk := vfs.OS{}
	if err := disk.RemoveAll(name); err != nil {
		t.Fatal(err)
	}
	f, err := disk.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(content, 0); err != nil {
		t.Fatal(err)
	}
}

// edit changes a database behind the Store's back.
func edit(t *testing.T, name string, f func(*bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(name, boltPerm, &bbolt.Options{OpenFile: vfs.OS{}.OpenFile})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(f), db.Close()); err != nil {
		t.Fatal(err)
	}
}

// filled makes a file with enough records for several levels of pages, some
// pages free, and returns what it holds.
func filled(t testing.TB, name string) string {
	t.Helper()
	s, err := OpenBolt(vfs.OS{}, name)
	if err != nil {
		t.Fatal(err)
	}
	l, err := s.Campaign(background, 1)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 8 {
		var ops []Op
		for k := range OpsMax {
			ops = append(ops, put(fmt.Sprintf("topics/%d/%d", i%6, k), strings.Repeat("v", 10*k+i)))
		}
		ops = append(ops[1:], put(fmt.Sprintf("large/%d", i), strings.Repeat("L", 9000)))
		if _, err := s.Commit(background, l, ops); err != nil {
			t.Fatal(err)
		}
	}
	c, err := s.Read(background)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return describe(c)
}

// expectRefusal opens a file that must not open, and checks that the error says
// which file and what to do, and that the file is as it was.
func expectRefusal(t *testing.T, name string, target error, words ...string) {
	t.Helper()
	before := readBytes(t, name)
	s, err := OpenBolt(vfs.OS{}, name)
	if err == nil {
		_ = s.Close()
		t.Fatalf("it opened, want %v", target)
	}
	if !errors.Is(err, target) {
		t.Errorf("got error %v, want %v", err, target)
	}
	for _, word := range append(words, name) {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the error does not say %q: %v", word, err)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("the error has more than one line: %v", err)
	}
	if !bytes.Equal(readBytes(t, name), before) {
		t.Error("the file was changed")
	}
}

func TestANewerFormatIsRefused(t *testing.T) {
	name := filepath.Join(t.TempDir(), "metadata.db")
	filled(t, name)
	edit(t, name, func(tx *bbolt.Tx) error {
		return writeNumber(tx.Bucket(stateBucket), formatKey, boltFormat+1)
	})
	expectRefusal(t, name, ErrNewerFormat, "format is 2", "knows 1", "start the newer version")
}

func TestForeignAndDamagedFilesAreRefused(t *testing.T) {
	for _, tt := range []struct {
		name   string
		damage func(t *testing.T, name string)
		words  []string
	}{
		{"a text", func(t *testing.T, name string) {
			writeBytes(t, name, []byte(strings.Repeat("hello\n", 10_000)))
		}, []string{"no valid head"}},
		{"a single byte", func(t *testing.T, name string) { writeBytes(t, name, []byte{0}) }, nil},
		{"zeros", func(t *testing.T, name string) { writeBytes(t, name, make([]byte, 65536)) }, nil},
		{"a database of another program", func(t *testing.T, name string) {
			writeBytes(t, name, nil)
			edit(t, name, func(tx *bbolt.Tx) error {
				_, err := tx.CreateBucket([]byte("raft"))
				return err
			})
		}, []string{"another program", "raft"}},
		{"a file cut short", func(t *testing.T, name string) {
			writeBytes(t, name, readBytes(t, name)[:3*os.Getpagesize()])
		}, []string{"end is missing"}},
		{"a missing version", func(t *testing.T, name string) {
			edit(t, name, func(tx *bbolt.Tx) error { return tx.Bucket(stateBucket).Delete(formatKey) })
		}, []string{"format is 0 bytes"}},
		{"a missing bucket", func(t *testing.T, name string) {
			edit(t, name, func(tx *bbolt.Tx) error { return tx.DeleteBucket(entriesBucket) })
		}, []string{"without its buckets"}},
		{"a negative epoch", func(t *testing.T, name string) {
			edit(t, name, func(tx *bbolt.Tx) error {
				return writeNumber(tx.Bucket(stateBucket), epochKey, -1)
			})
		}, []string{"epoch is -1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			name := filepath.Join(t.TempDir(), "metadata.db")
			filled(t, name)
			tt.damage(t, name)
			expectRefusal(t, name, ErrCorrupt, append(tt.words, "restore it", "move it away")...)
		})
	}
}

func TestADamagedRecordIsFoundWhenRead(t *testing.T) {
	for _, damage := range [][]byte{
		[]byte("short"), make([]byte, recordHeader+5), encodeRecord("another/key", []byte("x"), 1),
	} {
		name := filepath.Join(t.TempDir(), "metadata.db")
		filled(t, name)
		edit(t, name, func(tx *bbolt.Tx) error {
			return tx.Bucket(entriesBucket).Put([]byte("topics/1/1"), damage)
		})
		s := openBolt(t, name)
		_, err := s.Read(background)
		if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), `"topics/1/1"`) ||
			!strings.Contains(err.Error(), name) {
			t.Errorf("got error %v, want one that names file and record", err)
		}
		if _, again := s.Campaign(background, 1); !errors.Is(again, ErrCorrupt) {
			t.Errorf("a damaged file was written to: %v", again)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestASecondProcessIsTurnedAway(t *testing.T) {
	name := filepath.Join(t.TempDir(), "metadata.db")
	first := openBolt(t, name)
	_, err := OpenBolt(vfs.OS{}, name)
	if !errors.Is(err, vfs.ErrLocked) || !strings.Contains(err.Error(), name) {
		t.Errorf("got error %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	openBolt(t, name)
}

func TestARefusedFileIsLetGo(t *testing.T) {
	name := filepath.Join(t.TempDir(), "metadata.db")
	writeBytes(t, name, nil)
	edit(t, name, func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucket([]byte("raft"))
		return err
	})
	expectRefusal(t, name, ErrCorrupt)
	edit(t, name, func(*bbolt.Tx) error { return nil }) // would wait for the lock for ever
}

func TestOpeningNeedsAFolderAndTheSystemsFiles(t *testing.T) {
	name := filepath.Join(t.TempDir(), "no", "metadata.db")
	if _, err := OpenBolt(vfs.OS{}, name); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing folder: %v", err)
	}
	if _, err := OpenBolt(vfs.NewMem(), "/metadata.db"); err == nil ||
		!strings.Contains(err.Error(), "registry.NewMemory") {
		t.Errorf("a file system in memory: %v", err)
	}
	if _, err := OpenBolt(vfs.OS{}, t.TempDir()); err == nil {
		t.Error("a folder opened")
	}
}

func TestATornHeadFallsBackToTheOther(t *testing.T) {
	name := filepath.Join(t.TempDir(), "metadata.db")
	filled(t, name)
	content := readBytes(t, name)
	opened := 0
	for page := range 2 {
		torn := bytes.Clone(content)
		copy(torn[page*os.Getpagesize()+pageHeaderBytes+40:], make([]byte, 16))
		writeBytes(t, name, torn)
		s, err := OpenBolt(vfs.OS{}, name)
		if err != nil {
			t.Fatalf("head %d torn: %v", page, err)
		}
		if _, err := s.Read(background); err == nil {
			opened++
		}
		_ = s.Close()
	}
	if opened != 2 {
		t.Errorf("%d of 2 files were read", opened)
	}
}

// TestFlippedBitsNeverCrashOrLie inverts bits all over the file. Each time the
// file is refused, or what is read is what was written.
func TestFlippedBitsNeverCrashOrLie(t *testing.T) {
	const flips = 200
	name := filepath.Join(t.TempDir(), "metadata.db")
	want := filled(t, name)
	good := readBytes(t, name)
	head, err := readHead(bytes.NewReader(good), int64(len(good)))
	if err != nil {
		t.Fatal(err)
	}
	good = good[:head.pages*head.pageBytes] // the rest is room to grow
	r := rand.New(rand.NewPCG(1, 2))
	refused := 0
	for range flips {
		bad := bytes.Clone(good)
		page := r.Uint64N(head.pages)
		at := page * head.pageBytes
		if r.IntN(2) == 0 { // headers and elements, where damage is worst
			at += r.Uint64N(256)
		} else {
			at += r.Uint64N(head.pageBytes)
		}
		bad[at] ^= 1 << r.IntN(8)
		writeBytes(t, name, bad)
		if !opensWith(t, name, want) {
			refused++
		}
	}
	if refused < flips/10 {
		t.Errorf("only %d of %d damaged files were refused", refused, flips)
	}
}

// opensWith reports whether a file opens and holds what is wanted. A file that
// opens with something else, or fails with another error than ErrCorrupt, fails
// the test.
func opensWith(t *testing.T, name, want string) bool {
	t.Helper()
	s, err := OpenBolt(vfs.OS{}, name)
	if err == nil {
		defer s.Close()
		var c Contents
		if c, err = s.Read(background); err == nil {
			if got := describe(c); got != want {
				// An older head, whose pages are whole, is the state before the
				// last commit: that is what a torn write of the head leaves.
				if c.Version != 7 {
					t.Fatalf("version %d of the file holds %.200q", c.Version, got)
				}
			}
			l, err := s.Campaign(background, 1)
			if err == nil {
				_, err = s.Commit(background, l, []Op{put("large/0", "x"), put("new", "x")})
			}
			if err != nil && !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			return true
		}
	}
	if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNewerFormat) {
		t.Fatal(err)
	}
	return false
}

// FuzzExamine overwrites words of a good file, eleven bytes of input each: page,
// place in the page, word. The check before bbolt must end, and what it accepts
// must not crash bbolt, neither reading nor writing.
func FuzzExamine(f *testing.F) {
	name := filepath.Join(f.TempDir(), "metadata.db")
	filled(f, name)
	good := readBytes(f, name)
	head, err := readHead(bytes.NewReader(good), int64(len(good)))
	if err != nil {
		f.Fatal(err)
	}
	good = good[:head.pages*head.pageBytes]
	f.Add([]byte{})
	f.Add([]byte{2, 0, 8, 255, 255, 255, 255, 255, 255, 255, 255})              // flags, count
	f.Add([]byte{byte(head.root), 0, 24, byte(head.root), 0, 0, 0, 0, 0, 0, 0}) // a loop
	f.Add([]byte{byte(head.freelist), 0, 16, 2, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, edits []byte) {
		content := bytes.Clone(good)
		for ; len(edits) >= 11; edits = edits[11:] {
			page := uint64(edits[0]) % head.pages
			at := page*head.pageBytes + uint64(binary.BigEndian.Uint16(edits[1:]))%(head.pageBytes-8)
			copy(content[at:], edits[3:11])
		}
		name := filepath.Join(t.TempDir(), "metadata.db")
		writeBytes(t, name, content)
		s, err := OpenBolt(vfs.OS{}, name)
		if err != nil {
			return
		}
		defer s.Close()
		_, err = s.Read(background)
		if err == nil {
			var l Lease
			if l, err = s.Campaign(background, 1); err == nil {
				_, err = s.Commit(background, l, []Op{put("large/0", "x"), put("new", "x")})
			}
		}
		if err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
	})
}

// BenchmarkOpenFresh is what the first start of a node pays: an empty file, its
// first controllership and its first commit.
func BenchmarkOpenFresh(b *testing.B) {
	dir := b.TempDir()
	for i := range b.N {
		s, err := OpenBolt(vfs.OS{}, filepath.Join(dir, fmt.Sprint(i)))
		if err != nil {
			b.Fatal(err)
		}
		l, err := s.Campaign(background, 1)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := s.Commit(background, l, []Op{put("cluster", "id")}); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		_ = s.Close()
		b.StartTimer()
	}
}

// BenchmarkCommit is one durable transaction of one record.
func BenchmarkCommit(b *testing.B) {
	s, err := OpenBolt(vfs.OS{}, filepath.Join(b.TempDir(), "db"))
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	l, err := s.Campaign(background, 1)
	if err != nil {
		b.Fatal(err)
	}
	for i := range b.N {
		ops := []Op{put(fmt.Sprintf("topics/%d", i%1000), "x")}
		if _, err := s.Commit(background, l, ops); err != nil {
			b.Fatal(err)
		}
	}
}
