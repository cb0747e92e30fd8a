//go:build linux

package peer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/record"
)

const (
	createTimeout = 10 * time.Minute // of tens of thousands of partitions
	dropTimeout   = 30 * time.Second // after which files that stay cost disk
	acksAll       = -1
)

// newClient makes a client for bare requests. It speaks versions that name topics by
// their names.
func newClient(addrs ...string) (*kgo.Client, error) {
	return kgo.NewClient(kgo.SeedBrokers(addrs...), kgo.MaxVersions(kversion.V2_7_0()))
}

// createTopic makes a topic of a broker that speaks Kafka's protocol.
func (b *Broker) createTopic(ctx context.Context, t Topic) (func(), error) {
	ctx, cancel := context.WithTimeout(ctx, createTimeout)
	defer cancel()
	client, err := newClient(b.Addrs...)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	if err := create(ctx, client.Request, t); err != nil {
		return nil, fmt.Errorf("creating %s: %w", t.Name, err)
	}
	for _, addr := range b.Addrs {
		if err := b.awaitLeaders(ctx, addr, t); err != nil {
			return nil, fmt.Errorf("waiting for the leaders of %s: %w", t.Name, err)
		}
	}
	return func() { b.dropTopic(context.WithoutCancel(ctx), t.Name) }, nil
}

// request is how a request reaches a broker.
type request func(ctx context.Context, r kmsg.Request) (kmsg.Response, error)

func create(ctx context.Context, send request, t Topic) error {
	r := kmsg.NewPtrCreateTopicsRequest()
	r.TimeoutMillis = int32(createTimeout.Milliseconds())
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic = t.Name
	topic.NumPartitions = int32(t.Partitions)
	topic.ReplicationFactor = int16(max(1, t.Replicas))
	for k, v := range t.Settings {
		c := kmsg.NewCreateTopicsRequestTopicConfig()
		c.Name, c.Value = k, &v
		topic.Configs = append(topic.Configs, c)
	}
	r.Topics = append(r.Topics, topic)
	resp, err := send(ctx, r)
	if err != nil {
		return err
	}
	answered, ok := resp.(*kmsg.CreateTopicsResponse)
	if !ok || len(answered.Topics) != 1 {
		return errors.New("an answer without the topic")
	}
	err = kerr.ErrorForCode(answered.Topics[0].ErrorCode)
	if why := answered.Topics[0].ErrorMessage; err != nil && why != nil {
		return fmt.Errorf("%w (%s)", err, *why)
	}
	return err
}

// awaitLeaders waits until a node knows a leader of every partition, and leads those that
// it is to lead: Kafka says who leads shortly before that one does.
func (b *Broker) awaitLeaders(ctx context.Context, addr string, t Topic) error {
	client, err := newClient(addr)
	if err != nil {
		return err
	}
	defer client.Close()
	send := client.SeedBrokers()[0].Request
	return b.poll(ctx, func() (bool, error) {
		r := kmsg.NewPtrMetadataRequest()
		topic := kmsg.NewMetadataRequestTopic()
		topic.Topic = &t.Name
		r.Topics = append(r.Topics, topic)
		resp, err := send(ctx, r)
		if err != nil {
			return false, err
		}
		answered, ok := resp.(*kmsg.MetadataResponse)
		if !ok || len(answered.Topics) != 1 {
			return false, errors.New("an answer without the topic")
		}
		if !led(answered.Topics[0], t.Partitions) {
			return false, nil
		}
		return leads(ctx, send, t.Name, partitionsOf(addr, answered))
	})
}

// partitionsOf are those that the node at an address leads.
func partitionsOf(addr string, m *kmsg.MetadataResponse) (partitions []int32) {
	for _, b := range m.Brokers {
		if net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port))) != addr {
			continue
		}
		for _, p := range m.Topics[0].Partitions {
			if p.Leader == b.NodeID {
				partitions = append(partitions, p.Partition)
			}
		}
	}
	return partitions
}

// leads is whether a node says the end of all these partitions, which only a leader does.
func leads(ctx context.Context, send request, topic string, partitions []int32) (bool, error) {
	if len(partitions) == 0 {
		return true, nil
	}
	r := kmsg.NewPtrListOffsetsRequest()
	r.ReplicaID = -1
	rt := kmsg.NewListOffsetsRequestTopic()
	rt.Topic = topic
	for _, p := range partitions {
		rp := kmsg.NewListOffsetsRequestTopicPartition()
		rp.Partition, rp.Timestamp, rp.CurrentLeaderEpoch = p, -1, -1
		rt.Partitions = append(rt.Partitions, rp)
	}
	r.Topics = append(r.Topics, rt)
	resp, err := send(ctx, r)
	if err != nil {
		return false, err
	}
	answered, ok := resp.(*kmsg.ListOffsetsResponse)
	if !ok || len(answered.Topics) != 1 {
		return false, errors.New("an answer without the topic")
	}
	for _, p := range answered.Topics[0].Partitions {
		if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
			return false, fmt.Errorf("partition %d: %w", p.Partition, err)
		}
	}
	return len(answered.Topics[0].Partitions) == len(partitions), nil
}

func led(t kmsg.MetadataResponseTopic, partitions int) bool {
	if t.ErrorCode != 0 || len(t.Partitions) != partitions {
		return false
	}
	for _, p := range t.Partitions {
		if p.ErrorCode != 0 || p.Leader < 0 {
			return false
		}
	}
	return true
}

// poll asks until the answer is yes, fails when the broker died or ctx ended, with the
// last reason why not.
func (b *Broker) poll(ctx context.Context, ready func() (bool, error)) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		ok, err := ready()
		if ok {
			return nil
		}
		if died := b.Died(); died != nil {
			return died
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-tick.C:
		}
	}
}

// dropTopic removes a topic, and waits until the folders that bear its name are gone. A
// topic that stays costs disk, not correctness, so nothing fails here.
func (b *Broker) dropTopic(ctx context.Context, name string) {
	ctx, cancel := context.WithTimeout(ctx, dropTimeout)
	defer cancel()
	client, err := newClient(b.Addrs...)
	if err != nil {
		return
	}
	defer client.Close()
	r := kmsg.NewPtrDeleteTopicsRequest()
	r.TimeoutMillis = int32(dropTimeout.Milliseconds())
	r.TopicNames = append(r.TopicNames, name)
	if _, err := client.Request(ctx, r); err != nil {
		return
	}
	_ = b.poll(ctx, func() (bool, error) { return !b.hasFolder(name), nil })
}

// hasFolder is whether a folder below the broker's bears a topic's name, as those of
// partitions do at first.
func (b *Broker) hasFolder(topic string) bool {
	found := false
	_ = filepath.WalkDir(b.Dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && path != b.Dir && strings.HasPrefix(d.Name(), topic+"-") {
			found = true
			return fs.SkipAll
		}
		return nil // what is not there any more is what we wait for
	})
	return found
}

// firstRecord is FirstRecord, by Kafka's protocol. A client with its caches and its
// backoff would measure itself, so the requests are bare.
func (b *Broker) firstRecord(ctx context.Context, t Topic) error {
	client, err := newClient(b.Addrs[0])
	if err != nil {
		return err
	}
	defer client.Close()
	send := client.SeedBrokers()[0].Request
	if t.Partitions > 0 {
		err := b.poll(ctx, func() (bool, error) {
			err := create(ctx, send, t)
			return err == nil || errors.Is(err, kerr.TopicAlreadyExists), err
		})
		if err != nil {
			return err
		}
	}
	batch, err := oneRecord()
	if err != nil {
		return err
	}
	return b.poll(ctx, func() (bool, error) {
		err := produce(ctx, send, t.Name, 0, batch)
		return err == nil, err
	})
}

func oneRecord() ([]byte, error) {
	build := record.NewBuilder(record.Compression{})
	build.Append(now(), nil, make([]byte, 100))
	built, err := build.Build()
	return built.Bytes, err
}

func now() messages.Timestamp { return messages.Timestamp(time.Now().UnixMilli()) }

// produce appends a batch and waits for the acknowledgement.
func produce(ctx context.Context, send request, topic string, partition int32, batch []byte) error {
	r := kmsg.NewPtrProduceRequest()
	r.Acks = acksAll
	r.TimeoutMillis = int32(createTimeout.Milliseconds())
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic = topic
	rp := kmsg.NewProduceRequestTopicPartition()
	rp.Partition, rp.Records = partition, batch
	rt.Partitions = append(rt.Partitions, rp)
	r.Topics = append(r.Topics, rt)
	resp, err := send(ctx, r)
	if err != nil {
		return err
	}
	answered, ok := resp.(*kmsg.ProduceResponse)
	if !ok || len(answered.Topics) != 1 || len(answered.Topics[0].Partitions) != 1 {
		return errors.New("an answer without the partition")
	}
	return kerr.ErrorForCode(answered.Topics[0].Partitions[0].ErrorCode)
}
