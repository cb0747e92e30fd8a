package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/troupelog/troupe/examples/internal/exampletest"
)

func TestEveryServiceSeesEveryPrice(t *testing.T) {
	ctx, cfg := exampletest.Node(t)
	var out exampletest.Output
	if err := run(ctx, cfg, &out); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	got := slices.Sorted(strings.Lines(out.String()))
	want := []string{fmt.Sprintln("count:", prices), fmt.Sprintln("highest:", prices),
		fmt.Sprintln("total:", prices*(prices+1)/2)}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	groups, err := exampletest.Client(ctx, t, cfg).Admin().Groups(ctx)
	if err != nil || len(groups) != len(services) {
		t.Errorf("groups are %+v, %v", groups, err)
	}
}
