package kafka

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/group"
	"github.com/troupelog/troupe/node/door"
)

// OffsetFetch, key 9, versions 1 to 10: the committed positions of groups.
//
//	v2   null topics mean all; an error for the whole request
//	v3   throttling starts after the answer (KIP-219)
//	v5   leader epoch (KIP-320)
//	v6   flexible encoding
//	v7   the client may insist on offsets that no open transaction is about to
//	     change: UNSTABLE_OFFSET_COMMIT (KIP-447)
//	v8   many groups, each with an error of its own (KIP-709)
//	v9   members of consumer groups are checked (KIP-848)
//	v10  topics by id
//
// Every partition asked for is answered; one without a commit, and one of a group
// that does not exist, has offset -1 and no error. A group that is asked for all
// its offsets twice is answered once.
//
// Not there: version 0, which Kafka 4 does not serve either.
func (s *Server) offsetFetch(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.OffsetFetchRequest)
	resp := req.ResponseKind().(*kmsg.OffsetFetchResponse)
	if req.Version >= 8 {
		resp.Groups = s.fetchOffsets(ctx, req, req.Groups)
		return resp
	}
	only := kmsg.NewOffsetFetchRequestGroup()
	only.Group = req.Group
	if req.Topics != nil {
		only.Topics = make([]kmsg.OffsetFetchRequestGroupTopic, len(req.Topics))
	}
	for i := range req.Topics {
		only.Topics[i].Topic = req.Topics[i].Topic
		only.Topics[i].Partitions = req.Topics[i].Partitions
	}
	g := &s.fetchOffsets(ctx, req, []kmsg.OffsetFetchRequestGroup{only})[0]
	resp.ErrorCode = g.ErrorCode
	if g.ErrorCode != codeNone && req.Version < 2 {
		g.Topics = failedOffsets(only.Topics, g.ErrorCode)
	}
	for i := range g.Topics {
		t := kmsg.NewOffsetFetchResponseTopic()
		t.Topic = g.Topics[i].Topic
		for _, p := range g.Topics[i].Partitions {
			t.Partitions = append(t.Partitions, kmsg.OffsetFetchResponseTopicPartition(p))
		}
		resp.Topics = append(resp.Topics, t)
	}
	return resp
}

// failedOffsets answers every partition with one error: version 1 has no other
// place for it.
func failedOffsets(topics []kmsg.OffsetFetchRequestGroupTopic, code int16,
) []kmsg.OffsetFetchResponseGroupTopic {
	out := make([]kmsg.OffsetFetchResponseGroupTopic, len(topics))
	for i := range topics {
		out[i].Topic = topics[i].Topic
		for _, index := range topics[i].Partitions {
			out[i].Partitions = append(out[i].Partitions, noOffset(index, code))
		}
	}
	return out
}

// noOffset answers a partition without a committed offset.
func noOffset(index int32, code int16) kmsg.OffsetFetchResponseGroupTopicPartition {
	p := kmsg.NewOffsetFetchResponseGroupTopicPartition()
	p.Partition, p.ErrorCode = index, code
	p.Offset, p.LeaderEpoch = int64(messages.NoOffset), int32(messages.NoEpoch)
	p.Metadata = new(string)
	return p
}

// fetchOffsets asks the coordinator of each group.
func (s *Server) fetchOffsets(ctx context.Context, req *kmsg.OffsetFetchRequest,
	groups []kmsg.OffsetFetchRequestGroup,
) []kmsg.OffsetFetchResponseGroup {
	image := s.cluster.Image()
	seen := map[string]bool{}
	plans := make([]*offsetsPlan, 0, len(groups))
	var asks []*offsetsPlan
	for i := range groups {
		rg := &groups[i]
		if rg.Topics == nil {
			if seen[rg.Group] {
				continue
			}
			seen[rg.Group] = true
		}
		p := planOffsets(image, req, rg)
		plans = append(plans, p)
		if p.all || len(p.wanted) > 0 {
			asks = append(asks, p)
		}
	}
	answers := door.Gather(ctx, s.askGroup, len(asks),
		func(i int, reply func(group.Fetched)) (string, coord.Request) {
			return asks[i].request.Group, asks[i].ask(req, reply)
		})
	for i := range asks {
		asks[i].fill(&answers[i], req.Version)
	}
	out := make([]kmsg.OffsetFetchResponseGroup, len(plans))
	for i, p := range plans {
		out[i] = p.answer()
	}
	return out
}

// offsetsPlan is one group of an OffsetFetch: what is asked of its coordinator and
// where the answers belong.
type offsetsPlan struct {
	image   *messages.Image
	request *kmsg.OffsetFetchRequestGroup
	all     bool
	wanted  []messages.TopicPartition
	at      [][2]int // of topics, where the answer of each wanted partition belongs
	topics  []kmsg.OffsetFetchResponseGroupTopic
	code    int16
}

func planOffsets(image *messages.Image, req *kmsg.OffsetFetchRequest,
	rg *kmsg.OffsetFetchRequestGroup,
) *offsetsPlan {
	p := &offsetsPlan{image: image, request: rg, all: rg.Topics == nil}
	for i := range rg.Topics {
		rt := &rg.Topics[i]
		t := kmsg.NewOffsetFetchResponseGroupTopic()
		t.Topic, t.TopicID = rt.Topic, rt.TopicID
		name, code := rt.Topic, codeNone
		if req.Version >= 10 {
			if topic := image.TopicByID(rt.TopicID); topic != nil {
				name = topic.Name
			} else {
				code = codeUnknownTopicID
			}
		}
		for j, index := range rt.Partitions {
			t.Partitions = append(t.Partitions, noOffset(index, code))
			if code == codeNone {
				p.wanted = append(p.wanted, messages.TopicPartition{Topic: name, Partition: index})
				p.at = append(p.at, [2]int{i, j})
			}
		}
		p.topics = append(p.topics, t)
	}
	return p
}

func (p *offsetsPlan) ask(req *kmsg.OffsetFetchRequest, reply func(group.Fetched),
) coord.Request {
	return &group.FetchOffsets{Partitions: p.wanted, Stable: req.RequireStable,
		MemberID: orEmpty(p.request.MemberID), MemberEpoch: p.request.MemberEpoch, Reply: reply}
}

// fill takes the coordinator's answer.
func (p *offsetsPlan) fill(got *group.Fetched, version int16) {
	switch {
	case got.Err != nil:
		p.code = coordinatorErrorCode(got.Err)
	case p.all:
		p.fillAll(got.Offsets, version)
	case len(got.Offsets) != len(p.at):
		err := fmt.Errorf("coordinator answered %d of %d offsets", len(got.Offsets), len(p.at))
		p.code = coordinatorErrorCode(err)
	default:
		for i, at := range p.at {
			part := &p.topics[at[0]].Partitions[at[1]]
			*part = fetchedOffset(part.Partition, &got.Offsets[i])
		}
	}
}

// fillAll answers with all there is, by topic. From version 10 on a topic that
// has no id any more cannot be answered.
func (p *offsetsPlan) fillAll(offsets []group.FetchedOffset, version int16) {
	offsets = slices.Clone(offsets)
	slices.SortStableFunc(offsets, func(a, b group.FetchedOffset) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	for i := range offsets {
		o := &offsets[i]
		id := o.TopicID
		if topic := p.image.Topic(o.Topic); topic != nil {
			id = topic.ID
		} else if version >= 10 {
			continue
		}
		if n := len(p.topics); n == 0 || p.topics[n-1].Topic != o.Topic {
			t := kmsg.NewOffsetFetchResponseGroupTopic()
			t.Topic, t.TopicID = o.Topic, id
			p.topics = append(p.topics, t)
		}
		last := &p.topics[len(p.topics)-1]
		last.Partitions = append(last.Partitions, fetchedOffset(o.Partition, o))
	}
}

func fetchedOffset(index int32, o *group.FetchedOffset,
) kmsg.OffsetFetchResponseGroupTopicPartition {
	p := noOffset(index, coordinatorErrorCode(o.Err))
	if o.Err == nil && o.Offset.Offset != messages.NoOffset {
		p.Offset, p.LeaderEpoch = int64(o.Offset.Offset), int32(o.Epoch)
		p.Metadata = &o.Metadata
	}
	return p
}

func (p *offsetsPlan) answer() kmsg.OffsetFetchResponseGroup {
	g := kmsg.NewOffsetFetchResponseGroup()
	g.Group, g.ErrorCode = p.request.Group, p.code
	if p.code == codeNone {
		g.Topics = p.topics
	}
	return g
}
