//go:build linux

package peer

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	mallocsMetric = "go_memstats_mallocs_total"
	scrapeTimeout = 10 * time.Second
)

// Mallocs is how many objects the nodes of Troupe have allocated so far, by their own
// metrics. Of other brokers it is always 0.
func (b *Broker) Mallocs(ctx context.Context) (sum float64, err error) {
	ctx, cancel := context.WithTimeout(ctx, scrapeTimeout)
	defer cancel()
	for _, addr := range b.HTTP {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/metrics", nil)
		if err != nil {
			return 0, err
		}
		resp, err := httpClient.Do(req)
		if err != nil {
			return 0, err
		}
		n, err := metric(resp.Body, mallocsMetric)
		if err = errors.Join(err, resp.Body.Close()); err != nil {
			return 0, fmt.Errorf("metrics of %s: %w", addr, err)
		}
		sum += n
	}
	return sum, nil
}

// metric returns the value of a metric without labels.
func metric(r io.Reader, name string) (float64, error) {
	for s := bufio.NewScanner(r); s.Scan(); {
		if value, ok := strings.CutPrefix(s.Text(), name+" "); ok {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, errors.New("no " + name)
}
