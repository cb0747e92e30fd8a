package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/troupelog/troupe/examples/internal/exampletest"
)

func TestAKafkaClientAndTheSDKShareATopicAndAGroup(t *testing.T) {
	ctx, cfg := exampletest.Node(t)
	var out exampletest.Output
	if err := run(ctx, cfg, &out); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	total := map[string]int{}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 3 {
		t.Fatalf("got\n%s", &out)
	}
	for _, line := range lines[:2] {
		var reader string
		var owned, sdk, kafka int
		_, err := fmt.Sscanf(line, "the member of kind %s has %d partitions and read %d records of "+
			"the SDK, %d of the Kafka client", &reader, &owned, &sdk, &kafka)
		if err != nil || owned != partitions/2 || sdk == 0 || kafka == 0 || sdk != kafka {
			t.Errorf("%q: %v", line, err)
		}
		total["sdk"] += sdk
		total["kafka"] += kafka
	}
	if total["sdk"] != each || total["kafka"] != each || lines[2] !=
		fmt.Sprintf("%d keys, each in one partition", each) {
		t.Errorf("%v:\n%s", total, &out)
	}
}
