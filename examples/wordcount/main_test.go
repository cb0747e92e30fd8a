package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/troupelog/troupe/clientlib"
	"github.com/troupelog/troupe/examples/internal/exampletest"
)

// wanted is how often each word is in the text.
func wanted() map[string]int {
	counts := map[string]int{}
	for _, word := range strings.Fields(strings.Join(text, " ")) {
		counts[word] += repeats
	}
	return counts
}

func TestWordsAreCountedOnceThoughTheFirstStageFails(t *testing.T) {
	ctx, cfg := exampletest.Node(t)
	var out exampletest.Output
	if err := run(ctx, cfg, &out); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	if got := strings.Count(out.String(), errCrash.Error()); got != failures {
		t.Errorf("the first stage failed %d times", got)
	}
	for word, n := range wanted() {
		if strings.Count("\n"+out.String(), fmt.Sprintf("\n%s %d\n", word, n)) != 1 {
			t.Errorf("%s is not there %d times:\n%s", word, n, &out)
		}
	}

	// Nothing comes behind what was counted but this.
	client := exampletest.Client(ctx, t, cfg)
	producer, err := client.NewProducer(ctx, clientlib.ProducerConfig{
		Topic: wordsTopic, Partitioner: clientlib.Explicit})
	if err != nil {
		t.Fatal(err)
	}
	for p := range int32(3) {
		err := producer.Produce(ctx, &clientlib.Record{Partition: p, Value: []byte("end")})
		if err != nil {
			t.Fatal(err)
		}
	}
	words := len(strings.Fields(strings.Join(text, " "))) * repeats
	ends := 0
	for _, r := range exampletest.Read(ctx, t, client, wordsTopic, words+3) {
		if string(r.Value) == "end" {
			ends++
		}
	}
	if ends != 3 {
		t.Errorf("of the first %d words, %d are ends: some words are there twice", words+3, ends)
	}
}
