package groups

import "github.com/troupelog/troupe/messages/primitive"

// subscription is what the members of a classic group of consumers read.
type subscription struct {
	known  bool // false: the metadata of a member could not be read
	topics map[string]struct{}
}

// has reports whether a member may read the topic; it may read anything if that
// is not known.
func (s *subscription) has(topic string) bool {
	if !s.known {
		return true
	}
	_, ok := s.topics[topic]
	return ok
}

// subscriptionsOf reads what members say in a protocol of consumers. To others
// their metadata is opaque.
func subscriptionsOf(members []*member, protocolType, protocol string) subscription {
	if protocolType != consumerType {
		return subscription{}
	}
	s := subscription{known: true, topics: map[string]struct{}{}}
	for _, m := range members {
		topics, ok := subscribedTopics(m.metadata(protocol))
		if !ok {
			return subscription{}
		}
		for _, t := range topics {
			s.topics[t] = struct{}{}
		}
	}
	return s
}

// subscribedTopics reads the beginning of a consumer's subscription, which is the
// same in all versions: version 2 | topics array of strings.
func subscribedTopics(subscription []byte) (topics []string, ok bool) {
	r := primitive.NewReader(subscription, ErrDamaged)
	r.Int16()
	topics = r.Texts()
	return topics, r.Err() == nil
}
