package kafka

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/node/door"
)

// ElectLeaders, key 43, versions 0 to 2: elect the leaders of partitions anew
// (KIP-183).
//
//	v1  unclean elections of leaderless partitions (KIP-460); top-level error
//	v2  flexible encoding
//
// Partitions succeed or fail one by one. Null topics mean all partitions, of
// which those are left out that have the right leader. The answer leaves when this
// node's metadata shows the new leaders.
func (s *Server) electLeaders(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.ElectLeadersRequest)
	resp := req.ResponseKind().(*kmsg.ElectLeadersResponse)
	ctx, cancel := door.WaitFor(ctx, req.TimeoutMillis)
	defer cancel()

	kind := messages.ElectPreferred
	if req.Version >= 1 {
		kind = messages.ElectionType(req.ElectionType)
	}
	e := newElection(s.cluster.Image(), req.Topics, kind)
	var err error
	var errs []error
	if kind != messages.ElectPreferred && kind != messages.ElectUnclean {
		err = fmt.Errorf("%w: unknown election type %d", messages.ErrInvalidRequest, kind)
	} else if len(e.asked) > 0 {
		errs, err = s.cluster.ElectLeaders(ctx, kind, e.asked)
	}
	if err != nil {
		resp.ErrorCode = controllerErrorCode(err)
	}
	for i, at := range e.answers {
		e.outcomes[at].err = door.PerItem(errs, err, i)
	}
	resp.Topics = e.response(err)
	return resp
}

// election is one ElectLeaders request.
type election struct {
	topics   []string
	ends     []int // outcomes up to here are of this topic or one before
	outcomes []electOutcome
	asked    []messages.PartitionID
	answers  []int // index in outcomes of each in asked
}

type electOutcome struct {
	partition int32
	err       error
}

// newElection lists the partitions of the request, or those of all topics that
// lack the right leader, and finds what there is to ask the controller.
func newElection(
	image *messages.Image, asked []kmsg.ElectLeadersRequestTopic, kind messages.ElectionType,
) *election {
	e := &election{}
	if asked != nil {
		for i := range asked {
			t := image.Topic(asked[i].Topic)
			for _, p := range asked[i].Partitions {
				e.add(t, asked[i].Topic, p)
			}
			e.topics, e.ends = append(e.topics, asked[i].Topic), append(e.ends, len(e.outcomes))
		}
		return e
	}
	for _, t := range image.Topics() {
		for i := range t.Partitions {
			if electionNeeded(&t.Partitions[i], kind) {
				e.add(t, t.Name, int32(i))
			}
		}
		e.topics, e.ends = append(e.topics, t.Name), append(e.ends, len(e.outcomes))
	}
	return e
}

func electionNeeded(p *messages.Partition, kind messages.ElectionType) bool {
	if kind == messages.ElectUnclean {
		return p.Leader == messages.NoNode
	}
	return p.Leader != p.Replicas[0]
}

func (e *election) add(t *messages.Topic, name string, partition int32) {
	o := electOutcome{partition: partition}
	if t == nil || partition < 0 || int(partition) >= len(t.Partitions) {
		o.err = fmt.Errorf("%s-%d: %w", name, partition, messages.ErrUnknownTopicOrPartition)
	} else {
		e.asked = append(e.asked, messages.PartitionID{Topic: t.ID, Partition: partition})
		e.answers = append(e.answers, len(e.outcomes))
	}
	e.outcomes = append(e.outcomes, o)
}

// response tells the outcomes; whole is the error of the request as a whole.
func (e *election) response(whole error) []kmsg.ElectLeadersResponseTopic {
	all := make([]kmsg.ElectLeadersResponseTopic, 0, len(e.topics))
	at := 0
	for i, name := range e.topics {
		t := kmsg.NewElectLeadersResponseTopic()
		t.Topic = name
		for ; at < e.ends[i]; at++ {
			err := e.outcomes[at].err
			if err == nil {
				err = whole
			}
			p := kmsg.NewElectLeadersResponseTopicPartition()
			p.Partition = e.outcomes[at].partition
			p.ErrorCode, p.ErrorMessage = controllerErrorCode(err), errorMessage(err)
			t.Partitions = append(t.Partitions, p)
		}
		all = append(all, t)
	}
	return all
}
