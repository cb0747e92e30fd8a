//go:build linux

package peer

import (
	"strings"
	"testing"
)

func TestAMetricIsFoundByItsWholeName(t *testing.T) {
	const text = "# HELP m x\nm_total 3\nm 1.5e+06\n"
	if v, err := metric(strings.NewReader(text), "m"); err != nil || v != 1.5e6 {
		t.Errorf("got %v, %v", v, err)
	}
	if v, err := metric(strings.NewReader(text), "n"); err == nil {
		t.Errorf("a metric that is not there is %v", v)
	}
}
