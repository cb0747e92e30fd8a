// Package figures holds what the benchmark saw, and shows it: results of single runs,
// medians of rounds, tables in Markdown, plots in SVG, and what is claimed of them. It
// measures nothing itself. The commands of bench may call it.
package figures

import (
	"cmp"
	"slices"
	"time"
)

// Result is what one run of a workload did to one broker. What a workload does not
// measure is zero and is not shown.
type Result struct {
	Records  int64         `json:"records,omitempty"`
	Requests int64         `json:"requests,omitempty"` // Produce requests, acknowledgements
	Bytes    int64         `json:"bytes,omitempty"`    // of records in batches, uncompressed
	Took     time.Duration `json:"took,omitempty"`
	CPU      time.Duration `json:"cpu,omitempty"`       // of all processes of the broker
	ClientNS time.Duration `json:"clientCpu,omitempty"` // CPU of the process that drives
	RSS      int64         `json:"rss,omitempty"`       // of all processes, at the end, bytes
	Disk     int64         `json:"disk,omitempty"`      // bytes the run added to the disk
	Mallocs  float64       `json:"mallocs,omitempty"`   // of the client's process, per record
	Allocs   float64       `json:"allocs,omitempty"`    // of the broker's processes, if known

	// Latencies, from when an operation was due (not from when it could be sent) to its
	// end, unless the workload says otherwise.
	P50  time.Duration `json:"p50,omitempty"`
	P99  time.Duration `json:"p99,omitempty"`
	P999 time.Duration `json:"p999,omitempty"`
	Max  time.Duration `json:"max,omitempty"`
	Rate float64       `json:"rate,omitempty"` // operations per second that were due; 0: no rate

	// Extra are figures that few workloads have, by the name with which they are shown.
	Extra map[string]float64 `json:"extra,omitempty"`
}

// MBPerSecond is megabytes (1e6) in a second.
func (r Result) MBPerSecond() float64 { return per(float64(r.Bytes)/1e6, r.Took.Seconds()) }

// RecordsPerSecond is what its name says.
func (r Result) RecordsPerSecond() float64 { return per(float64(r.Records), r.Took.Seconds()) }

// RequestsPerSecond is what its name says.
func (r Result) RequestsPerSecond() float64 { return per(float64(r.Requests), r.Took.Seconds()) }

// CPUPerGB is the broker's CPU seconds for 1e9 bytes.
func (r Result) CPUPerGB() float64 { return per(r.CPU.Seconds(), float64(r.Bytes)/1e9) }

// CPUPerRequest is the broker's CPU microseconds for a request.
func (r Result) CPUPerRequest() float64 {
	return per(float64(r.CPU.Microseconds()), float64(r.Requests))
}

// AllocsPerRequest is how often the broker allocated memory for a request.
func (r Result) AllocsPerRequest() float64 { return per(r.Allocs, float64(r.Requests)) }

func per(what, of float64) float64 {
	if of == 0 {
		return 0
	}
	return what / of
}

// SetLatencies fills in the quantiles of ds, which it sorts.
func (r *Result) SetLatencies(ds []time.Duration) {
	slices.Sort(ds)
	r.P50, r.P99, r.P999 = Quantile(ds, 0.5), Quantile(ds, 0.99), Quantile(ds, 0.999)
	r.Max = Quantile(ds, 1)
}

// Quantile returns the value below which the share q of the sorted ds lies; 0 if there
// are none.
func Quantile(ds []time.Duration, q float64) time.Duration {
	if len(ds) == 0 {
		return 0
	}
	return ds[min(len(ds)-1, int(q*float64(len(ds))))]
}

// Row is a workload and what each broker did with it, round by round: the runs of a
// round, which were beside each other in time, are at the same index.
type Row struct {
	Workload string              `json:"workload"`
	Group    string              `json:"group"` // rows of a group make a table
	Runs     map[string][]Result `json:"runs"`  // by the broker's name
}

// Median is the middle of what value says of a broker's runs, with the least and the
// most. It is 0 for a broker that did not run.
func (r Row) Median(broker string, value func(Result) float64) (median, least, most float64) {
	var vs []float64
	for _, run := range r.Runs[broker] {
		vs = append(vs, value(run))
	}
	return middle(vs)
}

// Ratio is the middle of the ratios of the rounds, of what value says of broker and of
// base, with the least and the most: both ran in the same minute, so what slowed the
// machine down in it slowed both.
func (r Row) Ratio(broker, base string, value func(Result) float64) (median, least, most float64) {
	var vs []float64
	for i := range min(len(r.Runs[broker]), len(r.Runs[base])) {
		if of := value(r.Runs[base][i]); of != 0 {
			vs = append(vs, value(r.Runs[broker][i])/of)
		}
	}
	return middle(vs)
}

func middle(vs []float64) (median, least, most float64) {
	if len(vs) == 0 {
		return 0, 0, 0
	}
	slices.SortFunc(vs, cmp.Compare)
	half := len(vs) / 2
	median = vs[half]
	if len(vs)%2 == 0 {
		median = (vs[half-1] + median) / 2
	}
	return median, vs[0], vs[len(vs)-1]
}

// Run is everything one command measured, as it is kept in a file.
type Run struct {
	Machine  []string          `json:"machine"`  // what it is, in sentences
	Versions map[string]string `json:"versions"` // by the broker's name
	Command  string            `json:"command"`
	Date     time.Time         `json:"date"`
	Rows     []Row             `json:"rows"`
}

// Row returns the row of a workload, or nil.
func (r *Run) Row(workload string) *Row {
	for i := range r.Rows {
		if r.Rows[i].Workload == workload {
			return &r.Rows[i]
		}
	}
	return nil
}
