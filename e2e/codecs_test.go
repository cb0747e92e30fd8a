package e2e

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/troupelog/troupe/testkit"
)

const corpusLines = 100_000

// codecs with the number they have in a batch's attributes.
var codecs = []struct {
	name   string
	number byte
}{{"none", 0}, {"gzip", 1}, {"snappy", 2}, {"lz4", 3}, {"zstd", 4}}

func TestWhatKcatProducesTroupeConsumesByteForByte(t *testing.T) {
	lines := logLines(corpusLines)
	file := writeFile(t, lines)
	node := testkit.StartNode(t)
	for _, codec := range codecs {
		t.Run(codec.name, func(t *testing.T) {
			topic := "kcat-" + codec.name
			createTopic(t, node, topic, 1)
			testkit.Command(t, "", "kcat", "-b", node.Kafka, "-P", "-t", topic, "-p", "0",
				"-z", codec.name, "-X", "acks=all", "-l", file)
			sameBytes(t, node.Troupe("consume", topic), lines)
			expectCodec(t, node, topic, codec.number)
		})
	}
}

func TestWhatTroupeProducesKcatConsumesByteForByte(t *testing.T) {
	lines := logLines(corpusLines)
	file := writeFile(t, lines)
	node := testkit.StartNode(t)
	for _, codec := range codecs {
		t.Run(codec.name, func(t *testing.T) {
			topic := "troupe-" + codec.name
			createTopic(t, node, topic, 1)
			node.Troupe("produce", topic, "--codec", codec.name, "--file", file)
			got := testkit.Command(t, "", "kcat", "-b", node.Kafka, "-C", "-t", topic, "-p", "0",
				"-o", "beginning", "-e", "-q", "-f", "%s\n", "-X", "check.crcs=true")
			sameBytes(t, got, lines)
			expectCodec(t, node, topic, codec.number)
		})
	}
}

// expectCodec looks at the fullest batch on the disk: batches are stored as they
// were sent, so it has the producer's codec. (Producers send a batch of one small
// record as it is, when compressing it makes it longer.)
func expectCodec(t *testing.T, n *testkit.Node, topic string, want byte) {
	t.Helper()
	const lengthAt, head, attributesLow, countAt, codecMask = 8, 12, 22, 57, 7
	b, err := os.ReadFile(filepath.Join(n.Dir, topic+"-0", "00000000000000000000.log"))
	if err != nil {
		t.Fatal(err)
	}
	var most uint32
	var got byte
	for len(b) > countAt+4 {
		length := binary.BigEndian.Uint32(b[lengthAt:])
		if length == 0 {
			break // allotted, not written yet
		}
		if count := binary.BigEndian.Uint32(b[countAt:]); count > most {
			most, got = count, b[attributesLow]&codecMask
		}
		b = b[head+length:]
	}
	if most < 2 || got != want {
		t.Errorf("a batch of %d records on disk has codec %d, the producer used %d", most, got, want)
	}
}
