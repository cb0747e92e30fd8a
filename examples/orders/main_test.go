package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/troupelog/troupe/examples/internal/exampletest"
)

func TestEveryOrderIsBilledOrEndsInTheDeadLetterTopic(t *testing.T) {
	ctx, cfg := exampletest.Node(t)
	var out exampletest.Output
	if err := run(ctx, cfg, &out); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	for i := range count {
		want := 1
		if i == 7 || i == 13 {
			want = 0
		}
		line := fmt.Sprintf("invoice for order %d: %d cents\n", i, 100*(i+1))
		if got := strings.Count(out.String(), line); got != want {
			t.Errorf("order %d was billed %d times", i, got)
		}
	}
	for _, line := range []string{
		`not billed after 1 attempts: {"id":7,"customer":"","cents":800}: ` + errNoCustomer.Error(),
		"not billed after 1 attempts: two espressi, please: topic \"orders\"",
	} {
		if strings.Count(out.String(), line) != 1 {
			t.Errorf("%q is not there:\n%s", line, &out)
		}
	}
}
