package commitlog

import (
	"strings"
	"testing"

	"github.com/troupelog/troupe/persistence/segment"
	"github.com/troupelog/troupe/persistence/vfs"
)

func TestVerifyFindsWhatIsWrong(t *testing.T) {
	index := segment.FileName(testDir, 0, segment.IndexSuffix)
	for _, tt := range []struct {
		name string
		harm func(t *testing.T, m *vfs.Mem, logs []string)
		want string // part of the first problem; "" if there is none
		tail bool
	}{
		{name: "a closed log has no problem", harm: func(*testing.T, *vfs.Mem, []string) {}},
		{name: "zeros reserved at the end are none", harm: func(t *testing.T, m *vfs.Mem, logs []string) {
			edit(t, m, logs[len(logs)-1], func(f vfs.File, size int64) error {
				return f.Allocate(size + 500)
			})
		}},
		{name: "a flipped bit in the middle is named", want: "crc does not match",
			harm: func(t *testing.T, m *vfs.Mem, logs []string) {
				edit(t, m, logs[1], func(f vfs.File, size int64) error {
					_, err := f.WriteAt([]byte{0xff}, size-20)
					return err
				})
			}},
		{name: "a torn tail is told from damage", want: "cut short", tail: true,
			harm: func(t *testing.T, m *vfs.Mem, logs []string) {
				edit(t, m, logs[len(logs)-1], func(f vfs.File, size int64) error {
					return f.Truncate(size - 1)
				})
			}},
		{name: "a missing segment is a hole", want: "are missing",
			harm: func(t *testing.T, m *vfs.Mem, logs []string) {
				if err := m.Remove(logs[2]); err != nil {
					t.Fatal(err)
				}
			}},
		{name: "an index that points elsewhere is named", want: "no batch ending at that offset",
			harm: func(t *testing.T, m *vfs.Mem, logs []string) {
				edit(t, m, index, func(f vfs.File, size int64) error {
					_, err := f.WriteAt([]byte{0, 0, 1, 1}, 4)
					return err
				})
			}},
		{name: "an epoch file of nonsense is named", want: "not a checkpoint",
			harm: func(t *testing.T, m *vfs.Mem, logs []string) {
				edit(t, m, testDir+"/"+epochFile, func(f vfs.File, size int64) error { return f.Truncate(1) })
			}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newMem(t)
			l, _ := mustOpen(t, m, testOptions())
			fill(t, l, 300, 5, 100)
			size := l.Size()
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			var logs []string
			for _, name := range fileNames(t, m) {
				if strings.HasSuffix(name, segment.LogSuffix) {
					logs = append(logs, testDir+"/"+name)
				}
			}
			tt.harm(t, m, logs)
			r, err := Verify(m, testDir)
			if err != nil {
				t.Fatal(err)
			}
			if tt.want == "" {
				if len(r.Problems) > 0 || r.Bytes != size || r.End != 300 || r.Records != 300 ||
					r.TopicID != testID {
					t.Errorf("report %+v", r)
				}
				return
			}
			if len(r.Problems) == 0 || !strings.Contains(r.Problems[0].Text, tt.want) ||
				r.Problems[0].Tail != tt.tail {
				t.Errorf("problems %+v", r.Problems)
			}
		})
	}
}

func edit(t *testing.T, m *vfs.Mem, name string, change func(f vfs.File, size int64) error) {
	t.Helper()
	f, err := m.OpenWrite(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		t.Fatal(err)
	}
	if err := change(f, size); err != nil {
		t.Fatal(err)
	}
}
