//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/troupelog/troupe/bench/clients"
	"github.com/troupelog/troupe/bench/figures"
	"github.com/troupelog/troupe/bench/peer"
)

// natsLoad is what NATS' own client does where others are driven by franz-go. Its records
// are acknowledged when they are in the file of their stream, not when they are synced,
// as those of one replica of Kafka's are.
type natsLoad struct {
	kind  string // of tools/peers/natsload
	shape clients.Shape
	mb    int64              // that are in the streams before; 0: none
	rate  func(turn) float64 // records per second; nil: as fast as it goes
}

// natsLoads are the loads by the names of their workloads.
func natsLoads() map[string]natsLoad {
	share := func(of float64) func(turn) float64 {
		return func(t turn) float64 { return of * t.capacity() }
	}
	return map[string]natsLoad{
		"franz-go produce 64 KiB of 1 KiB, acks=all": {kind: "produce", shape: largeBatches(true)},
		"franz-go produce 16 KiB of 100 B, acks=all": {kind: "produce", shape: smallBatches(true)},

		"franz-go consume 1 KiB": {kind: "consume", shape: largeBatches(true), mb: largeMB},
		"franz-go consume 100 B": {kind: "consume", shape: smallBatches(true), mb: smallMB},
		"franz-go produce one record of 1 KiB, linger 0": {kind: "ack", shape: single(1),
			rate: func(turn) float64 { return smallRate }},
		"franz-go end to end at 10 % load": {kind: "end-to-end", shape: single(clientParts),
			rate: share(0.1)},
		"franz-go end to end at 50 % load": {kind: "end-to-end", shape: single(clientParts),
			rate: share(0.5)},
	}
}

// withNATS adds NATS to the workloads that it has a load for.
func withNATS(all []workload) []workload {
	loads := natsLoads()
	for i := range all {
		l, ok := loads[all[i].name]
		if !ok {
			continue
		}
		others := all[i].run
		all[i].peers = everyone
		all[i].run = func(ctx context.Context, t turn) (figures.Result, error) {
			if t.kind.Name == peer.NATS {
				return l.run(ctx, t)
			}
			return others(ctx, t)
		}
	}
	return all
}

// run gives NATS the load, on new streams.
func (l natsLoad) run(ctx context.Context, t turn) (figures.Result, error) {
	topic := peer.Topic{Name: t.topic, Partitions: l.shape.Partitions}
	drop, err := t.broker.Create(ctx, topic)
	if err != nil {
		return figures.Result{}, err
	}
	defer drop()
	records := min(l.mb, t.mb) * 1e6 / int64(l.shape.RecordBytes)
	if records > 0 {
		if _, err := t.natsload(ctx, l.args(t, "produce", records)); err != nil {
			return figures.Result{}, fmt.Errorf("filling: %w", err)
		}
	}
	return t.timed(ctx, func() (figures.Result, error) {
		return t.natsload(ctx, l.args(t, l.kind, records))
	})
}

// args are those of natsload. Without a number of records it takes its time.
func (l natsLoad) args(t turn, kind string, records int64) []string {
	while, rate := produceWhile, 0.0
	if l.rate != nil {
		while, rate = latencyWhile, l.rate(t)
	}
	return []string{"-load", kind, "-topic", t.topic,
		"-partitions", strconv.Itoa(l.shape.Partitions),
		"-record", strconv.Itoa(l.shape.RecordBytes),
		"-records", strconv.FormatInt(records, 10),
		"-while", while.String(), "-skip", latencySkip.String(),
		"-rate", strconv.FormatFloat(rate, 'f', -1, 64)}
}

// natsTimeout bounds a load that the server cannot bear.
const natsTimeout = 2 * time.Minute

func (t turn) natsload(ctx context.Context, args []string) (r figures.Result, err error) {
	ctx, cancel := context.WithTimeout(ctx, natsTimeout)
	defer cancel()
	line, err := t.broker.NATSLoad(ctx, args...)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(line, &r); err != nil {
		return r, fmt.Errorf("natsload printed %q: %w", line, err)
	}
	return r, nil
}
