package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// originKind is how --from names a place in a partition.
type originKind int

const (
	fromStart  originKind = iota
	fromEnd               // after the last record there is now
	fromOffset            // at an offset
	fromLast              // so many records before the end
	fromTime              // at the first record of a time or later
)

// origin is a place in a partition, such as where consuming begins.
type origin struct {
	kind originKind
	n    int64  // offset, number of records, or milliseconds since the Unix epoch
	flag string // that it was given with
}

// layouts are the forms of a time; those without a zone are local.
var layouts = []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04:05",
	"2006-01-02T15:04", "2006-01-02 15:04", "2006-01-02"}

// millisMin is a number that is rather a time than an offset: 2001, in
// milliseconds since the Unix epoch.
const millisMin = 1_000_000_000_000

// parseOrigin reads the value of --from, or of another flag that names a place:
//
//	start | end           the first record there is; after the last
//	1234                  an offset
//	-100                  the last 100 records of each partition
//	2026-03-01T09:00:00Z  a time, RFC 3339; without a zone, or the date alone, local time
//	@1772355600000        milliseconds since the Unix epoch
//	10m, 7d, "10m ago"    so long before now
func parseOrigin(flag, s string, now time.Time) (origin, error) {
	s = strings.TrimSpace(s)
	switch s {
	case "start":
		return origin{kind: fromStart, flag: flag}, nil
	case "end":
		return origin{kind: fromEnd, flag: flag}, nil
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		if strings.HasPrefix(s, "-") {
			return origin{fromLast, -n, flag}, nil
		}
		return origin{fromOffset, n, flag}, nil
	}
	if ms, ok := strings.CutPrefix(s, "@"); ok {
		if n, err := strconv.ParseInt(ms, 10, 64); err == nil && n >= 0 {
			return origin{fromTime, n, flag}, nil
		}
	}
	for _, layout := range layouts {
		t, err := time.ParseInLocation(layout, s, now.Location())
		if err == nil && t.UnixMilli() >= 0 {
			return origin{fromTime, t.UnixMilli(), flag}, nil
		}
	}
	ago := strings.TrimSpace(strings.TrimSuffix(s, "ago"))
	if d, err := time.ParseDuration(ago); err == nil && d >= 0 {
		return origin{fromTime, max(0, now.Add(-d).UnixMilli()), flag}, nil
	}
	if days, ok := strings.CutSuffix(ago, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return origin{fromTime, max(0, now.AddDate(0, 0, -int(n)).UnixMilli()), flag}, nil
		}
	}
	return origin{}, &usageError{fmt.Sprintf("%s %q is no place in a topic", flag, s),
		"use start, end, an OFFSET, -N, a time like 2026-03-01T09:00:00Z, @MILLISECONDS or 10m"}
}

// span is what to read of one partition: from next up to but not including end.
type span struct {
	next int64
	end  int64 // the end offset when consuming began
}

// spans finds where to begin and end in each of the chosen partitions. An empty
// choice means all of them.
func spans(
	ctx context.Context, adm *kadm.Client, topic string, o consumeOptions, from origin,
) (map[int32]span, error) {
	chosen, listEnds := o.partitions, adm.ListEndOffsets
	if o.committed {
		listEnds = adm.ListCommittedOffsets // up to the first open transaction
	}
	details, err := adm.ListTopics(ctx, topic)
	if err != nil {
		return nil, err
	}
	d := details[topic]
	if d.Err != nil {
		return nil, topicError(topic, d.Err, "")
	}
	if len(chosen) == 0 {
		chosen = d.Partitions.Numbers()
	}
	for _, p := range chosen {
		if _, ok := d.Partitions[p]; !ok {
			return nil, noPartition(topic, p, len(d.Partitions))
		}
	}
	starts, err := offsets(adm.ListStartOffsets(ctx, topic))(topic, chosen)
	if err != nil {
		return nil, err
	}
	ends, err := offsets(listEnds(ctx, topic))(topic, chosen)
	if err != nil {
		return nil, err
	}
	var times map[int32]int64
	if from.kind == fromTime {
		times, err = offsets(adm.ListOffsetsAfterMilli(ctx, from.n, topic))(topic, chosen)
		if err != nil {
			return nil, err
		}
	}
	out := make(map[int32]span, len(chosen))
	for _, p := range chosen {
		next, err := from.place(starts[p], ends[p], times[p])
		if err != nil {
			return nil, fmt.Errorf("partition %d of %q: %w", p, topic, err)
		}
		out[p] = span{next, ends[p]}
	}
	return out, nil
}

// offsets picks the chosen partitions' offsets out of an answer; a partition
// that has none is an error.
func offsets(
	list kadm.ListedOffsets, err error,
) func(topic string, chosen []int32) (map[int32]int64, error) {
	return func(topic string, chosen []int32) (map[int32]int64, error) {
		if err != nil {
			return nil, err
		}
		out := make(map[int32]int64, len(chosen))
		for _, p := range chosen {
			o, ok := list.Lookup(topic, p)
			if !ok {
				return nil, &failure{fmt.Sprintf("partition %d of %q has no leader to ask", p, topic),
					"see \"troupe topic describe " + topic + "\"", nil}
			}
			if o.Err != nil {
				return nil, topicError(topic, o.Err, "")
			}
			out[p] = o.Offset
		}
		return out, nil
	}
}

// place is the offset to begin at in a partition that holds start to end-1;
// atTime is the first offset of the time asked for.
func (o origin) place(start, end, atTime int64) (int64, error) {
	switch o.kind {
	case fromStart:
		return start, nil
	case fromEnd:
		return end, nil
	case fromOffset:
		if o.n > end && o.n >= millisMin {
			return 0, &failure{fmt.Sprintf("offset %d is not there, it holds %d to %d",
				o.n, start, end), fmt.Sprintf("for a time in milliseconds write %s @%d", o.flag, o.n), nil}
		}
		if o.n < start || o.n > end {
			return 0, &failure{fmt.Sprintf("offset %d is not there, it holds %d to %d",
				o.n, start, end), "choose another " + o.flag + ", or one partition", nil}
		}
		return o.n, nil
	case fromLast:
		return max(start, end-o.n), nil
	case fromTime:
		return max(start, min(atTime, end)), nil
	}
	return start, nil
}
