package datadir

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/persistence/commitlog"
	"github.com/troupelog/troupe/persistence/vfs"
)

func identity() Meta { return Meta{ClusterID: "c", Node: 1, DirectoryID: "d"} }

// used returns a disk with a directory that was shut down cleanly and holds one
// partition.
func used(t *testing.T) *vfs.Mem {
	t.Helper()
	disk := vfs.NewMem()
	d := begin(t, disk)
	log, _, err := commitlog.Open(disk, "data/orders-0", commitlog.Options{
		Topic: "orders", TopicID: messages.TopicID{1}})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(log.Close(), d.MarkClean(), d.Close()); err != nil {
		t.Fatal(err)
	}
	return disk
}

func begin(t *testing.T, disk vfs.FS) *Dir {
	t.Helper()
	d, err := Open(disk, "data", identity)
	if err == nil {
		err = d.Begin()
	}
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// write makes a file, and its folder.
func write(t *testing.T, disk vfs.FS, folder, name string, content string) {
	t.Helper()
	err := disk.MkdirAll(folder)
	if err == nil {
		err = vfs.WriteFileAtomic(disk, folder+"/"+name, []byte(content))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// tree lists a folder with the contents of its files.
func tree(t *testing.T, disk vfs.FS, folder string) (out []string) {
	t.Helper()
	entries, err := disk.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		name := folder + "/" + e.Name()
		if e.IsDir() {
			out = append(append(out, name), tree(t, disk, name)...)
			continue
		}
		content, err := vfs.ReadFile(disk, name)
		if err != nil {
			t.Fatal(err)
		}
		if name != "data/"+LockFile {
			out = append(out, name+" "+string(content))
		}
	}
	return out
}

func TestWhatCannotBeUsedIsNamedWithARemedyAndLeftAsItWas(t *testing.T) {
	for _, tt := range []struct {
		name, folder, file, content string
		wrong, remedy               string
	}{
		{"a file", "data", "notes.txt", "mine", `unknown file "notes.txt"`, "move it elsewhere"},
		{"a file that ends like ours", "data", "thesis.tmp", "mine", `unknown file "thesis.tmp"`,
			"move it elsewhere"},
		{"a folder", "data/photos", "a.jpg", "mine", `unknown folder "photos"`, "move it elsewhere"},
		{"a folder named like a partition", "data/backup-2024", "notes.txt", "mine",
			`folder backup-2024 holds "notes.txt" and no partition.metadata`, "move the folder away"},
		{"records without their topic's id", "data/lost-0", "00000000000000000000.log", "x",
			`folder lost-0 holds "00000000000000000000.log"`, "restore that file"},
		{"a newer directory", "data", MetaFile,
			"version=1\ntroupe.format=2\ncluster.id=c\nnode.id=1\n", "its format is 2", "newer Troupe"},
		{"a newer meta.properties", "data", MetaFile,
			"version=2\ntroupe.format=1\ncluster.id=c\nnode.id=1\n", "version 2", "newer Troupe"},
		{"a directory of Apache Kafka", "data", MetaFile, "version=1\ncluster.id=c\nnode.id=1\n",
			"one of Apache Kafka's", "restore"},
		{"a newer partition.metadata", "data/orders-0", "partition.metadata",
			"version: 1\ntopic_id: x\n", "data/orders-0/partition.metadata: version 1", "newer Troupe"},
		{"a damaged checkpoint", "data", RecoveryFile, "0\n7\n", RecoveryFile, "remove the file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			disk := used(t)
			write(t, disk, tt.folder, tt.file, tt.content)
			before := tree(t, disk, "data")
			_, err := Open(disk, "data", identity)
			var dirErr *Error
			if !errors.As(err, &dirErr) || !strings.Contains(err.Error(), tt.wrong) ||
				!strings.Contains(dirErr.Remedy, tt.remedy) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v", err)
			}
			if after := tree(t, disk, "data"); !slices.Equal(before, after) {
				t.Errorf("before:\n%q\nafter:\n%q", before, after)
			}
		})
	}
}

func TestASecondOpenIsRefused(t *testing.T) {
	disk := used(t)
	first := begin(t, disk)
	if _, err := Open(disk, "data", identity); err == nil ||
		!strings.Contains(err.Error(), "another process is using it") {
		t.Errorf("got %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	begin(t, disk)
}

// A start that fails after the directory was opened, because a port is taken or
// the registry is of a newer version, must not cost the next one a recovery.
func TestTheCleanMarkerStaysUntilBegin(t *testing.T) {
	disk := used(t)
	for range 2 {
		d, err := Open(disk, "data", identity)
		if err != nil || !d.Clean {
			t.Fatalf("clean %v, %v", d.Clean, err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := begin(t, disk).Close(); err != nil {
		t.Fatal(err)
	}
	disk = disk.CrashClone(1, vfs.LoseUnsynced) // the removal is durable
	if d, err := Open(disk, "data", identity); err != nil || d.Clean {
		t.Errorf("after a crash: clean %v, %v", d.Clean, err)
	}
}

func TestBeginRemovesWhatDeletionsAndCrashesLeftAndNothingElse(t *testing.T) {
	const id = "0123456789abcdef0123456789abcdef"
	disk := used(t)
	write(t, disk, "data", RecoveryFile+".tmp", "half")
	write(t, disk, "data/gone-0."+id+"-delete", "00000000000000000000.log", "x")
	write(t, disk, "data/half-0", "partition.metadata.tmp", "ver")
	write(t, disk, "data/stray-0."+id+"-stray", "00000000000000000000.log", "x")
	write(t, disk, "data", ".hidden", "mine")
	if err := disk.MkdirAll("data/empty-0"); err != nil {
		t.Fatal(err)
	}
	d := begin(t, disk)
	var names []string
	for _, line := range tree(t, disk, "data") {
		name, _, _ := strings.Cut(line, " ")
		names = append(names, name)
	}
	want := []string{"data/.hidden", "data/meta.properties", "data/orders-0",
		"data/orders-0/partition.metadata", "data/stray-0." + id + "-stray",
		"data/stray-0." + id + "-stray/00000000000000000000.log"}
	if !slices.Equal(names, want) {
		t.Errorf("left:\n%q\nwant:\n%q", names, want)
	}
	if len(d.Partitions) != 1 || d.Partitions[0].Topic != "orders" {
		t.Errorf("partitions: %+v", d.Partitions)
	}
}

func TestANewDirectorySurvivesAPowerCut(t *testing.T) {
	disk := vfs.NewMem()
	d, err := Open(disk, "srv/troupe/data", identity)
	if err != nil || !d.Clean {
		t.Fatalf("%+v, %v", d, err)
	}
	disk = disk.CrashClone(1, vfs.LoseUnsynced)
	other := func() Meta { return Meta{ClusterID: "other", Node: 2} }
	if d, err = Open(disk, "srv/troupe/data", other); err != nil || d.Meta != identity() {
		t.Errorf("after a power cut it is %+v, %v", d, err)
	}
}
